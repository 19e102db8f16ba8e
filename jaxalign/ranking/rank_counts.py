"""The ranking of a gallery that is divided over devices: counts are summed, scores never leave their device.

The rank of a query's nth positive is n plus the number of irrelevant items that score at least as high, which
is the tie rule of `jaxalign.ranking.rank_order`. Each device counts among its own part of the gallery, and
integers are exact, so the statistics are those of the whole gallery sorted on one device.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxalign.features import normalize
from jaxalign.ranking.rank_order import RankStatistics, first_keys, order_keys, statistics_of_ranks
from jaxalign.ranking.relevance import Positions, Relevance
from jaxalign.ranking.scores import TILE, one_ahead, product, streamed_product
from jaxalign.sharding import AXIS, copy_to_all, divide_rows, fetch

_SCORES = {"cpu": 1 << 22}  # on each device at a time: 16 MiB
_SCORES_ELSEWHERE = 1 << 26
_MOST_COMPARED = 1024  # positives of a query; beyond, a binary search in sorted scores is cheaper
_NARROWEST = 8  # lists are as wide as the next power of four from here on, so that few widths are compiled


class _Lists(NamedTuple):
    """Gallery positions for each query of a block, int32 `[b, p]` and `[b, m]`, filled up with -1."""

    relevant: Any
    ignored: Any


def statistics_over_mesh(
    query: np.ndarray,
    gallery: np.ndarray,
    relevances: Sequence[Relevance],
    mesh: Mesh,
    options: tuple[Any, ...],
    block_size: int | None,
    dtype: Any,
) -> list[RankStatistics]:
    """`rank_statistics_of_each` for features on the host, `[q, d]` and `[g, d]`, of any scale; in float64."""
    items = gallery.shape[0]
    each = -(-items // (TILE * mesh.shape[AXIS])) * TILE  # scores are then those of one device to the bit
    divided = divide_rows(gallery, mesh, each=each)
    if divided.dtype == jnp.float32:  # one of 16 bits is streamed
        divided = normalize(divided)
    lists = [Positions(relevance, items) for relevance in relevances]
    query = np.asarray(normalize(jnp.asarray(query, jnp.float32)))
    size = _block_size(block_size, query.shape[0], each, mesh)
    # Queries with as many positives together, so that the lists of a block are as short as can be.
    order = np.argsort(sum(of.sizes for of in lists), kind="stable")
    ranks: list[list[np.ndarray]] = [[] for _ in relevances]
    first: list[list[np.ndarray]] = [[] for _ in relevances]
    blocks = _dispatch(query, divided, lists, order, size, mesh, items, dtype, options[-1])
    for numbers, found in one_ahead(blocks):
        for of, nearest, number, (counts, places) in zip(ranks, first, numbers, found, strict=True):
            of += _ranks(fetch(counts), number)
            nearest.append(fetch(places)[: len(number)])
    return [_statistics(*of, order, options) for of in zip(ranks, first, strict=True)]


def _block_size(block_size: int | None, queries: int, items: int, mesh: Mesh) -> int:
    """Queries scored at a time against `items` of each device; never one alone: it is rounded otherwise."""
    most = _SCORES.get(mesh.devices.flat[0].platform, _SCORES_ELSEWHERE)
    size = block_size or max(most // items, 1)
    blocks = -(-queries // size)
    return max(-(-queries // blocks), 2)


def _dispatch(
    query: np.ndarray,
    gallery: jax.Array,
    lists: Sequence[Positions],
    order: np.ndarray,
    size: int,
    mesh: Mesh,
    items: int,
    dtype: Any,
    first: int,
) -> Iterator[tuple[list[list[int]], list[tuple[jax.Array, jax.Array]]]]:
    """For each block and each relevance: how many positives its queries have, and what `_count` gives, under
    way."""
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        padded = np.pad(rows, (0, size - len(rows)), mode="edge")  # one shape for all blocks
        block = [[of.of(row) for row in padded] for of in lists]
        tables = [_Lists(*map(_table, zip(*pairs, strict=True))) for pairs in block]
        numbers = [[len(relevant) for relevant, _ in pairs[: len(rows)]] for pairs in block]
        given = copy_to_all((query[padded], tables, np.int32(items)), mesh)
        yield numbers, _count(*given, gallery, mesh=mesh, dtype=dtype, first=first)


def _table(rows: Sequence[np.ndarray]) -> np.ndarray:
    longest = max(map(len, rows))
    width = _NARROWEST
    while width < longest:
        width *= 4
    table = np.full((len(rows), width if longest else 0), -1, np.int32)
    for i, row in enumerate(rows):
        table[i, : len(row)] = row
    return table


@partial(jax.jit, static_argnames=("mesh", "dtype", "first"))
def _count(
    query: jax.Array,
    lists: list[_Lists],
    items: jax.Array,
    gallery: jax.Array,
    *,
    mesh: Mesh,
    dtype: Any,
    first: int = 0,
) -> list[tuple[jax.Array, jax.Array]]:
    """For each positive of each query, how many irrelevant items score at least as high, int32 `[b, p]`; and
    the positions of the `first` items, int32 `[b, first]`."""
    whole, divided = PartitionSpec(), PartitionSpec(AXIS)
    count = jax.shard_map(
        partial(_count_own, dtype=dtype, nearest=first),
        mesh=mesh,
        in_specs=(whole, whole, whole, divided),
        out_specs=whole,
        check_vma=False,
    )
    return count(query, lists, items, gallery)


def _count_own(
    query: jax.Array, lists: list[_Lists], items: jax.Array, gallery: jax.Array, *, dtype: Any, nearest: int
) -> list[tuple[jax.Array, jax.Array]]:
    """The same on one device, whose part of the gallery is `[n, d]`."""
    own = gallery.shape[0]
    first = jax.lax.axis_index(AXIS) * own
    if gallery.dtype == jnp.float32:
        scores = product(query, gallery, dtype)
    else:
        scores = streamed_product(query, gallery, dtype)[0]
    scores = jnp.where(first + jnp.arange(own) < items, scores, jnp.nan)  # NaN is at least nothing
    found = []
    for of in lists:
        here, at = _local(of.relevant, first, own)
        level = jnp.where(here, jnp.take_along_axis(scores, at, axis=1), 0)
        level = jax.lax.psum(level, AXIS)
        others = scores
        for positions in of:
            others = _without(others, positions, first)
        places = _nearest(scores, of, first, nearest)
        found.append((jax.lax.psum(_at_least(others, level), AXIS), places))
    return found


def _nearest(scores: jax.Array, of: _Lists, first: jax.Array, count: int) -> jax.Array:
    """Positions int32 `[b, count]` of the first items of the whole gallery, -1 past its end."""
    if not count:
        return jnp.zeros((len(scores), 0), jnp.int32)
    relevant, ignored = (jnp.isnan(_without(jnp.zeros_like(scores), rows, first)) for rows in of)
    keys = order_keys(scores, relevant, ignored | jnp.isnan(scores))
    own, place = first_keys(keys, min(count, scores.shape[1]))
    # The parts lie one after the other, so that of equal keys the earlier ones stay in front.
    keys, place = (jax.lax.all_gather(x, AXIS, axis=1, tiled=True) for x in (own, first + place))
    at = first_keys(keys, count)[1]
    return jnp.where(at < 0, -1, jnp.take_along_axis(place, jnp.maximum(at, 0), axis=1))


def _local(positions: jax.Array, first: jax.Array, own: int) -> tuple[jax.Array, jax.Array]:
    """Which of the gallery's `positions` are on this device, and where (anywhere for those that are not)."""
    at = positions - first
    here = (positions >= 0) & (at >= 0) & (at < own)
    return here, jnp.clip(at, 0, own - 1)


