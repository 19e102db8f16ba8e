"""Pictures that find pictures: every method on the same queries and the same gallery."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import jaxalign as ja
from jaxalign.eval.datasets import Examples
from jaxalign.eval.demo.data import PROMPT, DemoData, choose_queries, emoji_names
from jaxalign.eval.demo.encode import Encoder, Features
from jaxalign.eval.demo.measure import InversionTrace, Measured, measure_tasks, trace
from jaxalign.eval.demo.settings import DemoSettings
from jaxalign.eval.demo.tables import TASKS
from jaxalign.eval.progress import Stages
from jaxalign.eval.tasks.methods import Method

Embed = Callable[[Features], jax.Array | np.ndarray]


@dataclass(frozen=True, eq=False)
class Fitted:
    """Bands, chosen on training names and from the spectrum alone, and what PCA<- stands on."""

    spectrum: ja.Spectrum
    band: ja.BandSweep
    auto_band: tuple[int, int]
    ranks: ja.RankSweep
    prompts: tuple[str, ...]  # with the training names
    texts: np.ndarray  # their embeddings


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
    prompts = tuple(PROMPT.format(name) for name in data.training_names)
    texts = encoder.texts(prompts).embeddings
    ranks = ja.sweep_ranks(
        texts,
        training.embeddings[queries],
        training.embeddings,
        labels[queries],
        labels,
        ranks=settings.ranks,
        exclude_self=queries,
    )
    return Fitted(spectrum, band, ja.select_band(spectrum), ranks, prompts, texts)


def embeddings_by_method(model: ja.DualEncoder, fitted: Fitted) -> dict[str, Embed]:
    """How each method that changes both queries and gallery embeds pictures; the baseline first."""
    best = fitted.ranks.best
    texts: dict[str, Any] = {"subspace": "paper", "texts": fitted.prompts}
    methods = {
        "image-image": Method("image-image", "image"),
        "pre": Method("pre", "image"),
        "whitened": Method("whitened", "image"),
        "isoclip": Method("isoclip", "image", band=fitted.band.best),
        "isoclip-auto": Method("isoclip-auto", "image", band=fitted.auto_band),
        "pca": Method("pca", "image", **texts),
        f"pca-rank{best}": Method("pca", "image", rank=best, **texts),
    }

    def embedding(method: Method) -> Embed:
        embed = method.fit(model, spectrum=fitted.spectrum, subspace_texts=fitted.texts)
        return lambda features: embed(features.pre)

    return {name: embedding(method) for name, method in methods.items()}


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
    features: Features,
    data: DemoData,
    queries: np.ndarray,
) -> InversionTrace:
    """Loss and same-emoji mAP of OTI against the steps; the mAP comes from the steps that were kept."""
    labels = data.scenes.labels["emoji"]
    return trace(
        inversion,
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
