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
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.brief import brief_repr
from jaxalign.conversion.npz_files import read_npz
from jaxalign.errors import JaxalignError
from jaxalign.eval.files import json_text
from jaxalign.local_files import read_json
from jaxalign.replacing import replaced_files

FORMAT, VERSION = "jaxalign-run", 1
# Raised whenever a change of the program changes a result: runs of another number are not found again.
RESULTS = 2
LARGEST = 64 << 20  # bytes of a run's file: a million images may be left out, and named
LARGEST_ARRAYS = 1 << 30  # bytes: a number for each of a million queries takes 4 MiB
_PACKAGES = ("jaxalign", "jax", "jaxlib", "flax", "numpy", "pillow", "tokenizers", "tensorflow-datasets")
# What a run's file holds has to be of the kinds that everything that shows it takes for granted; checks
# give what is wrong in words, empty where nothing is.
_DEEPEST = 12  # levels of settings and metrics; ours have four
_LARGEST = 1 << 63  # of whole numbers, which are counts
_TEXT_METRICS = ("view",)  # all others are numbers
_NUMBERS = ("gain", "gain_error", "k_top", "k_bottom", "overlap", "queries", "gallery")  # and nothing else
_PAIRS = ("band", "auto_band")
# Kinds and dimensions of the arrays that are drawn; others are of numbers, in any shape.
_ARRAYS: Mapping[str, tuple[str, int]] = {
    **dict.fromkeys(("average_precision", "mAP_at_step", "losses", "edges"), ("f", 1)),
    **dict.fromkeys(("shown_queries", "steps", "shots", "seeds", "k_top", "k_bottom"), ("iu", 1)),
    "first_results": ("iu", 2),
    "accuracy": ("f", 2),
    "mAP": ("f", 2),
    "correct": ("b", 1),
    "image_class": ("iu", 1),
}
_version_of = functools.cache(importlib.metadata.version)


def package_versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    versions = {name: _version_of(name) for name in _PACKAGES}
    return {"python": platform.python_version()} | versions


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a protocol measured.

    Attributes:
      metrics: JSON; percentages where a name does not say otherwise, None where something is not defined.
      arrays: for plots and for paired comparisons, by name.
      left_out: names of images that took no part because they cannot be read, by data set and split.
      notes: sentences that belong beside the numbers wherever these are shown.
    """

    metrics: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """One finished measurement.

    Attributes:
      protocol: what was measured: `image-retrieval`, `text-retrieval`, `classification`, `band-sweep`...
      settings: all that determines the result, as JSON: model and digest of its weights, data set with
        version and split, method and its options, seed.
      metrics, arrays, left_out, notes: of the `Result`.
      seconds: of the measurement; not part of what identifies it.
      versions: of the packages it ran with.
      results: `RESULTS` of the program that measured it.
      anew: whether this process measured it, which its file does not say: one that was read was not.
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
    anew: bool = dataclasses.field(default=True, repr=False)
    __repr__ = brief_repr

    @property
    def digest(self) -> str:
        """What its file is called after."""
        program = [self.results, self.versions.get("jaxalign", "")]
        return _digest([program, self.protocol, self.settings])

    @property
    def file_name(self) -> str:
        """In the folder of the runs."""
        readable = re.sub(r"[^\w.+-]+", "_", self.protocol)
        return f"{readable}-{self.digest}.json"

    @property
    def is_current(self) -> bool:
        """Whether this program would measure the same; what an earlier one got may be wrong."""
        return self.results == RESULTS

    @property
    def fields(self) -> dict[str, Any]:
        """Everything that its file says but the arrays."""
        return {name: getattr(self, name) for name in _names()} | {"notes": list(self.notes)}

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, "digest": self.digest} | self.fields


def has(metrics: Mapping[str, Any], path: str) -> bool:
    """Whether there is something under names joined by points, a None included."""
    parent, _, name = path.rpartition(".")
    found = number(metrics, parent) if parent else metrics
    return isinstance(found, Mapping) and name in found


def number(metrics: Mapping[str, Any], path: str) -> Any:
    """What `metrics` has under names joined by points, of lists by position; None where there is nothing."""
    return inner(metrics, path.split("."))


def inner(metrics: Mapping[str, Any], names: Iterable[str | int]) -> Any:
    """The same under nested names, which may have points in them."""
    found: Any = metrics
    for name in names:
        if isinstance(found, list | tuple) and re.fullmatch(r"-?\d+", str(name)):
            found = found[int(name)] if -len(found) <= int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def is_number(value: Any) -> bool:
    """A number, which True is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _names() -> list[str]:
    return [field.name for field in dataclasses.fields(Run) if field.name not in ("arrays", "anew")]


def _digest(content: Any) -> str:
    """Sixteen hexadecimal digits that stand for JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _array_digest(array: np.ndarray) -> str:
    """Of an array's kind, shape and values, whatever their order in memory."""
    plain = np.asarray(array)
    plain = plain.astype(plain.dtype.newbyteorder("<"), order="C", copy=False)
    return _digest([plain.dtype.str, plain.shape, hashlib.sha256(plain.tobytes()).hexdigest()])


