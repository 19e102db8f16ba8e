"""Tables out of `metrics.json`: what is best in a column, how far from the baseline, and how surely."""

from collections.abc import Mapping
from typing import Any

from jaxalign.eval.report import Cell, Row

TASKS = {
    "emoji": "same emoji",
    "group": "same group",
    "background": "same background",
    "style": "same style",
}
CONTEXT_TASKS = ("background", "style")
BASELINES = {"image_retrieval": "image-image", "text_retrieval": "text-text", "classification": "ncm"}


def task_scores(entry: Mapping[str, Any], task: str) -> Mapping[str, Any] | None:
    """The scores of a method's `entry` on `task`: its own for the main task, else those under `tasks`."""
    return entry if task == "emoji" else entry["tasks"].get(task)


def image_table(results: Mapping[str, Any]) -> list[Row]:
    """Methods by tasks, in the order of `TASKS`; text-to-image comes last, as a reference and never best."""
    methods = results["image_retrieval"]
    rows = _rank([(m, [task_scores(entry, t) for t in TASKS]) for m, entry in methods.items()], "mAP")
    reference = results.get("inter_modal", {}).get(results["dataset"])
    if reference:
        cells = [_cell(task_scores(reference, t), "mAP", best=False) for t in TASKS]
        rows.append(Row("text-image", cells))
    return rows


def text_table(results: Mapping[str, Any]) -> list[Row]:
    """Methods by the one task of finding the other captions of an emoji."""
    return _rank([(method, [entry]) for method, entry in results.get("text_retrieval", {}).items()], "mAP")


def inversion_note(results: Mapping[str, Any]) -> str:
    """A sentence on how `ovi` was measured, with a space before it; empty where it was not."""
    entry = results.get("text_retrieval", {}).get("ovi", {})
    if "queries" not in entry:
        return ""
    return (
        f" ovi: {entry['queries']} of the queries, {entry['steps']} steps (the paper: 1,000), beside"
        f" text-text on the same ones ({entry['baseline']:.1f})."
    )


def classification_table(results: Mapping[str, Any]) -> list[Row]:
    """Classifiers by accuracy on the Unicode groups."""
    return _rank([(m, [entry]) for m, entry in results.get("classification", {}).items()], "accuracy")


def _rank(entries: list[tuple[str, list[Mapping[str, Any] | None]]], key: str) -> list[Row]:
    columns = zip(*(scores for _, scores in entries), strict=True)
    best = [max((round(s[key], 1) for s in column if s), default=None) for column in columns]
    rows = []
    for method, scores in entries:
        is_best = [bool(s) and round(s[key], 1) == b for s, b in zip(scores, best, strict=True)]
        rows.append(Row(method, [_cell(s, key, b) for s, b in zip(scores, is_best, strict=True)]))
    return rows


def _cell(scores: Mapping[str, Any] | None, key: str, best: bool) -> Cell | None:
    if not scores:
        return None
    details = tuple(scores[k] for k in ("precision_at_R", "recall_at_1") if k in scores)
    return Cell(scores[key], details, scores.get("gain"), scores.get("gain_error"), best)
