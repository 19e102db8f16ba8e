"""A reproduction as files, CSV and JSON of all cells, Markdown of the table, and its figures; and back out
of the JSON, for the report."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxalign.errors import JaxalignError
from jaxalign.eval import written_tables
from jaxalign.eval.figures import figures_of, look, save
from jaxalign.eval.files import json_text, write_whole
from jaxalign.eval.tasks.runs import LARGEST, RESULTS, package_versions, read_run
from jaxalign.eval.written_tables import WrittenTable, in_order, markdown_grid
from jaxalign.eval.written_tables import markdown_text as escape
from jaxalign.local_files import read_json

from .cells import Cell, Outcome
from .run import Missing, Reproduction
from .tables import Table

_TOLD_BY_TABLES = ("shots", "losses", "steps")  # no figure of their own
FORMAT, VERSION = "jaxalign-table", 1
# What lines of a block are, the first there is; and what parts blocks, also where shots are its columns.
_ROWS = ("dataset", "shots", "number", "num_pseudo_patches", "task", "metric")
_PARTED, _PARTED_ACROSS = ("protocol", "backbone", "model", "modality"), ("classifier", "inputs", "projected")
_UNREADABLE = (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)  # of its JSON


@dataclass(frozen=True)
class Block:
    """A part of a table that is drawn on its own, the cells of one backbone: as text, and their outcomes."""

    table: WrittenTable
    outcomes: list[Outcome]

    @property
    def is_measured(self) -> bool:
        return any(outcome.value is not None for outcome in self.outcomes)


def blocks(reproduction: Reproduction) -> list[Block]:
    """The table in parts of two dimensions."""
    shown = [outcome for outcome in reproduction.outcomes if outcome.cell.shown]
    if not shown:
        return []
    labels = list(shown[0].cell.labels)
    head = next((name for name in _ROWS if name in labels), "")
    across = "shots" if head == "dataset" and "shots" in labels else ""
    parted = (*_PARTED, *(_PARTED_ACROSS if across else ()))
    columns = [
        name for name in labels if name != head and name not in parted and (not across or name == across)
    ]
    found: dict[str, dict[str, dict[str, Outcome]]] = {}
    for outcome in shown:
        own = outcome.cell.labels
        block = ", ".join(own[name] for name in labels if name in parted and own[name])
        column = ", ".join(own[name] for name in columns if own[name]) or "measured"
        found.setdefault(block, {}).setdefault(own.get(head, ""), {})[column] = outcome
    return [_block(title, head, lines, reproduction) for title, lines in found.items()]


def _block(
    title: str, head: str, lines: Mapping[str, Mapping[str, Outcome]], reproduction: Reproduction
) -> Block:
    columns = list(dict.fromkeys(name for line in lines.values() for name in line))
    told = lambda outcome: cell_text(outcome, reproduction.table.digits, reproduction.notes)
    rows = [[name, *(told(line.get(column)) for column in columns)] for name, line in lines.items()]
    outcomes = [outcome for line in lines.values() for outcome in line.values()]
    return Block(WrittenTable(title, [head, *columns], rows), outcomes)


def cell_text(outcome: Outcome | None, digits: int, notes: Sequence[str] = ()) -> str:
    """`77.3 / 77.1 (+0.2) [1]`: measured, printed, difference, which of `notes`; what there is not is a
    dash."""
    if outcome is None:
        return ""
    printed = "-" if outcome.cell.printed is None else f"{outcome.cell.printed:.{digits}f}"
    numbers = ", ".join(str(notes.index(note) + 1) for note in outcome.notes if note in notes)
    marks = f" [{numbers}]" if numbers else ""
    if outcome.value is None:
        return f"{'failed' if outcome.state == 'failed' else '-'} / {printed}{marks}"
    difference = "" if outcome.difference is None else f" ({outcome.difference:+.{digits}f})"
    return f"{outcome.value:.{digits}f} / {printed}{difference}{marks}"


def to_json(reproduction: Reproduction) -> dict[str, Any]:
    """All of it, for machines and for the report."""
    table = reproduction.table
    return {
        "format": FORMAT,
        "version": VERSION,
        "results": RESULTS,
        "table": table.name,
        "title": table.title,
        "unit": table.unit,
        "digits": table.digits,
        "variant": reproduction.variant,
        "layout": reproduction.layout or reproduction.variant,
        "summary": {s: reproduction.count(s) for s in ("measured", "missing", "failed", "incomplete")},
        "cells": [_record(outcome) for outcome in reproduction.outcomes],
        "missing": [
            {"what": missing.what, "advice": missing.advice, "cells": count}
            for missing, count in reproduction.missing
        ],
        "left_out": {origin: list(names) for origin, names in reproduction.left_out.items()},
        "notes": list(reproduction.notes),
        "versions": package_versions(),
    }


def _record(outcome: Outcome) -> dict[str, Any]:
    cell = outcome.cell
    return {
        "labels": dict(cell.labels),
        "printed": cell.printed,
        "measured": outcome.value,
        "difference": outcome.difference,
        "state": outcome.state,
        "reason": outcome.reason,
        "in_table": cell.shown,
        "model": outcome.model,
        "runs": list(outcome.runs),
        "left_out": {origin: list(names) for origin, names in outcome.left_out.items()},
        "notes": list(outcome.notes),
    }


def to_csv(reproduction: Reproduction) -> str:
    """A row for each cell: its labels, then what was found; `model_used` where a label is called `model`."""
    names = list(dict.fromkeys(name for outcome in reproduction.outcomes for name in outcome.cell.labels))
    found = ["printed", "measured", "difference", "state", "reason", "model", "notes"]
    heads = [f"{name}_used" if name in names else name for name in found]
    rows = []
    for outcome in reproduction.outcomes:
        record: dict[str, Any] = {**_record(outcome), "notes": "; ".join(outcome.notes)}
        rows.append([*(record["labels"].get(name) for name in names), *(record[name] for name in found)])
    return written_tables.to_csv([WrittenTable("", [*names, *heads], rows)])


def to_markdown(reproduction: Reproduction) -> str:
    """The table for people, and below it what is missing and what failed."""
    shown = as_shown(reproduction)
    parts = [f"# {escape(shown.title)}", escape(shown.summary)]
    for table in shown.parts:
        parts += [f"## {escape(table.title)}" if table.title else "", markdown_grid(table)]
    for heading, lines in {"": shown.notes, "Missing": shown.missing, "Failed": shown.failed}.items():
        parts.append(f"## {heading}" if heading and lines else "")
        parts.append("\n".join(f"- {escape(line)}" for line in lines))
    return "\n\n".join(filter(None, parts)) + "\n"


def summary(reproduction: Reproduction) -> str:
    """One sentence: how much there is, and how near it is."""
    shown = [outcome for outcome in reproduction.outcomes if outcome.cell.shown]
    measured = [outcome for outcome in shown if outcome.value is not None]
    how = f"{reproduction.variant} variant"
    if reproduction.layout not in ("", reproduction.variant):
        how += f", projectors of the {reproduction.layout} layout"
    text = f"{len(measured)} of {len(shown)} cells measured ({how})"
    differences = [abs(o.difference) for o in measured if o.difference is not None]
    if differences:
        mean = sum(differences) / len(differences)
        text += f", mean absolute difference {mean:.2f}, largest {max(differences):.2f}"
    if lost := reproduction.left_out:
        counts = ", ".join(f"{len(names)} of {origin}" for origin, names in lost.items())
        text += f", unreadable images left out: {counts}"
    return text + "."


def write_files(folder: Path, reproduction: Reproduction, content: dict[str, Any]) -> list[Path]:
    """Write NAME.csv, NAME.json and NAME.md, each whole or not at all."""
    name = reproduction.table.name
    texts = {
        f"{name}.csv": to_csv(reproduction),
        f"{name}.json": json_text(content, indent=1) + "\n",
        f"{name}.md": to_markdown(reproduction),
    }
    # Names of files may hold what UTF-8 cannot, which is escaped.
    encoded = {file: text.encode("utf-8", errors="backslashreplace") for file, text in texts.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [write_whole(folder / file, content) for file, content in encoded.items()]
    except OSError as error:
        raise JaxalignError(f"cannot write into {folder}: {error.strerror or error}") from error


def draw_figures(folder: Path, reproduction: Reproduction) -> list[Path]:
    """Write a PNG of the table and one for each figure of its runs in `folder`; raises JaxalignError for a
    run that is damaged, or a folder that cannot be written."""
    table = reproduction.table.name
    compared = draw_comparison(reproduction)
    files = [] if compared is None else [save(compared, folder / f"{table}.png")]
    digests = dict.fromkeys(digest for outcome in reproduction.outcomes for digest in outcome.runs)
    paths = [path for digest in digests for path in sorted(folder.glob(f"*-{digest}.json"))]
    for drawn in figures_of(in_order([read_run(path) for path in paths]), _TOLD_BY_TABLES):
        name = re.sub(r"[^\w.+-]+", "_", "-".join((table, drawn.kind, *drawn.about)))
        file = folder / f"{name}.png"
        file = file if file not in files else folder / f"{name}-{len(files)}.png"
        files.append(save(drawn.figure, file))
    return files


def draw_comparison(reproduction: Reproduction) -> Figure | None:
    """Measured beside printed; None where nothing was measured that is printed."""
    compared = [o for o in reproduction.outcomes if o.cell.shown and o.difference is not None]
    if not compared:
        return None
    pairs = {
        name: [(o.cell.printed or 0.0, o.value or 0.0) for o in outcomes]
        for name, outcomes in _grouped(compared).items()
    }
    return draw_measured(pairs, reproduction.table.title, reproduction.table.unit)


@look.styled()
def draw_measured(series: Mapping[str, Sequence[tuple[float, float]]], about: str, unit: str) -> Figure:
    """Pairs of a printed and a measured number, by name.

    Left, each pair: on the diagonal they are equal. Right, the differences of each series, a line at their
    mean.
    """
    figure, (left, right) = look.panels(2, width=4.6, height=max(4.0, 0.25 * len(series) + 1))
    for i, (pairs, colour) in enumerate(zip(series.values(), cycle(look.SERIES), strict=False)):
        printed, measured = np.array(pairs, float).T
        difference = measured - printed
        look.dots(left, np.stack([printed, measured], 1), colour)
        look.dots(right, np.stack([difference, np.full(len(difference), i)], 1), colour)
        right.plot([difference.mean()] * 2, [i - 0.3, i + 0.3], color=colour, linewidth=2)
    ends = min(left.get_xlim()[0], left.get_ylim()[0]), max(left.get_xlim()[1], left.get_ylim()[1])
    left.plot(ends, ends, color=look.LINE, linewidth=0.8, zorder=0)
    left.set(xlim=ends, ylim=ends, aspect="equal", xlabel=f"printed ({unit})", ylabel=f"measured ({unit})")
    right.axvline(0, color=look.INK, linewidth=0.8, zorder=0)
    right.set_yticks(range(len(series)), labels=[look.wrapped(name, 2.5) for name in series])
    right.invert_yaxis()
    right.set_xlabel(f"measured less printed ({unit})")
    look.title(figure, about)
    return figure


def _grouped(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """By what is no data set, no number of shots and, where there are several methods, no backbone."""
    labels = outcomes[0].cell.labels
    dropped = {"dataset", "shots", "number"}
    if "method" in labels or "classifier" in labels:
        dropped.add("backbone")
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        own = [text for name, text in outcome.cell.labels.items() if name not in dropped]
        found.setdefault(", ".join(own) or outcome.cell.backbone, []).append(outcome)
    return found


@dataclass(frozen=True)
class ReproducedTable:
    """A printed table, measured beside printed, as Markdown and a report show it.

    Attributes:
      parts: one for each backbone with a measured cell.
      missing, failed: what was not measured, and why.
      notes: what cells refer to by number.
      figure: the same numbers, drawn.
    """

    title: str
    summary: str
    parts: list[WrittenTable]
    missing: list[str]
    failed: list[str]
    notes: list[str] = field(default_factory=list)
    figure: Figure | None = None


def as_shown(reproduction: Reproduction) -> ReproducedTable:
    """What people see of a reproduction, but for its figure."""
    table = reproduction.table
    return ReproducedTable(
        table.title,
        f"{summary(reproduction)} Each cell: measured / printed (difference), {table.unit}.",
        [block.table for block in blocks(reproduction) if block.is_measured],
        [f"{missing.what} ({count} cells): {missing.advice}" for missing, count in reproduction.missing],
        [f"{outcome.cell.name}: {outcome.reason}" for outcome in reproduction.failed],
        [f"[{number}] {note}" for number, note in enumerate(reproduction.notes, 1)],
    )


def read_tables(folder: Path) -> list[ReproducedTable]:
    """The tables in `folder`, by name; other JSON files are left alone. Raises JaxalignError for a file that
    is damaged, or a table of another version."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            content = read_json(path, LARGEST)
        except JaxalignError as error:
            raise JaxalignError(f"{path} cannot be read ({error}); delete it and run again") from error
        if isinstance(content, Mapping) and content.get("format") == FORMAT:
            found.append(_read(path, content))
    return found


