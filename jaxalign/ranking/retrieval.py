"""Retrieval metrics: how well cosine similarity brings the items of a query's class to the front."""

from __future__ import annotations  # help() shows them as they are written here

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import as_features, host_features
from jaxalign.ranking.cosine_ranking import rank_statistics
from jaxalign.ranking.rank_order import RankStatistics
from jaxalign.ranking.relevance import Relevance, relevance_from_table
from jaxalign.ranking.relevance import relevance_from_labels as relevance_from_labels

_VARIANTS = ("paper", "reference")
FIRST = 10  # items of each query that are named


def retrieval_metrics(
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: Any = None,
    gallery_labels: Any = None,
    *,
    relevant: Any = None,
    ignore: Any = None,
    exclude_self: bool | ArrayLike = False,
    recall_at: Sequence[int] = (1,),
    block_size: int | None = None,
    dtype: Any = jnp.float32,
    variant: str = "paper",
    mesh: Mesh | None = None,
    per_query: bool = False,
) -> dict[str, Any]:
    """Retrieval by cosine similarity, an item being relevant when it has the query's label.

    Args:
      query: features `[q, d]`, any scale; a row of zeros has cosine 0 with everything.
      gallery: features `[g, d]`. A large one of float16 or bfloat16 is used as it is, in blocks; passed as a
        `jax.Array`, or memory-mapped, it is not copied.
      query_labels, gallery_labels: `[q]` and `[g]`, integers or strings.
      relevant: instead of labels, bool `[q, g]` or one list of gallery positions per query.
      ignore: items that are junk for a query, in the same two forms: they leave its gallery, relevant or not.
      exclude_self: whether query i is gallery item i and leaves its own gallery; needs q = g. Where only some
        gallery items are queries, the position of each query in the gallery instead, integers `[q]`; where a
        query may be there several times or not at all, `[q, m]`, filled up with -1.
      recall_at: depths k, 1 to g, for which `recall_at_k` is returned.
      block_size: queries scored at a time, by default what fits a few MiB; the numbers do not depend on it.
      dtype: float32, or bfloat16, to which unit vectors are then rounded before the product.
      variant: "paper", or "reference" for what the published code computes, which differs in two ways: it
        takes R before the query is removed from the gallery, so with `exclude_self` its mAP@R sums over the
        first R + 1 items and divides by R; and queries without positives count as 0 instead of being left
        out.
      mesh: devices whose axis `data` the gallery is divided over; the numbers do not depend on it.
      per_query: whether what each query found is returned, too.

    Returns:
      Percent, means over the queries that have a positive, as `mAP`; `mAP_at_R` and `precision_at_R`, with R
      the number of the query's positives once itself is removed; `recall_at_k`, the share of queries with a
      positive among the first k items. And the count `queries_without_positives`. Among equal scores
      irrelevant items come first (`jaxalign.ranking.rank_order`).

      With `per_query` also a mapping of that name, out of the same ranking: float32 `[q]` in percent under
      the names of the means, NaN for a query without positives; `positives`, int `[q]`, how many each has;
      and `first_results`, int32 `[q, min(10, g)]`, the gallery positions of each query's first items, the
      earlier one first among items that are alike in score and relevance, -1 past the last.

      Under `jit` and `vmap`, of features and tables but not of labels, the values are arrays, NaN where
      features are not finite or no query has a positive.

    Raises:
      JaxalignError: shapes, widths or lengths that do not fit, empty, NaN or infinite features, labels of
        different kinds, positions or depths out of range, no query with a positive, or the variant
        "reference" where some queries are in the gallery and others are not.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> found = ja.retrieval_metrics(features, features, [0, 0, 1, 1], [0, 0, 1, 1], exclude_self=True)
      >>> found["mAP"], found["recall_at_1"]
      (100.0, 100.0)
    """
    if variant not in _VARIANTS:
        raise unknown_name("variant", variant, _VARIANTS)
    query, gallery = check_pair(query, gallery, streamed=True, mesh=mesh)
    given = {"query_labels": query_labels, "gallery_labels": gallery_labels, "relevant": relevant}
    names = [name for name, value in given.items() if value is not None]
    if names not in (["query_labels", "gallery_labels"], ["relevant"]):
        raise JaxalignError(
            f"got {' and '.join(names) or 'no labels'};"
            " expected query_labels and gallery_labels, or relevant alone"
        )
    if relevant is None:
        relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, exclude_self, ignore)
    else:
        relevance = relevance_from_table(query, gallery, relevant, exclude_self, ignore)
    reference = variant == "reference"
    ranks = rank_statistics(
        query,
        gallery,
        relevance,
        depths=recall_at,
        extra_depth=_extra_depth(relevance) if reference else 0,
        first=min(FIRST, gallery.shape[0]) if per_query else 0,
        block_size=block_size,
        dtype=dtype,
        mesh=mesh,
    )
    means = {
        "mAP": ranks.average_precision,
        "mAP_at_R": ranks.map_at_r,
        "precision_at_R": ranks.precision_at_r,
        **{f"recall_at_{k}": ranks.hits[:, i] > 0 for i, k in enumerate(recall_at)},
    }
    without = (ranks.positives == 0).sum()
    metrics = {
        **{name: mean_percent(ranks, values, reference) for name, values in means.items()},
        "queries_without_positives": without if isinstance(without, Tracer) else int(without),
    }
    return metrics | {"per_query": _each_percent(ranks, means)} if per_query else metrics


