"""`.npz` files of plain arrays, read and written one array at a time and without pickle."""

import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.stored import Span, StoredTensor, array_parts, cast_parts

from .zip_members import find_member

_DAMAGED = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, KeyError, SyntaxError)


def read_npz(path: Path) -> dict[str, StoredTensor]:
    """The arrays of an `.npz` by name; only their headers are read.

    Raises:
      JaxalignError: a damaged file, or one that needs pickle.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            if len({info.filename for info in members}) != len(members):
                raise ValueError("a name that occurs twice")
            places = [find_member(file, path, info) for info in members]
            return {
                info.filename.removesuffix(".npy"): _header(archive, info, place, path)
                for info, place in zip(members, places, strict=True)
            }
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def write_npz(tensors: Mapping[str, Any], path: Path, dtype: Any = None) -> None:
    """Write arrays (NumPy's or JAX's), as `numpy.savez` does, but cast a part at a time.

    Args:
      dtype: to cast them to; by default as they are.

    Raises:
      OSError: what the file system says; `path` may then be there in part.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, tensor in tensors.items():
            kind = jnp.dtype(dtype or tensor.dtype)
            descr = np.lib.format.dtype_to_descr(kind)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                header = {"descr": descr, "fortran_order": False, "shape": tuple(tensor.shape)}
                np.lib.format.write_array_header_1_0(member, header)
                for part in cast_parts(tensor, kind):
                    member.write(part)


def _damaged(path: Path, error: Exception) -> JaxalignError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return JaxalignError(f"{path} is cut off, damaged or no .npz of plain arrays: {reason:.200}")


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: Span | None, path: Path) -> StoredTensor:
    with archive.open(info) as member:
        if np.lib.format.read_magic(member) == (1, 0):
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(member)
        else:
            shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(member)
        start = member.tell()
    shape, name = tuple(map(int, shape)), info.filename
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which allow_pickle=False refuses")
    kind = "bfloat16" if dtype.kind == "V" and dtype.itemsize == 2 else dtype.name  # NumPy has no name for it
    if place is None or is_fortran or place.length != start + math.prod(shape) * dtype.itemsize:
        return StoredTensor(shape, kind, lambda elements: array_parts(_read(path, name, kind), elements))
    return place.tensor(shape, kind, skip=start)


def _read(path: Path, name: str, dtype: str) -> np.ndarray:
    """The whole array, where it is compressed or in Fortran's order; zipfile compares its checksum."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            array = np.lib.format.read_array(member, allow_pickle=False)
            member.read()  # the checksum is compared at the end
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    return array.view(jnp.bfloat16) if dtype == "bfloat16" else array
