"""Ctrl-C, SIGTERM and SIGHUP: a command cleans up and says what is kept, whatever a library makes of them.

The first signal raises `Stopped` where the command is. What becomes of that is no matter: a command that got
a signal ends as stopped, also where a library took the exception for a damaged file; where one lost it and
goes on, it is raised again. While modules are imported the process ends on the spot, for what C++ imports
aborts at an exception; so it does at a second signal half a second later, also where it waits for the
compiler and no Python runs. As after SIGKILL, that costs nothing but what is half-written.
This module imports nothing that takes time, so that a command can be stopped from its start on.
"""

import contextlib
import functools
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

PARENT = "JAXALIGN_PARENT"  # file descriptor: it ends when the process that started this one does
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_KEPT = "what is finished is kept and nothing half-written is used: run the same command again to go on"
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}
_TOGETHER = 0.5  # seconds in which signals are one: `timeout` sends two
_PATIENCE = 8.0  # seconds after which SIGTERM ends what does not clean up; SIGKILL follows it elsewhere
_AGAIN = 0.05  # seconds until what was lost in a callback is raised once more, by this signal of our own
_LOOK = 1.0  # seconds after which a command that goes on all the same is found
_LOST = signal.SIGURG


def is_supervised() -> bool:
    """Whether this is one of several processes of a command, and `processes.supervise` started it."""
    return PARENT in os.environ


class Stopped(KeyboardInterrupt):
    """A signal has come."""


class _Command:
    """What runs now; there is one."""

    def __init__(self) -> None:
        self.got: int | None = None  # the first signal
        self.is_over = False  # its status is known, no signal changes it


_command: _Command | None = None


def start(also: Any = None) -> list[tuple[int, Any]]:
    """From here on signals do what this module says; returns what they did before.

    Those that are ignored stay so, as a shell asks for what it runs in the background, and so do those that
    somebody else handles, but for the handler `also`. Call it in the main thread.
    """
    global _command
    _command = _Command()
    hook = sys.unraisablehook
    sys.unraisablehook = functools.partial(_raise_again, hook=hook)
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()
    ours = (signal.SIG_DFL, signal.default_int_handler, also)
    before = [(number, signal.getsignal(number)) for number in (*SIGNALS, _LOST)]
    return [(number, signal.signal(number, _stop)) for number, handler in before if handler in ours]


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """`start`, and everything as before at the end; nothing in threads, and where it has started."""
    global _command
    if _command is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, before = sys.unraisablehook, start()
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
        os.close(signal.set_wakeup_fd(-1))  # which ends the watching thread
        sys.unraisablehook, _command = hook, None


def settle() -> int | None:
    """The signal that the command got, or None; what comes later changes its status no more."""
    if _command is None:
        return None
    _command.is_over = True
    return _command.got


def end_stopped(number: int | None) -> int:
    """Say that the command was stopped, and return its exit status; None counts as Ctrl-C."""
    with contextlib.suppress(OSError, AttributeError):  # of a terminal that is gone, or none
        sys.stderr.write(f"jaxalign: error: {_message(number)}\n")
        sys.stderr.flush()
    return _status(number)


def _status(number: int | None) -> int:
    return 128 + (signal.SIGINT if number is None else number)


def _message(number: int | None) -> str:
    return f"{_WORDS[signal.Signals(signal.SIGINT if number is None else number)]}; {_KEPT}"


def leave(status: int) -> None:
    """End at once, with what was printed: threads of XLA crash when Python is taken down under them."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    os._exit(status)


def _stop(number: int, frame: FrameType | None) -> None:
    if _command is None or _command.is_over or (_command.got is not None and number != _LOST):
        return
    _command.got = number if _command.got is None else _command.got
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end_now(_command.got)
        if frame.f_code is _raise_again.__code__:  # where it would be lost; it will be raised again
            return
        frame = frame.f_back
    raise Stopped


def _raise_again(lost: Any, *, hook: Any) -> None:
    """Not in the callback of a garbage collection or the like, where Python ignores it."""
    if issubclass(lost.exc_type, Stopped):
        threading.Timer(_AGAIN, _raise_in_main).start()
    else:
        hook(lost)


def _watch(read: int) -> None:
    """The numbers of the signals arrive here, whatever the main thread does; ends when the pipe is closed."""
    first, at = None, 0.0
    timer = threading.Timer(_PATIENCE, lambda: _end_now(first))
    while True:
        if not select.select([read], [], [], None if first is None else _LOOK)[0]:
            _raise_if_lost()
            continue
        if not (content := os.read(read, 1)):
            break
        if content[0] not in SIGNALS:
            continue
        if first is None:
            first, at = content[0], time.monotonic()
            if first != signal.SIGINT:
                timer.daemon = True
                timer.start()
        elif time.monotonic() - at > _TOGETHER:
            _end_now(content[0])
    timer.cancel()
    os.close(read)


def _raise_if_lost() -> None:
    """Raise it once more where a library made nothing of it and the command goes on.

    While it passes through cleaning blocks it is the exception that the main thread handles.
    """
    handled = sys._current_exceptions().get(_main_thread())
    if handled is None or handled == (None, None, None):  # the latter in Python 3.11
        _raise_in_main()


def _raise_in_main() -> None:
    signal.pthread_kill(_main_thread(), _LOST)  # which wakes it, too


def _main_thread() -> int:
    return threading.main_thread().ident or 0  # None of a thread that has not begun


def _end_now(number: int | None) -> None:
    with contextlib.suppress(OSError):
        if os.isatty(2):  # where a progress bar has hidden the cursor
            os.write(2, b"\r\x1b[?25h")
        os.write(2, f"jaxalign: error: {_message(number)}\n".encode())
    os._exit(_status(number))
