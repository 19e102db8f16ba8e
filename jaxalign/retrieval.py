"""Retrieval metrics: how well cosine similarity brings the items of a query's class to the front."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.ranking import RankStatistics, Relevance, as_features, rank_statistics

_PROTOCOLS = ("paper", "reference")


def retrieval_metrics(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: Any,
    gallery_labels: Any,
    *,
    exclude_self: bool | ArrayLike = False,
    block_size: int | None = None,
    protocol: str = "paper",
) -> dict[str, float | int]:
    """Retrieval by cosine similarity, an item being relevant when it has the query's label.

    Args:
      query: features `[q, d]`, any scale; a row of zeros has cosine 0 with everything.
      gallery: features `[g, d]`.
      query_labels, gallery_labels: `[q]` and `[g]`, integers or strings.
      exclude_self: whether query i is gallery item i and leaves its own gallery; needs q = g. Where only some
        gallery items are queries, the position of each query in the gallery instead, integers `[q]`.
      block_size: queries scored at a time, by default what fits a few MiB; the numbers do not depend on it.
      protocol: "paper", or "reference" for what the published code computes, which differs in two ways: it
        takes R before the query is removed from the gallery, so with `exclude_self` its mAP@R sums over the
        first R + 1 items and divides by R; and queries without positives count as 0 instead of being left
        out.

    Returns:
      Percent, means over the queries that have a positive: `mAP`; `mAP_at_R` and `precision_at_R`, with R the
      number of the query's positives once itself is removed; `recall_at_1`. And the count
      `queries_without_positives`. Among equal scores irrelevant items come first, so ties are never
      flattering and the order of the gallery does not matter.

    Raises:
      JaxalignError: shapes, widths or lengths that do not fit, empty, NaN or infinite features, labels of
        different kinds, or no query with a positive.
    """
    if protocol not in _PROTOCOLS:
        raise unknown_name("protocol", protocol, _PROTOCOLS)
    query, gallery = check_pair(query, gallery)
    reference = protocol == "reference"
    relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, exclude_self)
    extra_depth = int(reference and relevance.self_index is not None)
    ranks = rank_statistics(query, gallery, relevance, extra_depth=extra_depth, block_size=block_size)
    return {
        "mAP": mean_percent(ranks, ranks.average_precision, reference),
        "mAP_at_R": mean_percent(ranks, ranks.map_at_r, reference),
        "precision_at_R": mean_percent(ranks, ranks.precision_at_r, reference),
        "recall_at_1": mean_percent(ranks, ranks.recall_at_1, reference),
        "queries_without_positives": int(np.sum(np.asarray(ranks.positives) == 0)),
    }


def average_precision(
    query: ArrayLike,
    gallery: ArrayLike,
    relevant: ArrayLike,
    *,
    ignore: ArrayLike | None = None,
    exclude_self: bool | ArrayLike = False,
    block_size: int | None = None,
) -> jax.Array:
    """Average precision of each query, float32 `[q]` in [0, 1]: the mean of the precision at its positives.

    Args:
      query: features `[q, d]`.
      gallery: features `[g, d]`.
      relevant: bool `[q, g]`, the positives.
      ignore: bool `[q, g]`, items that are junk for a query: they leave its gallery, relevant or not.
      exclude_self: as in `retrieval_metrics`.
      block_size: queries scored at a time; the result does not depend on it.

    Returns:
      NaN for a query without positives. Works under `jit` and `vmap`, where features are not checked for NaN.

    Raises:
      JaxalignError: as `retrieval_metrics`, or tables that are not bool `[q, g]`.
    """
    query, gallery = check_pair(query, gallery)
    shape = (query.shape[0], gallery.shape[0])
    relevance = Relevance(
        table=_check_table("relevant", relevant, shape),
        ignored=None if ignore is None else _check_table("ignore", ignore, shape),
        self_index=_self_index(exclude_self, *shape),
    )
    ranks = rank_statistics(query, gallery, relevance, block_size=block_size)
    return jnp.asarray(ranks.average_precision, jnp.float32)


def check_pair(query: ArrayLike, gallery: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Both as float32 matrices of one width, or a JaxalignError."""
    same = query is gallery
    query = as_features("query", query)
    gallery = query if same else as_features("gallery", gallery)
    if query.shape[1] != gallery.shape[1]:
        raise JaxalignError(
            f"query features are {query.shape[1]} wide, gallery features {gallery.shape[1]};"
            " expected features of one model, projected or not"
        )
    return query, gallery


