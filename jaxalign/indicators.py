"""The indicators of intra-modal misalignment in the papers: similarity histograms, the modality gap.

Sources: IsoCLIP, figure 4; Reevaluating, figures 2, 5 and 8. `dogs_versus_cats` puts several together.
"""

from __future__ import annotations  # help() shows them as they are written here

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from jaxalign.brief import brief_repr
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import as_features, as_rows, is_count, normalize
from jaxalign.ranking.cosine_ranking import cosine_rows
from jaxalign.ranking.relevance import Relevance
from jaxalign.ranking.retrieval import check_pair, relevance_from_labels

_KINDS = ("overlap", "iou")


@struct.dataclass
class SimilarityHistograms:
    """How many pairs have their cosine in each bin."""

    __repr__ = brief_repr

    edges: np.ndarray  # [bins + 1], over [-1, 1]
    same: np.ndarray  # int64 [bins], pairs of one class
    different: np.ndarray  # int64 [bins], pairs of two classes


@struct.dataclass
class ModalityHistograms:
    """How many pairs of each kind have their cosine in each bin."""

    __repr__ = brief_repr

    edges: np.ndarray  # [bins + 1], over [-1, 1]
    image_image: np.ndarray  # int64 [bins], pairs of different images
    image_text: np.ndarray  # int64 [bins], all pairs
    text_text: np.ndarray  # int64 [bins], pairs of different texts


def similarity_histograms(
    features: ArrayLike,
    labels: Any,
    other: ArrayLike | None = None,
    other_labels: Any = None,
    *,
    bins: int = 100,
    block_size: int = 256,
) -> SimilarityHistograms:
    """Cosine histograms of same-class and different-class pairs, in blocks of `block_size` rows.

    Args:
      features: `[n, d]`, any scale; a row of zeros has cosine 0 with everything.
      labels: `[n]`, integers or strings.
      other: features `[m, d]` to pair them with, such as text embeddings: all n m pairs are counted. By
        default the n (n - 1) / 2 pairs of different rows of `features`.
      other_labels: `[m]`, required with `other`.
      bins: number of equal bins over [-1, 1]; the last one includes 1.
      block_size: rows scored at a time; the counts do not depend on it.

    Runs on the host, for the sake of exact counts: not for use under `jit`.

    Raises:
      JaxalignError: shapes, widths or lengths that do not fit, features that are empty, NaN or infinite,
        labels of different kinds, or bins or block_size below 1.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> found = ja.similarity_histograms(features, [0, 0, 1, 1])
      >>> int(found.same.sum()), int(found.different.sum())
      (2, 4)
    """
    _check_counts(bins, block_size)
    if (other is None) != (other_labels is None):
        raise JaxalignError("other and other_labels belong together; pass both or neither")
    within = other is None
    rows, columns = check_pair(features, features if within else other)
    relevance = relevance_from_labels(rows, columns, labels, labels if within else other_labels, False)
    counts = _count_pairs(rows, None if within else columns, bins, block_size, relevance)
    return SimilarityHistograms(edges=np.linspace(-1, 1, bins + 1), same=counts[1], different=counts[0])


def modality_histograms(
    image_embeddings: ArrayLike, text_embeddings: ArrayLike, *, bins: int = 100, block_size: int = 256
) -> ModalityHistograms:
    """Cosine histograms of image-image, image-text and text-text pairs (Reevaluating, figures 2, 5 and 8).

    Arguments and errors as in `similarity_histograms`, for embeddings `[n, d]` and `[m, d]` of one model.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> found = ja.modality_histograms(features, features)
      >>> int(found.image_text.sum())
      16
    """
    _check_counts(bins, block_size)
    image, text = _check_modalities(image_embeddings, text_embeddings)
    return ModalityHistograms(
        edges=np.linspace(-1, 1, bins + 1),
        image_image=_count_pairs(image, None, bins, block_size)[0],
        image_text=_count_pairs(image, text, bins, block_size)[0],
        text_text=_count_pairs(text, None, bins, block_size)[0],
    )


