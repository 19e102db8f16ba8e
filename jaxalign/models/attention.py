"""Attention with big_vision's parameter layout, a key/value cache and rotary positions.

Shapes: n examples, q queries, l tokens, D width, H heads, h = D / H.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .layers import LayerNorm
from .rope import RopeKind, Rotation, rotate

KeyValue = tuple[jax.Array, jax.Array]  # keys and values of one block, each [n, l, H, h]


class _HeadsKernel(nn.Module):
    """Holds one attention projection in big_vision's layout: kernel [D, H, h], bias [H, h]."""

    heads: int

    @nn.compact
    def __call__(self, width: int) -> tuple[jax.Array, jax.Array]:
        shape = (width, self.heads, width // self.heads)
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform", in_axis=0, out_axis=(1, 2))
        return self.param("kernel", init, shape), self.param("bias", nn.initializers.zeros_init(), shape[1:])


class MultiHeadDotProductAttention(nn.Module):
    """Scaled dot-product attention, with fewer queries than keys or keys from a cache where wanted.

    Attributes:
      rope: which rotary positions `rotation` holds the angles of, if any.
      sub_norm: epsilon of a LayerNorm over the concatenated heads, before the output projection (EVA-02).
    """

    heads: int
    dtype: Any = None
    rope: RopeKind | None = None
    sub_norm: float | None = None

    @nn.compact
    def __call__(
        self,
        tokens: jax.Array,
        queries: jax.Array | None = None,
        *,
        only: slice | None = None,
        cache: KeyValue | None = None,
        mask: jax.Array | None = None,
        rotation: Rotation | None = None,
    ) -> tuple[jax.Array, KeyValue]:
        """Attend to the cached tokens followed by `tokens` [n, l, D].

        Args:
          queries: [n, q, D]; by default the tokens themselves, or those at `only`.
          only: positions among `tokens` whose queries are wanted.
          cache: keys and values of m earlier tokens, [n or 1, m, H, h] each.
          mask: bool [l, m + l] for all tokens, True where attention is allowed.
          rotation: sines and cosines for `tokens`; needs `rope`.

        Returns:
          The attended values [n, q, D], and the keys and values of `tokens`.
        """
        width, heads = tokens.shape[-1], self.heads
        dtype = self.dtype or tokens.dtype
        kernels = {name: _HeadsKernel(heads, name=name)(width) for name in ("query", "key", "value")}

        def project(x: jax.Array, *names: str) -> list[jax.Array]:  # one matrix product for all of `names`
            kernel = jnp.concatenate([kernels[n][0].reshape(width, width) for n in names], 1).astype(dtype)
            bias = jnp.concatenate([kernels[n][1].reshape(width) for n in names]).astype(dtype)
            y = (x.astype(dtype) @ kernel + bias).reshape(*x.shape[:-1], len(names), heads, width // heads)
            return [y[..., i, :, :] for i in range(len(names))]

        if queries is None and only is None:
            q, k, v = project(tokens, "query", "key", "value")
        else:
            (q,) = project(tokens[:, only] if queries is None else queries, "query")
            k, v = project(tokens, "key", "value")
        if only is not None and mask is not None:
            mask = mask[only]
        if self.rope is not None and rotation is not None:
            turned = rotation if only is None else (rotation[0][..., only, :], rotation[1][..., only, :])
            q, k = rotate(q, turned, self.rope), rotate(k, rotation, self.rope)
        values = _attend(q, k, v, cache, mask)
        if self.sub_norm is not None:
            flat = values.reshape(*values.shape[:-2], width)
            values = LayerNorm(self.sub_norm, dtype, name="norm")(flat).reshape(values.shape)
        return nn.DenseGeneral(width, axis=(-2, -1), dtype=dtype, name="out")(values), (k, v)


def _attend(
    q: jax.Array, k: jax.Array, v: jax.Array, cache: KeyValue | None, mask: jax.Array | None
) -> jax.Array:
    """Attended values [n, q, H, h] of queries [n, q, H, h]; the softmax is taken in float32."""
    if cache is not None:
        k, v = (
            jnp.concatenate([jnp.broadcast_to(c, (x.shape[0], *c.shape[1:])).astype(x.dtype), x], 1)
            for c, x in zip(cache, (k, v), strict=True)
        )
    scores = jnp.einsum("nqHh,nkHh->nHqk", q * q.shape[-1] ** -0.5, k)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores.astype(jnp.float32), -1).astype(v.dtype)
    return jnp.einsum("nHqk,nkHh->nqHh", weights, v)
