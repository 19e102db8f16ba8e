"""A checkpoint of any known format on disk to one of ours, with a report that says what is in it."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from jaxalign.checkpoint import VERIFICATION, WEIGHTS, load, save
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.safetensors_files import read_safetensors
from jaxalign.specs import ModelSpec, spec_to_json
from jaxalign.stored import PART, StoredTensor, cast_parts, on_all_cores
from jaxalign.tensors import flatten

from .big_vision import lacking
from .npz_files import read_npz
from .rules.big_vision import PREFIX


def convert_checkpoint(
    src: str | os.PathLike,
    dst: Path,
    *,
    spec: str | ModelSpec | None = None,
    dtype: str = "float32",
    to: Literal["jaxalign", "big_vision"] = "jaxalign",
) -> dict[str, Any]:
    """Convert `src`, all that `jaxalign.load` takes, and read the result back.

    Args:
      dst: the folder to write, or for `big_vision` the `.npz`; what is there stays as it is until the new one
        is complete and checked. The report lies in the folder as `verify.json`, or beside the file as
        `NAME.verify.json`.
      spec: the known model that `src` is, where it does not say, or all its facts.
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
    model = load(src, spec=spec)
    report = {
        "source": os.fspath(src),
        "name": model.name,
        "dtype": dtype,
        "parameters": sum(x.size for x in flatten(model.params).values()),
        "tensors": describe_tensors(flatten(model.params), dtype),
        "spec": spec_to_json(model.spec),
    }
    if to == "big_vision":
        _write_big_vision(model, dst, dtype, report)
    else:
        save(model, dst, dtype=dtype, check=lambda folder: _check_folder(folder, report))
    return report


def describe_tensors(tensors: Mapping[str, Any], dtype: str) -> dict[str, dict[str, Any]]:
    """Shape and SHA-256 of each, as it is in `dtype`."""
    names = sorted(tensors)
    checksums = _checksums([cast_parts(tensors[name], jnp.dtype(dtype)) for name in names])
    return {
        name: {"shape": list(tensors[name].shape), "sha256": checksum}
        for name, checksum in zip(names, checksums, strict=True)
    }


def verify(folder: Path) -> None:
    """Compare a converted model's weights with the `verify.json` beside them.

    Raises:
      JaxalignError: a file that is missing or damaged, or tensors that are not those of the report.
    """
    try:
        report = json.loads((folder / VERIFICATION).read_text(encoding="utf-8"))
        tensors = report["tensors"]
        _compare(read_safetensors(folder / WEIGHTS), tensors, folder / WEIGHTS)
    except OSError as error:
        raise JaxalignError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, JaxalignError):
            raise
        raise JaxalignError(f"{folder / VERIFICATION} is no report of `jaxalign convert`") from error


def _checksums(contents: Iterable[Iterable[memoryview]]) -> list[str]:
    """SHA-256 of each content, which comes in parts."""

    def checksum(parts: Iterable[memoryview]) -> str:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return digest.hexdigest()

    return list(on_all_cores(checksum, contents))


def _bytes(tensor: StoredTensor) -> Iterator[memoryview]:
    return (part.view(np.uint8).data for part in tensor.parts(PART))


def _compare(found: Mapping[str, StoredTensor], tensors: Mapping[str, Any], path: Path) -> None:
    """Raise JaxalignError where the file `path`, which holds `found`, is not what was written."""
    both = sorted(found.keys() & tensors.keys())
    checksums = _checksums([_bytes(found[name]) for name in both])
    wrong = sorted(found.keys() ^ tensors.keys())
    wrong += [k for k, checksum in zip(both, checksums, strict=True) if checksum != tensors[k]["sha256"]]
    if wrong:
        raise JaxalignError(f"{path} does not hold what was written: {', '.join(wrong[:5])}; convert again")


def _check_folder(folder: Path, report: Mapping[str, Any]) -> None:
    _compare(read_safetensors(folder / WEIGHTS), report["tensors"], folder / WEIGHTS)
    (folder / VERIFICATION).write_text(_as_text(report), encoding="utf-8")


def _as_text(report: Mapping[str, Any]) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def _write_big_vision(model: DualEncoder, dst: Path, dtype: str, report: Mapping[str, Any]) -> None:
    """The file and its report, both written under other names first."""
    needed = lacking(model.config)
    if needed:
        raise JaxalignError(
            f"big_vision's two_towers cannot express what {model.name} needs: {', '.join(needed)}; leave out"
            " --to"
        )
    partial = dst.with_name(f".{dst.stem}.{uuid.uuid4().hex[:8]}.npz")
    said = partial.with_suffix(".json")
    try:
        save(model, partial, dtype=dtype)
        found = {name.removeprefix(PREFIX): tensor for name, tensor in read_npz(partial).items()}
        _compare(found, report["tensors"], partial)
        said.write_text(_as_text(report), encoding="utf-8")
        os.replace(said, dst.with_suffix(".verify.json"))
        os.replace(partial, dst)
    except OSError as error:
        raise JaxalignError(f"cannot write {dst}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
        said.unlink(missing_ok=True)