def _read(path: Path, content: Mapping[str, Any]) -> ReproducedTable:
    if content.get("version") != VERSION:
        raise JaxalignError(
            f"{path} is {FORMAT} version {content.get('version')}; expected version {VERSION}: delete it and"
            " run `jaxalign reproduce` again"
        )
    try:
        reproduction = _restore(content)
        shown = replace(as_shown(reproduction), figure=draw_comparison(reproduction))
    except _UNREADABLE as error:
        raise JaxalignError(f"{path} is damaged ({error!r}); delete it and run again") from error
    parts = [part if part.title else replace(part, title=shown.title) for part in shown.parts]
    is_current = content.get("results") == RESULTS
    earlier = "" if is_current else "Measured by an earlier program, whose numbers may differ. "
    return replace(shown, parts=parts, summary=f"{earlier}{shown.summary}")


def _restore(content: Mapping[str, Any]) -> Reproduction:
    """The reproduction that wrote the file, without the settings of its cells."""
    outcomes = [
        Outcome(
            Cell(record["labels"], "", "", {}, "", record["printed"], shown=record["in_table"]),
            record["state"],
            record["measured"],
            record["reason"],
            record["model"],
            tuple(record["runs"]),
            record.get("left_out", {}),
            tuple(record.get("notes", ())),
        )
        for record in content["cells"]
    ]
    missing = [(Missing(m["what"], m["advice"]), m["cells"]) for m in content["missing"]]
    table = Table(content["table"], content["title"], "", content["unit"], {}, digits=content["digits"])
    layout = content.get("layout", content["variant"])
    return Reproduction(table, tuple(outcomes), tuple(missing), content["variant"], layout)
