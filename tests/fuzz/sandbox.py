"""Run readers in a process that may die: of too much memory, of too much time, of anything."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path

from .mutant import Part

TESTS = Path(__file__).parents[1]
MEMORY = 4 << 30  # bytes of data, those of the interpreter and of JAX included
SECONDS = 20.0
GRACE = 10.0  # seconds in which a worker should end by itself
PATIENCE = 120.0  # seconds for its first answer, with all imports
CASES = 2000  # of a worker, which is then replaced: caches and leaks do not add up
_FRAME = re.compile(
    r'File ".*?/(?:jaxalign|checkpoints_conversion|eval)/(?:[^"]*/)?([^"/]+)", line \d+ in (\S+)'
)


@dataclass(frozen=True)
class Outcome:
    """What came of a file.

    Attributes:
      kind: `read` and `refused` are right. `exception`, `message` (not one printable line), `forbidden` (it
        did more than read), `memory`, `time` and `crash` are findings.
      place: in the code; outcomes of one kind and place count as one finding.
    """

    kind: str
    detail: str = ""
    place: str = ""

    @property
    def is_finding(self) -> bool:
        return self.kind not in ("read", "refused")

    @property
    def kills(self) -> bool:
        """Whether a worker died of it, or was slow to give up."""
        return self.kind in ("time", "crash", "memory")


class Sandbox:
    """A worker process, started when it is needed; use as a context manager."""

    def __init__(self, memory: int = MEMORY, seconds: float = SECONDS):
        self._limits = str(memory), str(seconds)
        self._seconds = seconds
        self._process: subprocess.Popen | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._answered: set[str] = set()
        self._cases = 0

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def prepare(self, files: dict[str, bytes]) -> Path:
        """A new folder with `files`."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        for name, content in files.items():
            write(folder, Part(name, content))
        return folder

    def run(self, reader: str, folder: Path) -> Outcome:
        """What `reader` makes of `folder`, in a worker."""
        if self._process is None or self._cases >= CASES:
            self._start()
        self._cases += 1
        patience = self._seconds + GRACE if reader in self._answered else PATIENCE
        try:
            self._connection.send_bytes(json.dumps({"reader": reader, "folder": str(folder)}).encode())
            if self._connection.poll(patience):
                outcome = Outcome(**json.loads(self._connection.recv_bytes()))
                self._answered.add(reader)
                if outcome.kind == "memory":  # what it took may be lost to it
                    self._stop()
                return outcome
        except (EOFError, OSError):
            pass
        return self._dead()

    def _start(self) -> None:
        self._stop()
        self._connection, theirs = Pipe()
        self._current, self._log = Path(tempfile.mkdtemp(dir=self._folder)), self._folder / "log"
        paths = [str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "JAX_PLATFORMS": "cpu",
            "MALLOC_ARENA_MAX": "4",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.worker", str(theirs.fileno()), *self._limits],
                cwd=self._current,
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        theirs.close()
        self._answered, self._cases = set(), 0

    def _dead(self) -> Outcome:
        """The outcome that a worker died of, or was killed for."""
        assert self._process is not None
        try:
            status = self._process.wait(2)
        except subprocess.TimeoutExpired:
            status = None
        self._stop()
        log = self._log.read_text(encoding="utf-8", errors="replace")
        place = next((f"{name} in {file}" for file, name in _FRAME.findall(log)), "")
        if status is None or "Timeout (" in log:
            return Outcome("time", log[-3000:], place)
        return Outcome("crash", f"status {status}\n{log[-3000:]}", f"status {status} {place}")

    def _stop(self) -> None:
        """End the worker, and whatever it has started."""
        if self._process is not None:
            self._connection.close()
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, 9)
            self._process.wait()
            self._process = None


def write(folder: Path, part: Part) -> Path:
    """Put a file into its place in the folder."""
    path = folder / part.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(part.content)
    return path
