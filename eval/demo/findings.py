"""What the numbers of one model say, in plain sentences: every one is derived, none is written beforehand."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxalign.eval.demo.tables import (
    BASELINES,
    CONTEXT_TASKS,
    TASKS,
    classification_table,
    image_table,
    text_table,
)
from jaxalign.eval.report import Cell


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
        sentences.append(f"For reference, a name finds its pictures with mAP {scores}.")
    return sentences + list(_indicators(results.get("indicators", {})))


def _compare(
    title: str, model: str, baseline: str, cells: Mapping[str, Cell | None], context: bool = False
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
