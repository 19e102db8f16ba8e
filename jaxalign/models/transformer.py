"""The pre-LN transformer that every tower is made of, with a key/value cache for causal prefixes.

Modules and parameters carry big_vision's names and shapes (`big_vision/models/vit.py`), so its checkpoints
load as they are. Shapes: n examples, l tokens, D width, H heads, h = D / H.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError, unknown_name

KeyValue = tuple[jax.Array, jax.Array]  # keys and values of one block, each [n, l, H, h]


def quick_gelu(x: jax.Array) -> jax.Array:
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": quick_gelu,
}


def check_sizes(part: str, config: Any, names: Sequence[str]) -> None:
    """Raise JaxalignError unless every size called `names` in `config` is positive."""
    wrong = [f"{name} = {getattr(config, name)}" for name in names if getattr(config, name) < 1]
    if wrong:
        raise JaxalignError(f"{part}: {', '.join(wrong)}; expected sizes of 1 or more")


def check_transformer(part: str, width: int, heads: int, activation: str) -> None:
    """Raise JaxalignError unless the heads divide the width and the activation is known."""
    if width % heads:
        raise JaxalignError(f"{part}: width {width} is not a multiple of {heads} heads")
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)


class LayerNorm(nn.Module):
    """LayerNorm with the two-pass variance: Flax's fast one loses digits against the originals."""

    epsilon: float
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],))
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.epsilon)
        return (y * scale + bias).astype(self.dtype or x.dtype)


class _HeadsKernel(nn.Module):
    """Holds one attention projection in big_vision's layout: kernel [D, H, h], bias [H, h]."""

    heads: int

    @nn.compact
    def __call__(self, width: int) -> tuple[jax.Array, jax.Array]:
        shape = (width, self.heads, width // self.heads)
        init = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform", in_axis=0, out_axis=(1, 2))
        return self.param("kernel", init, shape), self.param("bias", nn.initializers.zeros_init(), shape[1:])


class MultiHeadDotProductAttention(nn.Module):
    """Scaled dot-product attention, with fewer queries than keys or keys from a cache where wanted."""

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        queries: jax.Array,
        tokens: jax.Array,
        *,
        cache: KeyValue | None = None,
        mask: jax.Array | None = None,
    ) -> tuple[jax.Array, KeyValue]:
        """Attend from `queries` [n, q, D] to the cached tokens followed by `tokens` [n, l, D].

        Args:
          cache: keys and values of m earlier tokens, [n or 1, m, H, h] each.
          mask: bool [q, m + l], True where attention is allowed.

        Returns:
          The attended values [n, q, D], and the keys and values of `tokens`.
        """
        width, heads = queries.shape[-1], self.heads
        dtype = self.dtype or queries.dtype
        kernels = {name: _HeadsKernel(heads, name=name)(width) for name in ("query", "key", "value")}

        def project(x: jax.Array, *names: str) -> list[jax.Array]:  # one matrix product for all of `names`
            kernel = jnp.concatenate([kernels[n][0].reshape(width, width) for n in names], 1).astype(dtype)
            bias = jnp.concatenate([kernels[n][1].reshape(width) for n in names]).astype(dtype)
            y = (x.astype(dtype) @ kernel + bias).reshape(*x.shape[:-1], len(names), heads, width // heads)
            return [y[..., i, :, :] for i in range(len(names))]

        if queries is tokens:
            q, k, v = project(tokens, "query", "key", "value")
        else:
            (q,), (k, v) = project(queries, "query"), project(tokens, "key", "value")
        new = (k, v)
        if cache is not None:
            k, v = (
                jnp.concatenate([jnp.broadcast_to(c, (x.shape[0], *c.shape[1:])).astype(dtype), x], 1)
                for c, x in zip(cache, new, strict=True)
            )
        scores = jnp.einsum("nqHh,nkHh->nHqk", q * (width // heads) ** -0.5, k)
        if mask is not None:
            scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores.astype(jnp.float32), -1).astype(dtype)
        values = jnp.einsum("nHqk,nkHh->nqHh", weights, v)
        return nn.DenseGeneral(width, axis=(-2, -1), dtype=dtype, name="out")(values), new


class MlpBlock(nn.Module):
    """Dense, activation, dense; the hidden layer is `hidden` wide."""

    hidden: int
    activation: str
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel_init = nn.initializers.xavier_uniform()
        y = nn.Dense(self.hidden, dtype=self.dtype, kernel_init=kernel_init)(x)
        return nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=kernel_init)(
            ACTIVATIONS[self.activation](y)
        )


class EncoderBlock(nn.Module):
    """x + attention(LN x), then x + mlp(LN x)."""

    heads: int
    mlp_hidden: int
    activation: str
    norm_epsilon: float
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        cache: KeyValue | None = None,
        mask: jax.Array | None = None,
        only: slice | None = None,
    ) -> tuple[jax.Array, KeyValue]:
        """Map `x` [n, l, D]; with `only`, just those positions come back (the others still serve as keys)."""
        y = LayerNorm(self.norm_epsilon, self.dtype, name="LayerNorm_0")(x)
        attention = MultiHeadDotProductAttention(
            self.heads, self.dtype, name="MultiHeadDotProductAttention_0"
        )
        if only is None:
            y, key_value = attention(y, y, cache=cache, mask=mask)
        else:
            y, key_value = attention(y[:, only], y, cache=cache, mask=None if mask is None else mask[only])
            x = x[:, only]
        x = x + y
        y = LayerNorm(self.norm_epsilon, self.dtype, name="LayerNorm_1")(x)
        return x + MlpBlock(self.mlp_hidden, self.activation, self.dtype, name="MlpBlock_0")(y), key_value


class Encoder(nn.Module):
    """A stack of blocks and a final LayerNorm."""

    depth: int
    heads: int
    mlp_hidden: int
    activation: str
    norm_epsilon: float
    causal: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: jax.Array, *, cache: Sequence[KeyValue] | None = None, only: slice | None = None
    ) -> tuple[jax.Array, tuple[KeyValue, ...]]:
        """Encode `x` [n, l, D]; in a causal encoder `cache` holds what this call returned for the m tokens
        before.

        Args:
          only: the positions that are pooled afterwards. The last block then computes nothing else: a twelfth
            of a ViT-B, half of a tower with two blocks.

        Returns:
          Tokens [n, l or the length of `only`, D] after the final LayerNorm, and the keys and values of every
          block for all l tokens.
        """
        before = cache[0][0].shape[1] if cache else 0
        length = x.shape[1]
        mask = jnp.tril(jnp.ones((length, before + length), bool), before) if self.causal else None
        key_values = []
        for i in range(self.depth):
            block = EncoderBlock(
                self.heads,
                self.mlp_hidden,
                self.activation,
                self.norm_epsilon,
                self.dtype,
                name=f"encoderblock_{i}",
            )
            last = only if i == self.depth - 1 else None
            x, key_value = block(x, cache=cache[i] if cache else None, mask=mask, only=last)
            key_values.append(key_value)
        return LayerNorm(self.norm_epsilon, self.dtype, name="encoder_norm")(x), tuple(key_values)
