"""The same images, asked for different things: a method that helps one question and hurts another has not
repaired the embeddings, it has chosen a question (Reevaluating, section 4.3, BDD100k's weather and time of
day)."""

from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike

from jaxalign.eval.datasets.examples import renumber_own

from .image_retrieval import retrieval
from .indicators import Indicators
from .runs import Result, Run
from .task import Task, paired_gain

TASK = Task(
    name="ambiguity",
    title="Different questions to the same images",
    about="mAP in percent for each labelling.",
    headline="",  # no table prints it
    compared="mAP",
)


def ambiguity(
    embeddings: Mapping[str, tuple[ArrayLike, ArrayLike]],
    query_labels: Mapping[str, np.ndarray],
    gallery_labels: Mapping[str, np.ndarray],
    *,
    exclude_self: bool | ArrayLike = False,
) -> Result:
    """mAP of every method on every labelling of the same images, and its change against the first method.

    Args:
      embeddings: by method, queries `[q, d]` and gallery `[g, d]`; the baseline first.
      query_labels, gallery_labels: by labelling, int `[q]` and `[g]`; -1 for none.
      exclude_self: as in `retrieval`.

    Returns:
      Metrics: for each labelling and method `mAP` and, beside the baseline, `gain` with its `gain_error`,
      paired over the queries. Arrays: `TASK/METHOD`, the average precision of each query.
    """
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    arrays: dict[str, np.ndarray] = {}
    for task, labels in query_labels.items():
        metrics[task], baseline = {}, None
        for name, (query, gallery) in embeddings.items():
            found = retrieval(query, gallery, labels, gallery_labels[task], exclude_self=exclude_self)
            precision = found.arrays["average_precision"]
            metrics[task][name] = {"mAP": found.metrics["mAP"]}
            if baseline is not None:
                metrics[task][name] |= paired_gain(precision, baseline)
            baseline = precision if baseline is None else baseline
            arrays[f"{task}/{name}"] = precision
    return Result(metrics, arrays)


def measure_ambiguity(shown: Indicators) -> Run:
    """The run of this task: all labellings of the same images."""

    def compute() -> Result:
        whole = shown.pair.read.query.examples.labels
        labels = {task: values[shown.rows] for task, values in whole.items()}
        embedded = {name: shown.embeddings(name) for name in shown.methods}
        exclude = renumber_own(shown.pair.own, shown.rows, shown.rows)
        return ambiguity({name: (x, x) for name, x in embedded.items()}, labels, labels, exclude_self=exclude)

    methods = [method.to_json() for method in shown.methods.values()]
    settings = {**shown.settings, "methods": methods, "tasks": sorted(shown.pair.query.labels)}
    return shown.measure(TASK.name, settings, compute)
