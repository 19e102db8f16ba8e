"""What the demo's runs say of a model: the numbers of `metrics.json`, their tables, and sentences."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxalign.eval.report.comparisons import Row, Score, compare
from jaxalign.eval.tasks.image_retrieval import METRICS
from jaxalign.eval.tasks.runs import Run
from jaxalign.eval.terminal import open_console, styled

LABELLINGS = {
    "emoji": "same emoji",
    "group": "same group",
    "background": "same background",
    "style": "same style",
}
CONTEXT = ("background", "style")
BASELINES = {"image_retrieval": "image-image", "text_retrieval": "text-text", "classification": "ncm"}
COLOURS = {"up": "green", "down": "red", "same": "dim"}


def entry_of(model: str, runs: Sequence[Run], gap: float) -> dict[str, Any]:
    """What `metrics.json` says of a model's runs; `gap` is its modality gap."""
    of = lambda task: [run for run in runs if run.protocol == task]
    images, texts, names = of("image-retrieval"), of("text-retrieval"), of("text-image")
    [spectrum] = [run.metrics for run in of("spectrum")]
    band, text_band = (run.metrics["best"] for run in of("band-sweep"))
    top, bottom = spectrum["auto_band"]
    bands = {"band": band, "auto_band": {"k_top": top, "k_bottom": bottom}, "text_band": text_band}
    inverted = {run.settings["method"]: run for run in (*images, *texts) if "losses" in run.arrays}
    return {
        "model": model,
        "dataset": images[0].settings["dataset"],
        "image_retrieval": _by_task(images, "method"),
        "text_retrieval": {run.settings["method"]: _scores(run) for run in texts},
        "classification": {_classifier(run): _scores(run) for run in of("classification")},
        "inter_modal": _by_task(names, "dataset"),
        **{name: {end: of[end] for end in ("k_top", "k_bottom")} for name, of in bands.items()},
        "pca_rank": next(r.settings["rank"] for r in images if r.settings["method"].startswith("pca-rank")),
        "oti_stop": next(r.settings["stop"] for r in images if "stop" in r.settings),
        "indicators": {
            "modality_gap": gap,
            "singular_values": spectrum["singular_values"],
            "effective_rank": spectrum["effective_rank"],
            "overlap": {run.settings["method"]: run.metrics["overlap"] for run in of("class-indicator")},
        },
        "queries": images[0].metrics["queries"],
        "inversions": {name.upper(): _curve(run) for name, run in inverted.items()},
    }


def _scores(run: Run) -> dict[str, float]:
    names = (*METRICS, "accuracy", "gain", "gain_error")
    return {name: run.metrics[name] for name in names if name in run.metrics}


def _by_task(runs: Sequence[Run], key: str) -> dict[str, Any]:
    """By a setting of runs: the main labelling's scores are the entry's own, the others are under `tasks`."""
    found: dict[str, dict[str, Any]] = {}
    for run in runs:
        found.setdefault(run.settings[key], {})[run.settings["task"]] = _scores(run)
    return {name: {**of.pop("emoji"), "tasks": of} for name, of in found.items()}


def _classifier(run: Run) -> str:
    """`zero-shot`, `ncm`, or `ncm-isoclip`."""
    names = (run.settings["classifier"], run.settings.get("method", "image-image"))
    return "-".join(name for name in names if name != "image-image")


def _curve(run: Run) -> dict[str, Any]:
    """The last loss of an inversion, and the mAP at the kept steps."""
    steps, scored = (run.arrays[name].tolist() for name in ("steps", "mAP_at_step"))
    by_step = dict(zip(map(str, steps), scored, strict=True))
    return {"loss": float(run.arrays["losses"][-1]), "mAP_by_step": by_step}


def image_table(results: Mapping[str, Any]) -> list[Row]:
    """Methods by `LABELLINGS`, the best for the same emoji first; text-to-image, a reference, comes last."""
    best = sorted(results["image_retrieval"].items(), key=lambda item: -item[1]["mAP"])
    return _table(dict(best)) + _table({"text-image": results["inter_modal"][results["dataset"]]})


def text_table(results: Mapping[str, Any]) -> list[Row]:
    """Methods by the one task of finding the other captions of an emoji."""
    return _table(results["text_retrieval"], tasks=["emoji"])


def classification_table(results: Mapping[str, Any]) -> list[Row]:
    """Classifiers by accuracy on the Unicode groups."""
    return _table(results["classification"], "accuracy", ["emoji"])


def _table(
    methods: Mapping[str, Mapping[str, Any]], score: str = "mAP", tasks: Sequence[str] = tuple(LABELLINGS)
) -> list[Row]:
    entries = {
        (method, task): scores
        for method, entry in methods.items()
        for task in tasks
        if (scores := entry if task == "emoji" else entry["tasks"].get(task))
    }
    found = compare("", score, entries, ())
    missing = [None] * (len(tasks) - len(found.columns))
    return [replace(row, cells=[*row.cells, *missing]) for row in found.rows]


def headline(results: Mapping[str, Any]) -> str:
    """What the table of images shows, in one sentence: the best method for the same emoji, and its price."""
    methods, name = results["image_retrieval"], BASELINES["image_retrieval"]
    best = max(methods, key=lambda method: methods[method]["mAP"])
    if best == name:
        return f"No method finds more of the same emoji than the embeddings as they are ({name})."
    emoji = [methods[method]["mAP"] for method in (best, name)]
    background = [methods[method]["tasks"]["background"]["mAP"] for method in (best, name)]
    return (
        "Images of the same emoji are found best with {}: {:.1f} mAP, where the embeddings as they are ({})"
        " have {:.1f}; of the same background, {:.1f} and {:.1f}."
    ).format(best, emoji[0], name, emoji[1], *background)


