"""A checkpoint of any known format on disk to one of ours, with a report that says what is in it."""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.replacing import replaced_file
from jaxalign.specs import ModelSpec, spec_to_json
from jaxalign.weights.checkpoint import VERIFICATION, WEIGHTS, load, save
from jaxalign.weights.safetensors_files import read_safetensors
from jaxalign.weights.stored import PART, cast_parts, on_all_cores
from jaxalign.weights.tensors import flatten

from .formats.big_vision import PREFIX
from .npz_files import read_npz
from .writing import as_stored, lacking


def convert_checkpoint(
    src: str | os.PathLike,
    dst: Path,
    *,
    spec: str | ModelSpec | None = None,
    name: str | None = None,
    dtype: str = "float32",
    to: Literal["jaxalign", "big_vision"] = "jaxalign",
) -> dict[str, Any]:
    """Convert `src`, all that `jaxalign.load` takes, and read the result back.

    Args:
      dst: the folder to write, or for `big_vision` the `.npz`; what is there stays as it is until the new one
        is complete and checked. The report lies in the folder as `verify.json`, or beside the file as
        `NAME.verify.json`.
      spec, name: as for `jaxalign.load`.
      dtype: of the weights in `dst`.

    Returns:
      The report: `source`, `name`, `dtype`, `parameters` (how many), `tensors` (of each: shape and the
      SHA-256 of its bytes, little-endian), `spec` (every fact).

    Raises:
      JaxalignError: what `load` raises; a `dst` that cannot be written or replaced; or a disk that gives back
        other bytes than were written.
    """
    if (to == "big_vision") != (dst.suffix == ".npz"):
        raise JaxalignError(f"DST is {dst}; expected a .npz for big_vision, and a folder for jaxalign")
    model = load(src, spec=spec, name=name)
    report = {
        "source": os.fspath(src),
        "name": model.name,
        "dtype": dtype,
        "parameters": sum(x.size for x in flatten(model.params).values()),
    }

    def check(written: Path) -> str:
        """What `verify.json` says, once the file holds what it should."""
        tensors = as_stored(model) if to == "big_vision" else flatten(model.params)
        report["tensors"] = _compare(written, tensors, dtype)
        report["spec"] = spec_to_json(model.spec)
        return _as_text(report)

    if to == "big_vision":
        _write_big_vision(model, dst, dtype, check)
    else:

        def finish(folder: Path) -> None:
            (folder / VERIFICATION).write_text(check(folder / WEIGHTS), encoding="utf-8")

        save(model, dst, dtype=dtype, check=finish)
    return report


def _compare(path: Path, tensors: Mapping[str, Any], dtype: str) -> dict[str, dict[str, Any]]:
    """Shape and SHA-256 of each tensor in the file `path`, which holds just `tensors` as they are in `dtype`.

    Raises:
      JaxalignError: where it does not.
    """
    found = read_npz(path) if path.suffix == ".npz" else read_safetensors(path)
    found = {name.removeprefix(PREFIX): tensor for name, tensor in found.items()}

    def compare(name: str) -> str | None:
        """The checksum; None where it differs."""
        if found[name].shape != tensors[name].shape:
            return None
        digest = hashlib.sha256()
        expected = cast_parts(tensors[name], jnp.dtype(dtype))
        for part, content in zip(found[name].parts(PART), expected, strict=True):
            if not np.array_equal(part.view(np.uint8), np.asarray(content)):
                return None
            digest.update(content)
        return digest.hexdigest()

    names = sorted(found.keys() & tensors.keys())
    checksums = dict(zip(names, on_all_cores(compare, names), strict=True))
    _raise_for(path, {name for name in found.keys() | tensors.keys() if checksums.get(name) is None})
    return {name: {"shape": list(found[name].shape), "sha256": checksums[name]} for name in names}


def _raise_for(path: Path, wrong: Iterable[str]) -> None:
    if names := sorted(wrong):
        raise JaxalignError(f"{path} does not hold what was written: {', '.join(names[:5])}; convert again")


def _as_text(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def _write_big_vision(model: DualEncoder, dst: Path, dtype: str, check: Callable[[Path], str]) -> None:
    """The file and its report, both written under other names first."""
    needed = lacking(model)
    if needed:
        raise JaxalignError(
            f"big_vision's two_towers cannot express what {model.name} needs: {', '.join(needed)}; leave out"
            " --to"
        )

    def finish(written: Path) -> None:
        said = check(written)
        with replaced_file(dst.with_suffix(".verify.json")) as partial:
            partial.write_text(said, encoding="utf-8")

    save(model, dst, dtype=dtype, check=finish)
