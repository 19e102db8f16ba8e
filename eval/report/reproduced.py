"""Tables of `jaxalign reproduce` in a folder: measured beside printed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.eval.paper.available import Missing
from jaxalign.eval.paper.cells import Cell, Outcome
from jaxalign.eval.paper.output import (
    FORMAT,
    VERSION,
    blocks,
    draw_comparison,
    lines_of,
    numbered_notes,
    summary,
)
from jaxalign.eval.paper.run import Reproduction
from jaxalign.eval.paper.tables import Table
from jaxalign.eval.report.build import ReproducedTable
from jaxalign.eval.report.build import PlainTable
from jaxalign.eval.tasks.runs import LARGEST, RESULTS
from jaxalign.local_files import read_json


def read_tables(folder: Path) -> list[ReproducedTable]:
    """The tables in `folder`, by name; other JSON files are left alone.

    Raises:
      JaxalignError: a file that is damaged, or a table of another version.
    """
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
        shown = _shown(_restore(content))
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        raise JaxalignError(f"{path} is damaged ({error!r}); delete it and run again") from error
    if content.get("results") == RESULTS:
        return shown
    return replace(
        shown, summary=f"Measured by an earlier program, whose numbers may differ. {shown.summary}"
    )


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


def _shown(reproduction: Reproduction) -> ReproducedTable:
    table = reproduction.table
    parts = []
    for block in blocks(reproduction):
        if any(outcome.value is not None for outcome in block.outcomes):
            rows = [(line[0], list(line[1:])) for line in lines_of(block, reproduction)]
            parts.append(PlainTable(block.title or table.title, block.head, list(block.columns), rows))
    lacking = [f"{missing.what} ({count} cells): {missing.advice}" for missing, count in reproduction.missing]
    failed = [f"{outcome.cell.name}: {outcome.reason}" for outcome in reproduction.failed]
    said = f"{summary(reproduction)} Each cell: measured / printed (difference), {table.unit}."
    figure = draw_comparison(reproduction)
    return ReproducedTable(table.title, said, parts, lacking, failed, numbered_notes(reproduction), figure)
