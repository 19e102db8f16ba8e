"""What commands show goes through here, lines, tables and one progress bar for all: names come from files,
and a terminal obeys what is in them.

A line stays a line, and what a terminal would act upon, or an encoding lacks, is written as an escape.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from jaxalign.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Task
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


class Stages:
    """Stages of one run, with a bar that shows how far each is; `seconds` is how long each has taken, added
    up where a name comes again."""

    def __init__(self):
        self.console = open_console(stderr=True)
        self.seconds: dict[str, float] = {}
        self.start = time.perf_counter()

    @property
    def total(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.start

    def announce(self, title: str) -> None:
        """Say on one line what begins, where standard error is no terminal and no progress bar does."""
        if not self.console.is_terminal:
            self.console.print(title, soft_wrap=True)

    def note(self, text: str) -> None:
        """Say `text` on a line of standard error, in any case."""
        self.console.print(text, soft_wrap=True)

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time a stage that shows its own progress, or is over in a moment."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @contextlib.contextmanager
    def stage(
        self, name: str, title: str, total: int | None = None, *, announced: bool = True
    ) -> Iterator["Advance"]:
        """Run a stage under a progress bar; yields what is told how far it is.

        Where standard error is no terminal, one line tells that the stage begins, if it is `announced`.
        """
        if announced:
            self.announce(title)
        with self.timed(name), progress_bar(self.console, title, total) as update:
            yield Advance(update)


class Advance:
    """Is told how many more items of a stage are done, and of how many, where that was not known before."""

    def __init__(self, update: Callable[..., None]):
        self._update = update

    def __call__(self, count: int) -> None:
        self._update(advance=count)

    def start(self, total: int) -> None:
        """`total` items are to be done."""
        self._update(total=total)


@contextlib.contextmanager
def progress_bar(console: "Console", title: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar that is gone at the end, where `console` is a terminal.

    Yields:
      A function that is told what has changed, by name: `advance`, `completed` or `total`.
    """
    from rich import progress as bars

    class Pace(bars.ProgressColumn):
        """How many of how many are done, and how many a second; nothing where there is no total."""

        def render(self, task: "Task") -> "Text":
            if task.total is None:
                return styled("")
            rate = f" {task.speed:,.0f}/s" if task.speed else ""
            return styled(f"{task.completed:,.0f}/{task.total:,.0f}{rate}")

    shown = (bars.SpinnerColumn(), bars.TextColumn("{task.description}", markup=False), bars.BarColumn())
    columns = (*shown, Pace(), bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
    progress = bars.Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with progress:
        yield partial(progress.update, progress.add_task(printable(title), total=total))
