"""The demo's results as the runs that a report shows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.eval.demo.data import PLAIN, SCENES
from jaxalign.eval.demo.measure import InversionTrace
from jaxalign.eval.demo.tables import TASKS, inversion_note, task_scores
from jaxalign.eval.tasks.runs import Run

# What the runs show; the rest of a model's entry says how it was measured.
_SHOWN = (
    "model",
    "image_retrieval",
    "text_retrieval",
    "classification",
    "inter_modal",
    "inversions",
    "other_models",
)


@dataclass(frozen=True)
class ModelArrays:
    """The arrays of one model, for figures and examples.

    Attributes:
      singular_values: `[r]`, of the inter-modal operator.
      image_sweep, text_sweep: the band searches.
      histograms: of same-class and different-class pairs, by title of the method.
      inversions: by name, `OTI` for images and `OVI` for texts.
      first_results: `shown_queries` and `first_results` by title of the method, before and after.
    """

    singular_values: np.ndarray
    image_sweep: ja.BandSweep
    text_sweep: ja.BandSweep
    histograms: Mapping[str, ja.SimilarityHistograms]
    inversions: Mapping[str, InversionTrace]
    first_results: Mapping[str, Mapping[str, np.ndarray]]


def facts_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """How one model was measured."""
    return {key: value for key, value in results.items() if key not in _SHOWN}


def runs_of(results: Mapping[str, Any], arrays: ModelArrays) -> Iterator[Run]:
    """Of one model's entry of `metrics.json`, all that a report has tables and figures for."""
    model = {"model": results["model"]}
    scenes = {
        **model,
        "dataset": SCENES,
        "version": results["data_versions"][SCENES],
        "seed": results["seed"],
    }
    test = scenes | {"query": "test", "gallery": "test"}
    yield from _images(results, arrays, test)
    for dataset, entry in results["inter_modal"].items():
        version = {"dataset": dataset, "version": results["data_versions"][dataset]}
        for task in (task for task in TASKS if task_scores(entry, task)):
            settings = test | version | {"task": task, "method": "text-image"}
            yield Run("text-image", settings, _flat(task_scores(entry, task)))
    yield from _texts(results, arrays, test | {"dataset": PLAIN, "version": results["data_versions"][PLAIN]})
    for method, entry in results["classification"].items():
        yield Run("classification", test | {"task": "group", "method": method}, entry)
    bands = {key: list(results[key].values()) for key in ("band", "auto_band")}
    rank = {"effective_rank": results["indicators"]["effective_rank"]}
    yield Run("spectrum", model, bands | rank, {"inter_modal": arrays.singular_values})
    for modality, dataset, sweep in (
        ("image", SCENES, arrays.image_sweep),
        ("text", PLAIN, arrays.text_sweep),
    ):
        best = {"k_top": sweep.best[0], "k_bottom": sweep.best[1], "mAP": float(np.nanmax(sweep.mAP))}
        found = {"k_top": sweep.k_top, "k_bottom": sweep.k_bottom, "mAP": sweep.mAP}
        settings = model | {"dataset": dataset, "query": "train", "gallery": "train", "modality": modality}
        yield Run("band-sweep", settings, {"best": best}, {k: np.asarray(v) for k, v in found.items()})


def _images(results: Mapping[str, Any], arrays: ModelArrays, test: Mapping[str, Any]) -> Iterator[Run]:
    for method, entry in results["image_retrieval"].items():
        for task in TASKS:
            settings, found = {**test, "task": task, "method": method}, {}
            if task == next(iter(TASKS)):
                found = arrays.first_results.get(method, {}) | _curve(arrays.inversions.get(method.upper()))
            yield Run("image-retrieval", settings, _flat(task_scores(entry, task)), found)
    for method, of in arrays.histograms.items():
        counts = {"edges": of.edges, "same": of.same, "different": of.different}
        overlap = {"overlap": results["indicators"]["overlap"][method]}
        yield Run("class-indicator", {**test, "task": "emoji", "method": method}, overlap, counts)


def _texts(results: Mapping[str, Any], arrays: ModelArrays, test: Mapping[str, Any]) -> Iterator[Run]:
    note = inversion_note(results).strip().rstrip(".")
    for method, entry in results["text_retrieval"].items():
        inversion = arrays.inversions.get(method.upper())
        notes = [note] if note and inversion is not None else []
        yield Run("text-retrieval", {**test, "method": method}, entry, _curve(inversion), notes=notes)


def _flat(entry: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (entry or {}).items() if key != "tasks"}


def _curve(inversion: InversionTrace | None) -> dict[str, np.ndarray]:
    if inversion is None:
        return {}
    return {"losses": inversion.losses, "steps": inversion.kept, "mAP_at_step": inversion.precision}
