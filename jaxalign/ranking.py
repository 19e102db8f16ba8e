"""Cosine ranking in blocks of queries: what every retrieval number is computed from.

A query orders its gallery by score, highest first. Among equal scores the irrelevant items come first: the
only rule that depends neither on the order of the gallery nor on the sorting algorithm, and that never
flatters a model whose features collapse. Every statistic is then a prefix statistic of the relevance sequence
t_1, t_2, ...

The full similarity matrix is never formed. XLA sorts at about 190 ns an element on a CPU and NumPy at about
4, so concrete arrays on a CPU are sorted by NumPy, on threads, and everything else (traced, or on an
accelerator) by XLA.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError

_SCORES_PER_BLOCK = 1 << 22  # 16 MiB of scores a thread
_KEYS_PER_SORT = 1 << 15  # rows sorted together stay in the level-2 cache


class RankStatistics(NamedTuple):
    """One value per query, `[q]` each; NaN (but for `positives`) where a query has no positive."""

    positives: Any  # R, how many relevant items the query's own gallery holds
    average_precision: Any  # mean over the positives of the precision at their rank
    map_at_r: Any  # the same sum over the first R items only, over R
    precision_at_r: Any  # positives among the first R items, over R
    recall_at_1: Any  # 1 where the first item is a positive


class Relevance(NamedTuple):
    """Which items are a query's positives (by table or by codes) and which leave its gallery altogether."""

    table: Any = None  # bool [q, g], or None and then codes:
    query_codes: Any = None  # int [q]
    gallery_codes: Any = None  # int [g]
    ignored: Any = None  # bool [q, g] or None
    self_index: Any = None  # int [q]: the gallery position of the query itself, or None

    def rows(self, index: Any, gallery_size: int) -> tuple[Any, Any]:
        """`(relevant, ignored)`, bool `[b, g]`, of the queries at `index`; None when nothing is ignored."""
        if self.table is not None:
            relevant = self.table[index]
        else:
            relevant = self.query_codes[index][:, None] == self.gallery_codes
        ignored = None if self.ignored is None else self.ignored[index]
        if self.self_index is not None:
            is_self = self.self_index[index][:, None] == np.arange(gallery_size, dtype=np.int32)
            ignored = is_self if ignored is None else ignored | is_self
        return (relevant if ignored is None else relevant & ~ignored), ignored


def as_features(name: str, x: ArrayLike) -> jax.Array:
    """`x` as float32 `[n, d]`; raises unless it is 2-D, not empty and, where concrete, finite."""
    x = jnp.asarray(x)
    if x.ndim != 2:
        raise JaxalignError(f"{name} has shape {x.shape}; expected two axes, [n, d], one row per example")
    if 0 in x.shape:
        raise JaxalignError(f"{name} is empty, shape {x.shape}; expected at least one row and one column")
    x = x.astype(jnp.float32)
    if not isinstance(x, Tracer):
        bad = np.flatnonzero(~np.isfinite(np.asarray(x)).all(axis=1))
        if bad.size:
            raise JaxalignError(
                f"{name} has NaN or infinite values in {bad.size} of {x.shape[0]} rows"
                f" (first: {', '.join(map(str, bad[:5]))}); leave those examples out or compute them again"
            )
    return x


@jax.jit
def normalize(x: jax.Array) -> jax.Array:
    """Rows of `[..., d]` scaled to length one; a row of zeros stays zero: its cosine with anything is 0."""
    # The largest value is taken out first: float32 does not hold the square of 1e20 or of 1e-30.
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    x = x / jnp.where(largest == 0, 1, largest)
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(length == 0, 1, length)


def rank_statistics(
    query: jax.Array,
    gallery: jax.Array,
    relevance: Relevance,
    *,
    extra_depth: int = 0,
    block_size: int | None = None,
    sort: str | None = None,
) -> RankStatistics:
    """Per-query statistics of the cosine ranking of float32 features `[q, d]` against `[g, d]`.

    `map_at_r` sums over the first R + `extra_depth` items. `block_size` queries are scored at a time. `sort`
    is "numpy" or "xla", by default the faster of those that can be used. NumPy gives float64 statistics, XLA
    float32.
    """
    size = _block_size(block_size, query.shape[0], gallery.shape[0])
    query, gallery = normalize(query), normalize(gallery)
    if (sort or _fastest_sort(query, gallery, relevance)) == "xla":
        relevance = jax.tree.map(jnp.asarray, relevance)
        return _statistics_by_xla(query, gallery, relevance, extra_depth, size)
    return _statistics_by_numpy(query, gallery, jax.tree.map(np.asarray, relevance), extra_depth, size)


