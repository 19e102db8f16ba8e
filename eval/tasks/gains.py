"""What a method gains over another on the same queries: the mean difference, its error, and its p."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxalign.ranking.significance import randomization_test

from .runs import Result, Run, paired_gain

DRAWS, MOST_SIGNS = 10_000, 1 << 31  # exchanges that are drawn; fewer where there are very many queries
PER_QUERY = ("average_precision", "correct")  # arrays [q] that say how a run did on each query


@dataclass(frozen=True)
class Gain:
    """The difference of `run` to `baseline`, in percentage points, over the queries that both have.

    Attributes:
      queries: their number.
      gain, gain_error: the mean difference, and its standard error.
      p_value: of `ja.randomization_test`: how often chance alone would give as much.
    """

    run: Run
    baseline: Run
    queries: int
    gain: float
    gain_error: float
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """The runs by their digests."""
        numbers = {name: getattr(self, name) for name in ("queries", "gain", "gain_error", "p_value")}
        return {"run": self.run.digest, "baseline": self.baseline.digest} | numbers


def paired_scores(run: Run | Result, baseline: Run | Result) -> tuple[np.ndarray, np.ndarray] | None:
    """How both did on each query, float64 `[q]` in percent; None where they have not the same queries."""
    for name in PER_QUERY:
        mine, other = run.arrays.get(name), baseline.arrays.get(name)
        if mine is not None and other is not None and mine.shape == other.shape and mine.ndim == 1:
            scale = 100.0 if mine.dtype == bool else 1.0
            mine, other = scale * mine.astype(np.float64), scale * other.astype(np.float64)
            return None if np.isnan(mine - other).all() else (mine, other)
    return None


def paired(run: Run | Result, baseline: Run | Result) -> dict[str, float]:
    """`gain` and `gain_error` over the queries; empty where they are not the same ones."""
    scores = paired_scores(run, baseline)
    return {} if scores is None else paired_gain(*scores)


def gains_of(runs: Sequence[Run], group: Callable[[Run], Any]) -> dict[str, Gain]:
    """By digest, what each run gains over the first one of its task and group, where both have queries.

    Args:
      group: what runs on one model and the same queries have in common.
    """
    baselines: dict[Any, Run] = {}
    found: dict[str, Gain] = {}
    for run in runs:
        baseline = baselines.setdefault((run.protocol, group(run)), run)
        scores = None if run is baseline else paired_scores(run, baseline)
        if scores is not None:
            queries = int((~np.isnan(scores[0] - scores[1])).sum())
            p_value = randomization_test(*scores, permutations=max(1000, min(DRAWS, MOST_SIGNS // queries)))
            found[run.digest] = Gain(run, baseline, queries, **paired_gain(*scores), p_value=p_value)
    return found
