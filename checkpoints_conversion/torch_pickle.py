"""What PyTorch's pickles hold, out of inert records: tensors as windows on storages, and their names.

The pickle is read by `jaxalign.weights.inert_pickle`, which calls nothing. Of its records only those are
understood that a state dict needs; every other object stays what it is, a name, and matters only if a model
needs it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.weights.pickle_records import Called, Named, Pairs, Persistent
from jaxalign.weights.stored import MOST_TENSORS, count_elements

STORAGES = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.QInt8Storage": "int8",
    "torch.QUInt8Storage": "uint8",
    "torch.QInt32Storage": "int32",
}
_TENSOR = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
_PARAMETER = "torch._utils._rebuild_parameter"
_WRAPPERS = ("state_dict", "model", "module", "model_state_dict")  # what training scripts put weights under
_MAPPINGS = ("collections.OrderedDict", "collections.defaultdict", "argparse.Namespace")
_UNDERSTOOD = {*STORAGES, *_TENSOR, _PARAMETER, *_MAPPINGS}
_DEEPEST = 100  # mappings in mappings
_MOST = 1 << 25  # characters of names, and ten for each entry; mappings that hold each other have more


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

    def __post_init__(self) -> None:
        """Raise JaxalignError unless all of it lies in the storage."""
        elements = count_elements(self.shape)
        if len(self.strides) != len(self.shape) or not all(map(_is_count, (self.offset, *self.strides))):
            raise JaxalignError("damaged: a tensor whose strides or offset are no numbers from 0 on")
        if elements and self.last >= self.storage.count:
            raise JaxalignError(f"damaged: a tensor of shape {self.shape} reaches beyond its storage")

    @property
    def last(self) -> int:
        """Where in the storage its last element is."""
        return self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))

    @property
    def lies_in_order(self) -> bool:
        """Whether its elements lie one after the other, as those of all but views do."""
        expected = 1
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and stride != expected:
                return False
            expected *= n
        return True


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def as_storage(value: Any) -> Storage | None:
    """The storage that something outside of a pickle is; None for any other.

    Raises:
      JaxalignError: a part of another storage, which PyTorch wrote before version 0.4.
    """
    said = value.said if type(value) is Persistent else None
    if type(said) is not tuple or len(said) not in (5, 6) or type(said[0]) is not str or said[0] != "storage":
        return None
    _, kind, key, _, count, *view = said
    if type(kind) is not Named or kind.name not in STORAGES:
        return None
    if type(key) is not str or not _is_count(count):
        raise JaxalignError("damaged: a storage without name or size")
    if view and view[0] is not None:
        raise JaxalignError("it has a part of a storage, as PyTorch before 0.4 wrote it; save it again")
    return Storage(key, STORAGES[kind.name], count)


def as_tensor(value: Any) -> TensorRecord | None:
    """The tensor, or the parameter of one, that a record stands for; None for any other value.

    Raises:
      JaxalignError: a tensor that does not lie in its storage.
    """
    if type(value) is Called and (arguments := value.arguments_of(_PARAMETER)):
        value = arguments[0]
    arguments = value.arguments_of(*_TENSOR) if type(value) is Called else None
    if arguments is None or not 4 <= len(arguments) <= 8:
        return None
    storage, offset, shape, strides, *more = arguments
    storage = as_storage(storage)
    if type(shape) is Called:  # before 0.4
        shape, *_ = shape.arguments_of("torch.Size") or (None,)
    # the metadata say that it is the negative, or the conjugate, of what is stored
    if storage is None or (len(more) > 2 and more[2] is not None and as_pairs(more[2]) != []):
        return None
    if type(shape) is not tuple or type(strides) is not tuple:
        raise JaxalignError("damaged: a tensor whose shape or strides are no tuples")
    return TensorRecord(storage, offset, shape, strides)


def as_pairs(value: Any) -> Pairs | None:
    """What a dictionary, a namespace or a module of TorchScript holds; None for any other value."""
    if type(value) is Pairs:
        return value
    if type(value) is not Called:
        return None
    if value.name == "argparse.Namespace" or value.name.startswith("__torch__."):
        return value.state if type(value.state) is Pairs else None
    if value.name == "collections.defaultdict":
        return value.pairs or Pairs()
    if value.name != "collections.OrderedDict" or type(value.arguments) is not tuple:
        return None
    given = value.arguments[0] if value.arguments else []  # Python 2 wrote a list of pairs
    if type(given) is not list or any(type(pair) is not list or len(pair) != 2 for pair in given):
        return None
    pairs = value.pairs or Pairs()
    return Pairs([*(x for pair in given for x in pair), *pairs]) if given else pairs


def find_weights(content: Any) -> dict[str, TensorRecord | str]:
    """What the state dict holds that a training script saved, alone or under one of the usual names.

    Returns:
      By name the tensors, and what the pickle calls the objects that are none; numbers, strings and lists are
      left out. Modules in modules have their names joined with ".".

    Raises:
      JaxalignError: damaged tensors, two state dicts, one name for two things, or mappings that hold each
        other.
    """
    walk = _Walk()
    for _ in range(3):
        held = (as_pairs(content) or Pairs()).by_name()
        full = {name: held[name] for name in _WRAPPERS if walk.has_tensors(held.get(name))}
        if not full:
            break
        if len({id(value) for value in full.values()}) > 1:
            raise JaxalignError(f"it has weights under {' and '.join(full)}; expected one state dict alone")
        content = next(iter(full.values()))
        _check_alone(held, content, walk)
    return walk.find(content)


def _check_alone(held: Mapping[str, Any], weights: Any, walk: "_Walk") -> None:
    """Raise JaxalignError where others than `weights` have all their names: averages, mostly."""
    own, each = _keys(weights), {id(value): name for name, value in held.items()}
    others = [n for n in each.values() if held[n] is not weights and own <= _keys(held[n])]
    if alike := [name for name in others if walk.has_tensors(held[name])]:
        raise JaxalignError(
            f"it has weights under {' and '.join([each[id(weights)], *alike])}; expected one state dict,"
            " the one that is meant"
        )


def _keys(value: Any) -> set[str]:
    return {key for key in (as_pairs(value) or Pairs())[::2] if type(key) is str}


class _Walk:
    """Through mappings in mappings. What is held often is visited often, so visits have a limit."""

    def __init__(self):
        self.left = _MOST
        self.pairs: dict[int, Pairs | None] = {}  # by identity: what is held often is understood once

    def has_tensors(self, content: Any) -> bool:
        """Whether it is a mapping with tensors."""
        return any(type(found) is TensorRecord and name for name, found in self.find(content).items())

    def find(self, content: Any) -> dict[str, TensorRecord | str]:
        """All tensors and objects by name; a tensor that lies in no mapping has none."""
        found: dict[str, TensorRecord | str] = {}
        tensors = 0
        stack: list[tuple[str, Any, int]] = [("", content, 0)]
        while stack:
            name, value, depth = stack.pop()
            if id(value) not in self.pairs:
                self.pairs[id(value)] = as_pairs(value)
            pairs = self.pairs[id(value)]
            if pairs is not None:
                prefix = f"{name}." if depth else ""
                held = self._visit(pairs, len(prefix), depth)
                stack += [(f"{prefix}{key}", inner, depth + 1) for key, inner in reversed(held.items())]
            elif type(value) in (Called, Named, Persistent):
                if name in found:
                    raise JaxalignError(f"it has {name!r:.80} twice")
                found[name] = as_tensor(value) or _describe(value)
                tensors += type(found[name]) is TensorRecord
                if tensors > MOST_TENSORS:
                    raise JaxalignError(f"it holds more than {MOST_TENSORS:,} tensors, the limit")
        return found

    def _visit(self, pairs: Pairs, prefix: int, depth: int) -> dict[str, Any]:
        held = pairs.by_name()
        self.left -= sum(prefix + len(key) for key in held) + 10 * len(pairs)
        if self.left < 0 or depth > _DEEPEST:
            raise JaxalignError("its dictionaries hold each other, or are too many for a state dict")
        return held


def _describe(value: Any) -> str:
    """An object that is no tensor, by what the pickle calls it."""
    if type(value) is Persistent:
        return "a storage"
    is_changed = type(value) is Called and not value.is_untouched and value.name in (*_TENSOR, _PARAMETER)
    return f"{value.name} with changes" if is_changed else value.name


def strange_names(names: Iterable[str]) -> list[str]:
    """Of the names that a pickle wants to import those that a state dict has no need of."""
    return [name for name in names if name not in _UNDERSTOOD and not name.startswith("__torch__.")]
