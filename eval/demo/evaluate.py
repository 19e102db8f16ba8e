"""Everything that the demo measures on one model."""

from dataclasses import dataclass
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.eval.demo.classification import measure_classifiers
from jaxalign.eval.demo.data import PLAIN, SCENES, DemoData, choose_queries
from jaxalign.eval.demo.encode import Encoder, Features
from jaxalign.eval.demo.image_retrieval import (
    Embed,
    Fitted,
    embeddings_by_method,
    fit,
    invert_queries,
    measure_images,
    measure_names,
    trace_queries,
)
from jaxalign.eval.demo.measure import Measured
from jaxalign.eval.demo.runs import ModelArrays
from jaxalign.eval.demo.settings import DemoSettings
from jaxalign.eval.demo.text_retrieval import choose_text_band, invert_captions, measure_texts
from jaxalign.eval.progress import Stages


@dataclass(frozen=True, eq=False)
class Encoded:
    """Features of scenes of the training names, and of held-out scenes, plain pictures and captions."""

    training: Features
    scenes: Features
    plain: Features
    captions: Features


def evaluate(
    model: ja.DualEncoder, data: DemoData, settings: DemoSettings, seed: int, stages: Stages
) -> tuple[dict[str, Any], ModelArrays]:
    """The model's entry of `metrics.json`, and what the report draws."""
    encoder = Encoder(model)
    encoded = _encode(encoder, data, stages)
    with stages.stage("sweep", f"{model.name}: choosing bands and rank on the training names"):
        fitted = fit(encoder, encoded.training, data, settings)
        text_sweep = choose_text_band(encoder, data.training_captions, settings)
    queries = choose_queries(data.scenes.labels["emoji"], settings.queries)
    inverted = invert_queries(model, encoded.scenes.embeddings[queries], settings, seed, stages)
    inverted_texts = invert_captions(model, data.captions, encoded.captions, settings, seed, stages)
    with stages.stage("measure", f"{model.name}: measuring"):
        methods = embeddings_by_method(model, fitted)
        measured = measure_images(methods, np.asarray(inverted.embeddings), encoded.scenes, data, queries)
        texts, ovi = measure_texts(model, data.captions, encoded.captions, text_sweep.best, inverted_texts)
        inversions = {
            "OTI": trace_queries(inverted, encoded.scenes, data, queries),
            "OVI": ovi,
        }
        histograms = {
            name: ja.similarity_histograms(methods[name](encoded.scenes), data.scenes.labels["emoji"])
            for name in ("image-image", "isoclip")
        }
        results = {
            "model": model.title,
            "dataset": SCENES,
            "image_retrieval": {method: m.entry for method, m in measured.items()},
            "text_retrieval": texts,
            "classification": _classify(encoder, encoded, data, fitted),
            "inter_modal": {
                SCENES: measure_names(encoder, encoded.scenes, data.scenes),
                PLAIN: measure_names(encoder, encoded.plain, data.plain),
            },
            **_chosen(fitted, text_sweep.best),
            "indicators": _indicators(encoded, data, fitted)
            | {"overlap": {name: ja.histogram_overlap(h) for name, h in histograms.items()}},
            "queries": len(queries),
            "inversions": {name: found.as_json() for name, found in inversions.items()},
        }
    shown = _first_results(methods, measured, encoded.scenes, data.scenes.labels["emoji"], queries)
    singular_values = np.asarray(fitted.spectrum.s)
    return results, ModelArrays(singular_values, fitted.band, text_sweep, histograms, inversions, shown)


def _encode(encoder: Encoder, data: DemoData, stages: Stages) -> Encoded:
    pictures = {"training": data.training, "scenes": data.scenes, "plain": data.plain}
    total = sum(len(split) for split in pictures.values())
    with stages.stage("encode", f"{encoder.model.name}: encoding {total} pictures", total) as advance:
        features = {name: encoder.pictures(split.images, advance) for name, split in pictures.items()}
        return Encoded(**features, captions=encoder.texts(data.captions.texts))


def _classify(encoder: Encoder, encoded: Encoded, data: DemoData, fitted: Fitted) -> dict[str, Any]:
    head = ja.isoclip(encoder.model.projectors, *fitted.band.best, fitted.spectrum).image
    return measure_classifiers(encoder, encoded.training, encoded.scenes, data, head)


def _chosen(fitted: Fitted, text_band: tuple[int, int]) -> dict[str, Any]:
    bands = {"band": fitted.band.best, "auto_band": fitted.auto_band, "text_band": text_band}
    chosen = {name: {"k_top": top, "k_bottom": bottom} for name, (top, bottom) in bands.items()}
    return chosen | {"pca_rank": fitted.ranks.best}


def _indicators(encoded: Encoded, data: DemoData, fitted: Fitted) -> dict[str, Any]:
    names = encoded.captions.embeddings[data.captions.queries]
    return {
        "modality_gap": float(ja.modality_gap(encoded.scenes.embeddings, names)),
        "singular_values": len(fitted.spectrum.s),
        "effective_rank": float(ja.effective_rank(fitted.spectrum.s)),
    }


def _first_results(
    methods: dict[str, Embed],
    measured: dict[str, Measured],
    features: Features,
    labels: np.ndarray,
    queries: np.ndarray,
) -> dict[str, dict[str, np.ndarray]]:
    """Under image-image and under the IsoCLIP or PCA<- method of the highest mAP."""
    candidates = [name for name in methods if name.startswith(("isoclip", "pca"))]
    found = {}
    for name in ("image-image", max(candidates, key=lambda name: measured[name].entry["mAP"])):
        x = np.asarray(methods[name](features))
        metrics = ja.retrieval_metrics(
            x[queries], x, labels[queries], labels, exclude_self=queries, per_query=True
        )
        found[name] = {"shown_queries": queries, "first_results": metrics["per_query"]["first_results"]}
    return found
