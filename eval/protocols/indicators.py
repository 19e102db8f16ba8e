"""The indicators that were taken for intra-modal misalignment (Reevaluating, figures 2, 5, 8; IsoCLIP, figure
S7)."""

from collections.abc import Mapping

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.eval.tasks.image_retrieval import UNLABELLED
from jaxalign.eval.tasks.runs import Result


def class_indicator(embeddings: ArrayLike, labels: np.ndarray, *, bins: int = 100) -> Result:
    """Cosines of same-class and of different-class pairs (figures 2, 5 left, and S7).

    Args:
      embeddings: `[n, d]`.
      labels: int `[n]`; examples with label -1 are left out.

    Returns:
      Metrics: `overlap` and `iou` of the two histograms, 0 to 1, `same_mean`, `different_mean`. Arrays:
      `edges`, `same`, `different`, counts of pairs.

    Raises:
      JaxalignError: as `ja.similarity_histograms`, or no pair of one of the kinds.
    """
    labels = np.asarray(labels)
    kept = labels != UNLABELLED
    found = ja.similarity_histograms(np.asarray(embeddings)[kept], labels[kept], bins=bins)
    metrics = {
        "overlap": ja.histogram_overlap(found),
        "iou": ja.histogram_overlap(found, kind="iou"),
        "same_mean": histogram_mean(found.edges, found.same),
        "different_mean": histogram_mean(found.edges, found.different),
        "unlabelled": int((~kept).sum()),
    }
    return Result(metrics, {"edges": found.edges, "same": found.same, "different": found.different})


def modality_indicator(images: ArrayLike, texts: ArrayLike, *, bins: int = 100) -> Result:
    """Cosines of image-image, image-text and text-text pairs (figures 2, 5 right, and 8).

    Args:
      images, texts: embeddings `[n, d]` and `[m, d]`.

    Returns:
      Metrics: `overlap` and `iou` of image-image and image-text pairs, `gap`, the distance of the centroids,
      and the means of the three. Arrays: `edges`, `image_image`, `image_text`, `text_text`, counts of pairs.
    """
    found = ja.modality_histograms(images, texts, bins=bins)
    kinds = {"image_image": found.image_image, "image_text": found.image_text, "text_text": found.text_text}
    metrics = {
        "overlap": ja.histogram_overlap(found),
        "iou": ja.histogram_overlap(found, kind="iou"),
        "gap": float(ja.modality_gap(images, texts)),
        **{f"{name}_mean": histogram_mean(found.edges, counts) for name, counts in kinds.items()},
    }
    return Result(metrics, {"edges": found.edges, **kinds})


def histogram_mean(edges: np.ndarray, counts: np.ndarray) -> float | None:
    """The mean, every pair taken to lie in the middle of its bin; None without any pair."""
    if not counts.sum():
        return None
    return float(np.average((edges[1:] + edges[:-1]) / 2, weights=counts))


def compare(results: Mapping[str, Result]) -> dict[str, dict[str, float | None]]:
    """The numbers of several methods, without their arrays."""
    return {name: dict(result.metrics) for name, result in results.items()}
