"""`.safetensors` files: a JSON header with names, dtypes, shapes and places, then the numbers."""

import json
import math
import os
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import jax.numpy as jnp

from jaxalign.errors import JaxalignError
from jaxalign.local_files import JSON_LIMIT, cannot_read, open_regular
from jaxalign.weights.stored import MOST_TENSORS, Span, StoredTensor, cast_parts, count_elements, plausible

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a `.safetensors` file; only its header is read.

    Raises:
      JaxalignError: an unreadable file, or a header that is damaged or at odds with the file's size.
    """
    with open_regular(path) as file:
        try:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, JSON_LIMIT):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            content = file.read(length)
        except OSError as error:
            raise cannot_read(path, error) from error
        except ValueError as error:
            raise JaxalignError(f"{path} is cut off or damaged: {error}") from error
    try:
        header = json.loads(content.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise JaxalignError(f"{path} is cut off or damaged: {error!s:.200}") from error
    return _parse_header(header, path, start=8 + length, size=size - 8 - length)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that occurs twice")
    return found


def _parse_header(header: Any, path: Path, start: int, size: int) -> dict[str, StoredTensor]:
    tensors, spans = {}, []
    entries = header.items() if isinstance(header, dict) else [("header", header)]
    if len(entries) > MOST_TENSORS + 1:
        raise JaxalignError(f"{path} holds {len(entries):,} tensors; expected at most {MOST_TENSORS:,}")
    for name, entry in entries:
        if name == "__metadata__":
            continue
        facts = entry if isinstance(entry, dict) else {}
        kind, shape, span = facts.get("dtype"), facts.get("shape"), facts.get("data_offsets")
        try:
            elements = count_elements(shape)
        except JaxalignError as error:
            raise JaxalignError(f"{path} is damaged: its header says of {name!r:.80} {error}") from error
        dtype = DTYPES.get(kind) if isinstance(kind, str) else None
        if dtype is None:
            raise JaxalignError(f"{path}: {name!r:.80} is {reprlib.repr(kind)}; expected F16, BF16 or F32")
        if not _is_span(span, size) or span[1] - span[0] != elements * jnp.dtype(dtype).itemsize:
            raise JaxalignError(f"{path} is cut off or damaged: {name!r:.80} of shape {shape} lacks bytes")
        spans.append(span)
        place = Span(path, start + span[0], span[1] - span[0])
        tensors[name] = place.tensor(tuple(shape), dtype)  # pyright: ignore[reportArgumentType]
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise JaxalignError(f"{path} is damaged: its tensors overlap or leave gaps")
        end = last
    if end != size:
        raise JaxalignError(f"{path} is cut off or damaged: {size} bytes of tensors, expected {end}")
    return plausible(tensors, path)


def _is_span(value: Any, size: int) -> TypeGuard[list[int]]:
    return (
        isinstance(value, list) and len(value) == 2 and all(type(x) is int and 0 <= x <= size for x in value)
    )


def write_safetensors(
    tensors: Mapping[str, Any], path: Path, dtype: Any = None, metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays (NumPy's or JAX's) in the order of their names, one after the other.

    Args:
      dtype: to cast them to; by default as they are.
      metadata: what the header says besides; transformers reads no file without `{"format": "pt"}`.

    Raises:
      OSError: what the file system says; `path` may then be there in part.
    """
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    kinds = {name: jnp.dtype(dtype or x.dtype) for name, x in tensors.items()}
    for name in sorted(tensors):
        size = math.prod(tensors[name].shape) * kinds[name].itemsize
        header[name] = {
            "dtype": _NAMES[kinds[name].name],
            "shape": list(tensors[name].shape),
            "data_offsets": [end, end + size],
        }
        end += size
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    with path.open("wb") as file:
        file.write(len(content).to_bytes(8, "little") + content)
        for name in sorted(tensors):
            for part in cast_parts(tensors[name], kinds[name]):
                file.write(part)
        file.flush()
        os.fsync(file.fileno())  # a full disk shows here at the latest
