"""What there is to measure: a record for each task, which commands, the report and `paper` look up; and what
a method gains over another on the same queries: the mean difference, its error, and its p."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxalign.ranking.significance import randomization_test

from .runs import Result, Run, has, number

EACH = "*"
DRAWS, MOST_SIGNS = 10_000, 1 << 31  # exchanges that are drawn; fewer where there are very many queries
PER_QUERY = ("average_precision", "correct")  # arrays [q] that say how a run did on each query


@dataclass(frozen=True)
class Column:
    """A column of a task's tables, on the terminal, in files and in the report.

    Attributes:
      metric: the number in a run's metrics, names joined by points where these are nested. One that ends in
        `*` stands for as many columns as there are such numbers, `recall_at_*` for those of all depths.
      title: what the column is called; a `*` in it is what the metric has in its place.
      digits: behind the point; None for three significant ones.
    """

    metric: str
    title: str
    digits: int | None = 1

    def among(self, metrics: Mapping[str, Any]) -> "list[Column]":
        """Itself if `metrics` has its number, or all that it stands for; empty where there is none."""
        if not self.metric.endswith(EACH):
            return [self] if has(metrics, self.metric) else []
        parent, _, start = self.metric.removesuffix(EACH).rpartition(".")
        own = number(metrics, parent) if parent else metrics
        counts = [key.removeprefix(start) for key in own or () if key.startswith(start)]
        return [
            replace(self, metric=self.metric.replace(EACH, count), title=self.title.replace(EACH, count))
            for count in filter(str.isdecimal, counts)
        ]


@dataclass(frozen=True)
class Task:
    """One question to a model, and how its answer is shown.

    Attributes:
      name: what its runs carry.
      title, about: heading and sentence of its section in the report.
      headline: the metric that a printed table means by its numbers.
      columns: of its tables; a table has those whose numbers its runs have.
      instead: the columns of runs that have all of these.
      compared: the metric in percent by which runs, or the methods within a run, are compared; empty where
        that says nothing.
      details: metrics that stand below it, and how they are called together; of several such lists the first
        of which a run has all.
    """

    name: str
    title: str
    about: str
    headline: str
    columns: tuple[Column, ...] = ()
    instead: tuple[Column, ...] = ()
    compared: str = ""
    details: tuple[tuple[tuple[str, ...], str], ...] = ()

    def columns_of(self, metrics: Sequence[Mapping[str, Any]]) -> list[Column]:
        """The columns of a table of runs with these metrics, in the order of `columns`."""
        others = self.instead and all(has(each, own.metric) for each in metrics for own in self.instead)
        found: list[Column] = []
        for own in self.instead if others else self.columns:
            every = dict.fromkeys(column for each in metrics for column in own.among(each))
            found += sorted(every, key=lambda column: (len(column.metric), column.metric))
        return found


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


def paired_gain(scores: np.ndarray, baseline: np.ndarray) -> dict[str, float]:
    """Mean difference to the baseline of per-query `scores` [q], and its standard error; NaN are left out."""
    difference = np.asarray(scores, np.float64) - baseline
    difference = difference[~np.isnan(difference)]
    error = difference.std(ddof=1) / len(difference) ** 0.5 if len(difference) > 1 else 0.0
    return {"gain": float(difference.mean()), "gain_error": float(error)}


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
