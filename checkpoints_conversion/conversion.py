"""A checkpoint of any known format on disk to one of ours or of another library, with a report on it."""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.replacing import replaced_file
from jaxalign.specs import ModelSpec, spec_to_json
from jaxalign.weights.checkpoint import VERIFICATION, WEIGHTS, load, save
from jaxalign.weights.tensors import flatten

from .comparing import compare
from .libraries import Written, write_model
from .writing import as_stored, lacking


def convert_checkpoint(
    src: str | os.PathLike[str],
    dst: Path,
    *,
    spec: str | ModelSpec | None = None,
    name: str | None = None,
    dtype: str = "float32",
    to: str = "jaxalign",
) -> dict[str, Any]:
    """Convert `src`, all that `jaxalign.load` takes, and read the result back.

    Args:
      dst: the folder to write, or for `big_vision` the `.npz`; what is there stays as it is until the new one
        is complete and checked, and only a model of ours is replaced. The report lies in the folder as
        `verify.json`, or beside the file as `NAME.verify.json`.
      spec, name: as for `jaxalign.load`.
      dtype: of the weights in `dst`.
      to: whose format, of `jaxalign.conversion.libraries.LIBRARIES`.

    Returns:
      The report: `source`, `name`, `dtype`, `parameters` (how many), `tensors` (of each: shape and the
      SHA-256 of its bytes, little-endian), `spec` (every fact), `notes` (what is not there, with the reason).

    Raises:
      JaxalignError: what `load` raises; a `dst` that cannot be written or replaced; what the format
        cannot express; or a disk that gives back other bytes than were written.
    """
    if (to == "big_vision") != (dst.suffix == ".npz"):
        raise JaxalignError(
            f"DST is {dst}; expected a .npz for big_vision, and a folder for jaxalign and all others"
        )
    model = load(src, spec=spec, name=name)
    report = {
        "source": os.fspath(src),
        "name": model.name,
        "dtype": dtype,
        "parameters": sum(x.size for x in flatten(model.params).values()),
        "spec": spec_to_json(model.spec),
        "notes": [],
    }
    write = _WRITERS.get(to) or partial(_write_for, to)
    write(model, dst, dtype, report)
    return report


def _write_for(to: str, model: DualEncoder, dst: Path, dtype: str, report: dict[str, Any]) -> None:
    """The folder of another library, the report in it."""

    def finish(folder: Path, again: DualEncoder, written: Written, checksums: dict[str, Any]) -> None:
        report["tensors"], report["notes"] = checksums, list(written.notes)
        (folder / VERIFICATION).write_text(_as_text(report), encoding="utf-8")

    write_model(model, dst, to, dtype, finish)


def _write_ours(model: DualEncoder, dst: Path, dtype: str, report: dict[str, Any]) -> None:
    """The folder, the report in it."""

    def finish(folder: Path) -> None:
        report["tensors"] = compare(folder / WEIGHTS, flatten(model.params), dtype)
        (folder / VERIFICATION).write_text(_as_text(report), encoding="utf-8")

    save(model, dst, dtype=dtype, check=finish)


def _write_big_vision(model: DualEncoder, dst: Path, dtype: str, report: dict[str, Any]) -> None:
    """The file and its report, both written under other names first."""
    needed = lacking(model)
    if needed:
        raise JaxalignError(
            f"big_vision's two_towers cannot express what {model.name} needs: {', '.join(needed)}; leave out"
            " --format"
        )

    def finish(written: Path) -> None:
        report["tensors"] = compare(written, as_stored(model), dtype)
        with replaced_file(dst.with_suffix(".verify.json")) as place:
            place.write_text(_as_text(report), encoding="utf-8")

    save(model, dst, dtype=dtype, check=finish)


_WRITERS = {"jaxalign": _write_ours, "big_vision": _write_big_vision}


def _as_text(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"