def _each_percent(ranks: RankStatistics, values: Mapping[str, Any]) -> dict[str, Any]:
    xp = jnp if isinstance(ranks.positives, Tracer) else np
    some, nan = ranks.positives > 0, xp.float32(np.nan)
    found = {name: 100 * xp.where(some, xp.asarray(of, xp.float32), nan) for name, of in values.items()}
    return found | {"positives": xp.asarray(ranks.positives), "first_results": xp.asarray(ranks.first)}


def _extra_depth(relevance: Relevance) -> int:
    """By how much the mAP@R of the published code goes beyond R: by one where the queries leave the gallery.

    Raises:
      JaxalignError: some leave it and others are not in it, which that code does not know.
    """
    itself = relevance.self_index
    if itself is None or isinstance(itself, Tracer):
        return int(itself is not None)
    inside = int((itself >= 0).sum())
    if 0 < inside < len(itself):
        raise JaxalignError(
            f"{inside} of {len(itself)} queries are in the gallery; expected all or none of them with the"
            " variant 'reference', whose mAP@R is not defined otherwise: take the variant 'paper'"
        )
    return int(inside > 0)


def text_retrieval_metrics(
    captions: ArrayLike, images: Any, *, variant: str = "paper", **options: Any
) -> dict[str, Any]:
    """Text-to-text retrieval of IsoCLIP (table 2): find the other captions of the same image.

    The first caption of each image is a query; the gallery is all captions, and the query leaves it.

    Args:
      captions: text features `[n, d]`.
      images: which image each caption describes, `[n]`, integers or strings; captions of one image need
        not be neighbours, the first is the one that comes first.
      variant: "paper", or "reference" for the published code, whose gallery has no image's first caption:
        no query is in it, not even another one's, and its mAP@R has no R + 1. Images with a single caption
        count as 0 there.
      **options: `recall_at`, `block_size`, `dtype`, `mesh` and `per_query` of `retrieval_metrics`.

    Returns:
      As `retrieval_metrics`. An image with a single caption is a query without positives.

    Raises:
      JaxalignError: as `retrieval_metrics`.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> captions = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.text_retrieval_metrics(captions, [0, 0, 1, 1])["mAP"]
      100.0
    """
    captions = as_features("captions", captions)
    # The check of the labels, and their codes, before anything is taken from them.
    codes = relevance_from_labels(captions, captions, images, images, False).gallery_codes
    first = np.sort(np.unique(codes, return_index=True)[1])
    query, own = captions[first], codes[first]
    if variant == "reference":
        others = other_captions(len(codes), first)
        return retrieval_metrics(query, captions[others], own, codes[others], variant=variant, **options)
    return retrieval_metrics(query, captions, own, codes, exclude_self=first, variant=variant, **options)


