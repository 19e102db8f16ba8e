"""Lists on the terminal: a table where it is wide enough, else a few lines for each row."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDE = 120  # columns from which on a table with a row for each line can be read


@dataclass(frozen=True)
class Row:
    """One thing of a list.

    Attributes:
      name: what commands call it.
      state: whether it is there, in a word.
      facts: short ones, one for each column that `print_list` gets; empty where there is none.
      source: where it comes from, and its licence.
    """

    name: str
    state: str
    facts: tuple[str, ...]
    source: str


def print_list(rows: Sequence[Row], columns: Sequence[str], notes: Sequence[str] = ()) -> None:
    """Print `rows` on standard output, nothing cut off, then the `notes`.

    Where standard output is no terminal each row is a line, for grep.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, width=1000)
    if console.width >= WIDE:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(("name", "local", *columns, "source, licence")):
            table.add_column(column, no_wrap=i <= len(columns), overflow="fold")
        for row in rows:
            table.add_row(*map(Text, (row.name, row.state, *(fact or "-" for fact in row.facts), row.source)))
        console.print(table)
    else:
        for row in rows:
            facts = (f"{column} {fact}" for column, fact in zip(columns, row.facts, strict=True) if fact)
            console.print(Text.assemble((row.name, "bold"), f" ({row.state})"))
            console.print(Text("; ".join(facts)), overflow="fold")
            console.print(Text(row.source), overflow="fold")
            console.print()
    for note in notes:
        console.print(Text(note))


def print_facts(name: str, state: str, facts: Mapping[str, str]) -> None:
    """Print one thing of a list with all that is known of it, a line each."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    console.print(Text.assemble((name, "bold"), f" ({state})"))
    for key, value in facts.items():
        console.print(Text(f"  {key:{max(map(len, facts))}}  {value}"))
    console.print()