def _block_size(block_size: int | None, queries: int, items: int) -> int:
    if block_size is None:
        return min(queries, max(16, _SCORES_PER_BLOCK // items))
    if block_size < 1:
        raise JaxalignError(f"block_size is {block_size}; expected a positive number of queries, or None")
    return min(queries, block_size)


def _fastest_sort(query: jax.Array, gallery: jax.Array, relevance: Relevance) -> str:
    if any(isinstance(x, Tracer) for x in (query, gallery, *jax.tree.leaves(relevance))):
        return "xla"
    return "numpy" if all(device.platform == "cpu" for device in query.devices()) else "xla"


@partial(jax.jit, static_argnames="size")
def cosine_rows(query: jax.Array, gallery: jax.Array, start: ArrayLike, *, size: int) -> jax.Array:
    """Scores `[size, g]` of normalised queries `start` to `start + size`, compiled once for every `start`."""
    rows = jax.lax.dynamic_slice_in_dim(query, start, size)
    return jnp.matmul(rows, gallery.T, precision=jax.lax.Precision.HIGHEST)


def _statistics_by_numpy(
    query: jax.Array, gallery: jax.Array, relevance: Relevance, extra_depth: int, size: int
) -> RankStatistics:
    queries, items = query.shape[0], gallery.shape[0]
    step = max(1, _KEYS_PER_SORT // items)

    def block(start: int) -> list[RankStatistics]:
        first = min(start, queries - size)  # one shape, one compilation: the last block reaches back
        scores = np.asarray(cosine_rows(query, gallery, first, size=size))
        stop = min(start + size, queries)
        return [
            _rank_by_numpy(
                scores[row - first : min(row + step, stop) - first],
                *relevance.rows(slice(row, min(row + step, stop)), items),
                extra_depth,
            )
            for row in range(start, stop, step)
        ]

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # np.sort lets go of the interpreter lock
        parts = [part for parts in pool.map(block, range(0, queries, size)) for part in parts]
    return RankStatistics(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _rank_by_numpy(
    scores: np.ndarray, relevant: np.ndarray, ignored: np.ndarray | None, extra_depth: int
) -> RankStatistics:
    """One int64 key per item: score descending in the high bits, relevance in the lowest, for the ties."""
    bits = (scores + np.float32(0)).view(np.int32)  # -0.0 + 0.0 is +0.0: the two zeros tie
    ascending = bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))  # integers in the order of the floats
    keys = np.bitwise_not(ascending).astype(np.int64)
    keys <<= 1
    keys |= relevant
    if ignored is not None:
        np.copyto(keys, np.iinfo(np.int64).max - 1, where=ignored)  # last, and even: not relevant
    keys.sort(axis=1)

    queries, items = keys.shape
    found = np.flatnonzero(keys & 1)  # only the positives matter from here on
    row = found // items
    rank = found - row * items + 1
    count = np.bincount(row, minlength=queries)
    nth = np.arange(1, found.size + 1) - (np.cumsum(count) - count)[row]
    precision = nth / rank
    total = count.astype(np.float64)
    total[count == 0] = np.nan

    def over_total(weight: np.ndarray) -> np.ndarray:
        return np.bincount(row, weight, minlength=queries) / total

    return RankStatistics(
        positives=count,
        average_precision=over_total(precision),
        map_at_r=over_total(precision * (rank <= count[row] + extra_depth)),
        precision_at_r=over_total(rank <= count[row]),
        recall_at_1=np.where(count == 0, np.nan, keys[:, 0] & 1),
    )


@partial(jax.jit, static_argnames=("extra_depth", "size"))
def _statistics_by_xla(
    query: jax.Array, gallery: jax.Array, relevance: Relevance, extra_depth: int, size: int
) -> RankStatistics:
    queries, items = query.shape[0], gallery.shape[0]

    def block(start: jax.Array) -> RankStatistics:
        index = jnp.minimum(start + jnp.arange(size), queries - 1)  # the last block repeats the last query
        scores = jnp.matmul(query[index], gallery.T, precision=jax.lax.Precision.HIGHEST)
        return _rank_by_xla(scores, *relevance.rows(index, items), extra_depth)

    blocks = jax.lax.map(block, jnp.arange(0, queries, size))
    return jax.tree.map(lambda x: x.reshape(-1)[:queries], blocks)


def _rank_by_xla(
    scores: jax.Array, relevant: jax.Array, ignored: jax.Array | None, extra_depth: int
) -> RankStatistics:
    descending = -scores if ignored is None else jnp.where(ignored, jnp.inf, -scores)
    _, hit = jax.lax.sort((descending, relevant.astype(jnp.int32)), dimension=1, num_keys=2)
    rank = jnp.arange(1, hit.shape[1] + 1)
    nth = jnp.cumsum(hit, axis=1)
    count = nth[:, -1:]
    precision = hit * nth / rank
    total = jnp.where(count == 0, jnp.nan, count)[:, 0]
    return RankStatistics(
        positives=count[:, 0],
        average_precision=precision.sum(1) / total,
        map_at_r=jnp.where(rank <= count + extra_depth, precision, 0).sum(1) / total,
        precision_at_r=jnp.where(rank <= count, hit, 0).sum(1) / total,
        recall_at_1=jnp.where(count[:, 0] == 0, jnp.nan, hit[:, 0]),
    )
