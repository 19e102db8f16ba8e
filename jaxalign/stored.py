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

Shape = tuple[int, ...]
T = TypeVar("T")
R = TypeVar("R")
_ALIGNMENT = 64  # bytes; what XLA asks of memory that it takes over
PART = 1 << 18  # elements that are read, cast, written or hashed at once: they fit the cache


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file.

    Attributes:
      dtype: NumPy's name, or "bfloat16".
      parts: its elements in C's order, so many at a time, the last part shorter: 1-d arrays of that dtype.
        The next part may overwrite the one before. Raises JaxalignError where the file ends early or is
        damaged.
    """

    shape: Shape
    dtype: str
    parts: Callable[[int], Iterator[np.ndarray]]

    def read(self) -> np.ndarray:
        """All of it, in memory."""
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

    def tensor(self, shape: Shape, dtype: str, skip: int = 0) -> StoredTensor:
        """The little-endian tensor in C's order that begins `skip` bytes after the span does."""
        kind, size = jnp.dtype(dtype), math.prod(shape)
        rest = self.length - skip - size * kind.itemsize
        damaged = (
            f"{self.path} is cut off or damaged: {self.length} bytes at {self.offset} are not what they were"
        )

        def parts(elements: int) -> Iterator[np.ndarray]:
            buffer = np.empty(min(elements, size), kind)
            try:
                with self.path.open("rb") as file:
                    file.seek(self.offset)
                    found = self._checksum(file, skip, 0)
                    for start in range(0, size, elements):
                        part = buffer[: size - start]
                        if file.readinto(part.view(np.uint8).data) != part.nbytes:
                            raise JaxalignError(f"{damaged}; fetch it again")
                        found = (
                            found if self.checksum is None else zlib.crc32(part.view(np.uint8).data, found)
                        )
                        yield part
                    if self._checksum(file, rest, found) != (self.checksum or 0):
                        raise JaxalignError(f"{damaged}; fetch it again")
            except OSError as error:
                raise JaxalignError(f"cannot read {self.path}: {error.strerror or error}") from error

        return StoredTensor(shape, dtype, parts)

    def _checksum(self, file: BinaryIO, length: int, before: int) -> int:
        """CRC-32 continued over the next bytes of `file`; where there is none to compare, they are passed."""
        if self.checksum is None:
            file.seek(length, os.SEEK_CUR)
            return 0
        while length and (part := file.read(min(length, PART))):
            length, before = length - len(part), zlib.crc32(part, before)
        return before


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


def aligned_zeros(shape: Shape) -> np.ndarray:
    """float32 zeros where XLA takes memory over as it is."""
    size = 4 * math.prod(shape)
    memory = np.zeros(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(np.float32).reshape(shape)


def taken_over(array: np.ndarray) -> jax.Array:
    """What `aligned_zeros` gave, filled, and nobody else keeps: taken over, not copied."""
    return jax.device_put(array, may_alias=True)


def read_parameters(tensors: Mapping[str, StoredTensor]) -> dict[str, jax.Array]:
    """All of them in float32; memory holds little more than the result."""

    def read(name: str) -> jax.Array:
        out = aligned_zeros(tensors[name].shape)
        fill([out.reshape(-1)], tensors[name])
        return taken_over(out)

    names = sorted(
        tensors, key=lambda name: -math.prod(tensors[name].shape)
    )  # none is left for the end alone
    return dict(zip(names, on_all_cores(read, names), strict=True))


def on_all_cores(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` of each, in order; reading, casting, checksums and copies are free of Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, items)