def findings(results: Mapping[str, Any]) -> list[str]:
    """Sentences on one model's entry of `metrics.json`: what helps, what does not, and what cannot be told.

    A method helps or hurts where its difference to the baseline exceeds twice the standard error of that
    difference, paired over the queries; otherwise the sentence says that there is no clear difference.
    """
    model, sentences = results["model"], [headline(results)]
    rows = [row for row in image_table(results) if row.method != "text-image"]
    for column, (task, title) in enumerate(LABELLINGS.items()):
        cells = {row.method: row.cells[column] for row in rows}
        said = title.capitalize() + (" (context)" if task in CONTEXT else " (concept)")
        sentences.append(_compare(said, model, BASELINES["image_retrieval"], cells, task in CONTEXT))
    for name, title, table in (
        ("text_retrieval", "Text to text", text_table(results)),
        ("classification", "Classification by Unicode group", classification_table(results)),
    ):
        cells = {row.method: row.cells[0] for row in table}
        sentences.append(_compare(title, model, BASELINES[name], cells))
    scores = " and ".join(f"{entry['mAP']:.1f} on {name}" for name, entry in results["inter_modal"].items())
    sentences.append(f"For reference, a name finds its images with mAP {scores}.")
    return [*sentences, _overlap(results["indicators"]["overlap"])]


def _compare(
    title: str, model: str, baseline: str, cells: Mapping[str, Score | None], context: bool = False
) -> str:
    """One sentence on a task; more of the context is neither help nor harm, so there it is only raised."""
    base = cells[baseline]
    others = [(m, c) for m, c in cells.items() if c is not None and c.gain is not None and m != baseline]
    parts: dict[str, list[str]] = {}
    for method, cell in sorted(others, key=lambda item: -(item[1].gain or 0)):
        parts.setdefault(cell.verdict, []).append(f"{method} ({cell.signed_gain})")
    up, down, none = ("raised", "lowered", "raises it") if context else ("helped", "hurt", "helps")
    said = [f"{up} by {', '.join(parts['up'])}" if "up" in parts else f"no method {none} on {model}"]
    if "same" in parts:
        said.append(f"no clear difference with {', '.join(parts['same'])}")
    if "down" in parts:
        said.append(f"{down} by {', '.join(parts['down'])}")
    return f"{title}, {baseline} {base.score if base else float('nan'):.1f}: {'; '.join(said)}."


def _overlap(overlap: Mapping[str, float]) -> str:
    before, after = overlap["image-image"], overlap["isoclip"]
    change = "does not change" if abs(after - before) < 0.005 else "lowers" if after < before else "raises"
    return (
        f"IsoCLIP {change} the overlap of the same-emoji and different-emoji similarities"
        f" ({before:.2f} before, {after:.2f} after; lower is better)."
    )


def print_results(results: Mapping[str, Any], out: str | os.PathLike[str], seconds: float) -> None:
    """One table for each model with its small ones beside it, what they say, and where the files are."""
    console = open_console()
    for entry in (results, *results["other_models"]):
        print_model(console, entry)
    console.print(
        "* best of its column; in brackets the difference to the baseline, coloured where it exceeds twice"
        " its standard error; below the mAP: R-precision, recall@1. text-image is the reference: names find"
        " images.",
        style="dim",
    )
    console.print()
    console.print(f"Wrote {out}/report.html and {out}/metrics.json ({seconds:.0f} s).", soft_wrap=True)


def print_model(console: Console, entry: Mapping[str, Any]) -> None:
    """The tables and findings of one model."""
    band, auto = entry["band"], entry["auto_band"]
    oti_steps = max(map(int, entry["inversions"]["OTI"]["mAP_by_step"]))
    title = f"{entry['model']} on {entry['dataset']}, {entry['queries']} queries, mAP in %"
    first, *sentences = findings(entry)
    console.print(first)
    console.print()
    console.print(score_table(title, list(LABELLINGS.values()), image_table(entry)))
    console.print(score_table("Captions of the same emoji", ["text to text"], text_table(entry)))
    console.print(score_table("Unicode group of an image", ["accuracy"], classification_table(entry)))
    console.print(
        f"isoclip removes {band['k_top']} directions from the top and {band['k_bottom']} from the bottom,"
        f" chosen on the training names; isoclip-auto {auto['k_top']} and {auto['k_bottom']}, chosen from the"
        " spectrum alone. The rank of pca-rank and the step at which OTI stops were chosen on them, too; oti"
        f" has all {oti_steps} steps. OVI is left out: its 1,000 steps, each with all patches, take a"
        " minute for 16 queries (`jaxalign text-retrieve --methods text-text ovi`).",
        style="dim",
    )
    for sentence in sentences:
        console.print(f"- {sentence}")
    console.print()


def score_table(title: str, columns: Sequence[str], rows: Sequence[Row]) -> Table:
    """Methods by columns; a cell has its details on a second line."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("method", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row.method, *(_cell(cell) for cell in row.cells))
    return table


def _cell(cell: Score | None) -> Text:
    if cell is None:
        return styled("-", "dim")
    text = styled(f"{cell.score:.1f}", "bold" if cell.best else "")
    text.append("*" if cell.best else " ")
    text.append(
        f" {f'({cell.signed_gain})':>7}" if cell.signed_gain else " " * 8, style=COLOURS[cell.verdict]
    )
    if cell.details:
        text.append("\n" + ", ".join(f"{value:.1f}" for value in cell.details), style="dim not bold")
    return text
