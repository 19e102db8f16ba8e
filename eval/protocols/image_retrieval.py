"""Pictures that find pictures (IsoCLIP, tables 1, 4, S6, S8, S9; Reevaluating, table 3), and names that find
them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.ranking.cosine_ranking import rank_statistics
from jaxalign.ranking.relevance import relevance_from_labels
from jaxalign.ranking.retrieval import check_pair, extra_depth, mean_percent

from . import own
from .result import Result

UNLABELLED = -1
METRICS = ("mAP", "mAP_at_R", "precision_at_R", "recall_at_1")


def retrieval(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    exclude_self: bool | ArrayLike = False,
    protocol: str = "paper",
    mesh: Mesh | None = None,
) -> Result:
    """Retrieval by cosine, an item being relevant when it has the query's label.

    Examples with label -1 have none: they are left out of queries and gallery, and counted.

    Args:
      query, gallery: embeddings `[q, d]` and `[g, d]`, any scale.
      query_labels, gallery_labels: int `[q]` and `[g]`.
      exclude_self: whether query i is gallery item i and leaves its own gallery; or the position of each
        query in the gallery, int `[q]`, or of each one's copies, `[q, m]`, as in `ja.retrieval_metrics`.
      protocol: "paper" or "reference", as in `ja.retrieval_metrics`, whose numbers these are.
      mesh: devices that the gallery is divided over.

    Returns:
      Metrics: `mAP`, `mAP_at_R`, `precision_at_R`, `recall_at_1` in percent, and counts, among them
      `queries_in_gallery`, those that left their own. Arrays: `average_precision` float32 `[queries]` in
      percent, NaN for a query without positives.

    Raises:
      JaxalignError: as `ja.retrieval_metrics`, or nothing labelled.
    """
    if protocol not in ("paper", "reference"):
        raise JaxalignError(f"the protocol is {protocol!r}; expected 'paper' or 'reference'")
    query, gallery, query_labels, gallery_labels, exclude, left_out = _labelled(
        query, gallery, np.asarray(query_labels), np.asarray(gallery_labels), exclude_self
    )
    query, gallery = check_pair(query, gallery, streamed=True, mesh=mesh)
    relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, exclude)
    reference = protocol == "reference"
    depth = extra_depth(relevance) if reference else 0
    ranks = rank_statistics(query, gallery, relevance, depths=(1,), extra_depth=depth, mesh=mesh)
    means = (ranks.average_precision, ranks.map_at_r, ranks.precision_at_r, ranks.hits[:, 0] > 0)
    without = int((np.asarray(ranks.positives) == 0).sum())
    metrics: dict[str, Any] = {
        name: mean_percent(ranks, values, reference) for name, values in zip(METRICS, means, strict=True)
    }
    metrics |= {
        "queries": len(query),
        "gallery": len(gallery),
        "queries_in_gallery": own.count(own.positions(exclude, len(query))),
        "queries_without_positives": without,
    }
    precision = 100 * np.asarray(ranks.average_precision, np.float32)
    precision[np.asarray(ranks.positives) == 0] = np.nan
    notes = []
    if without:
        counted = "count as 0" if reference else "take no part in the means"
        few = f"{without:,} of {len(query):,} queries"
        notes.append(f"{few} have no image of their label in the gallery, and {counted}")
    return Result(metrics | left_out, {"average_precision": precision}, notes=notes)


def landmark_retrieval(
    query: ArrayLike,
    gallery: ArrayLike,
    ground_truth: Sequence[Mapping[str, Any]],
    *,
    mesh: Mesh | None = None,
) -> Result:
    """ROxford and RParis by their own protocol (`ja.revisited_metrics`).

    Args:
      query, gallery: embeddings; distractors after the data set's own pictures.
      ground_truth: for each query its `easy`, `hard` and `junk` positions.
      mesh: devices that the gallery is divided over.

    Returns:
      Metrics of `ja.revisited_metrics`, and `mAP`, the one of the easy setting, which the papers print.
    """
    found = ja.revisited_metrics(query, gallery, ground_truth, mesh=mesh)
    metrics = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in found.items()}
    counts = {"queries": len(ground_truth), "gallery": len(np.asarray(gallery))}
    return Result({"mAP": metrics["mAP_easy"]} | metrics | counts)


def names_find_pictures(
    text: ArrayLike,
    gallery: ArrayLike,
    text_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    mesh: Mesh | None = None,
) -> Result:
    """Text-to-image retrieval: a class name, or a caption, finds its pictures (IsoCLIP, appendix H).

    The paper's appendix says that IsoCLIP's heads make this worse, and that the original ones can be kept for
    it: the gallery holds pre-projection features. Compare the result with both heads as they are, and both
      filtered.

    Args:
      text: embeddings `[t, d]` of prompts, one or more for each label.
      gallery: embeddings `[g, d]` of pictures.
      text_labels, gallery_labels: int; texts whose label no picture has are left out.
      mesh: devices that the gallery is divided over.
    """
    text_labels, gallery_labels = np.asarray(text_labels), np.asarray(gallery_labels)
    present = np.isin(text_labels, gallery_labels)
    if not present.any():
        raise JaxalignError("none of the texts has a picture of its label in the gallery; check the labels")
    return retrieval(np.asarray(text)[present], gallery, text_labels[present], gallery_labels, mesh=mesh)


def _labelled(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    exclude_self: bool | ArrayLike,
) -> tuple[Any, Any, np.ndarray, np.ndarray, Any, dict[str, int]]:
    """All of it without the examples that have no label; the positions to exclude follow."""
    queries, items = query_labels != UNLABELLED, gallery_labels != UNLABELLED
    left_out = {"unlabelled_queries": int((~queries).sum()), "unlabelled_gallery": int((~items).sum())}
    if not queries.any() or not items.any():
        raise JaxalignError("no query, or no picture of the gallery, has a label; choose another labelling")
    if queries.all() and items.all():
        return query, gallery, query_labels, gallery_labels, exclude_self, left_out
    whole = own.positions(exclude_self, len(query_labels))
    kept = own.renumber(whole, np.flatnonzero(queries), np.flatnonzero(items))
    return (
        np.asarray(query)[queries],
        np.asarray(gallery)[items],
        query_labels[queries],
        gallery_labels[items],
        own.exclusion(kept),
        left_out,
    )
