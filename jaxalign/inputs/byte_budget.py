"""Memory that threads share: who wants more than is left waits."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ByteBudget:
    """At most `total` bytes in use at a time; first come, first served.

    Do not take twice on one thread: the second time could wait for the first.
    """

    def __init__(self, total: int):
        self.total = self._free = total
        self._turn = threading.Lock()  # whoever waits for much is not overtaken by those who want little
        self._changed = threading.Condition()

    @contextmanager
    def take(self, amount: int) -> Iterator[None]:
        """Have `amount` bytes, of at most `total`, until the block ends."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify()
