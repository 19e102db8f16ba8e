"""Time the stages of a run and show how far each one is."""

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from jaxalign.eval.terminal import open_console, shown


class Stages:
    """Stages of one run; `seconds` is how long each has taken, added up where a name comes again."""

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
    ) -> Iterator[Callable[[int], None]]:
        """Run a stage under a progress bar; yields a function to call with the number of items done.

        Where standard error is no terminal, one line tells that the stage begins, if it is `announced`.
        """
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
        )
        if announced:
            self.announce(title)
        off = not self.console.is_terminal
        progress = Progress(*columns, console=self.console, transient=True, disable=off)
        with self.timed(name), progress:
            task = progress.add_task(shown(title), total=total)
            yield lambda count: progress.advance(task, count)
