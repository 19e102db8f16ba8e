"""What a run has that can be drawn; it may come from a file, so nothing of it is taken for granted."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxalign.eval.labels import is_number
from jaxalign.eval.tasks.runs import Run

_LARGEST = 1e30  # what can be drawn


def number(run: Run, *names: str | int) -> float | None:
    """The metric of these nested `names`; None where it is no finite number."""
    value: Any = run.metrics
    for name in names:
        inner: Any = dict(enumerate(value)) if isinstance(value, list | tuple) else value
        if not isinstance(inner, Mapping) or name not in inner:
            return None
        value = inner[name]
    return value if is_number(value) and abs(value) < _LARGEST else None


def band(run: Run, name: str) -> tuple[int, int] | None:
    """The band `(k_top, k_bottom)`, as a list or with names."""
    for keys in ((0, 1), ("k_top", "k_bottom")):
        ends = [number(run, name, key) for key in keys]
        if all(isinstance(end, int) for end in ends):
            return ends[0], ends[1]  # type: ignore[return-value]
    return None


def vector(run: Run, name: str) -> np.ndarray | None:
    """An array `[n]` of numbers that is not empty; None where there is none."""
    values = run.arrays.get(name)
    if values is None or values.ndim != 1 or not len(values) or values.dtype.kind not in "iuf":
        return None
    return values if shown(values).all() else None


def shown(values: np.ndarray) -> np.ndarray:
    """Which of `values` an axis can show."""
    return np.abs(values) < _LARGEST  # NaN is not
