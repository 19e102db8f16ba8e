"""Scores of some queries with a whole gallery, also one that is too large to be scaled to length one."""

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxalign.features import direction_and_length

_CHUNK = 2048  # rows of a streamed gallery at a time: 4 MiB of float32 at d = 512
TILE = 64  # rows of a gallery: XLA's kernels for CPUs sum a score alike in every product of whole tiles


def whole_tiles(gallery: jax.Array) -> jax.Array:
    """`[g, d]` with rows of zeros after its own, so that scores depend neither on g nor on their place."""
    missing = -gallery.shape[0] % TILE
    return jnp.pad(gallery, ((0, missing), (0, 0))) if missing else gallery


def product(rows: jax.Array, gallery: jax.Array, dtype: Any) -> jax.Array:
    """Scores float32 `[b, g]` of unit vectors `[b, d]` and `[g, d]`, rounded to `dtype` before.

    They are the same to the bit whatever the block and the gallery, if there are two rows or more.
    """
    items = gallery.shape[0]
    rows, gallery = rows.astype(dtype), whole_tiles(gallery).astype(dtype)
    highest = jax.lax.Precision.HIGHEST
    return jnp.matmul(rows, gallery.T, precision=highest, preferred_element_type=jnp.float32)[:, :items]


def streamed_product(rows: jax.Array, gallery: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """Scores `[b, g]` with a gallery of any scale, and which of its rows are finite, bool `[g]`."""
    items = gallery.shape[0]
    chunk = min(_CHUNK, items)

    def fill(i: jax.Array, filled: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # The last chunk reaches back: all have one shape, so that equal vectors get equal scores.
        start = jnp.minimum(i * chunk, items - chunk)
        x = jax.lax.dynamic_slice_in_dim(gallery, start, chunk)
        x, length, finite = direction_and_length(x)
        scores = product(rows, x, dtype) / length[None, :]
        return (
            jax.lax.dynamic_update_slice_in_dim(filled[0], scores, start, axis=1),
            jax.lax.dynamic_update_slice_in_dim(filled[1], finite, start, axis=0),
        )

    empty = jnp.zeros((rows.shape[0], items), jnp.float32), jnp.zeros(items, bool)
    return jax.lax.fori_loop(0, -(-items // chunk), fill, empty)


def one_ahead(blocks: Iterable[Any]) -> Iterator[Any]:
    """The same blocks, the next one already under way: XLA returns before its result is there."""
    blocks = iter(blocks)
    current = next(blocks)
    for following in blocks:
        yield current
        current = following
    yield current
