"""What the file of a run holds has to be of the kinds that everything that shows it takes for granted."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Problem = str  # what is wrong, empty where nothing is
_DEEPEST = 12  # levels of settings and metrics; ours have four
_LARGEST = 1 << 63  # of whole numbers, which are counts
_TEXT_METRICS = ("view",)  # all others are numbers
_NUMBERS = ("gain", "gain_error", "k_top", "k_bottom", "overlap", "queries", "gallery")  # and nothing else
_PAIRS = ("band", "auto_band")
# Kinds and dimensions of the arrays that are drawn; others are of numbers, in any shape.
_ARRAYS: Mapping[str, tuple[str, int]] = {
    **dict.fromkeys(("average_precision", "mAP_at_step", "losses", "edges"), ("f", 1)),
    **dict.fromkeys(("shown_queries", "steps", "shots", "seeds", "k_top", "k_bottom"), ("iu", 1)),
    "first_results": ("iu", 2),
    "accuracy": ("f", 2),
    "mAP": ("f", 2),
    "correct": ("b", 1),
}


def problem_of(content: Mapping[str, Any]) -> Problem:
    """The first thing that is wrong with the fields of a run that are there; empty where nothing is."""
    for name, check in _CHECKS.items():
        if name in content and (problem := check(content[name], name)):
            return problem
    return ""


def array_problem(name: str, array: np.ndarray) -> Problem:
    """What is wrong with an array of a run; empty where nothing is."""
    kinds, dimensions = _ARRAYS.get(name, ("biuf", None))
    if array.dtype.kind in kinds and dimensions in (None, array.ndim):
        return ""
    return f"the array {name} is {array.dtype} of shape {array.shape}"


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
    """The same, with texts, numbers and pairs of them where the names say so."""
    name = where.rpartition(".")[2]
    if isinstance(value, str) and name not in _TEXT_METRICS:
        return f"{where} is {value!r:.60}; expected a number"
    if name in _PAIRS and value is not None and not _is_pair(value):
        return f"{where} is {value!r:.60}; expected two numbers"
    if not isinstance(value, Mapping | list | tuple):
        return _json(value, where)
    if name in _NUMBERS or not depth:
        return f"{where} is {value!r:.60}; expected a number"
    items = value.items() if isinstance(value, Mapping) else enumerate(value, 1)
    return next((p for key, item in items if (p := _metric(item, f"{where}.{key}", depth - 1))), "")


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and [type(item) for item in value] == [int, int]


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
    "digests": _mapping(_text),
    "checksum": _text,
}
