"""`jaxalign reproduce`: a paper's table, measured beside printed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .arguments import DataDir, JsonFile, UnreadablePictures
from .measuring import StoreFolder, WithDistractors

Some = "(default: all)"


@dataclass(frozen=True)
class Reproduce:
    """Measure the cells of a paper's table that can be measured here, and print them beside the printed ones.

    A model is used where its weights are here (--weights, --download), a data set where it is prepared or
    can be (`jaxalign datasets`). What is missing is listed with how to get it. Every measurement becomes a
    run in --out: an interrupted reproduction goes on where it was. A cell that fails does not stop the
    others; the exit status is then 1. The table is written to --out as CSV, JSON, Markdown and PNG.

    TABLE is a name of --list, or a CSV file of one's own with the columns protocol, backbone, dataset,
    method, value and others (`eval/paper_tables/README.md`).

    Examples:
      jaxalign reproduce --list
      jaxalign reproduce isoclip-table1 --backbones ViT-B/32 --datasets Caltech DTD --download
      jaxalign reproduce reevaluating-table3 --weights 'SLIP B/16=slip_base_100ep.pt' --out slip
      jaxalign reproduce my-table.csv --protocol paper --json table.json
    """

    table: Annotated[
        str | None,
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="TABLE", help="A name of --list, or a CSV file.", help_behavior_hint="(required)"
        ),
    ] = None
    list: Annotated[
        bool, tyro.conf.arg(help="List the tables, and how much of each can be measured here.")
    ] = False
    backbones: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="NAME [NAME ...]", help="Only these, as printed.", help_behavior_hint=Some),
    ] = ()
    datasets: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="NAME [NAME ...]", help="Only these, as printed or ours.", help_behavior_hint=Some
        ),
    ] = ()
    methods: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="NAME [NAME ...]", help="Only these, as printed or ours.", help_behavior_hint=Some
        ),
    ] = ()
    protocol: Annotated[
        Literal["reference", "paper"],
        tyro.conf.arg(
            help="What to do where a paper and its published code differ: as the code, or the paper"
            " (docs/published_code.md)."
        ),
    ] = "reference"
    distractors: Annotated[
        WithDistractors,
        tyro.conf.arg(
            help="Add R1M to the galleries of ROxford and RParis.",
            help_behavior_hint="(default: of the protocol: for IsoCLIP's tables as its paper says, or where"
            " it is there as the published code does)",
        ),
    ] = None
    layout: Annotated[
        Literal["protocol", "paper", "reference"],
        tyro.conf.arg(
            help="Heads of SigLIP, EVA-02 and Perception Encoder: of the protocol, of the paper, or of its"
            " published code, which gave the printed numbers."
        ),
    ] = "protocol"
    weights: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="BACKBONE=PATH [...]",
            help="Where the weights of a backbone are, a file or folder.",
            help_behavior_hint="(default: the hub's cache)",
        ),
    ] = ()
    download: Annotated[bool, tyro.conf.arg(help="Fetch models that are not here from the hub.")] = False
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="Folder of the runs and of the table.")] = Path(
        "jaxalign-runs"
    )
    store: StoreFolder = None
    data_dir: DataDir = None
    unreadable: UnreadablePictures = "fail"
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.eval.reproduce import Places, find_table

        from .output import check_file, check_folder, write_json
        from .usage import UsageError

        check_file(self.json)
        places = Places(parse_weights(self.weights), self.download, self.data_dir)
        if self.list:
            write_json(self.json, print_tables(places))
            return
        if self.table is None:
            raise UsageError("which table? Expected a name of `jaxalign reproduce --list`, or a CSV file")
        table = find_table(self.table)
        check_folder(self.out)
        write_json(self.json, self.reproduce(table, places))

    def reproduce(self, table: Any, places: Any) -> dict[str, Any]:
        """Measure and write; raises JaxalignError after all of it where a cell failed."""
        from jaxalign.errors import JaxalignError
        from jaxalign.eval.reproduce import Selection, Session, reproduce
        from jaxalign.eval.reproduce.figures import draw_figures
        from jaxalign.eval.reproduce.output import to_json, write_files
        from jaxalign.eval.tasks.workspace import Workspace

        from .embed import library_name
        from .output import write_json

        workspace = Workspace(self.out, self.store, self.data_dir, unreadable=library_name(self.unreadable))
        layout = "" if self.layout == "protocol" else self.layout
        session = Session(workspace, places, self.protocol, self.distractors, layout)
        found = reproduce(table, session, Selection(self.backbones, self.datasets, self.methods))
        content = to_json(found)
        files = write_files(self.out, found, content)
        files += draw_figures(self.out, found)
        print_reproduction(found, files)
        if found.failed:
            write_json(self.json, content)
            worst = found.failed[0]
            raise JaxalignError(
                f"{len(found.failed)} of {len(found.outcomes)} cells failed (the first: {worst.cell.name}:"
                f" {worst.reason}); the others are in {self.out}, run again for these"
            )
        return content


def parse_weights(given: tuple[str, ...]) -> dict[str, str]:
    """`BACKBONE=PATH` as a mapping."""
    from .usage import UsageError

    for text in given:
        if not all(text.partition("=")):
            raise UsageError(f"--weights got {text!r}; expected BACKBONE=PATH, as in 'ViT-B/32=clip-b32'")
    return {name: path for name, _, path in (text.partition("=") for text in given)}


def print_tables(places: Any) -> list[dict[str, Any]]:
    """All tables with how many of their cells can be measured here."""
    from rich.table import Table

    from jaxalign.eval.reproduce import TABLES, read_cells
    from jaxalign.eval.terminal import open_console

    console = open_console()
    drawn = Table("table", "what", box=None, pad_edge=False)
    drawn.add_column("cells here", justify="right")
    rows = []
    for table in TABLES.values():
        cells = read_cells(table)
        own = [cell for cell in cells if not cell.members]
        here = sum(not places.missing_for(cell) for cell in own)
        rows.append({"table": table.name, "title": table.title, "cells": len(own), "here": here})
        drawn.add_row(table.name, table.title, f"{here} of {len(own)}")
    console.print(drawn)
    return rows


def print_reproduction(found: Any, files: list[Path]) -> None:
    """The table block by block, then what is missing, what failed, and where it was written."""
    from rich.table import Table

    from jaxalign.eval.reproduce.output import blocks, lines_of, numbered_notes, summary
    from jaxalign.eval.terminal import open_console

    console = open_console()
    console.print(f"{found.table.title}: measured / printed (difference), {found.table.unit}", style="bold")
    for block in blocks(found):
        if all(outcome.value is None and outcome.state != "failed" for outcome in block.outcomes):
            continue
        drawn = Table(block.head, title=block.title or None, title_justify="left")
        for column in block.columns:
            drawn.add_column(column, justify="right")
        for line in lines_of(block, found):
            drawn.add_row(*line)
        console.print(drawn)
    for note in numbered_notes(found):
        console.print(note, soft_wrap=True)
    for missing, count in found.missing:
        console.print(f"missing: {missing.what}, for {count} cells: {missing.advice}", soft_wrap=True)
    for outcome in found.failed:
        console.print(f"failed: {outcome.cell.name}: {outcome.reason}", soft_wrap=True)
    console.print(summary(found), soft_wrap=True)
    console.print("written: " + ", ".join(str(path) for path in files), soft_wrap=True)
