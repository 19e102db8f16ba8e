"""One field of a configuration changed at a time: as the original gives it, or an error that names it."""

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.conversion.configs.fields import Table, WithoutEffect

TOLERANCE = 1e-5  # relative to the largest value
Outputs = tuple[np.ndarray, ...]


def changed(value: Any, name: str, telling: Mapping[str, list[Any]]) -> list[Any]:
    """Other values than `value` of the field `name`: those of `telling`, or others of its type and not."""
    if name in telling:
        return telling[name]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value * 2 + 1, "3"]
    return [3, "x"]


def variants(
    config: Any,
    tables: Mapping[str, Table],
    defaults: Callable[[str], Mapping[str, Any]],
    telling: Mapping[str, list[Any]],
    is_valid: Callable[[Any], bool],
    tried: set[str],
) -> Iterator[tuple[str, Any]]:
    """Field and value, and the configuration with it, for every field of `tables` and for unknown ones.

    Those without effect are all changed together, each name once (`tried`), where the original takes it.

    Args:
      tables: by the path of the object in `config`, separated by dots.
    """
    for path, table in tables.items():
        together = copy.deepcopy(config)
        for name in [*table, "is_causal", "head_dim", "something_new"]:
            known = _at(config, path).get(name, defaults(path).get(name))
            if path == "" and name.endswith(("_config", "_cfg")):
                continue
            for value in changed(known, name, telling):
                other = copy.deepcopy(config)
                _at(other, path)[name] = value
                if not isinstance(table.get(name), WithoutEffect):
                    yield f"{name} = {value!r}", other
                elif name not in tried and is_valid(other):
                    _at(together, path)[name] = value
                    tried.add(name)
        yield f"what is without effect in {path or 'the whole'}", together


def _at(config: Any, path: str) -> Any:
    for part in path.split(".") if path else []:
        config = config[part]
    return config


def judge(field: str, ours: Callable[[], Outputs], theirs: Callable[[], Outputs]) -> str | None:
    """What is wrong where `field` was changed; None where both give the same, or our error names it."""
    name = field.partition(" ")[0]
    try:
        found = ours()
    except ja.JaxalignError as error:
        if name in str(error):
            return None
        found = error
    try:
        expected = theirs()
    except Exception as error:  # the original does not get so far, and ours need not either
        is_fine = isinstance(found, ja.JaxalignError) or all(np.isfinite(x).all() for x in found)
        return None if is_fine else f"{field}: NaN, where the original says {error}"
    if isinstance(found, ja.JaxalignError):
        return f"{field}: not named: {found}"
    error = difference(found, expected)
    return None if error < TOLERANCE else f"{field}: differs by {error:.2g}"


def difference(ours: Outputs, theirs: Outputs) -> float:
    """The largest, relative to the largest value."""
    if [x.shape for x in ours] != [x.shape for x in theirs]:
        return np.inf
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(ours, theirs, strict=True))
