"""All examples, batch by batch: sizes, starting points, devices, and what a finished batch is good for."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.sharding import Mesh

from jaxalign.brief import brief_repr
from jaxalign.sharding import AXIS, check_mesh, copy_to_all, divide_rows, gather

from .descent import Descent, Outcome, descend

_INITIAL_SCALE = 0.02  # standard deviation of the pseudo-tokens before the first step
_MOST = 256  # examples a batch: no gain beyond
_ROWS = {"cpu": 1 << 10}  # of a matrix product: more gain nothing; on accelerators they do up to:
_ROWS_ELSEWHERE = 1 << 16
_SHARE = 1 / 4  # of the memory, for what one batch keeps between forward and backward


@struct.dataclass
class Inversion:
    """n optimised inputs and the embeddings that they give.

    Attributes:
      tokens: pseudo-tokens or pseudo-patches float32 `[n, p, width]`.
      embeddings: of the prompts or images with them, float32 `[n, d]`, not normalised.
      losses: `1 - cosine` before each step, float32 `[n, steps]`; an example that has converged stays where
        it is.
      kept: for each step in `keep`, ascending, the embeddings `[n, d]` after that many steps.
      updates: steps that each example took, int32 `[n]`: fewer than `steps` only where it converged earlier.
    """

    __repr__ = brief_repr

    tokens: jax.Array
    embeddings: jax.Array
    losses: jax.Array
    kept: dict[int, jax.Array]
    updates: jax.Array


OnBatch = Callable[[np.ndarray, Inversion], None]


@struct.dataclass
class Examples:
    """What is to be inverted.

    Attributes:
      targets: `[n, d]`.
      indices: int32 `[n]`, the examples' numbers, which their starting points depend on.
      key: of the random starting points; None with `initial`.
      initial: `[n, p, D]`, the starting points; None for random ones.
    """

    targets: jax.Array
    indices: jax.Array
    key: jax.Array | None
    initial: jax.Array | None


def invert_all(
    path: Any,
    descent: Descent,
    params: Any,
    examples: Examples,
    batch_size: int | None,
    mesh: Mesh | None,
    on_batch: OnBatch | None,
) -> Inversion:
    """Optimise for all examples, in batches of one size; the last one is filled up with copies.

    `on_batch` gets the positions of a finished batch among the examples and its part of the result.
    """
    n = len(examples.targets)
    mesh = None if mesh is None else check_mesh(mesh)
    size = _size(path, n, batch_size, mesh)
    prepared = path.prepare(params)
    if mesh is not None:
        prepared = copy_to_all(prepared, mesh)
    parts = []
    for start in range(0, n, size):
        rows = np.arange(start, min(start + size, n))
        padded = jnp.asarray(np.minimum(np.arange(start, start + size), n - 1))
        tokens = _starting_points(examples, padded, path.shape)
        batch = (examples.targets[padded], tokens)
        if mesh is not None:
            batch = tuple(divide_rows(x, mesh) for x in batch)
        outcome = gather(descend(path, descent, prepared, *batch))
        parts.append(_inversion(outcome, descent, len(rows)))
        if on_batch is not None:
            on_batch(rows, jax.block_until_ready(parts[-1]))
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def _inversion(outcome: Outcome, descent: Descent, count: int) -> Inversion:
    """The first `count` examples of a batch."""
    kept = {step: z[:count] for step, z in zip(descent.keep, outcome.kept, strict=True)}
    tokens, embeddings, losses, _, updates = (x[:count] for x in outcome)
    return Inversion(tokens, embeddings, losses, kept, updates)


def _starting_points(examples: Examples, rows: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Float32 [b, p, D]: the given ones, or N(0, 0.02^2) of each example's own key."""
    if examples.initial is not None:
        return examples.initial[rows]
    return _random_tokens(examples.key, examples.indices[rows], shape)


@partial(jax.jit, static_argnums=2)
def _random_tokens(key: Any, indices: jax.Array, shape: tuple[int, int]) -> jax.Array:
    draw = lambda i: _INITIAL_SCALE * jax.random.normal(jax.random.fold_in(key, i), shape)
    return jax.vmap(draw)(indices)


def _size(path: Any, n: int, batch_size: int | None, mesh: Mesh | None) -> int:
    """Examples of a batch: those that were asked for, or what keeps the devices busy and fits their memory,
    in equal batches; a multiple of the devices that share it."""
    devices = 1 if mesh is None else mesh.shape[AXIS]
    size = batch_size
    if size is None:
        rows = _ROWS.get(jax.default_backend(), _ROWS_ELSEWHERE)
        most = min(max(rows // path.live, 1), _MOST, max(int(_memory() * _SHARE) // (4 * path.floats), 1))
        batches = -(-n // (most * devices))
        size = -(-n // batches)
    return -(-min(size, n) // devices) * devices


def _memory() -> int:
    """Bytes of a device's memory; of the machine's, where devices have none of their own."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"]
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" in names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 4 << 30  # Windows: nothing in the standard library says


def is_concrete(x: Any) -> bool:
    """Whether values can be looked at: not while a function is traced."""
    return not isinstance(x, Tracer)