def relevance_from_labels(
    query: jax.Array,
    gallery: jax.Array,
    query_labels: Any,
    gallery_labels: Any,
    exclude_self: bool | ArrayLike,
) -> Relevance:
    """Relevance by equal label, labels of either kind turned into int32 codes."""
    first = _check_labels("query_labels", query_labels, query.shape[0])
    second = _check_labels("gallery_labels", gallery_labels, gallery.shape[0])
    if first.dtype.kind != second.dtype.kind:
        raise JaxalignError(
            f"query_labels are {_kind(first)}, gallery_labels are {_kind(second)}; expected one kind of label"
        )
    codes = np.unique(np.concatenate([first, second]), return_inverse=True)[1].astype(np.int32)
    return Relevance(
        query_codes=codes[: len(first)],
        gallery_codes=codes[len(first) :],
        self_index=_self_index(exclude_self, len(first), len(second)),
    )


def mean_percent(ranks: RankStatistics, values: Any, count_empty: bool = False) -> float:
    """100 times the mean over the queries that have positives; with `count_empty`, the others count as 0."""
    has_positives = np.asarray(ranks.positives) > 0
    if not has_positives.any():
        raise JaxalignError(
            f"none of the {has_positives.size} queries has a positive in the gallery;"
            " check that query and gallery labels name the same classes"
        )
    total = np.asarray(values, np.float64)[has_positives].sum()
    return float(100 * total / (has_positives.size if count_empty else has_positives.sum()))


def _check_table(name: str, table: ArrayLike, shape: tuple[int, int]) -> Any:
    if not isinstance(table, jax.Array):
        table = np.asarray(table)
    if table.shape != shape or table.dtype != bool:
        raise JaxalignError(
            f"{name} is {table.dtype} of shape {table.shape};"
            f" expected bool of shape {shape}, [queries, gallery]"
        )
    return table


def _check_labels(name: str, labels: Any, count: int) -> np.ndarray:
    if isinstance(labels, Tracer):
        raise JaxalignError(
            f"{name} are traced, but labels are compared on the host; under jit or vmap use average_precision"
            " with relevant = query_labels[:, None] == gallery_labels"
        )
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) != count:
        raise JaxalignError(f"{name} has shape {labels.shape}; expected one label per row, ({count},)")
    if labels.dtype.kind == "T" or (labels.dtype.kind == "O" and all(isinstance(x, str) for x in labels)):
        labels = labels.astype(str)
    if labels.dtype.kind not in "biuUS":
        raise JaxalignError(f"{name} has dtype {labels.dtype}; expected integers or strings")
    return labels if labels.dtype.kind in "US" else labels.astype(np.int64)


def _kind(labels: np.ndarray) -> str:
    return {"i": "integers", "U": "strings", "S": "bytes"}[labels.dtype.kind]


def _self_index(exclude_self: bool | ArrayLike, queries: int, items: int) -> Any:
    if isinstance(exclude_self, bool | np.bool_):
        if not exclude_self:
            return None
        if queries != items:
            raise JaxalignError(
                f"exclude_self=True says query i is gallery item i, but there are {queries} queries and"
                f" {items} gallery items; pass exclude_self=positions, the gallery position of each query"
            )
        return np.arange(queries, dtype=np.int32)
    if isinstance(exclude_self, Tracer):
        return exclude_self
    positions = np.asarray(exclude_self)
    if positions.shape != (queries,) or positions.dtype.kind not in "iu":
        raise JaxalignError(
            f"exclude_self is {positions.dtype} of shape {positions.shape}; expected True, False, or the"
            f" gallery position of each query, integers ({queries},)"
        )
    if positions.min() < 0 or positions.max() >= items:
        raise JaxalignError(
            f"exclude_self has positions from {positions.min()} to {positions.max()};"
            f" expected 0 to {items - 1}, positions in the gallery"
        )
    return positions.astype(np.int32)
