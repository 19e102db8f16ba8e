"""The demo's tables on the terminal."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxalign.eval.demo.findings import findings
from jaxalign.eval.demo.tables import (
    TASKS,
    classification_table,
    image_table,
    inversion_note,
    text_table,
)
from jaxalign.eval.report import Cell, Row
from jaxalign.eval.terminal import open_console, styled

COLOURS = {"up": "green", "down": "red", "same": "dim"}


def print_results(results: Mapping[str, Any], out: str | os.PathLike, seconds: float) -> None:
    """One table for each model with its small ones beside it, what they say, and where the files are."""
    console = open_console()
    for entry in (results, *results["other_models"]):
        print_model(console, entry)
    console.print(
        "* best of its column; in brackets the difference to the baseline, coloured where it exceeds twice"
        " its standard error; below the mAP: R-precision, recall@1. text-image is the reference: names find"
        " pictures.",
        style="dim",
    )
    folder = os.fspath(Path(out))
    console.print()
    console.print(f"Wrote {folder}/report.html and {folder}/metrics.json ({seconds:.0f} s).", soft_wrap=True)


def print_model(console: Console, entry: Mapping[str, Any]) -> None:
    """The tables and findings of one model."""
    band, auto = entry["band"], entry["auto_band"]
    title = f"{entry['model']} on {entry['dataset']}, {entry['queries']} queries, mAP in %"
    console.print(score_table(title, list(TASKS.values()), image_table(entry)))
    console.print(score_table("Captions of the same emoji", ["text to text"], text_table(entry)))
    if note := inversion_note(entry).strip():
        console.print(note, style="dim")
    console.print(score_table("Unicode group of a picture", ["accuracy"], classification_table(entry)))
    console.print(
        f"isoclip removes {band['k_top']} directions from the top and {band['k_bottom']} from the bottom,"
        f" chosen on the training names; isoclip-auto {auto['k_top']} and {auto['k_bottom']}, chosen from the"
        " spectrum alone.",
        style="dim",
    )
    for sentence in findings(entry):
        console.print(f"- {sentence}")
    console.print()


def score_table(title: str, columns: Sequence[str], rows: Sequence[Row]) -> Table:
    """Methods by columns; a cell has its details on a second line."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("method", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.method, *(_cell(cell) for cell in row.cells))
    return table


def _cell(cell: Cell | None) -> Text:
    if cell is None:
        return styled("-", "dim")
    text = styled(f"{cell.score:.1f}", "bold" if cell.best else "")
    text.append("*" if cell.best else " ")
    text.append(
        f" {f'({cell.signed_gain})':>7}" if cell.signed_gain else " " * 8, style=COLOURS[cell.verdict]
    )
    if cell.details:
        text.append("\n" + ", ".join(f"{value:.1f}" for value in cell.details), style="dim not bold")
    return text
