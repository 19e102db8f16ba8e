"""What commands print goes through here: names come from files, and a terminal obeys what is in them.

A line stays a line, and what a terminal would act upon, or an encoding lacks, is written as an escape.
"""

import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from jaxalign.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

UNCUT = 1000  # columns of a table where there is no terminal


def say(line: str, file: TextIO | None = None) -> None:
    """Print one line, on standard output where no file is given."""
    print(printable(line), file=sys.stdout if file is None else file)


def styled(text: object, style: str = "") -> "Text":
    """A text for a console that has a style of its own."""
    from rich.text import Text

    return Text(printable(str(text)), style)


def open_console(file: TextIO | None = None, *, stderr: bool = False, quiet: bool = False) -> "Console":
    """A console to which strings are plain text: it reads neither markup nor emoji codes in them."""
    from rich.console import Console

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> "Text":
            return super().render_str(printable(text), **options)

    return PlainConsole(file=file, stderr=stderr, quiet=quiet, markup=False, emoji=False, highlight=False)


def open_table_console() -> "Console":
    """The console on standard output for tables: no line is cut where it is no terminal."""
    console = open_console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNCUT
    return console
