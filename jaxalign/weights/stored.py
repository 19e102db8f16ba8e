"""Tensors in files: known by shape and dtype, read a part at a time, with plain NumPy."""

import math
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.local_files import cannot_read, open_regular

Shape = tuple[int, ...]
T = TypeVar("T")
R = TypeVar("R")
_ALIGNMENT = 64  # bytes; what XLA asks of memory that it takes over
_AXES, _LARGEST = 64, 1 << 48  # of an array: NumPy has no more axes, and counts its bytes in 63 bits
MOST_TENSORS = 100_000  # in a file
_LONGEST_NAME = 1000  # characters
_MOST_UNPACKED, _SMALL = 16, 64 << 20  # times the bytes of a file, and bytes that any file may unpack to
PART = 1 << 17  # elements that are read, cast, written or hashed at once: they fit the cache


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file.

    Attributes:
      dtype: NumPy's name, or "bfloat16".
      parts: its elements in C's order, so many at a time, the last part shorter: 1-d arrays of that dtype.
        The next part may overwrite the one before. Raises JaxalignError where the file ends early or is
        damaged.
      is_object: whether it is no tensor but some other object of the file, which cannot be read and which
        `dtype` names: an error where a model needs it, and otherwise none.
    """

    shape: Shape
    dtype: str
    parts: Callable[[int], Iterator[np.ndarray]]
    is_object: bool = False

    def read(self) -> np.ndarray:
        """All of it, in memory."""
        if self.is_object:
            raise JaxalignError(f"an object of {self.dtype:.80} where a tensor is needed")
        out = np.empty(self.shape, jnp.dtype(self.dtype))
        fill([out.reshape(-1)], self)
        return out


@dataclass(frozen=True)
class Span:
    """Bytes that lie together in a file.

    Attributes:
      checksum: their CRC-32; None where there is none to compare.
    """

    path: Path
    offset: int
    length: int
    checksum: int | None = None

    def tensor(self, shape: Shape, dtype: str, skip: int = 0, *, is_big_endian: bool = False) -> StoredTensor:
        """The tensor in C's order that begins `skip` bytes after the span does."""
        kind, size = jnp.dtype(dtype), math.prod(shape)

        def parts(elements: int) -> Iterator[np.ndarray]:
            for part in self._parts(kind, size, skip, elements):
                yield swap_bytes(part) if is_big_endian else part

        return StoredTensor(shape, dtype, parts)

    def verify(self) -> None:
        """Raise JaxalignError where the bytes are not all there, or not what their checksum says."""
        for _ in self._parts(np.dtype(np.uint8), self.length, 0, PART):
            pass

    def _parts(self, kind: np.dtype, size: int, skip: int, elements: int) -> Iterator[np.ndarray]:
        buffer = np.empty(min(elements, size), kind)
        try:
            with open_regular(self.path) as file:
                file.seek(self.offset)
                found = self._pass(file, skip, 0)
                for start in range(0, size, elements):
                    part = buffer[: size - start]
                    content = part.view(np.uint8).data
                    if file.readinto(content) != len(content):
                        raise self._damaged()
                    found = self._continue(content, found)
                    yield part
                if self._pass(file, self.length - skip - size * kind.itemsize, found) != (self.checksum or 0):
                    raise self._damaged()
        except OSError as error:
            raise cannot_read(self.path, error) from error

    def _continue(self, content: bytes | memoryview, checksum: int) -> int:
        """The checksum of what was read so far and of `content`; 0 where there is none to compare."""
        return 0 if self.checksum is None else zlib.crc32(content, checksum)

    def _pass(self, file: BinaryIO, length: int, checksum: int) -> int:
        """As `_continue`, over bytes of `file` that belong to no part."""
        if self.checksum is None:
            file.seek(length, os.SEEK_CUR)
            return 0
        while length and (content := file.read(min(length, PART))):
            length, checksum = length - len(content), self._continue(content, checksum)
        return checksum

    def _damaged(self) -> JaxalignError:
        return JaxalignError(
            f"{self.path} is cut off or damaged: {self.length} bytes at {self.offset} are not what was"
            " written; fetch it again"
        )


def held(array: Any) -> StoredTensor:
    """What stands for an array in memory, NumPy's, JAX's or one that is made when it is asked for."""
    parts = lambda elements: array_parts(np.asarray(array), elements)
    return StoredTensor(tuple(array.shape), jnp.dtype(array.dtype).name, parts)


def named_object(name: str) -> StoredTensor:
    """What stands for something in a file that is no tensor."""
    return StoredTensor((), name, lambda elements: iter(()), is_object=True)


