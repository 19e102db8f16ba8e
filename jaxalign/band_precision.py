"""Average precision of every query in every band of a grid, in one compiled program.

Neighbouring bands share most of their directions, so a band is reached from a narrower one. With coordinates
C, directions H and embeddings E = C_band H, the directions D that widen a band change the scores by a product
of low rank,

    E' G'^T - E G^T = (E' H_D^T) C^g_D^T + C^q_D (G H_D^T)^T,

where E, G are the embeddings of queries and gallery, E', G' the wider ones. Directions are only ever added:
scores are sums of growing length, never differences of nearly equal numbers.

Ranks come from counting instead of sorting. Average precision needs, for each positive, how many irrelevant
items score at least as high (`jaxalign.ranking.rank_order`): g p comparisons for g items and p positives,
which vectorise. Sorting the row is cheaper from about a hundred positives on. Over a mesh each device counts
among its own part of the gallery, and the counts are summed.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxalign.ranking.relevance import Relevance
from jaxalign.ranking.scores import TILE
from jaxalign.sharding import AXIS, copy_to_all, divide_rows, fetch

_SCORES_PER_BLOCK = 5 << 20  # 20 MiB of scores
_UNROLL = 32  # gallery rows compared in one go, so that thresholds and counts stay in registers
_LOW_RANK = 8  # a step of at most r / 8 directions is cheaper as an update than as a whole product


class Coordinates(NamedTuple):
    """Features by direction: a band's embedding is `offset + sum over the band of c_k directions_k`."""

    query: Any  # [q, r]
    gallery: Any  # [g, r]
    directions: Any  # [r, d]
    offset: Any  # [d]


class Positives(NamedTuple):
    """Where each query's positives are in the gallery, and where the query itself is."""

    index: Any  # int32 [q, p]; the first `count` of a row count, the rest is filling
    count: Any  # int32 [q]
    self_index: Any  # int32 [q]; -1 where the query does not leave the gallery


class _Band(NamedTuple):
    """Embeddings in one band, and their products."""

    query: Any  # [b, d]
    gallery: Any  # [g, d]
    scores: Any  # [g, b]


def list_positives(relevance: Relevance) -> Positives:
    """The positives of every query, from equal codes; the query itself is none."""
    codes, gallery = np.asarray(relevance.query_codes), np.asarray(relevance.gallery_codes)
    by_code = np.argsort(gallery, kind="stable")
    first, stop = (np.searchsorted(gallery[by_code], codes, side) for side in ("left", "right"))
    count = stop - first
    width = max(1, int(count.max()))
    index = by_code[np.minimum(first[:, None] + np.arange(width), len(gallery) - 1)]
    if relevance.self_index is None:
        return Positives(index.astype(np.int32), count.astype(np.int32), np.full(len(codes), -1, np.int32))
    itself = np.asarray(relevance.self_index)
    row, column = np.nonzero((index == itself[:, None]) & (np.arange(width) < count[:, None]))
    index[row, column] = index[row, count[row] - 1]  # the last positive takes the place of the query
    count[row] -= 1
    return Positives(index.astype(np.int32), count.astype(np.int32), itself.astype(np.int32))


