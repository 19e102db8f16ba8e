"""CLIP's ModifiedResNet (arXiv:2103.00020, section 2.4): three-convolution stem, blur before every stride,
attention pooling. Batch normalisation is frozen: its running statistics are ordinary parameters."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError

from .layers import check_epsilon, check_sizes

_EXPANSION = 4  # a bottleneck ends four times as wide as it is inside


@dataclass(frozen=True)
class ResNetConfig:
    """Sizes of a ModifiedResNet.

    Attributes:
      image_size: side of the square input in pixels, a multiple of 32.
      stage_depths: bottlenecks in each of the four stages.
      stem_width: channels after the stem; features are 32 times as wide.
      heads: of the attention pool.
      projection: width of the embedding; the projector is affine.
    """

    image_size: int
    stage_depths: tuple[int, int, int, int]
    stem_width: int
    heads: int
    projection: int
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check_sizes("image tower", self, ("image_size", "stem_width", "heads", "projection"))
        check_epsilon("image tower", self.norm_epsilon)
        if min(self.stage_depths) < 1:
            raise JaxalignError(
                f"image tower: stage_depths is {self.stage_depths}; expected 1 or more in each"
            )
        if self.image_size % 32:
            raise JaxalignError(f"image tower: image_size {self.image_size} is not a multiple of 32")
        if self.stem_width % 2 or self.width % self.heads:
            raise JaxalignError(
                f"image tower: stem_width {self.stem_width} with {self.heads} heads; expected an even width"
                " whose 32-fold the heads divide"
            )

    @property
    def width(self) -> int:
        """Of the pre-projection feature."""
        return 32 * self.stem_width

    @property
    def embedding_width(self) -> int:
        return self.projection


class FrozenBatchNorm(nn.Module):
    """Normalisation with the running statistics of training."""

    epsilon: float
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        ones, zeros, shape = nn.initializers.ones_init(), nn.initializers.zeros_init(), (x.shape[-1],)
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        mean, var = self.param("mean", zeros, shape), self.param("var", ones, shape)
        y = (x.astype(jnp.float32) - mean) * jax.lax.rsqrt(var + self.epsilon) * scale + bias
        return y.astype(self.dtype or x.dtype)


def _conv(width: int, side: int, name: str, dtype: Any, stride: int = 1) -> nn.Conv:
    """PyTorch's padding, written out: "SAME" pads the other side when the stride is 2."""
    padding = ((side // 2, side // 2),) * 2
    return nn.Conv(
        width, (side, side), (stride, stride), padding=padding, use_bias=False, dtype=dtype, name=name
    )


class Bottleneck(nn.Module):
    """1x1, 3x3, (average over stride x stride,) 1x1, with a skip that is averaged and projected likewise."""

    width: int
    stride: int
    epsilon: float
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        norm = lambda name: FrozenBatchNorm(self.epsilon, self.dtype, name=name)
        window = (self.stride, self.stride)
        y = nn.relu(norm("bn_0")(_conv(self.width, 1, "conv_0", self.dtype)(x)))
        y = nn.relu(norm("bn_1")(_conv(self.width, 3, "conv_1", self.dtype)(y)))
        y = y if self.stride == 1 else nn.avg_pool(y, window, window)
        y = norm("bn_2")(_conv(_EXPANSION * self.width, 1, "conv_2", self.dtype)(y))
        if self.stride > 1 or x.shape[-1] != y.shape[-1]:
            x = x if self.stride == 1 else nn.avg_pool(x, window, window)
            x = norm("downsample_bn")(_conv(y.shape[-1], 1, "downsample_conv", self.dtype)(x))
        return nn.relu(x + y)


class AttentionPool(nn.Module):
    """The mean of all positions attends to itself and to them; returns the concatenated heads."""

    heads: int
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Pool [n, h, w, D] into [n, D]."""
        n, width = x.shape[0], x.shape[-1]
        x = x.reshape(n, x.shape[1] * x.shape[2], width)
        x = jnp.concatenate([x.mean(1, keepdims=True, dtype=jnp.float32).astype(x.dtype), x], 1)
        init = nn.initializers.normal(width**-0.5)
        x = x + self.param("pos_embedding", init, x.shape[1:]).astype(x.dtype)
        split = lambda name, tokens: nn.Dense(width, dtype=self.dtype, name=name)(tokens).reshape(
            n, tokens.shape[1], self.heads, width // self.heads
        )
        q, k, v = split("query", x[:, :1]), split("key", x), split("value", x)
        scores = jnp.einsum("nqHh,nkHh->nHqk", q * q.shape[-1] ** -0.5, k)
        weights = jax.nn.softmax(scores.astype(jnp.float32), -1).astype(v.dtype)
        return jnp.einsum("nHqk,nkHh->nqHh", weights, v).reshape(n, width)


class ModifiedResNet(nn.Module):
    """Pixels to the pre-projection feature and the embedding."""

    config: ResNetConfig
    dtype: Any = None

    @nn.compact
    def __call__(self, pixels: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Embed `pixels` float [n, h, w, 3], preprocessed.

        Returns:
          The embedding [n, d], not normalised, and `{"pre_logits": pre-projection feature [n, D]}`: the
          concatenated heads of the attention pool, before its output projection, which is the projector.
        """
        c = self.config
        x = pixels.astype(self.dtype or pixels.dtype)
        for i, width in enumerate((c.stem_width // 2, c.stem_width // 2, c.stem_width)):
            x = _conv(width, 3, f"conv_{i}", self.dtype, stride=2 if i == 0 else 1)(x)
            x = nn.relu(FrozenBatchNorm(c.norm_epsilon, self.dtype, name=f"bn_{i}")(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        for stage, depth in enumerate(c.stage_depths):
            for j in range(depth):
                stride = 2 if stage > 0 and j == 0 else 1
                width = c.stem_width * 2**stage
                block = Bottleneck(width, stride, c.norm_epsilon, self.dtype, name=f"layer{stage + 1}_{j}")
                x = block(x)
        pre = AttentionPool(c.heads, self.dtype, name="attnpool")(x)
        return nn.Dense(c.projection, dtype=self.dtype, name="head")(pre), {"pre_logits": pre}
