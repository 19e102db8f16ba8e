"""`python -m jaxalign` is the command `jaxalign`."""

# Built in: the module `signal`, and all else that is imported below, takes time in which signals come, too.
import _signal  # pyright: ignore[reportMissingImports]
import gc
import os
import sys


def _leave(number: int, _: object) -> None:
    os.write(2, b"jaxalign: error: interrupted before anything was begun\n")
    os._exit(128 + number)


_EARLY = [n for n in (_signal.SIGINT, _signal.SIGTERM) if _signal.getsignal(n) != _signal.SIG_IGN]
for _number in _EARLY:
    _signal.signal(_number, _leave)


def main() -> int:
    """The exit status of this process; a signal ends it as it does later, also while it starts."""
    from jaxalign.eval import interrupts

    interrupts.start(also=_leave)
    gc.set_threshold(50_000)  # else garbage is looked for among all that is imported: a fifth of a search
    try:
        from jaxalign.eval.cli import main as run

        status = run()
        gc.freeze()  # else all of it is looked through once more when Python ends: a third of a second
        return status
    except BaseException as error:
        number = interrupts.settle()
        if number is None and not isinstance(error, KeyboardInterrupt):
            raise
        interrupts.leave(interrupts.end_stopped(number))
        raise


if __name__ == "__main__":
    sys.exit(main())
