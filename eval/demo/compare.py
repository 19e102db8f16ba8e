"""The command `jaxalign demo`: measure, print, write."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DATASETS
from jaxalign.eval.demo.data import PLAIN, SCENES, DemoData, load_data
from jaxalign.eval.demo.evaluate import evaluate
from jaxalign.eval.demo.findings import findings
from jaxalign.eval.demo.runs import ModelArrays, facts_of, runs_of
from jaxalign.eval.demo.settings import DemoSettings
from jaxalign.eval.demo.terminal import print_results
from jaxalign.eval.files import staged_folder, write_json, write_whole
from jaxalign.eval.progress import Stages
from jaxalign.eval.report import build_report

EMBEDDED = ("emoji-clip", "emoji-siglip")
INTRODUCTION = (
    "How well pictures find pictures, and texts find texts, with a dual encoder that was trained to match"
    " pictures with texts: the embeddings as they are, and under each method that changes projectors,"
    " embeddings or queries without training. Data: emoji-scenes and emoji. The embedded models have seen"
    " none of their emoji; bands and ranks were chosen on others."
)
CREDITS = (
    "Drawings: Noto Emoji (Google, Apache-2.0), Twemoji (Twitter and contributors, CC-BY-4.0),"
    " OpenMoji (CC-BY-SA-4.0), Fluent Emoji (Microsoft, MIT), EmojiOne (CC-BY-4.0);"
    " scaled, on generated backgrounds."
)


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
        entries, arrays = [], {}
        for model in loaded:
            stages.seconds = dict(shared)
            results, arrays[model.title] = evaluate(model, data, settings, seed, stages)
            entries.append(results | _provenance(seed) | {"seconds": stages.seconds})
        for entry in entries:
            entry["seconds"]["total"] = stages.total
        results = entries[0] | {"other_models": entries[1:]}
        write_whole(stage / "report.html", _report(entries, arrays, data, settings))
        write_json(stage / "metrics.json", results, indent=1)
    print_results(results, out, stages.total)
    return results


def _report(
    entries: Sequence[dict[str, Any]],
    arrays: Mapping[str, ModelArrays],
    data: DemoData,
    settings: DemoSettings,
) -> str:
    """The page of what was measured on each model."""
    return build_report(
        [run for entry in entries for run in runs_of(entry, arrays[entry["model"]])],
        title="jaxalign demo",
        introduction=INTRODUCTION,
        credits=CREDITS,
        findings={entry["model"]: findings(entry) for entry in entries},
        facts={entry["model"]: facts_of(entry) for entry in entries},
        find_split=lambda dataset, version, split: data.scenes,
        examples=settings.examples,
    )


def _check_titles(models: Sequence[ja.DualEncoder]) -> None:
    """Raises JaxalignError for two of one title, whose results would be taken for each other's."""
    titles = [model.title for model in models]
    twice = [title for title in dict.fromkeys(titles) if titles.count(title) > 1]
    if twice:
        raise JaxalignError(f"two models are {twice[0]}; expected each once")


def _provenance(seed: int) -> dict[str, Any]:
    """What the numbers depend on beside model and method."""
    packages = ("jaxalign", "jax", "jaxlib", "flax", "numpy", "tensorflow-datasets")
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {
        "split": "test",
        "data_versions": {name: DATASETS[name].version for name in (PLAIN, SCENES)},
        "seed": seed,
        "versions": {"python": platform.python_version()} | versions,
    }
