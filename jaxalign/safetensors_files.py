"""`.safetensors` files: a JSON header with names, dtypes, shapes and places, then the numbers."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import jax.numpy as jnp

from jaxalign.errors import JaxalignError
from jaxalign.stored import Span, StoredTensor, cast_parts

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
_HEADER_LIMIT = 100_000_000  # bytes; the format's own
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a `.safetensors` file; only its header is read.

    Raises:
      JaxalignError: an unreadable file, or a header that is damaged or at odds with the file's size.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, _HEADER_LIMIT):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_without_duplicates)
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise JaxalignError(f"{path} is cut off or damaged: {error}") from error
    return _parse_header(header, path, start=8 + length, size=size - 8 - length)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that occurs twice")
    return found


def _parse_header(header: Any, path: Path, start: int, size: int) -> dict[str, StoredTensor]:
    tensors, spans = {}, []
    entries = header.items() if isinstance(header, dict) else [("header", header)]
    for name, entry in entries:
        if name == "__metadata__":
            continue
        facts = entry if isinstance(entry, dict) else {}
        shape, span = facts.get("shape"), facts.get("data_offsets")
        if not _are_counts(shape) or not _are_counts(span) or len(span) != 2:
            raise JaxalignError(f"{path} is damaged: its header says {entry!r:.80} of {name!r:.80}")
        dtype = DTYPES.get(str(entry.get("dtype")))
        if dtype is None:
            raise JaxalignError(f"{path}: {name} is {entry.get('dtype')!r:.20}; expected F16, BF16 or F32")
        if span[1] - span[0] != math.prod(shape) * jnp.dtype(dtype).itemsize:
            raise JaxalignError(f"{path} is damaged: {name} of shape {shape} has {span[1] - span[0]} bytes")
        spans.append(span)
        tensors[name] = Span(path, start + span[0], span[1] - span[0]).tensor(tuple(shape), dtype)
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise JaxalignError(f"{path} is damaged: its tensors overlap or leave gaps")
        end = last
    if end != size:
        raise JaxalignError(f"{path} is cut off or damaged: {size} bytes of tensors, expected {end}")
    return tensors


def _are_counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(x) is int and x >= 0 for x in values)


def write_safetensors(tensors: Mapping[str, Any], path: Path, dtype: Any = None) -> None:
    """Write arrays (NumPy's or JAX's) in the order of their names, one after the other.

    Args:
      dtype: to cast them to; by default as they are.

    Raises:
      OSError: what the file system says; `path` may then be there in part.
    """
    header, end = {}, 0
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
