"""The dogs-versus-cats experiment: an easy task on which image-image similarity looks poor.

Sources: Reevaluating, section 2.3 and table 1; IsoCLIP, section 5.3 and figure 4.
"""

from __future__ import annotations  # help() shows them as they are written here

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from jaxalign.brief import brief_repr
from jaxalign.classifiers import check_class_labels, zero_shot_classifier
from jaxalign.errors import JaxalignError
from jaxalign.features import as_features, is_count, normalize
from jaxalign.indicators import SimilarityHistograms, histogram_overlap, similarity_histograms
from jaxalign.ranking.cosine_ranking import cosine_rows
from jaxalign.ranking.retrieval import retrieval_metrics

_ROWS = 256


@struct.dataclass
class DogsVersusCats:
    """Percent throughout. The first four are over all images, the rest over the queries of one class.

    `image_text_mAP` and `zero_shot_accuracy` are None without text embeddings.
    """

    __repr__ = brief_repr

    image_image_mAP: float  # noqa: N815, the field's name
    text_image_mAP: float | None  # noqa: N815
    zero_shot_accuracy: float | None
    few_shot_accuracy: dict[int, float]  # by shots
    precision_at: dict[int, float]  # by k
    positives: np.ndarray  # int64 [bins], cosines of two images of the query class
    negatives: np.ndarray  # int64 [bins], cosines of an image of the query class and one of another
    edges: np.ndarray  # [bins + 1]
    iou: float  # of positives and negatives, 0 to 1
    queries: int
    removed: int  # images of the query class that are nearer to another class's text


def dogs_versus_cats(
    features: ArrayLike,
    labels: ArrayLike,
    text_embeddings: ArrayLike | None = None,
    *,
    query_class: int = 1,
    ks: Sequence[int] = (1, 5, 10, 50, 100),
    shots: Sequence[int] = (1, 16),
    bins: int = 100,
    seed: int = 1,
) -> DogsVersusCats:
    """How well images of two (or more) classes are told apart by images, and by texts.

    Over all images: mean average precision of each image against all others, and of each class-name text
    against all images; zero-shot accuracy; and few-shot accuracy by prototypes, where each image has its own
    draw of `shots` images per class, itself left out, with replacement (as published, except that there an
    image may be drawn for itself).

    Then, as IsoCLIP's figure 4: with text embeddings, images of the query class that are nearer to another
    class's text are removed, so that the rest is perfectly aligned between the modalities. Images of the
    query class are the queries, all others the gallery: precision among the first k, and histograms of the
    cosines of positives (dog and dog) and negatives (dog and cat).

    Args:
      features: image embeddings `[n, d]`, any scale.
      labels: integers `[n]` from 0 on, every class with two images or more.
      text_embeddings: `[c, d]`, of "a photo of a cat", "a photo of a dog".
      query_class: the dogs.
      ks: numbers of retrieved images.
      shots: for few-shot accuracy.
      bins: of the histograms, over [-1, 1].
      seed: of the few-shot draws.

    Runs on the host; no n x n matrix is formed.

    Raises:
      JaxalignError: input that does not fit, k beyond the gallery, or no query left.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> x = np.random.default_rng(0).normal(size=(40, 4)) + np.repeat(np.eye(4)[:2] * 4, 20, axis=0)
      >>> found = ja.dogs_versus_cats(x, np.repeat([0, 1], 20), ks=(1, 5), shots=(1,))
      >>> type(found).__name__
      'DogsVersusCats'
    """
    x = as_features("features", features)
    classes = check_class_labels(labels, len(x), None)
    y = np.asarray(labels, np.int32)
    _check_options(y, classes, query_class, shots)
    unit, keep, metrics = normalize(x), np.ones(len(x), bool), {}
    if text_embeddings is not None:
        text = as_features("text_embeddings", text_embeddings)
        if text.shape != (classes, x.shape[1]):
            raise JaxalignError(
                f"text_embeddings have shape {text.shape}; expected {(classes, x.shape[1])}, one per class"
            )
        guess = np.asarray(zero_shot_classifier(text).predict(x))
        keep = (y != query_class) | (guess == y)
        metrics = retrieval_metrics(text, x, np.arange(classes), y) | {"accuracy": 100 * np.mean(guess == y)}
    histograms, precision = _separation(unit[keep], y[keep], query_class, ks, bins)
    return DogsVersusCats(
        image_image_mAP=retrieval_metrics(x, x, y, y, exclude_self=True)["mAP"],
        text_image_mAP=metrics.get("mAP"),
        zero_shot_accuracy=None if text_embeddings is None else float(metrics["accuracy"]),
        few_shot_accuracy={count: _few_shot(unit, y, classes, count, seed) for count in shots},
        precision_at=precision,
        positives=histograms.same,
        negatives=histograms.different,
        edges=histograms.edges,
        iou=histogram_overlap(histograms, kind="iou"),
        queries=int(np.sum(keep & (y == query_class))),
        removed=int(np.sum(~keep)),
    )


