"""Results as artefacts: one JSON file for each run, with everything that it depends on, and arrays to plot.

A run's file name is a hash of its settings. A command that is asked for the same again finds the file and
does not compute anew, which is how an interrupted `reproduce` goes on.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eval.json_text import json_text
from jaxalign.errors import JaxalignError
from jaxalign.replacing import replaced_file

FORMAT, VERSION = "jaxalign-run", 1
# What zipfile and NumPy raise for an archive of arrays with wrong bytes in it.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    NotImplementedError,
    SyntaxError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_PACKAGES = ("jaxalign", "jax", "jaxlib", "flax", "numpy", "tensorflow-datasets")


def package_versions() -> dict[str, str]:
    """Of Python and of the packages that results depend on."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
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
    """

    protocol: str
    settings: Mapping[str, Any]
    metrics: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    versions: Mapping[str, str] = dataclasses.field(default_factory=package_versions)
    left_out: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)

    @property
    def digest(self) -> str:
        return settings_digest(self.protocol, self.settings)

    def to_json(self) -> dict[str, Any]:
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "arrays"}
        return {"format": FORMAT, "version": VERSION, "digest": self.digest} | fields


def settings_digest(protocol: str, settings: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that stand for the settings."""
    text = json.dumps([protocol, settings], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def run_file(folder: str | os.PathLike, protocol: str, settings: Mapping[str, Any]) -> Path:
    """Where the run of these settings is, or would be, in `folder`."""
    readable = re.sub(r"[^\w.+-]+", "_", protocol)
    return Path(folder) / f"{readable}-{settings_digest(protocol, settings)}.json"


def write_run(folder: str | os.PathLike, run: Run) -> Path:
    """Write `run` into `folder`, whole or not at all; the arrays first, so that a run with a file is whole.

    Raises:
      JaxalignError: a folder that cannot be written, or metrics that are not JSON (NaN included).
    """
    path = run_file(folder, run.protocol, run.settings)
    try:
        text = json_text(run.to_json(), indent=1) + "\n"
    except (TypeError, ValueError) as error:
        raise JaxalignError(f"the result of {run.protocol} cannot be written as JSON: {error}") from error
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
    """The run in `path`; raises JaxalignError for one that is damaged or of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise JaxalignError(f"{path} cannot be read ({error}); delete it and run again") from error
    found = (content.get("format"), content.get("version")) if isinstance(content, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise JaxalignError(f"{path} is {found[0]} version {found[1]}; expected {FORMAT} version {VERSION}")
    names = {f.name for f in dataclasses.fields(Run)} - {"arrays"}
    missing = sorted(names - {"left_out"} - content.keys())
    if missing:
        raise JaxalignError(f"{path} lacks {', '.join(missing)}; delete it and run again")
    fields = {name: content[name] for name in names & content.keys()}
    return Run(**fields, arrays=_read_arrays(path.with_suffix(".npz")))


def find_run(folder: str | os.PathLike, protocol: str, settings: Mapping[str, Any]) -> Run | None:
    """The finished run of these settings in `folder`, or None."""
    path = run_file(folder, protocol, settings)
    return read_run(path) if path.is_file() else None


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
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except _DAMAGE as error:
        raise JaxalignError(f"{path} is damaged ({error}); delete it and its .json and run again") from error