def _without(scores: jax.Array, positions: jax.Array, first: jax.Array) -> jax.Array:
    """`scores [b, n]` with NaN at `positions [b, m]`."""
    here, at = _local(positions, first, scores.shape[1])
    rows = jnp.arange(scores.shape[0])[:, None]
    return scores.at[rows, jnp.where(here, at, scores.shape[1])].set(jnp.nan, mode="drop")


def _at_least(scores: jax.Array, level: jax.Array) -> jax.Array:
    """int32 `[b, p]`: how many of `scores [b, n]` are `level [b, p]` or more."""
    if level.shape[1] <= _MOST_COMPARED:
        return jnp.sum(scores[:, None, :] >= level[:, :, None], axis=2, dtype=jnp.int32)
    ascending = jnp.sort(scores, axis=1)  # NaN comes last
    numbers = jnp.sum(~jnp.isnan(scores), axis=1, dtype=jnp.int32)
    below = jax.vmap(jnp.searchsorted)(ascending, level)
    return numbers[:, None] - below.astype(jnp.int32)


def _ranks(counts: np.ndarray, numbers: list[int]) -> Iterator[np.ndarray]:
    """The ranks of each query's positives, ascending; of a row of `counts` the first `numbers` count."""
    for number, row in zip(numbers, counts[: len(numbers)], strict=True):
        # A positive that scores higher has fewer irrelevant items before it.
        yield np.sort(row[:number]).astype(np.int64) + np.arange(1, number + 1)


def _statistics(
    ranks: list[np.ndarray], first: list[np.ndarray], order: np.ndarray, options: tuple[Any, ...]
) -> RankStatistics:
    """Of all queries in their own order; those of `ranks` and `first` come in `order`."""
    counts, nearest = np.array([len(of) for of in ranks]), np.concatenate(first)
    found = statistics_of_ranks(np.concatenate(ranks), counts, nearest, *options[:-1])
    back = np.argsort(order, kind="stable")
    return RankStatistics(*(field[back] for field in found))
