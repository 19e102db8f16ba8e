"""`python -m eval` is the command `jaxalign`."""

import sys

from eval import interrupts


def main() -> int:
    """The exit status of this process; a signal ends it as it does later, also while it starts."""
    interrupts.start()
    try:
        from eval.cli import main as run

        return run()
    except BaseException as error:
        number = interrupts.settle()
        if number is None and not isinstance(error, KeyboardInterrupt):
            raise
        interrupts.leave(interrupts.end_stopped(number))
        raise


if __name__ == "__main__":
    sys.exit(main())