def plausible(tensors: dict[str, StoredTensor], path: Path) -> dict[str, StoredTensor]:
    """`tensors`, read from the file `path`, if they are no more than such a file can be meant to hold.

    Objects of long names, and all if there are very many, are left out.

    Raises:
      JaxalignError: very many tensors or very long names; or, through compression or views that repeat
        elements, far more bytes than the file has.
    """
    found = {name: tensor for name, tensor in tensors.items() if not tensor.is_object}
    if len(found) > MOST_TENSORS:
        raise JaxalignError(f"{path} holds {len(found):,} tensors; expected at most {MOST_TENSORS:,}")
    if (longest := max(map(len, found), default=0)) > _LONGEST_NAME:
        raise JaxalignError(
            f"{path} has a name of {longest:,} characters; expected at most {_LONGEST_NAME:,}"
        )
    unpacked = sum(math.prod(tensor.shape) * jnp.dtype(tensor.dtype).itemsize for tensor in found.values())
    size = path.stat().st_size
    if unpacked > most_unpacked(size):
        raise JaxalignError(
            f"the tensors of {path} have {unpacked:,} bytes, and the file {size:,}; expected at most"
            f" {_MOST_UNPACKED} times as many: a damaged file? If not, save it uncompressed and without views"
        )
    return (
        {k: v for k, v in tensors.items() if len(k) <= _LONGEST_NAME}
        if len(tensors) <= MOST_TENSORS
        else found
    )


def most_unpacked(size: int) -> int:
    """Bytes that a file of `size` bytes may be meant to hold."""
    return _MOST_UNPACKED * size + _SMALL


def count_elements(shape: Any) -> int:
    """How many elements a tensor has whose shape a file gives as `shape`.

    Raises:
      JaxalignError: what is no tuple or list of lengths, or has more or longer ones than an array can have.
    """
    if type(shape) not in (tuple, list) or len(shape) > _AXES:
        raise JaxalignError(f"a shape that is no list of at most {_AXES} lengths")
    if not all(type(length) is int and 0 <= length <= _LARGEST for length in shape):
        raise JaxalignError(f"a shape with something else than lengths of 0 to {_LARGEST:,}")
    if math.prod(max(length, 1) for length in shape) > _LARGEST:
        raise JaxalignError(f"a shape of more than {_LARGEST:,} elements")
    return math.prod(shape)


def swap_bytes(part: np.ndarray) -> np.ndarray:
    """`part`, whose elements' bytes are reversed in place."""
    bits = part.view(f"u{part.dtype.itemsize}")  # NumPy cannot do it with bfloat16
    bits.byteswap(inplace=True)
    return part


def array_parts(array: np.ndarray, elements: int) -> Iterator[np.ndarray]:
    """The elements of `array` in C's order, so many at a time."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, elements):
        yield flat[start : start + elements]


def cast_parts(array: Any, dtype: Any) -> Iterator[memoryview]:
    """The bytes of `array` in `dtype`, in C's order, a part at a time; it is NumPy's or JAX's."""
    for part in array_parts(np.asarray(array), PART):
        yield np.ascontiguousarray(part.astype(dtype, copy=False)).view(np.uint8).data


def fill(views: Iterable[np.ndarray], tensor: StoredTensor) -> None:
    """Write the elements of `tensor`, cast, into `views`.

    Args:
      views: arrays of any strides that differ in the length of the first axis alone; stacked along it they
        have the elements in the tensor's order.
    """
    views = list(views)
    row = views[0].shape[1:]
    width = max(math.prod(row), 1)
    for part in tensor.parts(max(PART // width, 1) * width):
        rows = part.reshape(-1, *row)
        while len(rows):
            n = min(len(rows), len(views[0]))
            views[0][:n] = rows[:n]
            rows, views[0] = rows[n:], views[0][n:]
            if not len(views[0]):
                views.pop(0)


def aligned_zeros(shape: Shape, dtype: Any = np.float32) -> np.ndarray:
    """Zeros where XLA takes memory over as it is; raises JaxalignError where there is none."""
    size = np.dtype(dtype).itemsize * math.prod(shape)
    try:
        memory = np.zeros(size + _ALIGNMENT, np.uint8)
    except (MemoryError, ValueError) as error:  # the latter for more than NumPy can count
        raise JaxalignError(
            f"there is no memory for the {size:,} bytes of an array of shape {shape}; the file is damaged, or"
            " the model needs a larger machine"
        ) from error
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def taken_over(arrays: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
    """Arrays of `aligned_zeros`, filled, that nobody else keeps: JAX takes their memory, without a copy."""
    return jax.device_put(dict(arrays), may_alias=True)


def read_parameters(tensors: Mapping[str, StoredTensor]) -> dict[str, jax.Array]:
    """All of them in float32; memory holds little more than the result."""
    out = {name: aligned_zeros(tensor.shape) for name, tensor in tensors.items()}
    ordered = largest_first({name: array.size for name, array in out.items()})
    on_all_cores(lambda name: fill([out[name].reshape(-1)], tensors[name]), ordered)
    return taken_over(out)


def largest_first(sizes: Mapping[T, int]) -> list[T]:
    """An order for `on_all_cores`: a large one that comes last is waited for by all."""
    return sorted(sizes, key=lambda item: -sizes[item])


def on_all_cores(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`work` of each, in order; reading, casting, checksums and copies are free of Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))