def histogram_overlap(
    histograms: SimilarityHistograms | ModalityHistograms,
    *,
    kind: str = "overlap",
    between: tuple[str, str] | None = None,
) -> float:
    """How much two histograms, each scaled to sum to one, share: 0 for none, 1 for all.

    Args:
      histograms: by class or by modality.
      kind: "overlap" is the sum of the bin-wise minima; "iou" divides it by the sum of the maxima (IsoCLIP,
        figure 4). Both depend on the bins.
      between: names of the two; by default "same" and "different", or "image_image" and "image_text".

    Raises:
      JaxalignError: an empty histogram, or another kind or name.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.histogram_overlap(ja.similarity_histograms(features, [0, 0, 1, 1]))
      0.0
    """
    if kind not in _KINDS:
        raise unknown_name("kind", kind, _KINDS)
    by_class = isinstance(histograms, SimilarityHistograms)
    names = ("same", "different") if by_class else ("image_image", "image_text", "text_text")
    shares = []
    for name in names[:2] if between is None else between:
        if name not in names:
            raise unknown_name("histogram", name, names)
        count = np.asarray(getattr(histograms, name), np.float64)
        if count.sum() == 0:
            needed = (
                "two classes or more, and one with two examples" if by_class else "two embeddings or more"
            )
            raise JaxalignError(f"there is no pair in the histogram {name!r}; expected {needed}")
        shares.append(count / count.sum())
    shared = np.minimum(*shares).sum()
    return float(shared if kind == "overlap" else shared / np.maximum(*shares).sum())


def modality_gap(image_embeddings: ArrayLike, text_embeddings: ArrayLike) -> jax.Array:
    """Distance between the centroids of the normalised embeddings `[n, d]` and `[m, d]`, in [0, 2].

    Raises JaxalignError for widths that differ and for features that are empty, NaN or infinite.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> float(ja.modality_gap(np.array([[1.0, 0.0]]), np.array([[-1.0, 0.0]])))
      2.0
    """
    image, text = _check_modalities(image_embeddings, text_embeddings)
    return _centroid_distance(image, text)


def effective_rank(singular_values: ArrayLike) -> jax.Array:
    """exp of the entropy of the singular values `[r]` scaled to sum to one: r when all are equal, 1 for one.

    Roy and Vetterli, "The effective rank", 2007. A float32 scalar; NaN when all are zero.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> round(float(ja.effective_rank(np.array([1.0, 1.0, 1.0, 0.0]))), 3)
      3.0
    """
    return _entropy_rank(as_rows("singular_values", singular_values).astype(jnp.float32))


@jax.jit
def _entropy_rank(s: jax.Array) -> jax.Array:
    return jnp.exp(jax.scipy.special.entr(s / s.sum()).sum())


@jax.jit
def _centroid_distance(image: jax.Array, text: jax.Array) -> jax.Array:
    return jnp.linalg.norm(normalize(image).mean(0) - normalize(text).mean(0))


def _count_pairs(
    rows: jax.Array, columns: jax.Array | None, bins: int, block_size: int, relevance: Relevance | None = None
) -> np.ndarray:
    """Pairs in each bin, int64 `[2, bins]`, those that are relevant in the second row.

    Without `columns`, row i is paired with the rows after it.
    """
    rows = normalize(rows)
    others = rows if columns is None else normalize(columns)
    n, m = rows.shape[0], others.shape[0]
    size = min(block_size, n)
    counts = np.zeros(2 * bins, np.int64)
    for start in range(0, n, size):
        first = min(start, n - size)  # one shape, one compilation: the last block reaches back
        scores = np.asarray(cosine_rows(rows, others, first, size=size))[start - first :]
        index = np.arange(start, start + len(scores))
        skipped = start if columns is None else 0  # columns before the block are paired with it already
        bin_of = np.clip((scores[:, skipped:] + 1) * (bins / 2), 0, bins - 1).astype(np.int64)
        if relevance is not None:
            bin_of += bins * relevance.rows(index, m)[0][:, skipped:]
        if columns is None:
            bin_of = bin_of[np.arange(skipped, m) > index[:, None]]
        counts += np.bincount(bin_of.ravel(), minlength=2 * bins)
    return counts.reshape(2, bins)


def _check_counts(bins: int, block_size: int) -> None:
    if not (is_count(bins) and is_count(block_size)):
        raise JaxalignError(f"bins is {bins} and block_size {block_size}; expected 1 or more of each")


def _check_modalities(image_embeddings: ArrayLike, text_embeddings: ArrayLike) -> tuple[jax.Array, jax.Array]:
    image = as_features("image_embeddings", image_embeddings)
    text = as_features("text_embeddings", text_embeddings)
    if image.shape[1] != text.shape[1]:
        raise JaxalignError(
            f"image embeddings are {image.shape[1]} wide, text embeddings {text.shape[1]};"
            " expected projected embeddings of one model"
        )
    return image, text