def _digests(run: Run) -> dict[str, str]:
    """Of what may be absent: what is there has to be what was written."""
    arrays = {f"arrays.{name}": _array_digest(array) for name, array in sorted(run.arrays.items())}
    return {"left_out": _digest(run.left_out)} | arrays


def _checksum(run: Run, beside: Mapping[str, Any]) -> str:
    """Of all else that a file says of `run`; one with another checksum was changed after it was written.

    `beside` is what the file says beyond the run's fields: the names of its arrays, and the digests. Earlier
    programs wrote no digests, and their checksum is of less.
    """
    if "digests" not in beside:
        return _digest([run.digest, run.metrics, sorted(beside["arrays"]), list(run.notes)])
    return _digest([run.digest, run.fields | {"left_out": {}}, beside["arrays"], beside["digests"]])


def write_run(folder: str | os.PathLike[str], run: Run) -> Path:
    """Write `run` into `folder`, whole or not at all; the arrays first, so that a run with a file is whole.
    Raises JaxalignError for a folder that cannot be written, or metrics that are not JSON (NaN included)."""
    problem = problem_of(run.fields)
    if problem:
        raise JaxalignError(f"the result of {run.protocol} cannot be written as JSON: {problem}")
    path = Path(folder) / run.file_name
    beside: dict[str, Any] = {"arrays": sorted(run.arrays), "digests": _digests(run)}
    beside["checksum"] = _checksum(run, beside)
    text = json_text(run.to_json() | beside, indent=1) + "\n"
    files = [path.with_suffix(".npz"), path] if run.arrays else [path]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_files(*files) as partial:
            if run.arrays:
                with partial[0].open("wb") as file:
                    np.savez_compressed(file, allow_pickle=False, **dict(run.arrays))
            partial[-1].write_text(text, encoding="utf-8")
    except OSError as error:
        raise JaxalignError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def read_run(path: Path) -> Run:
    """The run in `path`, without arrays where their file is not there; raises JaxalignError for a file that
    is damaged, was changed, has the name of another run, or is of another version."""
    run, _ = _read(path)
    if run.is_current and not path.stem.endswith(f"-{run.digest}"):
        raise JaxalignError(f"{path} holds another run than its name says, {run.digest}; {_REDO}")
    return run


def find_run(folder: str | os.PathLike[str], protocol: str, settings: Mapping[str, Any]) -> Run | None:
    """The finished run of these settings in `folder`, or None: also for a file that holds another run, or
    whose arrays are not there; raises JaxalignError for a file that is damaged or was changed."""
    wanted = Run(protocol, settings, {})
    path = Path(folder) / wanted.file_name
    if not path.exists():
        return None
    run, whole = _read(path)
    return run if whole and run.digest == wanted.digest else None


# What files of earlier programs lack, and what that means.
_MAY_LACK: Mapping[str, Any] = {"left_out": {}, "notes": [], "results": 1}
_REDO = "delete it and run again"
_REDO_BOTH = "delete it and its .json and run again"


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
    names = set(_names())
    missing = sorted(names - _MAY_LACK.keys() - content.keys())
    problem = f"it lacks {', '.join(missing)}" if missing else problem_of(content)
    if problem:
        raise JaxalignError(f"{path} is damaged: {problem}; {_REDO}")
    run = Run(**{**_MAY_LACK, **{name: content[name] for name in names & content.keys()}}, anew=False)
    beside: dict[str, Any] = {"arrays": ()} | {
        name: content[name] for name in ("arrays", "digests") if name in content
    }
    if run.is_current and _checksum(run, beside) != content.get("checksum"):
        raise JaxalignError(f"{path} was changed after it was written; {_REDO}")
    run = dataclasses.replace(run, arrays=_read_arrays(path.with_suffix(".npz")))
    if "digests" in beside:
        there = {
            name: digest for name, digest in _digests(run).items() if name != "left_out" or name in content
        }
        _check_digests(path, there, beside["digests"])
    return run, set(beside["arrays"]) <= run.arrays.keys()


