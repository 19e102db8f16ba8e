"""The way from pseudo-tokens to a text embedding, with everything that no step changes computed beforehand.

Two tokens instead of CLIP's 77 pass through a causal tower: nothing before the pseudo-tokens depends on them,
so the keys and values of that prefix are constants, and nothing behind the end token is ever looked at. In a
bidirectional tower (SigLIP) every position depends on them after the first attention; there, the first
block's queries, keys and values of the other positions are constants. The last block computes only what the
pooled position needs.

The same function as `jaxalign.models.TextTower`, and faster at a few tokens: kernels are joined and take in
the LayerNorm before them once a run, not once a step. Shapes: n examples, t live tokens, D width, H heads,
h = D / H, m tokens in the prefix.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxalign.models import TextTower, TextTowerConfig
from jaxalign.models.layers import ACTIVATIONS

_FEW = 4  # live tokens; up to here sums of products, pair by pair, beat one small matrix product per head


class Dense(NamedTuple):
    """An affine map: kernel [in, out], bias [out]."""

    kernel: jax.Array
    bias: jax.Array

    def __call__(self, x: jax.Array) -> jax.Array:
        return x.astype(self.kernel.dtype) @ self.kernel + self.bias


class Block(NamedTuple):
    """One block's maps; each LayerNorm's scale and shift are in the map behind it."""

    query: Dense  # divided by sqrt(h)
    key_value: Dense
    query_key_value: Dense
    out: Dense
    hidden: Dense
    last: Dense


class Constant(NamedTuple):
    """Live tokens that are the same for every example: x [l, 1, D] with positions; [l, 1, 3D] in block 1."""

    x: jax.Array
    query_key_value: jax.Array


class Prepared(NamedTuple):
    """What no step changes; `cache` holds keys and values [m, H, h] of the prefix for each block, or None."""

    blocks: tuple[Block, ...]
    head: Dense
    cache: tuple[tuple[jax.Array, jax.Array] | None, ...]
    position: jax.Array  # [p, 1, D], of the pseudo-tokens
    left: Constant
    right: Constant


@dataclass(frozen=True)
class TextPath:
    """`before`, `count` pseudo-tokens, `after`; the last of these is pooled. Equal ones share a compilation.

    Attributes:
      before, after: token ids. `after` ends with what is pooled, the end token or the last position of the
        context; in a bidirectional tower both fill the context.
    """

    config: TextTowerConfig
    dtype: Any
    before: tuple[int, ...]
    count: int
    after: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Of an example's pseudo-tokens, [p, D]."""
        return self.count, self.config.width

    @property
    def live(self) -> int:
        """Tokens that a step computes for each example."""
        return self.count + len(self.after) + (0 if self.config.causal else len(self.before))

    @property
    def floats(self) -> int:
        """About how many numbers a step keeps for its gradient, for each example."""
        c = self.config
        scores = c.heads * self.live * (self.live + len(self.before) * c.causal)
        return c.depth * (self.live * (11 * c.width + 3 * c.mlp_hidden) + 3 * scores)

    @partial(jax.jit, static_argnums=0)
    def prepare(self, params: Any) -> Prepared:
        """Everything constant, from the parameters of a `TextTower`."""
        c = self.config
        tower = TextTower(c, self.dtype).bind({"params": params})
        encoder, head, positions = params["Encoder_0"], params["head"], params["pos_embedding"][0]
        blocks = tuple(self._block(encoder[f"encoderblock_{i}"]) for i in range(c.depth))
        bias = head["bias"] if c.projection_bias else jnp.zeros(c.projection)
        cache: tuple = (None,) * c.depth
        if c.causal and self.before:
            _, found = tower.encode(tower.embed(jnp.array([self.before], jnp.int32)))
            cache = tuple((k[0], v[0]) for k, v in found)

        def constant(ids: tuple[int, ...], start: int) -> Constant:
            x = tower.embed(jnp.array([ids], jnp.int32))[0] + positions[start : start + len(ids)]
            x = x[:, None].astype(self.dtype)
            return Constant(x, blocks[0].query_key_value(self._norm(x)))

        start, stop = len(self.before), len(self.before) + self.count
        return Prepared(
            blocks,
            self._dense(encoder["encoder_norm"], head["kernel"], bias),
            cache,
            positions[start:stop, None],
            constant(() if c.causal else self.before, 0),
            constant(self.after, stop),
        )

    def __call__(self, prepared: Prepared, tokens: jax.Array) -> jax.Array:
        """Embeddings [n, d] of prompts with `tokens` [n, p, D]."""
        n = len(tokens)

        def around(name: str, x: jax.Array) -> jax.Array:  # tokens come first: each one's rows lie together
            sides = (getattr(side, name) for side in (prepared.left, prepared.right))
            left, right = (jnp.broadcast_to(y, (len(y), n, y.shape[2])) for y in sides)
            return jnp.concatenate([left, x, right])

        x = (tokens.swapaxes(0, 1) + prepared.position).astype(self.dtype)  # [p, n, D]
        first = around("query_key_value", prepared.blocks[0].query_key_value(self._norm(x)))
        x = around("x", x)
        for i, block in enumerate(prepared.blocks):
            pooled = slice(-1, None) if i == self.config.depth - 1 else slice(None)
            if i == 0:
                q, k, v = jnp.split(first, 3, axis=-1)
                q = q[pooled]
            elif pooled.start is None:
                q, k, v = jnp.split(block.query_key_value(self._norm(x)), 3, axis=-1)
            else:
                q = block.query(self._norm(x[pooled]))
                k, v = jnp.split(block.key_value(self._norm(x)), 2, axis=-1)
            x = x[pooled] + block.out(self._attend(q, k, v, prepared.cache[i]))
            hidden = ACTIVATIONS[self.config.activation](block.hidden(self._norm(x)))
            x = x + block.last(hidden)
        return prepared.head(self._norm(x))[0]

    def _attend(self, q: jax.Array, k: jax.Array, v: jax.Array, cache: Any) -> jax.Array:
        """Attended values [a, n, D] of queries [a, n, D], the last ones of the tokens [t, n, D]."""
        q, k, v = (x.reshape(*x.shape[:2], self.config.heads, -1) for x in (q, k, v))
        attend = _attend_in_pairs if self.config.causal and len(k) <= _FEW else _attend_in_products
        values = attend(q, k, v, cache, self.config.causal)
        return values.reshape(*values.shape[:2], -1)

    def _norm(self, x: jax.Array) -> jax.Array:
        """Rows with mean 0 and variance 1; scale and shift are in the map behind it."""
        y = x.astype(_wide(x))
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.config.norm_epsilon)
        return y.astype(x.dtype)

    def _block(self, params: Any) -> Block:
        width, mlp = self.config.width, params["MlpBlock_0"]
        attention = params["MultiHeadDotProductAttention_0"]
        kernels = {
            name: attention[name]["kernel"].reshape(width, width) for name in ("query", "key", "value")
        }
        biases = {name: attention[name]["bias"].reshape(width) for name in kernels}
        scale = (width // self.config.heads) ** -0.5
        kernels["query"], biases["query"] = scale * kernels["query"], scale * biases["query"]

        def project(*names: str) -> Dense:
            kernel = jnp.concatenate([kernels[name] for name in names], 1)
            return self._dense(params["LayerNorm_0"], kernel, jnp.concatenate([biases[n] for n in names]))

        return Block(
            project("query"),
            project("key", "value"),
            project("query", "key", "value"),
            self._dense(None, attention["out"]["kernel"].reshape(width, width), attention["out"]["bias"]),
            self._dense(params["LayerNorm_1"], mlp["Dense_0"]["kernel"], mlp["Dense_0"]["bias"]),
            self._dense(None, mlp["Dense_1"]["kernel"], mlp["Dense_1"]["bias"]),
        )

    def _dense(self, norm: Any, kernel: jax.Array, bias: jax.Array) -> Dense:
        """A map that takes in the scale and the shift of the LayerNorm before it, if there is one."""
        if norm is not None:
            bias = bias + jnp.matmul(norm["bias"], kernel, precision=jax.lax.Precision.HIGHEST)
            kernel = norm["scale"][:, None] * kernel
        return Dense(kernel.astype(self.dtype), bias.astype(self.dtype))


def _attend_in_pairs(q: jax.Array, k: jax.Array, v: jax.Array, cache: Any, causal: bool) -> jax.Array:
    """Causal attention [a, n, H, h] of the last a of t tokens, one pair of tokens after the other."""
    del causal  # always
    first = len(k) - len(q)
    cached = None if cache is None else jnp.einsum("anHh,mHh->anHm", q, cache[0])
    weights, live = [], []
    for a in range(len(q)):
        scores = [(q[a] * k[b]).sum(-1, keepdims=True) for b in range(first + a + 1)]
        scores = scores if cached is None else [cached[a], *scores]
        w = _softmax(jnp.concatenate(scores, -1)).astype(v.dtype)
        m = w.shape[-1] - (first + a + 1)
        weights.append(w[..., :m])
        live.append(sum(w[..., m + b, None] * v[b] for b in range(first + a + 1)))
    values = jnp.stack(live)
    if cache is not None:
        values = values + jnp.einsum("anHm,mHh->anHh", jnp.stack(weights), cache[1])
    return values


def _attend_in_products(q: jax.Array, k: jax.Array, v: jax.Array, cache: Any, causal: bool) -> jax.Array:
    """The same for any number of tokens, and without causality too."""
    a, t = len(q), len(k)
    scores = jnp.einsum("anHh,tnHh->nHat", q, k)
    if causal:
        allowed = jnp.arange(t) <= jnp.arange(t - a, t)[:, None]
        scores = jnp.where(allowed, scores, jnp.finfo(scores.dtype).min)
    if cache is not None:
        scores = jnp.concatenate([jnp.einsum("anHh,mHh->nHam", q, cache[0]), scores], -1)
    weights = _softmax(scores).astype(v.dtype)
    values = jnp.einsum("nHat,tnHh->anHh", weights[..., -t:], v)
    if cache is not None:
        values = values + jnp.einsum("nHam,mHh->anHh", weights[..., :-t], cache[1])
    return values


def _softmax(scores: jax.Array) -> jax.Array:
    return jax.nn.softmax(scores.astype(_wide(scores)), axis=-1)


def _wide(x: jax.Array) -> Any:
    """The dtype of sums: float32 at least."""
    return jnp.promote_types(x.dtype, jnp.float32)
