"""What a protocol gives, and how sure a difference between two of them is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Result:
    """What a protocol measured.

    Attributes:
      metrics: JSON; percentages where a name does not say otherwise, None where something is not defined.
      arrays: for plots and for paired comparisons, by name.
      left_out: names of pictures that took no part because they cannot be read, by data set and split.
      notes: sentences that belong beside the numbers wherever these are shown.
    """

    metrics: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()


def paired_gain(scores: np.ndarray, baseline: np.ndarray) -> dict[str, float]:
    """Mean difference to the baseline of per-query `scores` [q], and its standard error; NaN are left out."""
    difference = np.asarray(scores, np.float64) - baseline
    difference = difference[~np.isnan(difference)]
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else 0.0
    return {"gain": float(difference.mean()), "gain_error": float(error)}