def _check_digests(path: Path, there: Mapping[str, str], written: Mapping[str, str]) -> None:
    """Raises JaxalignError where what is there is not what was written."""
    changed = next((name for name, digest in there.items() if digest != written.get(name)), None)
    if changed is not None:
        file, redo = (path, _REDO) if changed == "left_out" else (path.with_suffix(".npz"), _REDO_BOTH)
        raise JaxalignError(f"{file} was changed after it was written ({changed}); {redo}")


def read_runs(folder: str | os.PathLike[str]) -> list[Run]:
    """All runs in `folder`, by protocol and digest; raises JaxalignError where there is no such folder."""
    folder = Path(folder)
    if not folder.is_dir():
        raise JaxalignError(f"there is no folder {folder}; expected one that a command wrote with --out")
    # Other JSON files may lie beside the runs: a demo's `metrics.json`, a table of `reproduce`.
    paths = (path for path in sorted(folder.glob("*.json")) if re.fullmatch(r".+-[0-9a-f]{16}", path.stem))
    return [read_run(path) for path in paths]


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in `path`; none without a file."""
    if not path.is_file():
        return {}
    try:
        stored = read_npz(path)
        size = sum(math.prod(array.shape) * np.dtype(array.dtype).itemsize for array in stored.values())
        if size > LARGEST_ARRAYS:
            raise JaxalignError(f"{size:,} bytes of arrays; expected at most {LARGEST_ARRAYS:,}")
        arrays = {name: array.read() for name, array in stored.items()}
    except JaxalignError as error:
        raise JaxalignError(f"{path} is damaged ({error}); {_REDO_BOTH}") from error
    problem = next((p for name, array in arrays.items() if (p := array_problem(name, array))), "")
    if problem:
        raise JaxalignError(f"{path} is damaged ({problem}); {_REDO_BOTH}")
    return arrays


def problem_of(content: Mapping[str, Any]) -> str:
    """The first thing that is wrong with the fields of a run that are there; empty where nothing is."""
    for name, check in _CHECKS.items():
        if name in content and (problem := check(content[name], name)):
            return problem
    return ""


def array_problem(name: str, array: np.ndarray) -> str:
    """What is wrong with an array of a run; empty where nothing is."""
    kinds, dimensions = _ARRAYS.get(name, ("biuf", None))
    if array.dtype.kind in kinds and dimensions in (None, array.ndim):
        return ""
    return f"the array {name} is {array.dtype} of shape {array.shape}"


def _text(value: Any, where: str) -> str:
    return "" if isinstance(value, str) else f"{where} is {value!r:.60}; expected a text"


def _number(value: Any, where: str) -> str:
    if isinstance(value, int) and abs(value) < _LARGEST:
        return ""
    if isinstance(value, float) and math.isfinite(value):
        return ""
    return f"{where} is {value!r:.60}; expected a number"


def _json(value: Any, where: str, depth: int = _DEEPEST, *, is_metric: bool = False) -> str:
    """Any JSON whose numbers are finite and whose depth is bounded; of metrics, with texts, numbers and pairs
    of them where the names say so."""
    if is_metric and (problem := _misnamed(value, where)):
        return problem
    if value is None or isinstance(value, str | bool):
        return ""
    if not isinstance(value, Mapping | list | tuple):
        return _number(value, where)
    if not depth:
        return f"{where} is nested too deeply"
    items = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
    inside = (_json(item, f"{where}.{key}", depth - 1, is_metric=is_metric) for key, item in items)
    return next(filter(None, inside), "")


def _misnamed(value: Any, where: str) -> str:
    name, is_list = where.rpartition(".")[2], isinstance(value, list | tuple)
    if name in _PAIRS and value is not None and not (is_list and [type(x) for x in value] == [int, int]):
        return f"{where} is {value!r:.60}; expected two numbers"
    is_text = isinstance(value, str) and name not in _TEXT_METRICS
    if is_text or ((is_list or isinstance(value, Mapping)) and name in _NUMBERS):
        return f"{where} is {value!r:.60}; expected a number"
    return ""


def _mapping(check: Callable[[Any, str], str]) -> Callable[[Any, str], str]:
    def of(value: Any, where: str) -> str:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return f"{where} is {value!r:.60}; expected an object"
        return next((p for key, item in value.items() if (p := check(item, f"{where}.{key}"))), "")

    return of


def _texts(value: Any, where: str) -> str:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return f"{where} is {value!r:.60}; expected a list of texts"
    return ""


_CHECKS: Mapping[str, Callable[[Any, str], str]] = {
    "protocol": _text,
    "settings": _mapping(_json),
    "metrics": _mapping(functools.partial(_json, is_metric=True)),
    "seconds": _number,
    "versions": _mapping(_text),
    "left_out": _mapping(_texts),
    "notes": _texts,
    "results": _number,
    "arrays": _texts,
    "digests": _mapping(_text),
    "checksum": _text,
}
