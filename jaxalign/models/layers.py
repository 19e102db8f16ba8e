"""What transformer blocks are made of: activations, LayerNorm, LayerScale and the two kinds of MLP.

Modules and parameters carry big_vision's names and shapes (`big_vision/models/vit.py`) wherever the part
exists there, so its checkpoints load as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError, unknown_name


def quick_gelu(x: jax.Array) -> jax.Array:
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": quick_gelu,
    "silu": jax.nn.silu,
    "relu": jax.nn.relu,
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


def check_epsilon(part: str, epsilon: float) -> None:
    """Raise JaxalignError for what makes every output NaN, or the same: LayerNorms divide by the root of
    variance + epsilon."""
    if not 0 <= epsilon <= 1:
        raise JaxalignError(f"{part}: norm_epsilon is {epsilon}; expected 0 to 1")


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


class LayerScale(nn.Module):
    """Multiplies each channel of a residual branch by a learned `gamma` (arXiv:2103.17239)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        gamma = self.param("gamma", nn.initializers.constant(1e-5), (x.shape[-1],))
        return x * gamma.astype(x.dtype)


class MlpBlock(nn.Module):
    """Dense, activation, dense; the hidden layer is `hidden` wide.

    With `gated`, the hidden layer is `activation(gate(x)) * Dense_0(x)` (SwiGLU, where the activation is
    silu); with `sub_norm`, the epsilon of a LayerNorm over the hidden layer (EVA-02, arXiv:2303.11331).
    """

    hidden: int
    activation: str
    gated: bool = False
    sub_norm: float | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dense = lambda width, name: nn.Dense(
            width, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform(), name=name
        )
        activation = ACTIVATIONS[self.activation]
        y = dense(self.hidden, "Dense_0")(x)
        y = activation(dense(self.hidden, "gate")(x)) * y if self.gated else activation(y)
        if self.sub_norm is not None:
            y = LayerNorm(self.sub_norm, self.dtype, name="LayerNorm_0")(y)
        return dense(x.shape[-1], "Dense_1")(y)
