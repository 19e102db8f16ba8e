"""PyTorch's pickles without PyTorch, by a reader that cannot execute code.

A pickle calls what it names. Here a name resolves to something inert or to nothing: storages and tensors
become records of where their bytes lie, modules of TorchScript and `argparse.Namespace` become plain
mappings, and everything else is refused.
"""

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from jaxalign.errors import JaxalignError

STORAGES = {
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}
# what C's unpickler raises for damaged input
DAMAGED = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    TypeError,
    ValueError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)


@dataclass(frozen=True)
class Storage:
    """A block of numbers: its name in the archive, their dtype and how many there are."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class TensorRecord:
    """A tensor as a window on a storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class Mapping(dict):
    """Stands for `OrderedDict`, modules and namespaces alike: what they hold, by name."""

    def __init__(self, *content: Any):
        super().__init__(*content)

    def __setstate__(self, state: Any) -> None:
        if (
            isinstance(state, dict) and not self
        ):  # a state dict brings its `_metadata` along, which is dropped
            self.update(state)


@dataclass(frozen=True)
class _Constant:
    """A dtype, a layout or a device: named, never looked at."""

    name: str = ""


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> TensorRecord:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or any(type(n) is not int or n < 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor without storage")
    return TensorRecord(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def _plain_list(*content: Any) -> list:
    return list(content[0]) if content else []


_ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Mapping,
    ("argparse", "Namespace"): Mapping,
    ("torch._utils", "_rebuild_tensor"): _rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.jit._pickle", "build_intlist"): _plain_list,
    ("torch.jit._pickle", "build_tensorlist"): _plain_list,
    ("torch.jit._pickle", "build_doublelist"): _plain_list,
    ("torch.jit._pickle", "build_boollist"): _plain_list,
    ("torch.jit._pickle", "restore_type_tag"): _rebuild_parameter,
    ("torch", "Size"): _plain_list,
    ("torch", "device"): lambda *names: _Constant(),
}
_CONSTANTS = {"float16", "float32", "float64", "bfloat16", "int64", "int32", "strided", "contiguous_format"}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return _Constant(name)
        if module == "torch" and name in _CONSTANTS:
            return _Constant(name)
        if module.split(".")[0] == "__torch__":  # TorchScript's own classes: modules, without their code
            return Mapping
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]
        raise JaxalignError(
            f"its pickle asks for {module}.{name}, which no checkpoint needs and which could run code;"
            " refused, nothing was executed"
        )

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage, key, _, count, *_ = pid
        if kind != "storage" or not isinstance(storage, _Constant) or type(count) is not int or count < 0:
            raise pickle.UnpicklingError("a storage of an unknown kind")
        if isinstance(key, bytes):
            key = key.decode()
        return Storage(str(key), STORAGES[storage.name], count)


def unpickle(file: BinaryIO) -> Any:
    """The next object of `file`, out of mappings, lists, numbers, strings and `TensorRecord`s.

    Raises:
      JaxalignError: a pickle that asks for anything that is not in the short list above.
      Exceptions in DAMAGED: a damaged pickle.
    """
    return _Unpickler(file, encoding="utf-8").load()


def find_tensors(content: Any, unwrap: Callable[[Any], Any]) -> dict[str, TensorRecord]:
    """All tensors in nested mappings, by their names joined with "."; `unwrap` chooses what is walked."""
    found: dict[str, TensorRecord] = {}
    stack: list[tuple[str, Any]] = [("", unwrap(content))]
    visited: set[int] = set()
    while stack:
        prefix, node = stack.pop()
        if isinstance(node, TensorRecord):
            found[prefix[:-1]] = node
        elif isinstance(node, dict) and id(node) not in visited:  # no pickle can lead in circles
            visited.add(id(node))
            stack += [(f"{prefix}{name}.", value) for name, value in reversed(list(node.items()))]
    return found
