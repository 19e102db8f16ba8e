"""`.npz` and `.npy` files of plain arrays, read and written one array at a time and without pickle."""

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.local_files import cannot_read, open_regular
from jaxalign.weights.pickled_arrays import number_type
from jaxalign.weights.stored import (
    MOST_TENSORS,
    Shape,
    StoredTensor,
    array_parts,
    cast_parts,
    count_elements,
    plausible,
    swap_bytes,
)

from .zip_members import Archive, open_archive

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # bytes; NumPy's own limit
_ENTRY = re.compile(r"'(\w+)'\s*:\s*('[^'\\]*'|True|False|\([^()]*\))\s*,?\s*")  # of a dictionary in Python
_KEYS = {"descr", "fortran_order", "shape"}
_LENGTH = r"(?:0|[1-9][0-9]{0,17})L?\s*"
_SHAPE = re.compile(rf"\(\s*(?:{_LENGTH},\s*(?:{_LENGTH},\s*)*(?:{_LENGTH})?)?\)")
_BFLOAT16 = ("<V2", "|V2")  # NumPy has no name for it
_TEXT = re.compile(r"<U[1-9][0-9]{0,3}|\|S[1-9][0-9]{0,3}")  # characters of the longest one


@dataclass(frozen=True)
class _Header:
    """What the first `size` bytes of an `.npy` say of the numbers after them."""

    shape: Shape
    dtype: str
    is_fortran: bool
    is_big_endian: bool
    size: int

    @property
    def content_size(self) -> int:
        """Bytes of the numbers."""
        return count_elements(self.shape) * jnp.dtype(self.dtype).itemsize


def read_npz(path: Path, *, texts: bool = False) -> dict[str, StoredTensor]:
    """The arrays of an `.npz` by name; only their headers are read.

    Args:
      texts: whether arrays of texts are read, too, which no weights are.

    Raises:
      JaxalignError: a damaged file, or one with arrays of anything but numbers.
    """
    with open_archive(path) as archive:
        names = [name for name in archive.members if name.endswith(".npy")]
        if len(names) > MOST_TENSORS:
            raise JaxalignError(f"{len(names):,} arrays; expected at most {MOST_TENSORS:,}")
        tensors = {name.removesuffix(".npy"): _tensor(archive, name, texts) for name in names}
    return plausible(tensors, path)


def map_npy(path: Path) -> np.ndarray:
    """The array of an `.npy` of numbers or texts, mapped into memory: read as it is used.

    Raises:
      JaxalignError: a damaged file, or an array of anything else, objects above all, which are pickles.
    """
    with open_regular(path) as file:
        try:
            size = file.seek(0, 2)
            file.seek(0)
            header = _read_header(file, texts=True)
        except OSError as error:
            raise cannot_read(path, error) from error
        except JaxalignError as error:
            raise JaxalignError(f"{path}: {error} (read as with allow_pickle=False)") from error
    if size != header.size + header.content_size:
        raise JaxalignError(
            f"{path} is cut off or damaged: {size:,} bytes, expected {header.size + header.content_size:,}"
        )
    kind = jnp.dtype(header.dtype).newbyteorder(">") if header.is_big_endian else jnp.dtype(header.dtype)
    if not header.content_size:
        return np.empty(header.shape, kind)
    order = "F" if header.is_fortran else "C"
    return np.memmap(path, kind, "r", header.size, header.shape, order)


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


def _tensor(archive: Archive, name: str, texts: bool) -> StoredTensor:
    try:
        with archive.open(name) as member:
            header = _read_header(member, texts=texts)
        size = header.size + header.content_size
    except JaxalignError as error:
        raise JaxalignError(f"{name!r:.80}: {error} (read as with allow_pickle=False)") from error
    found = archive.members[name].file_size
    if size != found:
        raise zipfile.BadZipFile(f"{name!r:.80} has {found:,} bytes, expected {size:,}")
    place = archive.place(name)
    if place is not None and not header.is_fortran:
        return place.tensor(header.shape, header.dtype, header.size, is_big_endian=header.is_big_endian)
    path = archive.path
    return StoredTensor(header.shape, header.dtype, lambda elements: _parts(path, name, header, elements))


def _read_header(file: IO[bytes], *, texts: bool) -> _Header:
    start = file.read(len(_MAGIC) + 2)
    if not start.startswith(_MAGIC) or start[-2:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise JaxalignError("no array as NumPy saves it")
    width = 2 if start[-2] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _LONGEST_HEADER:
        raise JaxalignError(f"a header of {length:,} bytes; expected at most {_LONGEST_HEADER:,}")
    text = file.read(length).decode("latin-1").strip()
    said = dict(_ENTRY.findall(text))
    rest = _ENTRY.sub("", text, count=3).replace(" ", "")
    if rest != "{}" or said.keys() != _KEYS or not _SHAPE.fullmatch(said["shape"]):
        raise JaxalignError("an array of records, or a damaged header; expected an array of numbers")
    descr = said["descr"].strip("'")
    if texts and _TEXT.fullmatch(descr):
        dtype = descr
    else:
        dtype = "bfloat16" if descr in _BFLOAT16 else number_type(descr).name
    lengths = tuple(map(int, re.findall("[0-9]+", said["shape"])))
    size = len(start) + width + length
    return _Header(lengths, dtype, said["fortran_order"] == "True", descr[0] == ">", size)


def _parts(path: Path, name: str, header: _Header, elements: int) -> Iterator[np.ndarray]:
    """Of an array that is deflated or in Fortran's order; the latter is read whole."""
    count = count_elements(header.shape)
    at_once = max(count if header.is_fortran else min(elements, count), 1)
    buffer = np.empty(at_once, jnp.dtype(header.dtype))
    with open_archive(path) as archive, archive.open(name) as member:
        member.read(header.size)
        for start in range(0, count, at_once):
            part = buffer[: count - start]
            content = member.read(part.nbytes)
            if len(content) != part.nbytes:
                raise EOFError(f"{name!r:.80} ends early")
            part[:] = np.frombuffer(content, part.dtype)
            part = swap_bytes(part) if header.is_big_endian else part
            if header.is_fortran:
                yield from array_parts(part.reshape(header.shape, order="F"), elements)
            else:
                yield part
