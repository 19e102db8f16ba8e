"""The encoder blocks of `jaxalign.models` for training on a CPU: the same numbers, fewer passes over memory.

`with fast_blocks(): model.apply(...)` computes each block on tokens laid out as one matrix [n l, D], with
gradients of LayerNorm and attention written out. One block of the image tower, forward and backward over 256
images of 19 tokens: 263 ms of processor time become 229, of which the matrix products are 208. Parameters are
those of the library's modules, and so are the outputs, to rounding.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.models.layers import ACTIVATIONS
from jaxalign.models.transformer import BlockConfig, EncoderBlock

Params = Any
Dense = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def exact_dense(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """`x` [m, i] through a dense layer: [m, o]."""
    return x @ kernel + bias


def _rounded_product(a: jax.Array, b: jax.Array, over: tuple[int, int]) -> jax.Array:
    """The product of `a` and `b`, both rounded to bfloat16, over these axes of theirs; summed in float32."""
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    dimensions = (((over[0],), (over[1],)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


@jax.custom_vjp
def rounded_dense(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """As `exact_dense`, with factors rounded to bfloat16 in its products and in those of its gradients.

    Such a product takes half the time where the processor has AVX512-BF16, if the sums are wanted in float32.
    """
    return _rounded_product(x, kernel, (1, 0)) + bias


def _rounded_gradient(kept: tuple[jax.Array, jax.Array], g: jax.Array):
    x, kernel = kept
    # With rows of zeros XLA does not make the transposition part of the product, which would be slow again.
    rows = jnp.concatenate([x.T, jnp.zeros((8, len(x)), x.dtype)])
    sums = _rounded_product(rows, g, (1, 0))
    return _rounded_product(g, kernel, (1, 1)), sums[:-8], g.sum(0)


rounded_dense.defvjp(lambda x, kernel, bias: (rounded_dense(x, kernel, bias), (x, kernel)), _rounded_gradient)


@jax.custom_vjp
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """LayerNorm of the rows of `x` [m, D]."""
    return _layer_norm(x, scale, bias, epsilon)[0]


def _layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float):
    y = x - x.mean(-1, keepdims=True)
    factor = jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + epsilon)
    y = y * factor
    return y * scale + bias, (y, factor, scale)


def _layer_norm_gradient(kept, g: jax.Array):
    y, factor, scale = kept
    h = g * scale
    dx = factor * (h - h.mean(-1, keepdims=True) - y * (h * y).mean(-1, keepdims=True))
    return dx, (g * y).sum(0), g.sum(0), None


layer_norm.defvjp(_layer_norm, _layer_norm_gradient)


@jax.custom_vjp
def attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Attended values [b, q, h] of `q` [b, q, h], `k` and `v` [b, l, h]; b counts examples and heads."""
    return _attend(q, k, v, mask)[0]


def _attend(q: jax.Array, k: jax.Array, v: jax.Array, mask: jax.Array | None):
    q = q * q.shape[-1] ** -0.5
    scores = jnp.einsum("bqh,bkh->bqk", q, k)
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    weights = jax.nn.softmax(scores, -1)
    return weights @ v, (q, k, v, weights)


def _attend_gradient(kept, g: jax.Array):
    q, k, v, weights = kept
    dw = jnp.einsum("bqh,bkh->bqk", g, v)
    ds = weights * (dw - (dw * weights).sum(-1, keepdims=True))
    dq = (ds @ k) * q.shape[-1] ** -0.5
    return dq, jnp.einsum("bqk,bqh->bkh", ds, q), jnp.einsum("bqk,bqh->bkh", weights, g), None


attend.defvjp(_attend, _attend_gradient)


def _attention(
    c: BlockConfig,
    p: Params,
    y: jax.Array,
    shape: tuple[int, int],
    mask: jax.Array | None,
    only: slice | None,
    dense: Dense,
) -> jax.Array:
    """Self-attention of tokens `y` [n l, D], shape (n, l): rows [n q, D], q the tokens at `only`."""
    (n, length), width = shape, y.shape[-1]
    kernel = lambda *names: jnp.concatenate([p[name]["kernel"].reshape(width, width) for name in names], 1)
    bias = lambda *names: jnp.concatenate([p[name]["bias"].reshape(width) for name in names])
    project = lambda rows, *names: jnp.split(dense(rows, kernel(*names), bias(*names)), len(names), 1)

    def by_heads(rows: jax.Array) -> jax.Array:
        heads = rows.reshape(n, -1, c.heads, width // c.heads).swapaxes(1, 2)
        return heads.reshape(n * c.heads, -1, width // c.heads)

    if only is None:
        q, k, v = project(y, "query", "key", "value")
    else:
        (q,) = project(y.reshape(n, length, width)[:, only].reshape(-1, width), "query")
        k, v = project(y, "key", "value")
        mask = None if mask is None else mask[only]
    values = attend(by_heads(q), by_heads(k), by_heads(v), mask)
    values = values.reshape(n, c.heads, -1, width // c.heads).swapaxes(1, 2).reshape(-1, width)
    return dense(values, p["out"]["kernel"].reshape(width, width), p["out"]["bias"])


def _block(
    c: BlockConfig, p: Params, x: jax.Array, mask: jax.Array | None, only: slice | None, dense: Dense
) -> tuple[jax.Array, None]:
    """What `EncoderBlock` computes from `x` [n, l, D], without the keys and values."""
    n, length, width = x.shape
    norm = lambda rows, name: layer_norm(rows, p[name]["scale"], p[name]["bias"], c.norm_epsilon)
    layer = lambda rows, name: dense(rows, p["MlpBlock_0"][name]["kernel"], p["MlpBlock_0"][name]["bias"])
    y = norm(x.reshape(-1, width), "LayerNorm_0")
    y = _attention(c, p["MultiHeadDotProductAttention_0"], y, (n, length), mask, only, dense)
    rows = (x if only is None else x[:, only]).reshape(-1, width) + y
    y = layer(ACTIVATIONS[c.activation](layer(norm(rows, "LayerNorm_1"), "Dense_0")), "Dense_1")
    return (rows + y).reshape(n, -1, width), None


def fast_blocks(dense: Dense = exact_dense) -> AbstractContextManager:
    """Within this context every plain encoder block that is applied to float32 tokens takes the fast way."""

    def intercept(call, args, kwargs, context: nn.module.InterceptorContext):
        block, asked = context.module, {name: value for name, value in kwargs.items() if value is not None}
        if not isinstance(block, EncoderBlock) or context.method_name != "__call__":
            return call(*args, **kwargs)
        c = block.config
        plain = BlockConfig(c.heads, c.mlp_hidden, c.activation, c.norm_epsilon)
        if c != plain or block.dtype is not None or not asked.keys() <= {"mask", "only"}:
            return call(*args, **kwargs)
        return _block(c, block.variables["params"], args[0], asked.get("mask"), asked.get("only"), dense)

    return nn.intercept_methods(intercept)
