"""Results as artefacts: one JSON file for each run, with everything that it depends on, and arrays to plot.

A run's file name is a hash of its settings and of the program that measured it. A command that is asked for
the same again finds the file and does not compute anew, which is how an interrupted `reproduce` goes on.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.conversion.npz_files import read_npz
from jaxalign.errors import JaxalignError
from jaxalign.eval.json_text import json_text
from jaxalign.eval.run_checks import array_problem, problem_of
from jaxalign.local_files import read_json
from jaxalign.replacing import replaced_file

FORMAT, VERSION = "jaxalign-run", 1
# Raised whenever a change of the program changes a result: runs of another number are not found again.
RESULTS = 2
LARGEST = 64 << 20  # bytes of a run's file: a million images may be left out, and named
LARGEST_ARRAYS = 1 << 30  # bytes: a number for each of a million queries takes 4 MiB
_PACKAGES = ("jaxalign", "jax", "jaxlib", "flax", "numpy", "pillow", "tokenizers", "tensorflow-datasets")
_version_of = functools.cache(importlib.metadata.version)


def package_versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    versions = {name: _version_of(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | versions


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One finished measurement.

    Attributes:
      protocol: what was measured: `image-retrieval`, `text-retrieval`, `classification`, `band-sweep`...
      settings: all that determines the result, as JSON: model and digest of its weights, data set with
        version and split, method and its options, seed.
      metrics: the result as JSON.
      arrays: for plots, by name.
      seconds: of the measurement; not part of what identifies it.
      versions: of the packages it ran with.
      left_out: names of pictures that took no part because they cannot be read, by data set and split; only
        where the settings allow that.
      notes: sentences that belong beside the numbers wherever these are shown.
      results: `RESULTS` of the program that measured it.
    """

    protocol: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    versions: Mapping[str, str] = dataclasses.field(default_factory=package_versions)
    left_out: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    results: int = RESULTS

    @property
    def digest(self) -> str:
        """What its file is called after."""
        program = [self.results, self.versions.get("jaxalign", "")]
        return _digest([program, self.protocol, self.settings])

    @property
    def is_current(self) -> bool:
        """Whether this program would measure the same; what an earlier one got may be wrong."""
        return self.results == RESULTS

    @property
    def checksum(self) -> str:
        """Of what the run says; a file whose content has another one was changed after it was written."""
        return _digest([self.digest, self.metrics, sorted(self.arrays), list(self.notes)])

    @property
    def fields(self) -> dict[str, Any]:
        """Everything but the arrays."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "arrays"}
        return found | {"notes": list(self.notes)}

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, "digest": self.digest} | self.fields


def settings_digest(protocol: str, settings: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for the settings, and for this program."""
    return Run(protocol, settings, {}).digest


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_file(folder: str | os.PathLike, protocol: str, settings: Mapping[str, Any]) -> Path:
    """Where the run of these settings is, or would be, in `folder`."""
    return _file(folder, protocol, settings_digest(protocol, settings))


def _file(folder: str | os.PathLike, protocol: str, digest: str) -> Path:
    readable = re.sub(r"[^\w.+-]+", "_", protocol)
    return Path(folder) / f"{readable}-{digest}.json"


def write_run(folder: str | os.PathLike, run: Run) -> Path:
    """Write `run` into `folder`, whole or not at all; the arrays first, so that a run with a file is whole.

    Raises:
      JaxalignError: a folder that cannot be written, or metrics that are not JSON (NaN included).
    """
    problem = problem_of(run.fields)
    if problem:
        raise JaxalignError(f"the result of {run.protocol} cannot be written as JSON: {problem}")
    path = _file(folder, run.protocol, run.digest)
    beside = {"arrays": sorted(run.arrays), "checksum": run.checksum}
    text = json_text(run.to_json() | beside, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if run.arrays:
            with replaced_file(path.with_suffix(".npz")) as partial, partial.open("wb") as file:
                np.savez_compressed(file, allow_pickle=False, **dict(run.arrays))
        with replaced_file(path) as partial:
            partial.write_text(text, encoding="utf-8")
    except OSError as error:
        raise JaxalignError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def read_run(path: Path) -> Run:
    """The run in `path`, without arrays where their file is not there.

    Raises:
      JaxalignError: a file that is damaged, was changed, has the name of another run, or is of another
        version.
    """
    run, _ = _read(path)
    if run.is_current and not path.stem.endswith(f"-{run.digest}"):
        raise JaxalignError(f"{path} holds another run than its name says, {run.digest}; {_REDO}")
    return run


def find_run(folder: str | os.PathLike, protocol: str, settings: Mapping[str, Any]) -> Run | None:
    """The finished run of these settings in `folder`, or None: also for a file that holds another run, or
    whose arrays are not there.

    Raises:
      JaxalignError: a file that is damaged or was changed.
    """
    path = run_file(folder, protocol, settings)
    if not path.exists():
        return None
    run, whole = _read(path)
    return run if whole and run.digest == settings_digest(protocol, settings) else None


# What files of earlier programs lack, and what that means.
_MAY_LACK: Mapping[str, Any] = {"left_out": {}, "notes": [], "results": 1}
_REDO = "delete it and run again"


def _read(path: Path) -> tuple[Run, bool]:
    """The run in `path`, and whether all of its arrays are there."""
    try:
        content = read_json(path, LARGEST)
    except JaxalignError as error:
        raise JaxalignError(f"{path} cannot be read ({error}); {_REDO}") from error
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise JaxalignError(
            f"{path} is {found[0]} version {found[1]!r:.60}; expected {FORMAT} version {VERSION}"
        )
    names = {f.name for f in dataclasses.fields(Run)} - {"arrays"}
    missing = sorted(names - _MAY_LACK.keys() - content.keys())
    problem = f"it lacks {', '.join(missing)}" if missing else problem_of(content)
    if problem:
        raise JaxalignError(f"{path} is damaged: {problem}; {_REDO}")
    run = Run(**{**_MAY_LACK, **{name: content[name] for name in names & content.keys()}})
    wanted = content.get("arrays", ())
    written = dataclasses.replace(run, arrays=dict.fromkeys(wanted, np.zeros(0)))
    if run.is_current and written.checksum != content.get("checksum"):
        raise JaxalignError(f"{path} was changed after it was written; {_REDO}")
    archive = path.with_suffix(".npz")
    arrays = _read_arrays(archive)
    problem = next((p for name, array in arrays.items() if (p := array_problem(name, array))), "")
    if problem:
        raise JaxalignError(f"{archive} is damaged ({problem}); delete it and its .json and run again")
    run = dataclasses.replace(run, arrays=arrays)
    return run, set(wanted) <= run.arrays.keys()


def read_runs(folder: str | os.PathLike) -> list[Run]:
    """All runs in `folder`, by protocol and digest; raises JaxalignError where there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise JaxalignError(f"there is no folder {folder}; expected one that a command wrote with --out")
    return [read_run(path) for path in sorted(folder.glob("*.json")) if _is_run(path)]


def _is_run(path: Path) -> bool:
    """Other JSON files may lie beside the runs: a demo's `metrics.json`, a table of `reproduce`."""
    return re.fullmatch(r".+-[0-9a-f]{16}", path.stem) is not None


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        stored = read_npz(path)
        size = sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in stored.values())
        if size > LARGEST_ARRAYS:
            raise JaxalignError(f"{size:,} bytes of arrays; expected at most {LARGEST_ARRAYS:,}")
        return {name: array.read() for name, array in stored.items()}
    except JaxalignError as error:
        raise JaxalignError(f"{path} is damaged ({error}); delete it and its .json and run again") from error
