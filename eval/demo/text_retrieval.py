"""Captions that find captions of the same emoji."""

from typing import Any

import jax
import numpy as np

import jaxalign as ja
from jaxalign.eval.demo.data import CaptionSet
from jaxalign.eval.demo.encode import Encoder, Features
from jaxalign.eval.demo.measure import InversionTrace, measure_task, trace
from jaxalign.eval.demo.settings import DemoSettings
from jaxalign.eval.progress import Stages


def choose_text_band(encoder: Encoder, captions: CaptionSet, settings: DemoSettings) -> ja.BandSweep:
    """The search for the text band among captions of training names."""
    heads = encoder.model.projectors
    queries, labels = captions.queries, captions.labels
    pre = encoder.texts(captions.texts).pre
    grid = [k for k in settings.band_grid if k < len(ja.decompose(heads).s)]
    return ja.sweep_bands(
        heads,
        pre[queries],
        pre,
        labels[queries],
        labels,
        k_top=grid,
        k_bottom=grid,
        modality="text",
        exclude_self=queries,
    )


def invert_captions(
    model: ja.DualEncoder,
    captions: CaptionSet,
    features: Features,
    settings: DemoSettings,
    seed: int,
    stages: Stages,
) -> tuple[np.ndarray, ja.Inversion]:
    """Some of the queries, as positions among the captions, and their inversions to image (OVI)."""
    queries = captions.queries
    count = min(settings.ovi_queries, len(queries))
    chosen = queries[np.linspace(0, len(queries) - 1, count).round().astype(int)]
    with stages.stage("ovi", f"{model.name}: inverting {count} captions to image", total=count) as advance:
        inversion = ja.invert_to_image(
            model,
            features.embeddings[chosen],
            steps=settings.ovi_steps,
            key=jax.random.key(seed),
            keep=[step for step in settings.curve if step <= settings.ovi_steps],
            on_batch=lambda rows, part: advance(len(rows)),
        )
    return chosen, inversion


def measure_texts(
    model: ja.DualEncoder,
    captions: CaptionSet,
    features: Features,
    band: tuple[int, int],
    inverted: tuple[np.ndarray, ja.Inversion],
) -> tuple[dict[str, Any], InversionTrace]:
    """First captions against all captions: the embeddings as they are, IsoCLIP with the text band, and OVI.

    OVI is measured on the queries that were inverted, and its difference is to the baseline on the same ones;
    its entry says how many they are, after how many steps.
    """
    head = ja.isoclip(model.projectors, *band).text
    queries, labels = captions.queries, captions.labels
    entries, baseline = {}, None
    for name, x in (("text-text", features.embeddings), ("isoclip", np.asarray(head(features.pre)))):
        entries[name], precision = measure_task(x[queries], x, labels[queries], labels, queries, baseline)
        baseline = precision if baseline is None else baseline
    chosen, inversion = inverted
    plain, gallery = features.embeddings[chosen], features.embeddings
    before, precision = measure_task(plain, gallery, labels[chosen], labels, chosen)
    entries["ovi"], _ = measure_task(inversion.embeddings, gallery, labels[chosen], labels, chosen, precision)
    entries["ovi"] |= {"queries": len(chosen), "steps": inversion.losses.shape[1], "baseline": before["mAP"]}
    metrics = lambda z: ja.retrieval_metrics(z, gallery, labels[chosen], labels, exclude_self=chosen)
    return entries, trace(inversion, metrics)
