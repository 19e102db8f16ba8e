"""`jaxalign reproduce`: a paper's table, measured beside printed."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxalign.errors import JaxalignError
from jaxalign.eval.terminal import say

from .groups import Data, DataOptions, FeatureOptions, Given, RunOptions, Runs
from .options import UsageError, VariantOption, YesOrNo, option
from .printing import print_table, told_anew, write_json

if TYPE_CHECKING:
    from jaxalign.eval.paper import Reproduction, Session, Table


def some(what: str) -> Any:
    """The option that names what of a table is measured."""
    return option(f"{what} to measure, called as printed or as here.", "NAME [NAME ...]", "all")


@dataclass(frozen=True)
class Reproduce:
    """Measure a table of the papers again, beside what is printed.

    All cells that can be measured here are. A model is used where its weights are here (--weights,
    --download), a data set where it is prepared or can be (`jaxalign datasets`). What is missing is listed
    with how to get it. Every measurement becomes a run in --out: an interrupted reproduction goes on where it
    was. A cell that fails does not stop the others; the exit status is then 1. The table is written to --out
    as CSV, JSON, Markdown and PNG.

    TABLE is a name of --list, or a CSV file of one's own with the columns protocol, backbone, dataset,
    method, value and others (`eval/paper_tables/README.md`).

    Examples:
      jaxalign reproduce --list
      jaxalign reproduce isoclip-table1 --backbones ViT-B/32 --datasets Caltech DTD --download
      jaxalign reproduce reevaluating-table3 --weights 'SLIP B/16=slip_base_100ep.pt' --out slip
      jaxalign reproduce my-table.csv --variant paper --json table.json
      jaxalign reproduce features-table.csv --class-texts features:imagenet_texts.npy
    """

    printed: Annotated[
        str | None,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="TABLE", help="Table: a name of --list, or a CSV file.", help_behavior_hint="(required)"
        ),
    ] = None
    list: Annotated[bool, option("List the tables, and how much of each can be measured here.")] = False
    backbones: Annotated[
        tuple[str, ...], option("Backbones to measure, called as printed.", "NAME [NAME ...]", "all")
    ] = ()
    datasets: Annotated[tuple[str, ...], some("Data sets")] = ()
    methods: Annotated[tuple[str, ...], some("Methods")] = ()
    variant: VariantOption = "paper"
    distractors: Annotated[
        YesOrNo,
        option(
            "Add R1M to the galleries of ROxford and RParis.",
            default="of the variant: for IsoCLIP's tables as its paper says, or where it is there as the"
            " published code does",
        ),
    ] = None
    layout: Annotated[
        Literal["paper", "reference"] | None,
        option(
            "Projectors of SigLIP, EVA-02 and Perception Encoder as in the paper, or as in its published"
            " code, which gave the printed numbers.",
            default="as --variant",
        ),
    ] = None
    weights: Annotated[
        tuple[str, ...],
        option("Files or folders of the weights of backbones.", "BACKBONE=PATH [...]", "the hub's cache"),
    ] = ()
    download: Annotated[bool, option("Fetch models that are not here from the hub.")] = False
    data: Data = field(default_factory=DataOptions)
    given: Given = field(default_factory=FeatureOptions)
    results: Runs = field(default_factory=RunOptions)

    def run(self) -> None:
        from jaxalign.eval.paper import Places, Session, find_table

        places = Places(parse_weights(self.weights), self.download)
        if self.printed is None and not self.list:
            raise UsageError("which table? Expected a name of `jaxalign reproduce --list`, or a CSV file")
        workspace = self.results.open_workspace(self.data, self.data.data_dir)
        workspace = replace(workspace, reading=self.given.reading(None))
        options = (self.variant, self.distractors, self.layout or "", self.given.stand_in)
        session = Session(workspace, places, *options)
        if self.printed is None:
            write_json(self.results.json, print_tables(session))
        else:
            self.reproduce(find_table(self.printed), session)

    def reproduce(self, table: "Table", session: "Session") -> None:
        """Measure and write; raises JaxalignError after all of it where a cell failed, or all are missing."""
        from jaxalign.eval.paper import Selection, reproduce
        from jaxalign.eval.paper.output import draw_figures, to_json, write_files

        out = self.results.out
        found = reproduce(table, session, Selection(self.backbones, self.datasets, self.methods))
        content = to_json(found)
        print_reproduction(found, write_files(out, found, content) + draw_figures(out, found))
        if session.anew:
            say(f"{told_anew(session.anew)}, in {out}")
        write_json(self.results.json, content)
        if found.failed:
            worst = found.failed[0]
            raise JaxalignError(
                f"{len(found.failed)} of {len(found.outcomes)} cells failed (the first: {worst.cell.name}:"
                f" {worst.reason}); the others are in {out}, run again for these"
            )
        if not session.anew:
            lacking = ", ".join(missing.what for missing, _ in found.missing)
            raise JaxalignError(
                f"no cell could be measured: {lacking} not here; how to get each is said above"
            )


def parse_weights(given: tuple[str, ...]) -> dict[str, str]:
    """`BACKBONE=PATH` as a mapping."""
    for text in given:
        if not all(text.partition("=")):
            raise UsageError(f"--weights got {text!r}; expected BACKBONE=PATH, as in 'ViT-B/32=clip-b32'")
    return {name: path for name, _, path in (text.partition("=") for text in given)}


def print_tables(session: "Session") -> list[dict[str, Any]]:
    """All tables with how many of their numbers can be measured here, counted as running counts them."""
    from jaxalign.eval.paper import TABLES, read_cells

    rows = []
    for table in TABLES.values():
        cells = read_cells(table)
        here = [not cell.members and not session.missing_for(cell) for cell in cells]
        here = [
            all(here[i] for i in cell.members) if cell.members else here[k] for k, cell in enumerate(cells)
        ]
        shown = [there for cell, there in zip(cells, here, strict=True) if cell.shown]
        rows.append({"table": table.name, "title": table.title, "cells": len(shown), "here": sum(shown)})
    lines = [[row["table"], row["title"], f"{row['here']} of {row['cells']}"] for row in rows]
    print_table("", ["table", "what", "cells here"], lines, left=2)
    return rows


def print_reproduction(found: "Reproduction", files: list[Path]) -> None:
    """The table block by block, then what is missing, what failed, and where it was written."""
    from jaxalign.eval.paper.output import as_shown, blocks, summary

    shown = as_shown(found)
    say(f"{found.table.title}: measured / printed (difference), {found.table.unit}")
    for block in blocks(found):
        if not block.is_measured and not any(outcome.state == "failed" for outcome in block.outcomes):
            continue
        print_table(block.table.title, block.table.columns, [map(str, row) for row in block.table.rows])
    for note in shown.notes:
        say(note)
    for missing, count in found.missing:
        say(f"missing: {missing.what}, for {count} cells: {missing.advice}")
    for line in shown.failed:
        say(f"failed: {line}")
    say(summary(found))
    say("written: " + ", ".join(str(path) for path in files))