def _separation(
    unit: jax.Array, y: np.ndarray, query_class: int, ks: Sequence[int], bins: int
) -> tuple[SimilarityHistograms, dict[int, float]]:
    """Histograms over pairs with an image of the query class, and precision among the first k."""
    own = y == query_class
    queries, others = unit[own], unit[~own]
    n = len(queries)
    if n < 2:
        raise JaxalignError(f"{n} images of class {query_class} are left as queries; expected two or more")
    wrong = [k for k in ks if not (is_count(k) and k < len(unit))]
    if wrong:
        raise JaxalignError(f"k is {wrong[0]}; expected 1 to {len(unit) - 1}, the gallery without the query")
    same = similarity_histograms(queries, np.zeros(n, int), bins=bins).same
    apart = similarity_histograms(queries, np.zeros(n, int), others, np.ones(len(others), int), bins=bins)
    histograms = SimilarityHistograms(apart.edges, same=same, different=apart.different)

    gallery, size = jnp.concatenate([queries, others]), min(_ROWS, n)
    hits = np.zeros(len(ks))
    for start in range(0, n, size):
        first = min(start, n - size)
        scores = np.array(cosine_rows(queries, gallery, first, size=size))[start - first :]
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf  # the query itself, below all cosines
        hits += [_hits(scores, n, k).sum() for k in ks]
    return histograms, {k: float(100 * hit / (k * n)) for k, hit in zip(ks, hits, strict=True)}


def _hits(scores: np.ndarray, positives: int, k: int) -> np.ndarray:
    """Positives, the first columns, among the k highest scores; ties are those of `ranking.rank_order`."""
    last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    above, equal = scores > last, scores == last
    places = k - above.sum(1) - equal[:, positives:].sum(1)
    return above[:, :positives].sum(1) + np.maximum(places, 0)


def _few_shot(unit: jax.Array, y: np.ndarray, classes: int, shots: int, seed: int) -> float:
    order = np.argsort(y, kind="stable").astype(np.int32)
    counts = np.bincount(y, minlength=classes).astype(np.int32)
    starts = np.cumsum(counts, dtype=np.int32) - counts
    position = np.empty(len(y), np.int32)
    position[order] = np.arange(len(y), dtype=np.int32) - starts[y[order]]
    correct = _count_few_shot(
        jax.random.key(seed), unit, y, *map(jnp.asarray, (order, counts, starts, position)), shots=shots
    )
    return float(100 * np.asarray(correct, np.int64).sum() / len(y))


@partial(jax.jit, static_argnames="shots")
def _count_few_shot(
    key: jax.Array,
    unit: jax.Array,
    y: jax.Array,
    order: jax.Array,
    counts: jax.Array,
    starts: jax.Array,
    position: jax.Array,
    *,
    shots: int,
) -> jax.Array:
    """Whether each image is nearest to the mean of its own draw of its own class, bool `[n]`."""
    classes = jnp.arange(len(counts), dtype=y.dtype)

    def one(at: Any) -> jax.Array:
        i, key = at
        own = (classes == y[i]).astype(counts.dtype)
        draw = jax.random.randint(key, (shots, len(counts)), 0, counts - own, counts.dtype)
        draw = draw + own * (draw >= position[i]).astype(own.dtype)
        support = unit[order[starts + draw]]  # [shots, c, d]
        return jnp.argmax(normalize(support.mean(0)) @ unit[i]) == y[i]

    index = jnp.arange(len(unit), dtype=jnp.int32)
    return jax.lax.map(one, (index, jax.random.split(key, len(unit))), batch_size=min(_ROWS, len(unit)))


def _check_options(y: np.ndarray, classes: int, query_class: int, shots: Sequence[int]) -> None:
    if classes < 2 or not 0 <= query_class < classes:
        raise JaxalignError(
            f"query_class is {query_class} of {classes} classes; expected two classes or more, it among them"
        )
    counts = np.bincount(y, minlength=classes)
    if counts.min() < 2:
        raise JaxalignError(f"class {counts.argmin()} has one image; expected two or more of each class")
    if not all(map(is_count, shots)):
        raise JaxalignError(f"shots are {tuple(shots)}; expected 1 or more of each class")
