"""The order of a ranking as one int32 per item, and every statistic of the sorted row.

A query orders its gallery by score, highest first. Among equal scores the irrelevant items come first: the
only rule that depends neither on the order of the gallery nor on the sorting algorithm, and that never
flatters a model whose features collapse. This is the tie rule of every number here; where the items
themselves are asked for, the earlier ones of the gallery come first among those that are alike in both.

Below 2 in magnitude, as cosines are, a float32 uses 31 of its 32 bits, and read as an integer it sorts as
the number does. The bit that is left holds the relevance, so that one sort of plain integers gives score and
ties exactly. That is the fastest kind of sort everywhere: vectorised in NumPy (about 2.5 ns an item on a
CPU with AVX-512; 5 ns for int64, 180 ns for XLA's own sort), radix sort on a GPU.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_IGNORED = np.int32(np.iinfo(np.int32).max - 1)  # after every other key, and even: not relevant


class RankStatistics(NamedTuple):
    """One value per query, `[q]` each; NaN where a query has no positive, but for the integers."""

    positives: Any  # R, how many relevant items the query's own gallery holds, int
    average_precision: Any  # mean over the positives of the precision at their rank
    map_at_r: Any  # the same sum over the first R items only, over R
    precision_at_r: Any  # positives among the first R items, over R
    hits: Any  # int [q, k]: positives among the first `depths[k]` items
    last_rank: Any  # rank of the last positive, 1 for the first item; 0 without positives, int
    first: Any  # int [q, m]: gallery positions of the first m items; -1 past the end of the query's gallery


def order_keys(scores: jax.Array, relevant: jax.Array, ignored: jax.Array | None) -> jax.Array:
    """int32 keys whose ascending order is the ranking; the lowest bit says which items are positives.

    `scores` are float32 and below 2 in magnitude; `relevant` and `ignored`, of their shape, are bool. -0.0
    and 0.0 tie. Ignored items come last and are not relevant.
    """
    bits = jax.lax.bitcast_convert_type(scores, jnp.int32)
    descending = jnp.where(bits < 0, bits & np.int32(0x7FFFFFFF), -bits)
    keys = (descending << 1) | relevant.astype(jnp.int32)
    return keys if ignored is None else jnp.where(ignored, _IGNORED, keys)


def statistics_by_numpy(
    keys: np.ndarray, depths: tuple[int, ...], extra_depth: int, trapezoidal: bool, first: int = 0
) -> RankStatistics:
    """Of keys `[q, g]`, in float64. Only the positives are looked at once they are found."""
    nearest = _first_by_numpy(keys, first)
    keys = np.sort(keys, axis=1)  # lets go of the interpreter lock
    queries, items = keys.shape
    found = np.flatnonzero((keys & 1).astype(bool))  # three times as fast as from integers
    end = np.searchsorted(found, np.arange(1, queries + 1) * items)
    count = np.diff(end, prepend=0)
    rank = found - np.repeat(np.arange(queries), count) * items + 1
    return statistics_of_ranks(rank, count, nearest, depths, extra_depth, trapezoidal)


def _first_by_numpy(keys: np.ndarray, first: int) -> np.ndarray:
    if not first:
        return np.zeros((len(keys), 0), np.int32)
    placed = (keys.astype(np.int64) << 32) | np.arange(keys.shape[1])
    nearest = np.sort(np.partition(placed, first - 1, axis=1)[:, :first], axis=1)
    return np.where(nearest >> 32 == _IGNORED, -1, nearest & 0xFFFFFFFF).astype(np.int32)


def statistics_of_ranks(
    rank: np.ndarray,
    count: np.ndarray,
    first: np.ndarray,
    depths: tuple[int, ...],
    extra_depth: int,
    trapezoidal: bool,
) -> RankStatistics:
    """Of the ranks of all positives, ascending for each query and one query after the other, in float64.

    `count` int `[q]` says how many belong to each query; `first` is what the statistics have under that name.
    """
    queries, end = len(count), np.cumsum(count)
    some = count > 0
    nth = np.arange(1, rank.size + 1) - np.repeat(end - count, count)
    precision = nth / rank
    ends = (precision + _precision_before(nth, rank, np)) / 2 if trapezoidal else precision
    among = np.repeat(count, count)

    def mean(values: np.ndarray) -> np.ndarray:
        result = np.full(queries, np.nan)
        result[some] = np.add.reduceat(values, (end - count)[some]) / count[some] if rank.size else 0
        return result

    def hits(depth: int) -> np.ndarray:
        within = np.concatenate([[0], np.cumsum(rank <= depth)])
        return within[end] - within[end - count]

    last = np.zeros(queries, np.int64)
    last[some] = rank[end[some] - 1]
    return RankStatistics(
        positives=count,
        average_precision=mean(ends),
        map_at_r=mean(precision * (rank <= among + extra_depth)),
        precision_at_r=mean((rank <= among).astype(np.float64)),
        hits=np.stack([hits(depth) for depth in depths], axis=1),
        last_rank=last,
        first=first,
    )


def statistics_by_xla(
    keys: jax.Array, depths: tuple[int, ...], extra_depth: int, trapezoidal: bool, first: int = 0
) -> RankStatistics:
    """Of keys `[q, g]`, in float32: the same integers, and means that agree to 1e-6."""
    nearest = first_keys(keys, first)[1]
    hit = jax.lax.sort(keys, dimension=1) & 1
    rank = jnp.arange(1, hit.shape[1] + 1, dtype=jnp.int32)[None, :]
    nth = jnp.cumsum(hit, axis=1)
    count = nth[:, -1:]
    numbers, ranks = nth.astype(jnp.float32), rank.astype(jnp.float32)
    precision = jnp.where(hit == 1, numbers / ranks, 0)
    ends = precision
    if trapezoidal:
        ends = jnp.where(hit == 1, (precision + _precision_before(numbers, ranks, jnp)) / 2, 0)
    total = jnp.where(count == 0, jnp.nan, count.astype(jnp.float32))[:, 0]
    return RankStatistics(
        positives=count[:, 0],
        average_precision=ends.sum(axis=1) / total,
        map_at_r=jnp.where(rank <= count + extra_depth, precision, 0).sum(axis=1) / total,
        precision_at_r=jnp.where(rank <= count, hit, 0).sum(axis=1).astype(jnp.float32) / total,
        hits=jnp.stack([hit[:, :depth].sum(axis=1) for depth in depths], axis=1),
        last_rank=jnp.max(hit * rank, axis=1),
        first=nearest,
    )


def first_keys(keys: jax.Array, first: int) -> tuple[jax.Array, jax.Array]:
    """The lowest keys `[q, first]`, and where these are, int32; -1 for ignored items."""
    # `top_k` keeps the order of equals, and the complement of an integer turns the order around.
    found, position = jax.lax.top_k(~keys, first)
    return ~found, jnp.where(found == ~_IGNORED, -1, position)


def _precision_before(nth: Any, rank: Any, xp: Any) -> Any:
    """Precision just above the nth positive, 1 at the top: the other end of revisitop's trapezoid."""
    return xp.where(rank == 1, 1, (nth - 1) / xp.maximum(rank - 1, 1))