def other_captions(count: int, first: np.ndarray) -> np.ndarray:
    """Positions of all of `count` captions but the first ones, int `[count - q]`: the published gallery.

    Raises JaxalignError where there are none.
    """
    others = np.delete(np.arange(count), first)
    if not others.size:
        raise JaxalignError(f"each of the {count} captions is the first of its image; expected others, too")
    return others


def average_precision(
    query: ArrayLike,
    gallery: ArrayLike,
    relevant: Any,
    *,
    ignore: Any = None,
    exclude_self: bool | ArrayLike = False,
    block_size: int | None = None,
    dtype: Any = jnp.float32,
    mesh: Mesh | None = None,
) -> jax.Array:
    """Average precision of each query, float32 `[q]` in [0, 1]: the mean of the precision at its positives.

    Args:
      query: features `[q, d]`.
      gallery: features `[g, d]`.
      relevant: the positives, bool `[q, g]` or one list of gallery positions per query.
      ignore: items that are junk for a query, in the same two forms: they leave its gallery, relevant or not.
      exclude_self, block_size, dtype, mesh: as in `retrieval_metrics`.

    Returns:
      NaN for a query without positives. Works under `jit` and `vmap`, where features that are not finite
      give NaN.

    Raises:
      JaxalignError: as `retrieval_metrics`, or tables that are not bool `[q, g]`.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> query, gallery = np.eye(2), np.array([[1, 0.1], [0.5, 0.5], [0.1, 1]])
      >>> relevant = [[0, 2], [2]]  # gallery positions
      >>> np.round(ja.average_precision(query, gallery, relevant), 1)
      Array([0.8, 1. ], dtype=float32)
    """
    query, gallery = check_pair(query, gallery, streamed=True, mesh=mesh)
    relevance = relevance_from_table(query, gallery, relevant, exclude_self, ignore)
    ranks = rank_statistics(query, gallery, relevance, block_size=block_size, dtype=dtype, mesh=mesh)
    return jnp.asarray(ranks.average_precision, jnp.float32)


def check_pair(
    query: ArrayLike,
    gallery: ArrayLike,
    *,
    streamed: bool = False,
    keep_lengths: bool = False,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Both as `as_features` matrices of one width, or a JaxalignError; a large gallery may be `streamed`.

    With a mesh they are `host_features`, in which all that is asked of them here is the same.
    """
    same = query is gallery
    check = partial(as_features, keep_lengths=keep_lengths) if mesh is None else host_features
    queries = check("query", query)
    items = queries if same else check("gallery", gallery, streamed=streamed)
    if queries.shape[1] != items.shape[1]:
        raise JaxalignError(
            f"query features are {queries.shape[1]} wide, gallery features {items.shape[1]};"
            " expected features of one model, projected or not"
        )
    return queries, items


def mean_percent(ranks: RankStatistics, values: Any, count_empty: bool = False) -> Any:
    """100 times the mean over the queries that have positives; with `count_empty`, the others count as 0."""
    if isinstance(ranks.positives, Tracer):
        some = ranks.positives > 0
        counted = jnp.float32(some.size) if count_empty else some.sum(dtype=jnp.float32)
        count = jnp.where(some.any(), counted, jnp.nan)
        return 100 * jnp.where(some, jnp.asarray(values, jnp.float32), 0).sum() / count
    some = np.asarray(ranks.positives) > 0
    if not some.any():
        raise JaxalignError(
            f"none of the {some.size} queries has a positive in the gallery;"
            " check that query and gallery labels name the same classes"
        )
    total = np.asarray(values, np.float64)[some].sum()
    return float(100 * total / (some.size if count_empty else some.sum()))
