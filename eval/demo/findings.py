"""What the numbers of one model say: tables out of `metrics.json`, and sentences that follow from them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxalign.eval.report import Row, Score
from jaxalign.eval.report.comparisons import Entry, compare

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
    rows = _table(results["image_retrieval"])
    reference = results.get("inter_modal", {}).get(results["dataset"])
    return rows + (_table({"text-image": reference}) if reference else [])


def text_table(results: Mapping[str, Any]) -> list[Row]:
    """Methods by the one task of finding the other captions of an emoji."""
    return _table(results.get("text_retrieval", {}), tasks=["emoji"])


def inversion_note(results: Mapping[str, Any]) -> str:
    """A sentence on how `ovi` was measured; empty where it was not."""
    entry = results.get("text_retrieval", {}).get("ovi", {})
    if "queries" not in entry:
        return ""
    return (
        f"ovi: {entry['queries']} of the queries, {entry['steps']} steps (the paper: 1,000), beside"
        f" text-text on the same ones ({entry['baseline']:.1f})."
    )


def classification_table(results: Mapping[str, Any]) -> list[Row]:
    """Classifiers by accuracy on the Unicode groups."""
    return _table(results.get("classification", {}), "accuracy", ["emoji"])


def _table(
    methods: Mapping[str, Mapping[str, Any]], score: str = "mAP", tasks: Sequence[str] = tuple(TASKS)
) -> list[Row]:
    entries = {
        (method, task): Entry(scores, scores.get("gain"), scores.get("gain_error"))
        for method, entry in methods.items()
        for task in tasks
        if (scores := task_scores(entry, task))
    }
    found = compare("", score, entries, ())
    missing = [None] * (len(tasks) - len(found.columns))
    return [replace(row, cells=[*row.cells, *missing]) for row in found.rows]


def findings(results: Mapping[str, Any]) -> list[str]:
    """Sentences on one model's entry of `metrics.json`: what helps, what does not, and what cannot be told.

    A method helps or hurts where its difference to the baseline exceeds twice the standard error of that
    difference, paired over the queries; otherwise the sentence says that there is no clear difference.
    """
    model, sentences = results["model"], []
    rows = image_table(results)
    for column, (task, title) in enumerate(TASKS.items()):
        cells = {row.method: row.cells[column] for row in rows if row.method != "text-image"}
        context = task in CONTEXT_TASKS
        title = title[:1].upper() + title[1:] + (" (context)" if context else " (concept)")
        sentences.append(_compare(title, model, BASELINES["image_retrieval"], cells, context))
    for name, title, table in (
        ("text_retrieval", "Text to text", text_table(results)),
        ("classification", "Classification by Unicode group", classification_table(results)),
    ):
        if table:
            sentences.append(
                _compare(title, model, BASELINES[name], {row.method: row.cells[0] for row in table})
            )
    inter_modal = results.get("inter_modal", {})
    if inter_modal:
        scores = " and ".join(f"{entry['mAP']:.1f} on {name}" for name, entry in inter_modal.items())
        sentences.append(f"For reference, a name finds its images with mAP {scores}.")
    return sentences + list(_indicators(results.get("indicators", {})))


def _compare(
    title: str, model: str, baseline: str, cells: Mapping[str, Score | None], context: bool = False
) -> str:
    """One sentence on a task; more of the context is neither help nor harm, so there it is only raised."""
    base = cells[baseline]
    others = {m: c for m, c in cells.items() if c is not None and m != baseline}
    parts = {
        verdict: [
            f"{m} ({c.signed_gain})"
            for m, c in sorted(others.items(), key=lambda item: -(item[1].gain or 0))
            if c.verdict == verdict and c.gain is not None
        ]
        for verdict in ("up", "same", "down")
    }
    up, down, none = ("raised", "lowered", "raises it") if context else ("helped", "hurt", "helps")
    said = [f"{up} by {', '.join(parts['up'])}" if parts["up"] else f"no method {none} on {model}"]
    if parts["same"]:
        said.append(f"no clear difference with {', '.join(parts['same'])}")
    if parts["down"]:
        said.append(f"{down} by {', '.join(parts['down'])}")
    return f"{title}, {baseline} {base.score if base else float('nan'):.1f}: {'; '.join(said)}."


def _indicators(indicators: Mapping[str, Any]) -> Iterator[str]:
    overlap = indicators.get("overlap", {})
    if {"image-image", "isoclip"} <= overlap.keys():
        before, after = overlap["image-image"], overlap["isoclip"]
        change = (
            "does not change" if abs(after - before) < 0.005 else "lowers" if after < before else "raises"
        )
        yield (
            f"IsoCLIP {change} the overlap of the same-emoji and different-emoji similarities"
            f" ({before:.2f} before, {after:.2f} after; lower is better)."
        )
