"""Scores of one method: metrics on each task, and how sure its difference to a baseline is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.eval.demo.tables import TASKS
from jaxalign.eval.tasks.runs import paired_gain as paired_gain

METRICS = ("mAP", "mAP_at_R", "precision_at_R", "recall_at_1")


@dataclass(frozen=True, eq=False)
class Measured:
    """An entry of `metrics.json` and, by task, the average precision of each query, percent [q]."""

    entry: dict[str, Any]
    precision: dict[str, np.ndarray]


@dataclass(frozen=True)
class InversionTrace:
    """What an inversion has reached after how many steps.

    Attributes:
      losses: `[steps]`, mean loss before each step.
      kept: int `[k]`, the step counts at which the mAP was measured.
      precision: `[k]`, that mAP in percent.
    """

    losses: np.ndarray
    kept: np.ndarray
    precision: np.ndarray

    def as_json(self) -> dict[str, Any]:
        """The mean loss at the end, and mAP by step."""
        curve = zip(self.kept.tolist(), self.precision.tolist(), strict=True)
        return {"loss": float(self.losses[-1]), "mAP_by_step": {str(step): value for step, value in curve}}


def measure_task(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    positions: np.ndarray | None,
    baseline: np.ndarray | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Scores of one ranking, and the average precision of each query in percent [q].

    Args:
      positions: of the queries in the gallery, which they leave; None where they are not in it.
      baseline: the baseline's average precisions, for the difference to it.
    """
    exclude = False if positions is None else positions
    metrics = ja.retrieval_metrics(query, gallery, query_labels, gallery_labels, exclude_self=exclude)
    relevant = query_labels[:, None] == gallery_labels
    precision = 100 * np.asarray(ja.average_precision(query, gallery, relevant, exclude_self=exclude))
    scores: dict[str, Any] = {name: metrics[name] for name in METRICS}
    if baseline is not None:
        scores |= paired_gain(precision, baseline)
    return scores, precision


def measure_tasks(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: Mapping[str, np.ndarray],
    gallery_labels: Mapping[str, np.ndarray],
    positions: np.ndarray | None,
    baseline: Measured | None = None,
    tasks: Sequence[str] = tuple(TASKS),
) -> Measured:
    """Scores on all `tasks`: the first one's are the entry's own, the others stand under `tasks`."""
    scores, precision = {}, {}
    for task in tasks:
        before = baseline.precision[task] if baseline else None
        scores[task], precision[task] = measure_task(
            query, gallery, query_labels[task], gallery_labels[task], positions, before
        )
    main, *others = tasks
    return Measured(scores[main] | {"tasks": {task: scores[task] for task in others}}, precision)


def trace(inversion: ja.Inversion, metrics: Callable[[ArrayLike], Mapping[str, float]]) -> InversionTrace:
    """Mean loss at each step, and the mAP of the embeddings at the kept steps."""
    steps = np.array(sorted(inversion.kept))
    precision = np.array([metrics(inversion.kept[int(step)])["mAP"] for step in steps])
    return InversionTrace(np.asarray(inversion.losses).mean(0), steps, precision)