def band_average_precision(
    coordinates: Coordinates,
    positives: Positives,
    k_top: np.ndarray,
    k_bottom: np.ndarray,
    block_size: int | None = None,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """float32 `[a, b, q]` over the bands `[k_top, r - k_bottom)`, for `k_top` int `[a]` and `k_bottom` `[b]`.

    NaN for queries without positives; of no meaning where a band is empty. `block_size` queries are scored at
    a time; the gallery is divided over the axis `data` of `mesh`.
    """
    (queries, r), items = coordinates.query.shape, coordinates.gallery.shape[0]
    order = np.argsort(-k_bottom, kind="stable")  # from narrow to wide
    stops = (r - k_bottom[order]).astype(np.int32)
    step = max(1, int(np.diff(stops).max(initial=0)))
    rank = min(r, -(-step // 8) * 8) if step * _LOW_RANK <= r else None
    size = -(-min(queries, block_size or max(_UNROLL, _SCORES_PER_BLOCK // items)) // TILE) * TILE
    if mesh is None:
        gallery = jnp.pad(coordinates.gallery, ((0, -items % _UNROLL), (0, 0)))
        sweep = partial(_sweep_block, items=items, rank=rank)
    else:
        each = -(-items // (mesh.shape[AXIS] * _UNROLL)) * _UNROLL
        gallery = divide_rows(coordinates.gallery, mesh, each=each)
        sweep = partial(_sweep_over_mesh, items=items, rank=rank, mesh=mesh)

    precision = np.empty((len(k_top), len(k_bottom), queries), np.float32)
    for start in range(0, queries, size):
        rows = np.minimum(np.arange(start, start + size), queries - 1)  # one shape, one compilation
        block = coordinates._replace(query=coordinates.query[rows], gallery=None)
        given = (block, Positives(*(field[rows] for field in positives)), k_top.astype(np.int32), stops)
        block, *given = given if mesh is None else copy_to_all(given, mesh)
        found = fetch(sweep(block._replace(gallery=gallery), *given))
        precision[:, order, start : start + size] = found[:, :, : queries - start]
    return precision


@partial(jax.jit, static_argnames=("items", "rank", "mesh"))
def _sweep_over_mesh(x: Coordinates, *given: Any, items: int, rank: int | None, mesh: Mesh) -> jax.Array:
    """`_sweep_block` with the rows of the gallery on several devices; everything else is whole on each."""
    whole, divided = PartitionSpec(), PartitionSpec(AXIS)
    specs = (Coordinates(whole, divided, whole, whole), *(whole,) * len(given))
    sweep = partial(_sweep_block, items=items, rank=rank, axis=AXIS)
    return jax.shard_map(sweep, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)(x, *given)


@partial(jax.jit, static_argnames=("items", "rank", "axis"))
def _sweep_block(
    x: Coordinates,
    positives: Positives,
    starts: jax.Array,
    stops: jax.Array,
    *,
    items: int,
    rank: int | None,
    axis: str | None = None,
) -> jax.Array:
    """`[a, b, queries]`, for `starts [a]` and ascending `stops [b]`; `items` of the gallery rows are real.

    With `axis`, that of a mesh, `x` has this device's part of the gallery.
    """

    def sweep_stops(_, start):
        def one_band(carry, stop):
            band, before = carry
            if rank is None:
                band = _whole_band(x, start, stop)
            else:
                band = _widen(band, x, jnp.maximum(before, start), stop, rank)
            return (band, stop), _average_precision(band, positives, items, axis)

        narrowest = _whole_band(x, start, stops[0])
        return None, jax.lax.scan(one_band, (narrowest, stops[0]), stops)[1]

    return jax.lax.scan(sweep_stops, None, starts)[1]


def _whole_band(x: Coordinates, start: Any, stop: Any) -> _Band:
    place = jnp.arange(x.directions.shape[0])
    inside = ((place >= start) & (place < stop)).astype(x.query.dtype)
    query = x.offset + _product(x.query * inside, x.directions)
    gallery = x.offset + _product(x.gallery * inside, x.directions)
    return _Band(query, gallery, _product(gallery, query.T))


def _widen(band: _Band, x: Coordinates, low: Any, high: Any, rank: int) -> _Band:
    """The band with the directions `[low, high)` added to it, at most `rank` of them."""
    at = jnp.clip(high - rank, 0, x.directions.shape[0] - rank)
    place = at + jnp.arange(rank)
    new = ((place >= low) & (place < high)).astype(x.query.dtype)
    cut = lambda a: jax.lax.dynamic_slice_in_dim(a, at, rank, axis=1) * new
    query, gallery, directions = cut(x.query), cut(x.gallery), cut(x.directions.T)  # [., rank]
    wider = band.query + _product(query, directions.T)
    left = jnp.concatenate([gallery, _product(band.gallery, directions)], axis=1)
    right = jnp.concatenate([_product(wider, directions), query], axis=1)
    return _Band(
        query=wider,
        gallery=band.gallery + _product(gallery, directions.T),
        scores=band.scores + _product(left, right.T),
    )


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _average_precision(band: _Band, positives: Positives, items: int, axis: str | None) -> jax.Array:
    """`[b]`. The gallery's lengths divide the scores here; those of the queries change no order."""
    own_rows = band.scores.shape[0]
    first = 0 if axis is None else own_rows * jax.lax.axis_index(axis)
    total = (lambda x: x) if axis is None else partial(jax.lax.psum, axis_name=axis)
    square = jnp.sum(jnp.square(band.gallery), axis=1)
    scale = jnp.where(square == 0, 0, jax.lax.rsqrt(jnp.where(square == 0, 1, square)))
    index, count = positives.index.T, positives.count  # [p, b], [b]
    nth = jnp.arange(index.shape[0])[:, None]
    is_positive = nth < count

    def score_of(at: jax.Array) -> jax.Array:
        if axis is None:
            return jnp.take_along_axis(band.scores, at, axis=0) * scale[at]
        here = (at >= first) & (at < first + own_rows)
        at = jnp.clip(at - first, 0, own_rows - 1)
        return total(jnp.where(here, jnp.take_along_axis(band.scores, at, axis=0) * scale[at], 0))

    level = jnp.where(is_positive, score_of(index), jnp.inf)
    itself = jnp.maximum(positives.self_index, 0)[None]
    own = jnp.where(positives.self_index < 0, -jnp.inf, score_of(itself))

    # NaN is at least nothing: the rows that only fill up the gallery are not counted.
    scale = jnp.where(first + jnp.arange(own_rows) < items, scale, jnp.nan)
    hits = jnp.where(is_positive, level, jnp.nan)
    at_least = lambda score, level, i: score >= level
    not_after = lambda score, level, i: (score > level) | ((score == level) & (i <= nth))
    of_all = total(_count(band.scores, level, at_least, scale))
    of_positives = _count(hits, level, at_least)
    place = _count(hits, level, not_after)  # among the positives, equal ones in the order of the gallery
    irrelevant = of_all - of_positives - (own >= level).astype(jnp.int32)
    precision = jnp.where(is_positive, place / (place + irrelevant), 0)
    return precision.sum(0) / jnp.where(count == 0, jnp.nan, count.astype(precision.dtype))


def _count(scores: jax.Array, level: jax.Array, counts: Any, scale: jax.Array | None = None) -> jax.Array:
    """int32 `[p, b]`: of the rows of `scores [n, b]` (times `scale [n]`), how many `counts` for `level`."""
    unroll = 8 if scale is None else _UNROLL  # the positives are few, and compiling takes time too
    missing = -scores.shape[0] % unroll
    if missing:
        scores = jnp.pad(scores, ((0, missing), (0, 0)), constant_values=jnp.nan)

    def body(i, total):
        rows = jax.lax.dynamic_slice_in_dim(scores, i * unroll, unroll)
        if scale is not None:
            rows = rows * jax.lax.dynamic_slice_in_dim(scale, i * unroll, unroll)[:, None]
            rows = jax.lax.optimization_barrier(rows)  # scaled once, and not again for every level
        for j in range(unroll):
            total += counts(rows[j], level, i * unroll + j).astype(jnp.int32)
        return total

    return jax.lax.fori_loop(0, scores.shape[0] // unroll, body, jnp.zeros(level.shape, jnp.int32))
