"""Cosine ranking in blocks of queries: what every retrieval number is computed from.

The full similarity matrix is never formed, and a large gallery (`is_streamed`) is never copied: its vectors
are converted and scaled in chunks that stay in the cache, as their scores are computed. The keys of
`jaxalign.ranking.rank_order`, sorted, then hold the ranking. On a CPU concrete arrays are sorted by NumPy, on
threads, while XLA computes the scores of the next block; everything else (traced, or on an accelerator) is
sorted by XLA.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.arguments import read_dtype
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import check_finite, is_count, is_streamed, normalize
from jaxalign.ranking.rank_counts import statistics_over_mesh
from jaxalign.ranking.rank_order import RankStatistics, order_keys, statistics_by_numpy, statistics_by_xla
from jaxalign.ranking.relevance import Relevance
from jaxalign.ranking.scores import one_ahead, product, streamed_product, whole_tiles
from jaxalign.sharding import check_mesh

_KEYS_PER_BLOCK = 1 << 22  # 16 MiB, so that a block's keys are still in the cache when they are sorted
_ROWS_PER_BLOCK = 128  # of a gallery too large for that, unless they exceed
_MOST_KEYS = 1 << 27  # 512 MiB
_KEYS_PER_TASK = 1 << 18  # sorted by one thread at a time
_SORTS = ("numpy", "xla")


def rank_statistics(
    query: jax.Array,
    gallery: jax.Array,
    relevance: Relevance,
    *,
    depths: Sequence[int] = (1,),
    extra_depth: int = 0,
    trapezoidal: bool = False,
    first: int = 0,
    block_size: int | None = None,
    dtype: Any = jnp.float32,
    sort: str | None = None,
    mesh: Mesh | None = None,
) -> RankStatistics:
    """Per-query statistics of the cosine ranking of features `[q, d]` against `[g, d]`.

    Args:
      query, gallery: as `as_features(..., streamed=True)` gives them, any scale.
      relevance: positives and what is ignored.
      depths: where `hits` are counted, 1 to g each.
      extra_depth: `map_at_r` sums over the first R + `extra_depth` items.
      trapezoidal: whether `average_precision` takes the mean of the precisions at and just above each
        positive, as revisitop does.
      first: how many of each query's first items are named, 0 to g.
      block_size: queries scored at a time.
      dtype: float32, or bfloat16: what unit vectors are rounded to before their products are summed in
        float32.
      sort: "numpy" or "xla", by default the faster of those that can be used. They agree exactly on the
        ranking; NumPy gives float64 statistics, XLA float32.
      mesh: devices over which the gallery is divided; concrete features, taken from the host, and float64
        statistics.

    Under `jit` and `vmap`, features with NaN or infinite values give NaN; concrete ones are an error.
    """
    return rank_statistics_of_each(
        query,
        gallery,
        [relevance],
        depths=depths,
        extra_depth=extra_depth,
        trapezoidal=trapezoidal,
        first=first,
        block_size=block_size,
        dtype=dtype,
        sort=sort,
        mesh=mesh,
    )[0]


def rank_statistics_of_each(
    query: jax.Array,
    gallery: jax.Array,
    relevances: Sequence[Relevance],
    *,
    depths: Sequence[int] = (1,),
    extra_depth: int = 0,
    trapezoidal: bool = False,
    first: int = 0,
    block_size: int | None = None,
    dtype: Any = jnp.float32,
    sort: str | None = None,
    mesh: Mesh | None = None,
) -> list[RankStatistics]:
    """`rank_statistics` for several relevances, from one pass over the scores."""
    depths = _check_depths(depths, gallery.shape[0])
    dtype = read_dtype("dtype", dtype, ("float32", "bfloat16"))
    if sort is not None and sort not in _SORTS:
        raise unknown_name("sort", sort, _SORTS)
    options = (depths, extra_depth, trapezoidal, first)
    size = _block_size(block_size, query.shape[0], gallery.shape[0] * len(relevances))
    if mesh is not None:
        host = np.asarray(query), np.asarray(gallery)
        mesh = check_mesh(mesh)
        return statistics_over_mesh(*host, relevances, mesh, options, block_size, dtype)
    items = gallery.shape[0]
    query = normalize(query.astype(jnp.float32))
    if not is_streamed(gallery):
        gallery = whole_tiles(normalize(gallery))  # once, and not for every block
    sort = sort or _fastest_sort(query, gallery, relevances)
    tables: list[Relevance] = jax.tree.map(jnp.asarray, list(relevances))
    run = _statistics_on_device if sort == "xla" else _statistics_on_host
    return run(query, gallery, tables, items, size, dtype, options)


def _check_depths(depths: Sequence[int], items: int) -> tuple[int, ...]:
    whole = all(isinstance(k, int | np.integer) and not isinstance(k, bool) for k in depths)
    if not whole or any(k < 1 or k > items for k in depths):
        raise JaxalignError(
            f"k is {', '.join(map(str, depths))}; expected integers from 1 to {items}, the gallery size"
        )
    return tuple(int(k) for k in depths)


def _block_size(block_size: int | None, queries: int, keys_per_query: int) -> int:
    """Queries in each of the equal blocks. Never one alone: XLA rounds a vector's product differently."""
    if block_size is None:
        streamed = min(_ROWS_PER_BLOCK, _MOST_KEYS // keys_per_query)
        block_size = max(_KEYS_PER_BLOCK // keys_per_query, streamed, 1)
    if not is_count(block_size):
        raise JaxalignError(f"block_size is {block_size}; expected a positive number of queries, or None")
    blocks = -(-queries // block_size)
    return max(-(-queries // blocks), 2)


def _fastest_sort(query: jax.Array, gallery: jax.Array, relevances: Sequence[Relevance]) -> str:
    if any(isinstance(x, Tracer) for x in (query, gallery, *jax.tree.leaves(relevances))):
        return "xla"
    return "numpy" if all(device.platform == "cpu" for device in query.devices()) else "xla"


@partial(jax.jit, static_argnames="size")
def cosine_rows(query: jax.Array, gallery: jax.Array, start: ArrayLike, *, size: int) -> jax.Array:
    """Scores `[size, g]` of normalised queries `start` to `start + size`, compiled once for every `start`."""
    rows = jax.lax.dynamic_slice_in_dim(query, start, size)
    return product(rows, gallery, jnp.dtype(jnp.float32))


def _block_keys(
    query: jax.Array,
    gallery: jax.Array,
    relevances: list[Relevance],
    start: ArrayLike,
    *,
    items: int,
    size: int,
    dtype: Any,
) -> tuple[list[jax.Array], jax.Array | None]:
    """Keys `[size, items]` of queries from `start`, one array per relevance; past the last, that one again.

    The gallery has `items` rows, then some that fill it up. And which of them are finite, bool `[items]`,
    where it is streamed.
    """
    index = jnp.minimum(start + jnp.arange(size, dtype=jnp.int32), query.shape[0] - 1)
    if is_streamed(gallery):
        scores, finite = streamed_product(query[index], gallery, dtype)
    else:
        scores, finite = product(query[index], gallery, dtype)[:, :items], None
    return [order_keys(scores, *relevance.rows(index, items)) for relevance in relevances], finite


_block_keys_on_host = jax.jit(_block_keys, static_argnames=("items", "size", "dtype"))


def _statistics_on_host(
    query: jax.Array,
    gallery: jax.Array,
    relevances: list[Relevance],
    items: int,
    size: int,
    dtype: Any,
    options: tuple[Any, ...],
) -> list[RankStatistics]:
    queries = query.shape[0]
    step = max(1, _KEYS_PER_TASK // items)

    def dispatch(start: int) -> tuple[int, list[jax.Array], jax.Array | None]:
        given = (query, gallery, relevances, start)
        return start, *_block_keys_on_host(*given, items=items, size=size, dtype=dtype)

    blocks: Iterable[Any] = map(dispatch, range(0, queries, size))
    if size * items * len(relevances) <= 4 * _KEYS_PER_BLOCK:
        blocks = one_ahead(blocks)

    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def ranked(block: tuple[int, list[jax.Array], jax.Array | None]) -> list[list[RankStatistics]]:
            start, keys_of_each, finite = block
            if finite is not None and start == 0:
                check_finite("gallery", np.asarray(finite))
            parts = []
            for keys in keys_of_each:
                rows = np.asarray(keys)[: queries - start]
                tasks = [rows[i : i + step] for i in range(0, len(rows), step)]
                parts.append(list(pool.map(lambda part: statistics_by_numpy(part, *options), tasks)))
            return parts

        # Nothing but `map` holds a block, so that one is gone before the next is computed.
        of_blocks = list(map(ranked, blocks))
    of_relevances = [list(chain.from_iterable(parts)) for parts in zip(*of_blocks, strict=True)]
    return [RankStatistics(*map(np.concatenate, zip(*parts, strict=True))) for parts in of_relevances]


@partial(jax.jit, static_argnames=("items", "size", "dtype", "options"))
def _statistics_on_device(
    query: jax.Array,
    gallery: jax.Array,
    relevances: list[Relevance],
    items: int,
    size: int,
    dtype: Any,
    options: tuple[Any, ...],
) -> list[RankStatistics]:
    queries = query.shape[0]

    def block(start: jax.Array) -> tuple[list[RankStatistics], jax.Array | None]:
        given = (query, gallery, relevances, start)
        keys_of_each, finite = _block_keys(*given, items=items, size=size, dtype=dtype)
        return [statistics_by_xla(keys, *options) for keys in keys_of_each], finite

    blocks, finite = jax.lax.map(block, jnp.arange(0, queries, size, dtype=jnp.int32))
    finite = jnp.isfinite(gallery).all() if finite is None else finite.all()
    sound = finite & jnp.isfinite(query).all(axis=1)

    def per_query(x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])[:queries]
        return jnp.where(sound, x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(per_query, blocks)
