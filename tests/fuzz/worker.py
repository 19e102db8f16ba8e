"""The process that reads hostile files: `python -m fuzz.worker CONNECTION MEMORY SECONDS`.

It takes requests, each a reader and a folder, and answers each with an outcome, until there are no more. It
may die of a file; whoever asked then knows of which. What a file makes it do beyond reading is refused. The
first file of a reader, with which it imports and compiles, may take five times as long as others.
"""

import faulthandler
import json
import os
import resource
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError, printable

from .readers import READERS, WrongResultError

FIRST = 5  # times the time of other files
_OURS = ("jaxalign", "checkpoints_conversion", "eval")
# Audit events that nothing which only reads a file causes; see `sys.audit`.
_FORBIDDEN = frozenset(
    {
        *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen"),
        *(
            "pty.spawn",
            "socket.connect",
            "socket.bind",
            "socket.getaddrinfo",
            "ftplib.connect",
            "http.client.connect",
        ),
        *(
            "os.remove",
            "os.rename",
            "os.rmdir",
            "os.chmod",
            "os.chown",
            "os.link",
            "os.symlink",
            "os.truncate",
        ),
        *(
            "os.kill",
            "os.putenv",
            "os.unsetenv",
            "shutil.rmtree",
            "shutil.move",
            "code.__new__",
            "function.__new__",
        ),
        *("webbrowser.open", "ctypes.set_errno"),
    }
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class ForbiddenError(BaseException):
    """Raised in place of what a file asked for; no handler of `Exception` takes it."""


class Guard:
    """Refuses and remembers what reading must not do, while `armed`."""

    def __init__(self) -> None:
        self.armed, self.seen = False, ""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        writes = event == "open" and arguments[2] & _WRITING and arguments[0] != os.devnull
        if writes or event in _FORBIDDEN:
            self.armed = False
            self.seen = printable(f"{event} {arguments!r:.200}")
            raise ForbiddenError(self.seen)


def main(handle: int, memory: int, seconds: float) -> None:
    connection = Connection(handle)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    faulthandler.enable()
    guard, used = Guard(), set()
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except EOFError:  # whoever asked is gone
            return
        reader, folder = READERS[request["reader"]], Path(request["folder"])
        # Also when nobody waits for this process any more.
        faulthandler.dump_traceback_later(seconds * (1 if request["reader"] in used else FIRST), exit=True)
        # What is imported with the first file, a sound one, may do more than read.
        guard.armed, guard.seen = request["reader"] in used, ""
        outcome = _read(reader, folder)
        guard.armed = False
        faulthandler.cancel_dump_traceback_later()
        used.add(request["reader"])
        created = sorted(os.listdir())
        for name in created:
            Path(name).rmdir() if Path(name).is_dir() else Path(name).unlink()
        if guard.seen or created:
            outcome = {
                "kind": "forbidden",
                "detail": guard.seen or f"created {created}",
                "place": outcome["place"],
            }
        connection.send_bytes(json.dumps(outcome).encode())


def _read(reader: Any, folder: Path) -> dict[str, str]:
    """What came of it: `kind`, a `detail` for people, and the `place` in our code."""
    try:
        reader(folder)
    except JaxalignError as error:
        kind = "memory" if _lacked_memory(error) else "refused" if _is_one_line(str(error)) else "message"
        return {"kind": kind, "detail": f"{error}"[:500], "place": _place(error)}
    except MemoryError as error:
        return {"kind": "memory", "detail": f"{error}"[:500], "place": _place(error)}
    except BaseException as error:  # a panic of Rust's is no Exception
        detail = "".join(traceback.format_exception(error, limit=-6))[-3000:]
        place = f"{error}" if isinstance(error, WrongResultError) else _place(error)
        return {"kind": "exception", "detail": detail, "place": f"{type(error).__name__} {place}"}
    return {"kind": "read", "detail": "", "place": ""}


def _lacked_memory(error: BaseException | None) -> bool:
    """Whether a refusal is because of the limit: without it, that much memory would have been taken."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__cause__ or error.__context__
    return error is not None


def _is_one_line(message: str) -> bool:
    return bool(message) and message == printable(message) and len(message) < 3000


def _place(error: BaseException) -> str:
    """The innermost line of ours that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if any(f"/{package}/" in f.filename for package in _OURS)] or frames[-1:]
    return f"{ours[-1].name} in {Path(ours[-1].filename).name}" if ours else ""


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
