"""Tables as files that go elsewhere: CSV for programs, LaTeX and Markdown for texts; all of it escaped."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from jaxalign.errors import printable

Cell = str | int | float | None
_FORMULA = ("=", "+", "-", "@")  # what a spreadsheet takes for one at the beginning of a text


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


def csv_cell(value: Cell | bool) -> Cell | bool:
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
