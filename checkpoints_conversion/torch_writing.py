"""State dicts as `torch.save` writes them, without PyTorch: opcodes of pickle, and numbers beside them."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxalign.weights.stored import cast_parts

from .torch_pickle import STORAGES

_ROOT = "archive"
_CLASSES = {dtype: name for name, dtype in reversed(STORAGES.items())}
_PROTOCOL = b"\x80\x02"
_ORDERED = b"ccollections\nOrderedDict\n)R"  # an empty one
_REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
_LARGE = 1 << 31  # bytes of a member from which on its header needs longer numbers


def write_torch(tensors: Mapping[str, Any], path: Path, dtype: Any = None) -> None:
    """Write arrays (NumPy's or JAX's) as a state dict that `torch.load(..., weights_only=True)` reads.

    Args:
      dtype: to cast them to; by default as they are.

    Raises:
      OSError: what the file system says; `path` may then be there in part.
    """
    pickle = io.BytesIO()
    pickle.write(_PROTOCOL + _ORDERED)
    kinds = {name: jnp.dtype(dtype or x.dtype) for name, x in tensors.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for key, (name, x) in enumerate(tensors.items()):
            pickle.write(_tensor(name, str(key), tuple(x.shape), kinds[name].name))
        archive.writestr(_member("data.pkl"), pickle.getvalue() + b".")
        archive.writestr(_member("byteorder"), "little")
        for key, (name, x) in enumerate(tensors.items()):
            is_large = x.size * kinds[name].itemsize >= _LARGE
            with archive.open(_member(f"data/{key}"), "w", force_zip64=is_large) as member:
                for part in cast_parts(x, kinds[name]):
                    member.write(part)
        archive.writestr(_member("version"), "3\n")


def _member(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{_ROOT}/{name}")  # of 1980: the same tensors give the same file


def _tensor(name: str, key: str, shape: tuple[int, ...], dtype: str) -> bytes:
    """The entry `name` of the dictionary that lies on the stack: a tensor that is all of storage `key`."""
    strides, size = [], 1
    for length in reversed(shape):
        strides.insert(0, size)
        size *= length
    kind = b"c" + "\n".join(_CLASSES[dtype].rsplit(".", 1)).encode() + b"\n"
    storage = b"(" + _text("storage") + kind + _text(key) + _text("cpu") + _number(size) + b"tQ"
    window = _number(0) + _numbers(shape) + _numbers(strides)
    no_gradient, no_hooks = b"\x89", _ORDERED
    return _text(name) + _REBUILD + b"(" + storage + window + no_gradient + no_hooks + b"tRs"


def _text(text: str) -> bytes:
    content = text.encode()
    return b"X" + len(content).to_bytes(4, "little") + content


def _number(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + value.to_bytes(4, "little")
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def _numbers(values: Any) -> bytes:
    return b"(" + b"".join(map(_number, values)) + b"t"
