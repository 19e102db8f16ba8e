"""Lists on the terminal: a table where it is wide enough, else a few lines for each row."""

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
    from rich.table import Table
    from rich.text import Text

    from jaxalign.eval.terminal import open_table_console, styled

    console = open_table_console()
    if console.width >= WIDE:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(("name", "local", *columns, "source, licence")):
            table.add_column(column, no_wrap=i <= len(columns), overflow="fold")
        for row in rows:
            table.add_row(row.name, row.state, *(fact or "-" for fact in row.facts), row.source)
        console.print(table)
    else:
        for row in rows:
            facts = (f"{column} {fact}" for column, fact in zip(columns, row.facts, strict=True) if fact)
            console.print(Text.assemble(styled(row.name, "bold"), styled(f" ({row.state})")))
            console.print("; ".join(facts), overflow="fold")
            console.print(row.source, overflow="fold")
            console.print()
    for note in notes:
        console.print(note)


def print_facts(name: str, state: str, facts: Mapping[str, str]) -> None:
    """Print one thing of a list with all that is known of it, a line each."""
    from rich.text import Text

    from jaxalign.eval.terminal import open_console, styled

    console = open_console()
    console.print(Text.assemble(styled(name, "bold"), styled(f" ({state})")), soft_wrap=True)
    for key, value in facts.items():
        console.print(f"  {key:{max(map(len, facts))}}  {value}", soft_wrap=True)
    console.print()
