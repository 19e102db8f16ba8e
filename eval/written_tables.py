"""Tables as files that go elsewhere: CSV for programs, LaTeX and Markdown for texts; all of it escaped.

Runs of any models and data sets are such tables: one for each task, a row for each run.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxalign.errors import printable
from jaxalign.eval.labels import DATASET, MODEL, dataset_label, method_label, model_label
from jaxalign.eval.tasks.methods import METHODS
from jaxalign.eval.tasks.registry import TASKS
from jaxalign.eval.tasks.runs import Run, is_number, number
from jaxalign.eval.tasks.task import Column, Gain, gains_of

Cell = str | int | float | None
_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for one at the beginning of a text
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "±": r"$\pm$",
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    }
)
_CHOSEN = {"k_top": "band.0", "k_bottom": "band.1", "rank": "rank"}  # settings of methods
_GAINS = (Column("gain", "gain"), Column("gain_error", "its error"), Column("p_value", "p", None))


@dataclass(frozen=True)
class WrittenTable:
    """A table before it has a format.

    Attributes:
      title: what it is about; may be empty.
      columns: heads.
      rows: a cell for each column. Texts are escaped; a number is written with all its digits in CSV and with
        those of `digits` elsewhere; None is what there is not.
      digits: behind the point, by column; one where nothing is said, None for three significant ones.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    digits: Mapping[str, int | None] = field(default_factory=dict)


def to_csv(tables: Sequence[WrittenTable]) -> str:
    """All tables as one: a row has the columns of its own, and nothing in the others."""
    columns = list(dict.fromkeys(column for table in tables for column in table.columns))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(column) for column in columns])
    for table in tables:
        for row in table.rows:
            cells = dict(zip(table.columns, row, strict=True))
            writer.writerow([csv_cell(cells.get(column)) for column in columns])
    return text.getvalue()


def csv_cell(value: Cell) -> Cell:
    """As CSV has it: a text in one line, and with a `'` before one that a spreadsheet would compute."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def to_markdown(tables: Sequence[WrittenTable]) -> str:
    """One table after the other, under its title."""
    parts = []
    for table in tables:
        parts += [f"**{markdown_text(table.title)}**"] if table.title else []
        parts.append(markdown_grid(table))
    return "\n\n".join(parts) + "\n"


def markdown_grid(table: WrittenTable) -> str:
    """A table without its title."""
    head, *rows = (list(map(markdown_text, line)) for line in (table.columns, *_shown(table)))
    rule = [("---" if text else "--:") for text in _is_text(table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *rows))


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is."""
    text = printable(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;")
    for mark in "|*`[":
        text = text.replace(mark, f"\\{mark}")
    return text


def to_latex(tables: Sequence[WrittenTable]) -> str:
    """A `table` for each, with the rules of booktabs."""
    parts = ["% needs \\usepackage{booktabs}"]
    for table in tables:
        kinds = "".join("l" if text else "r" for text in _is_text(table))
        line = lambda cells: " & ".join(map(latex_text, cells)) + r" \\"
        caption = [rf"\caption{{{latex_text(table.title)}}}"] if table.title else []
        body = [r"\toprule", line(table.columns), r"\midrule", *map(line, _shown(table)), r"\bottomrule"]
        inner = [rf"\begin{{tabular}}{{{kinds}}}", *body, r"\end{tabular}"]
        parts.append("\n".join([r"\begin{table}", r"\centering", *caption, *inner, r"\end{table}"]))
    return "\n\n".join(parts) + "\n"


def latex_text(text: str) -> str:
    """Text that LaTeX, in text mode, sets as it is."""
    return printable(text).translate(_LATEX)


WRITERS: Mapping[str, Callable[[Sequence[WrittenTable]], str]] = {
    ".csv": to_csv,
    ".tex": to_latex,
    ".md": to_markdown,
}


def _is_text(table: WrittenTable) -> list[bool]:
    """Of each column whether it holds texts, which stand to the left."""
    return [any(isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]


def _shown(table: WrittenTable) -> list[list[str]]:
    digits = [table.digits.get(column, 1) for column in table.columns]
    return [[_text(cell, count) for cell, count in zip(row, digits, strict=True)] for row in table.rows]


def _text(cell: Cell, digits: int | None) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float):
        return f"{cell:.3g}" if digits is None else f"{cell:.{digits}f}"
    return str(cell)


def in_order(runs: Sequence[Run]) -> list[Run]:
    """As the rows of a table, and what is drawn: by model, data set, labelling, classifier and method, in the
    order of `tasks.methods`."""
    known = [name for methods in METHODS.values() for name in methods]

    def key(run: Run) -> tuple:
        method = str(run.settings.get("method", "")).removeprefix("text-image ")
        place = known.index(method) if method in known else len(known)
        texts = (str(run.settings.get(name, "")) for name in (MODEL, DATASET, "task", "classifier"))
        return (*texts, place, method, run.digest)

    return sorted(runs, key=key)


def compared_runs(runs: Sequence[Run]) -> dict[str, Gain]:
    """By digest what each run gains over the first one on its model and data set, in the order of `runs`."""
    model, dataset = model_label(runs), dataset_label(runs)
    return gains_of(runs, lambda run: (model(run), dataset(run), run.settings.get("variant")))


def run_tables(runs: Sequence[Run]) -> list[WrittenTable]:
    """The tables of `runs`, in the order of the tasks; tasks without columns, as a view's, have none.

    Columns: the model, the data set, the method with what was chosen for it, as far as runs of the task have
    these, then the task's own, and what the run gains over the first one on its model and data set.
    """
    gains = {digest: gain.to_json() for digest, gain in compared_runs(runs).items()}
    tables = []
    for task in TASKS.values():
        own = [run for run in runs if run.protocol == task.name]
        columns = task.columns_of([run.metrics for run in own])
        if own and columns:
            tables.append(_table(task.title, columns, own, gains))
    return tables


def _table(
    title: str, columns: Sequence[Column], runs: Sequence[Run], gains: Mapping[str, Mapping[str, Any]]
) -> WrittenTable:
    labels = {"model": model_label(runs), "data set": dataset_label(runs), "method": method_label(runs)}
    told = {name: [label(run) or None for run in runs] for name, label in labels.items()}
    told |= {name: [number(run.settings, path) for run in runs] for name, path in _CHOSEN.items()}
    told = {name: cells for name, cells in told.items() if any(cell is not None for cell in cells)}
    compared = _GAINS if any(run.digest in gains for run in runs) else ()
    rows: list[list[Cell]] = [
        [
            *(cells[i] for cells in told.values()),
            *(_number(run.metrics, column) for column in columns),
            *(_number(gains.get(run.digest, {}), column) for column in compared),
        ]
        for i, run in enumerate(runs)
    ]
    numbers = [*columns, *compared]
    heads = [*told, *(column.title for column in numbers)]
    return WrittenTable(title, heads, rows, {column.title: column.digits for column in numbers})


def _number(metrics: Mapping[str, Any], column: Column) -> int | float | None:
    found = number(metrics, column.metric)
    return found if is_number(found) else None
