"""Pictures that find pictures: every method on the same queries and the same gallery."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import jaxalign as ja
from eval.datasets import Examples
from eval.demo.data import PROMPT, DemoData, choose_queries, emoji_names
from eval.demo.encode import Encoder, Features
from eval.demo.measure import Measured, measure_tasks, trace
from eval.demo.settings import DemoSettings
from eval.demo.stages import Stages
from eval.report import InversionTrace
from eval.report.tables import TASKS

Embed = Callable[[Features], jax.Array | np.ndarray]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Bands, chosen on training names and from the spectrum alone, and text subspaces."""

    spectrum: ja.Spectrum
    band: ja.BandSweep
    auto_band: tuple[int, int]
    ranks: ja.RankSweep
    subspaces: dict[str, ja.Subspace]  # by name of the method


def fit(encoder: Encoder, training: Features, data: DemoData, settings: DemoSettings) -> Fitted:
    """Choose bands and ranks by same-emoji retrieval among scenes of training names."""
    heads = encoder.model.projectors
    labels = data.training.labels["emoji"]
    queries = choose_queries(labels, None)
    spectrum = ja.decompose(heads)
    grid = [k for k in settings.band_grid if k < len(spectrum.s)]
    band = ja.sweep_bands(
        heads,
        training.pre[queries],
        training.pre,
        labels[queries],
        labels,
        k_top=grid,
        k_bottom=grid,
        exclude_self=queries,
    )
    texts = encoder.texts([PROMPT.format(name) for name in data.training_names]).embeddings
    ranks = ja.sweep_ranks(
        texts,
        training.embeddings[queries],
        training.embeddings,
        labels[queries],
        labels,
        ranks=settings.ranks,
        exclude_self=queries,
    )
    subspaces = {
        "pca": ja.principal_subspace(texts),
        f"pca-rank{ranks.best}": ja.principal_subspace(texts, ranks.best),
    }
    return Fitted(spectrum, band, ja.select_band(spectrum), ranks, subspaces)


def embeddings_by_method(model: ja.DualEncoder, fitted: Fitted) -> dict[str, Embed]:
    """How each method that changes both queries and gallery embeds pictures; the baseline first."""
    heads = model.projectors
    chosen = ja.isoclip(heads, *fitted.band.best, fitted.spectrum).image
    automatic = ja.isoclip(heads, *fitted.auto_band, fitted.spectrum).image
    whitened = ja.whiten(heads.image)
    methods: dict[str, Embed] = {
        "image-image": lambda features: features.embeddings,
        "pre": lambda features: features.pre,
        "whitened": lambda features: whitened(features.pre),
        "isoclip": lambda features: chosen(features.pre),
        "isoclip-auto": lambda features: automatic(features.pre),
    }
    for name, subspace in fitted.subspaces.items():
        methods[name] = lambda features, subspace=subspace: subspace.project(features.embeddings)
    return methods


def invert_queries(
    model: ja.DualEncoder, embeddings: np.ndarray, settings: DemoSettings, seed: int, stages: Stages
) -> ja.Inversion:
    """The queries' inversions to text (OTI)."""
    count = len(embeddings)
    with stages.stage("oti", f"{model.name}: inverting {count} queries to text", total=count) as advance:
        return ja.invert_to_text(
            model,
            embeddings,
            steps=settings.oti_steps,
            key=jax.random.key(seed),
            keep=[step for step in settings.curve if step <= settings.oti_steps],
            on_batch=lambda rows, part: advance(len(rows)),
        )


def trace_queries(
    inversion: ja.Inversion,
    measured: dict[str, Measured],
    features: Features,
    data: DemoData,
    queries: np.ndarray,
) -> InversionTrace:
    """Loss and same-emoji mAP of OTI against the steps; the mAP comes from the steps that were kept."""
    labels = data.scenes.labels["emoji"]
    return trace(
        inversion,
        measured["image-image"].entry["mAP"],
        lambda z: ja.retrieval_metrics(z, features.embeddings, labels[queries], labels, exclude_self=queries),
    )


def measure_images(
    methods: dict[str, Embed], inverted: np.ndarray, features: Features, data: DemoData, queries: np.ndarray
) -> dict[str, Measured]:
    """Scores of every method; `inverted` [q, d] are the queries of `oti`, whose gallery is left as it is."""
    labels = {task: data.scenes.labels[task] for task in TASKS}
    query_labels = {task: values[queries] for task, values in labels.items()}
    measured: dict[str, Measured] = {}
    for name, embed in [*methods.items(), ("oti", lambda features: features.embeddings)]:
        gallery = embed(features)
        query = inverted if name == "oti" else gallery[queries]
        measured[name] = measure_tasks(
            query, gallery, query_labels, labels, queries, measured.get("image-image")
        )
    return measured


def measure_names(encoder: Encoder, features: Features, examples: Examples) -> dict[str, Any]:
    """Names of held-out emoji that find their pictures, and those of their group, as a reference."""
    labels, names = emoji_names(examples)
    texts = encoder.texts([PROMPT.format(name) for name in names]).embeddings
    tasks = ("emoji", "group")
    first = [int(np.argmax(examples.labels["emoji"] == label)) for label in labels]
    query_labels = {"emoji": labels, "group": examples.labels["group"][first]}
    gallery_labels = {task: examples.labels[task] for task in tasks}
    return measure_tasks(texts, features.embeddings, query_labels, gallery_labels, None, tasks=tasks).entry
