"""Records as JSON, and back with every problem named."""

import dataclasses
import sys
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from jaxalign.errors import JaxalignError, unknown_name

from .model_spec import ModelSpec

Record = TypeVar("Record")
_LARGEST = {int: 2**31, float: sys.float_info.max}  # no size and no id is larger
_NAMED = 5  # of unknown keys; a file may have any number


def spec_to_json(spec: ModelSpec) -> dict[str, Any]:
    """Plain dictionaries, lists, strings and numbers."""
    values = dataclasses.asdict(spec) | {"band": spec.band or None, "text_band": spec.text_band or None}
    return {field.name: values[field.name] for field in _stored_fields(spec)}


def _stored_fields(record: Any) -> list[dataclasses.Field]:
    """Of a dataclass or an instance."""
    return [field for field in dataclasses.fields(record) if field.metadata.get("stored", True)]


def spec_from_json(values: Any) -> ModelSpec:
    """The inverse of `spec_to_json`, also of what JSON made of its result; raises as `record_from_json`."""
    return record_from_json(ModelSpec, values)


def record_from_json(kind: type[Record], values: Any) -> Record:
    """An instance of the dataclass `kind` from an object with a key for each of its fields.

    Raises:
      JaxalignError: all missing, unknown and mistyped keys, or sizes that do not fit.
    """
    problems: list[str] = []
    record = _build(kind, values, "", problems)
    if problems:
        raise JaxalignError("; ".join(problems))
    return record


def _build(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    """`value` as an instance of the annotation `kind`; what does not fit is added to `problems`."""
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where, problems)
    if get_origin(kind) in (UnionType, Union):
        kinds = [k for k in get_args(kind) if k is not NoneType]
        if value is None and NoneType in get_args(kind):
            return None
        return _build(_nearest(kinds, value), value, where, problems)
    if get_origin(kind) is tuple:
        return _build_tuple(get_args(kind), value, where, problems)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            problems.append(f"{where} is {value!r:.60}; expected {' or '.join(map(repr, get_args(kind)))}")
        return value
    accepted = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        problems.append(f"{where} is {value!r:.60}; expected a {kind.__name__}")
        return value
    if kind in _LARGEST and not abs(value) <= _LARGEST[kind]:  # NaN is no number's equal or less
        problems.append(f"{where} is {value!r:.60}; expected a finite number up to {_LARGEST[kind]:g}")
        return value
    return kind(value)


def _nearest(kinds: list[Any], value: Any) -> Any:
    """Which of several dataclasses (the kinds of image tower) `value` is: the one with most of its keys."""
    keys = set(value) if isinstance(value, Mapping) else set()
    return max(kinds, key=lambda kind: len(keys & set(get_type_hints(kind)))) if len(kinds) > 1 else kinds[0]


def _build_tuple(items: tuple[Any, ...], value: Any, where: str, problems: list[str]) -> Any:
    if items[-1] is Ellipsis and isinstance(value, list | tuple):
        items = items[:1] * len(value)
    if isinstance(value, list | tuple) and len(value) == len(items):
        return tuple(_build(k, v, where, problems) for k, v in zip(items, value, strict=True))
    expected = "a list" if items[-1] is Ellipsis else f"a list of {len(items)}"
    problems.append(f"{where} is {value!r:.60}; expected {expected}")
    return value


def _build_dataclass(kind: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, Mapping):
        problems.append(f"{where or 'the content'} is {value!r:.60}; expected an object")
        return None
    path = lambda name: f"{where}.{name}" if where else name
    stored = _stored_fields(kind)
    hints = get_type_hints(kind)
    hints = {field.name: hints[field.name] for field in stored}
    before = len(problems)
    unknown = [path(key)[:60] for key in value if key not in hints]
    problems += [str(unknown_name("key", key, map(path, hints))) for key in unknown[:_NAMED]]
    arguments = {}
    for field in stored:
        if field.name in value:
            arguments[field.name] = _build(hints[field.name], value[field.name], path(field.name), problems)
        elif field.default is dataclasses.MISSING:
            problems.append(f"{path(field.name)} is missing")
    return kind(**arguments) if len(problems) == before else None
