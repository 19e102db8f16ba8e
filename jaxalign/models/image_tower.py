"""Vision transformer with the two heads of the field: CLIP's class token and SigLIP's attention pooling."""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError

from .transformer import (
    Encoder,
    LayerNorm,
    MlpBlock,
    MultiHeadDotProductAttention,
    check_sizes,
    check_transformer,
)


@dataclass(frozen=True)
class ImageTowerConfig:
    """Sizes and options of an image tower.

    Attributes:
      image_size: side of the square input in pixels; a multiple of `patch_size`.
      pooling: `cls` takes the class token (CLIP), `map` a multihead attention pool with a residual MLP
        (SigLIP).
      projection: width of the linear projector after pooling; None where the pooled vector is the embedding
        (SigLIP).
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_hidden: int
    activation: str
    norm_epsilon: float
    pooling: Literal["cls", "map"]
    projection: int | None
    patch_bias: bool = True

    def __post_init__(self):
        check_sizes(
            "image tower", self, ("image_size", "patch_size", "width", "depth", "heads", "mlp_hidden")
        )
        check_transformer("image tower", self.width, self.heads, self.activation)
        if self.image_size % self.patch_size:
            raise JaxalignError(
                f"image tower: image_size {self.image_size} is not a multiple of patch_size {self.patch_size}"
            )

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def embedding_width(self) -> int:
        return self.projection or self.width


class MAPHead(nn.Module):
    """Multihead attention pooling: one learned query, then x + mlp(LN x)."""

    config: ImageTowerConfig
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Pool tokens [n, l, D] into the vector before the residual MLP and the one after it, each [n, D]."""
        c = self.config
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, c.width)).astype(x.dtype)
        attention = MultiHeadDotProductAttention(c.heads, self.dtype, name="MultiHeadDotProductAttention_0")
        pooled, _ = attention(jnp.broadcast_to(probe, (x.shape[0], 1, c.width)), x)
        y = LayerNorm(c.norm_epsilon, self.dtype, name="LayerNorm_0")(pooled)
        y = MlpBlock(c.mlp_hidden, c.activation, self.dtype, name="MlpBlock_0")(y)
        return pooled[:, 0], (pooled + y)[:, 0]


class PatchEmbedding(nn.Module):
    """Non-overlapping patches to tokens: a strided convolution, computed as one matrix product."""

    patch_size: int
    width: int
    use_bias: bool
    dtype: Any = None

    @nn.compact
    def __call__(self, pixels: jax.Array, kept_patches: jax.Array | None = None) -> jax.Array:
        n, h, w, channels = pixels.shape
        p = self.patch_size
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (p, p, channels, self.width))
        x = pixels.reshape(n, h // p, p, w // p, p, channels).swapaxes(
            2, 3
        )  # [n, rows, columns, p, p, channels]
        x = x.reshape(n, (h // p) * (w // p), -1)
        if (
            kept_patches is not None
        ):  # before the product: nothing is computed, nor differentiated, for the others
            x = jnp.take_along_axis(x, kept_patches[..., None], axis=1)
        dtype = self.dtype or pixels.dtype
        x = x.astype(dtype) @ kernel.reshape(-1, self.width).astype(dtype)
        return (
            x + self.param("bias", nn.initializers.zeros_init(), (self.width,)).astype(dtype)
            if self.use_bias
            else x
        )


class ImageTower(nn.Module):
    """Pixels to the pre-projection feature and the embedding.

    `__call__` is `embed` and then `encode`; visual inversion enters at `encode`, with patches that no picture
    has.
    """

    config: ImageTowerConfig
    dtype: Any = None

    def setup(self):
        c = self.config
        self.embedding = PatchEmbedding(c.patch_size, c.width, c.patch_bias, self.dtype)
        init = nn.initializers.normal(c.width**-0.5)
        self.pos_embedding = self.param(
            "pos_embedding", init, (1, c.num_patches + (c.pooling == "cls"), c.width)
        )
        self.Transformer = Encoder(
            c.depth, c.heads, c.mlp_hidden, c.activation, c.norm_epsilon, dtype=self.dtype
        )
        if c.pooling == "cls":
            self.cls = self.param("cls", nn.initializers.zeros_init(), (1, 1, c.width))
        else:
            self.pool = MAPHead(c, self.dtype, name="MAPHead_0")
        if c.projection is not None:
            self.head = nn.Dense(c.projection, use_bias=False, dtype=self.dtype)

    def __call__(
        self, pixels: jax.Array, *, kept_patches: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Embed `pixels` float [n, h, w, 3], preprocessed.

        Args:
          kept_patches: int [n, k], the patches that are seen in training with patch dropout (FLIP,
            arXiv:2212.00794); all by default.

        Returns:
          The embedding [n, d], not normalised, and `{"pre_logits": pre-projection feature [n, D]}`. Where
          attention pooling ends without a linear projector, the pre-projection feature is the pooled vector
          before the residual MLP (IsoCLIP, supplement D).
        """
        return self.encode(self.embedding(pixels, kept_patches), kept_patches=kept_patches)

    def encode(
        self, x: jax.Array, *, kept_patches: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Embed patches [n, l, D], without positions; returns what `__call__` does."""
        x = self._with_positions(x, kept_patches)
        if self.config.pooling == "cls":
            x, _ = self.Transformer(x, only=slice(0, 1))
            pre = z = x[:, 0]
        else:
            x, _ = self.Transformer(x)
            pre, z = self.pool(x)
        if self.config.projection is not None:
            pre, z = z, self.head(z)
        return z, {"pre_logits": pre}

    def _with_positions(self, x: jax.Array, kept_patches: jax.Array | None) -> jax.Array:
        """Add positions to patches [n, l, D], and under `cls` pooling the class token before them."""
        position = self.pos_embedding.astype(x.dtype)
        if self.config.pooling == "cls":
            token, position = self.cls.astype(x.dtype) + position[:, :1], position[:, 1:]
        else:
            token = None
        if kept_patches is None:
            x = x + position
        else:  # a product with one-hot rows: the transpose of a gather is a scatter, slow on CPU
            x = x + jax.nn.one_hot(kept_patches, self.config.num_patches, dtype=x.dtype) @ position[0]
        if token is None:
            return x
        return jnp.concatenate([jnp.broadcast_to(token, (x.shape[0], *token.shape[1:])), x], 1)
