"""Tensors in files: known by shape and dtype, read one at a time, with plain NumPy."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError

Shape = tuple[int, ...]
T = TypeVar("T")
R = TypeVar("R")
_ALIGNMENT = 64  # bytes; what XLA asks of memory that it takes over
_COLUMNS = 64  # copied at once where a matrix is transposed: rows of that many fit the cache
_PART = 1 << 18  # elements that are cast, written or hashed at once


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file.

    Attributes:
      dtype: NumPy's name, or "bfloat16".
      read: reads it, an array of that shape and dtype; raises JaxalignError where the file ends early.
      offset: of its bytes in the file, where they lie there in C's order; None elsewhere.
    """

    shape: Shape
    dtype: str
    read: Callable[[], np.ndarray]
    offset: int | None = None


def stored_tensor(path: Path, dtype: str, shape: Shape, offset: int) -> StoredTensor:
    """The contiguous little-endian tensor at byte `offset` of `path`."""

    def read() -> np.ndarray:
        count = math.prod(shape)
        try:
            flat = np.fromfile(path, jnp.dtype(dtype), count, offset=offset)
        except OSError as error:
            raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
        if flat.size != count:
            raise JaxalignError(f"{path} is cut off: it ends within a tensor; fetch it again")
        return flat.reshape(shape)

    return StoredTensor(shape, dtype, read, offset)


def cast_parts(array: Any, dtype: Any) -> Iterator[memoryview]:
    """The bytes of `array` in `dtype`, in C's order, a part at a time; it is NumPy's or JAX's."""
    flat = np.asarray(array).reshape(-1)
    for start in range(0, flat.size, _PART):
        part = flat[start : start + _PART].astype(dtype, copy=False)
        yield np.ascontiguousarray(part).view(np.uint8).data


def read_parts(path: Path, tensor: StoredTensor) -> Iterator[bytes]:
    """The bytes of a tensor in the file `path`, a part at a time; raises OSError or JaxalignError."""
    left = math.prod(tensor.shape) * jnp.dtype(tensor.dtype).itemsize
    if tensor.offset is None:
        yield np.ascontiguousarray(tensor.read()).tobytes()
        return
    with path.open("rb") as file:
        file.seek(tensor.offset)
        while left and (part := file.read(min(left, _PART))):
            left -= len(part)
            yield part


def read_parameters(tensors: Mapping[str, StoredTensor]) -> dict[str, jax.Array]:
    """All of them in float32: memory holds the result and two tensors more."""
    ordered = largest_first(tensors)
    arrays = two_at_once(lambda item: parameter([item[1].read()], item[1].shape), ordered)
    return {name: array for (name, _), array in zip(ordered, arrays, strict=True)}


def two_at_once(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` of each, in order, by two threads: reading, checksums and copies are free of Python's lock."""
    with ThreadPoolExecutor(2) as pool:
        yield from pool.map(work, items)


def largest_first(tensors: Mapping[str, StoredTensor]) -> list[tuple[str, StoredTensor]]:
    """Their order: while the largest wait to be cast, the least memory is in use."""
    return sorted(tensors.items(), key=lambda item: -math.prod(item[1].shape))


def parameter(parts: list[np.ndarray], shape: Shape) -> jax.Array:
    """One float32 array of `shape`: the `parts`, of any strides, summed, in the order of their elements."""
    count = math.prod(shape)
    memory = np.empty(4 * count + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    out = memory[start : start + 4 * count].view(np.float32)
    _copy(parts[0], out.reshape(parts[0].shape))
    for part in parts[1:]:
        out += np.asarray(part, np.float32).reshape(-1)
    return jax.device_put(out.reshape(shape), may_alias=True)  # nobody else has it: taken over, not copied


def _copy(view: np.ndarray, out: np.ndarray) -> None:
    """`out[...] = view`, by columns where `view` is a transpose: NumPy alone is ten times slower there."""
    if view.ndim < 2 or view.flags.c_contiguous:
        out[...] = view
        return
    for i in range(0, view.shape[-1], _COLUMNS):
        out[..., i : i + _COLUMNS] = view[..., i : i + _COLUMNS]
