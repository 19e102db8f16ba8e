"""What the file of a run holds has to be of the kinds that everything that shows it takes for granted."""

import math
from collections.abc import Callable, Mapping
from typing import Any

Problem = str  # what is wrong, empty where nothing is
_DEEPEST = 12  # levels of settings and metrics; ours have four
_LARGEST = 1 << 63  # of whole numbers, which are counts
_TEXT_METRICS = ("view",)  # all others are numbers


def problem_of(content: Mapping[str, Any]) -> Problem:
    """The first thing that is wrong with the fields of a run that are there; empty where nothing is."""
    for name, check in _CHECKS.items():
        if name in content and (problem := check(content[name], name)):
            return problem
    return ""


def _text(value: Any, where: str) -> Problem:
    return "" if isinstance(value, str) else f"{where} is {value!r:.60}; expected a text"


def _number(value: Any, where: str) -> Problem:
    if isinstance(value, int) and abs(value) < _LARGEST:
        return ""
    if isinstance(value, float) and math.isfinite(value):
        return ""
    return f"{where} is {value!r:.60}; expected a number"


def _json(value: Any, where: str, depth: int = _DEEPEST) -> Problem:
    """Any JSON whose numbers are finite and whose depth is bounded."""
    if value is None or isinstance(value, str | bool):
        return ""
    if not isinstance(value, Mapping | list | tuple):
        return _number(value, where)
    if not depth:
        return f"{where} is nested too deeply"
    items = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
    return next((p for key, item in items if (p := _json(item, f"{where}.{key}", depth - 1))), "")


def _metric(value: Any, where: str, depth: int = _DEEPEST) -> Problem:
    if isinstance(value, str) and where.rpartition(".")[2] not in _TEXT_METRICS:
        return f"{where} is {value!r:.60}; expected a number"
    if not isinstance(value, Mapping | list | tuple) or not depth:
        return _json(value, where, depth)
    items = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
    return next((p for key, item in items if (p := _metric(item, f"{where}.{key}", depth - 1))), "")


def _mapping(check: Callable[[Any, str], Problem]) -> Callable[[Any, str], Problem]:
    def of(value: Any, where: str) -> Problem:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            return f"{where} is {value!r:.60}; expected an object"
        return next((p for key, item in value.items() if (p := check(item, f"{where}.{key}"))), "")

    return of


def _texts(value: Any, where: str) -> Problem:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        return f"{where} is {value!r:.60}; expected a list of texts"
    return ""


_CHECKS: Mapping[str, Callable[[Any, str], Problem]] = {
    "protocol": _text,
    "settings": _mapping(_json),
    "metrics": _mapping(_metric),
    "seconds": _number,
    "versions": _mapping(_text),
    "left_out": _mapping(_texts),
    "notes": _texts,
    "results": _number,
    "arrays": _texts,
    "checksum": _text,
}
