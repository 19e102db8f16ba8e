"""The command `jaxalign demo`: measure, print, write."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DATASETS
from jaxalign.eval.demo.data import PLAIN, SCENES, DemoSettings, load_data
from jaxalign.eval.demo.findings import (
    TASKS,
    classification_table,
    findings,
    image_table,
    inversion_note,
    text_table,
)
from jaxalign.eval.demo.measuring import evaluate, runs_of
from jaxalign.eval.files import staged_folder, write_json, write_whole
from jaxalign.eval.progress import Stages
from jaxalign.eval.report import Row, Score, build_report
from jaxalign.eval.tasks.runs import Run, package_versions
from jaxalign.eval.terminal import open_console, styled

EMBEDDED = ("emoji-clip", "emoji-siglip")
INTRODUCTION = (
    "How well images find images, and texts find texts, with a dual encoder that was trained to match"
    " images with texts: the embeddings as they are, and under each method that changes projectors,"
    " embeddings or queries without training. Data: emoji-scenes and emoji. The embedded models have seen"
    " none of their emoji; bands and ranks were chosen on others."
)
CREDITS = (
    "Drawings: Noto Emoji (Google, Apache-2.0), Twemoji (Twitter and contributors, CC-BY-4.0),"
    " OpenMoji (CC-BY-SA-4.0), Fluent Emoji (Microsoft, MIT), EmojiOne (CC-BY-4.0);"
    " scaled, on generated backgrounds."
)
# What the runs show; the rest of a model's entry says how it was measured.
_SHOWN = ("model", "image_retrieval", "text_retrieval", "classification", "inter_modal", "inversions")
_PACKAGES = ("python", "jaxalign", "jax", "jaxlib", "flax", "numpy", "tensorflow-datasets")
COLOURS = {"up": "green", "down": "red", "same": "dim"}


def run(
    out: str | os.PathLike,
    models: Sequence[str] = EMBEDDED,
    data_dir: str | os.PathLike | None = None,
    seed: int = 0,
    *,
    settings: DemoSettings | None = None,
) -> dict[str, Any]:
    """Measure every method on the embedded data; print it, write `metrics.json` and `report.html` to `out`.

    Args:
      out: a folder, new or existing; both files appear in it at the end, or none does.
      models: names, or whatever else `jaxalign.load` takes; the first one is the top level of `metrics.json`.
      data_dir: where the data sets are prepared, by default TFDS's folder.
      seed: of the inversions and of the training names that bands are chosen on.

    Returns:
      What `metrics.json` holds.

    Raises:
      JaxalignError: an unknown model, or a folder that cannot be written, before any work.
    """
    if isinstance(models, str) or not models:
        raise JaxalignError(f"models is {models!r}; expected one or more names, such as {EMBEDDED}")
    settings = settings or DemoSettings()
    stages = Stages()
    with staged_folder(out) as stage:
        with stages.stage("load", "Loading the models"):
            loaded = [ja.load(model) for model in models]
            _check_titles(loaded)
        data = load_data(data_dir, settings.training_names, seed, stages)
        shared = stages.seconds
        entries, runs = [], []
        for model in loaded:
            stages.seconds = dict(shared)
            results, found = evaluate(model, data, settings, seed, stages)
            entries.append(results | _provenance(seed) | {"seconds": stages.seconds})
            runs += runs_of(entries[-1], found)
        for entry in entries:
            entry["seconds"]["total"] = stages.total
        results = entries[0] | {"other_models": entries[1:]}
        page = _report(entries, runs, find_split=lambda *of: data.scenes, examples=settings.examples)
        write_whole(stage / "report.html", page)
        write_json(stage / "metrics.json", results, indent=1)
    print_results(results, out, stages.total)
    return results


def _report(entries: Sequence[dict[str, Any]], runs: Sequence[Run], **options: Any) -> str:
    """The page of what was measured on each model."""
    return build_report(
        runs,
        title="jaxalign demo",
        introduction=INTRODUCTION,
        credits=CREDITS,
        findings={entry["model"]: findings(entry) for entry in entries},
        facts={entry["model"]: {k: v for k, v in entry.items() if k not in _SHOWN} for entry in entries},
        **options,
    )


def _check_titles(models: Sequence[ja.DualEncoder]) -> None:
    """Raises JaxalignError for two of one title, whose results would be taken for each other's."""
    titles = [model.title for model in models]
    twice = [title for title in dict.fromkeys(titles) if titles.count(title) > 1]
    if twice:
        raise JaxalignError(f"two models are {twice[0]}; expected each once")


def _provenance(seed: int) -> dict[str, Any]:
    """What the numbers depend on beside model and method."""
    versions = package_versions()
    return {
        "split": "test",
        "data_versions": {name: DATASETS[name].version for name in (PLAIN, SCENES)},
        "seed": seed,
        "versions": {name: versions[name] for name in _PACKAGES},
    }


def print_results(results: Mapping[str, Any], out: str | os.PathLike, seconds: float) -> None:
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
    folder = os.fspath(Path(out))
    console.print()
    console.print(f"Wrote {folder}/report.html and {folder}/metrics.json ({seconds:.0f} s).", soft_wrap=True)


def print_model(console: Console, entry: Mapping[str, Any]) -> None:
    """The tables and findings of one model."""
    band, auto = entry["band"], entry["auto_band"]
    title = f"{entry['model']} on {entry['dataset']}, {entry['queries']} queries, mAP in %"
    console.print(score_table(title, list(TASKS.values()), image_table(entry)))
    console.print(score_table("Captions of the same emoji", ["text to text"], text_table(entry)))
    if note := inversion_note(entry):
        console.print(note, style="dim")
    console.print(score_table("Unicode group of an image", ["accuracy"], classification_table(entry)))
    console.print(
        f"isoclip removes {band['k_top']} directions from the top and {band['k_bottom']} from the bottom,"
        f" chosen on the training names; isoclip-auto {auto['k_top']} and {auto['k_bottom']}, chosen from the"
        " spectrum alone.",
        style="dim",
    )
    for sentence in findings(entry):
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
