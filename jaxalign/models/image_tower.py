"""Vision transformers: CLIP's, SigLIP's, SLIP's, EVA-02's, the Perception Encoder's, DINOv2 and DINOv3."""

from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError

from .attention import MultiHeadDotProductAttention
from .layers import LayerNorm, MlpBlock, check_epsilon, check_sizes, check_transformer
from .rope import RopeKind, Rotation, rotation_table
from .transformer import BlockConfig, Encoder


@dataclass(frozen=True)
class ImageTowerConfig:
    """Sizes and options of a vision transformer.

    Attributes:
      image_size: side of the square input in pixels. Where it is no multiple of `patch_size`, the last pixels
        of each row and column are not seen, as under the originals' strided convolution (So400m/14 at 384).
      pooling: `cls` takes the class token (CLIP), `map` a multihead attention pool with a residual MLP
        (SigLIP), `avg` the mean of the patches (CLIPA).
      projection: width of the linear projector after pooling; None where the pooled vector is the embedding
        (SigLIP, DINO).
      projection_bias: the projector is affine (EVA-02).
      patch_bias: the patch embedding has a bias.
      class_token: a learned token before the patches; by default exactly where it is pooled. The Perception
        Encoder has one and pools by attention.
      norm_after_pool: under `avg`, the final LayerNorm is applied to the mean, and not to the patches.
      registers: learned tokens between the class token and the patches, without positions (arXiv:2309.16588).
      learned_positions: False where rotary ones are all there is (DINOv3).
      pre_norm: LayerNorm before the first block (CLIP).
      rope: rotary positions, see `jaxalign.models.rope`.
      rope_reference: side of the pretraining grid that coordinates are scaled to (EVA-02: 16); None for the
        tower's own.
      gated_mlp, sub_norm: SwiGLU (with activation `silu`) and LayerNorms inside both branches (EVA-02).
      layer_scale: residual branches end in a learned factor for each channel (DINO).
      pool_heads: of the attention pool; by default `heads`.
    """

    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    mlp_hidden: int
    activation: str
    norm_epsilon: float
    pooling: Literal["cls", "map", "avg"]
    projection: int | None
    patch_bias: bool = True
    projection_bias: bool = False
    class_token: bool | None = None
    registers: int = 0
    learned_positions: bool = True
    pre_norm: bool = False
    rope: RopeKind | None = None
    rope_reference: int | None = None
    gated_mlp: bool = False
    sub_norm: bool = False
    layer_scale: bool = False
    pool_heads: int | None = None
    norm_after_pool: bool = False

    def __post_init__(self) -> None:
        sizes = ("image_size", "patch_size", "width", "depth", "heads", "mlp_hidden")
        check_sizes("image tower", self, sizes)
        check_transformer("image tower", self.width, self.heads, self.activation)
        check_epsilon("image tower", self.norm_epsilon)
        if self.image_size < self.patch_size:
            raise JaxalignError(
                f"image tower: image_size {self.image_size} is smaller than patch_size {self.patch_size}"
            )
        if self.pooling == "cls" and self.class_token is False:
            raise JaxalignError(
                "image tower: pooling is 'cls' without a class token; expected class_token true"
            )
        if self.rope is not None and self.width // self.heads % 4:
            raise JaxalignError(
                f"image tower: heads are {self.width // self.heads} wide; expected a multiple of 4 for rotary"
                " positions"
            )
        if self.pool_heads is not None and (self.pool_heads < 1 or self.width % self.pool_heads):
            raise JaxalignError(
                f"image tower: width {self.width} is not a multiple of {self.pool_heads} pool_heads"
            )
        if self.registers < 0:
            raise JaxalignError(f"image tower: registers = {self.registers}; expected 0 or more")

    @property
    def grid(self) -> int:
        """Patches along each side."""
        return self.image_size // self.patch_size

    @property
    def num_patches(self) -> int:
        return self.grid**2

    @property
    def has_class_token(self) -> bool:
        return self.pooling == "cls" if self.class_token is None else self.class_token

    @property
    def num_prefix(self) -> int:
        """Tokens before the patches: class token and registers."""
        return self.has_class_token + self.registers

    @property
    def embedding_width(self) -> int:
        return self.projection or self.width

    @property
    def block(self) -> BlockConfig:
        return BlockConfig(
            self.heads,
            self.mlp_hidden,
            self.activation,
            self.norm_epsilon,
            self.gated_mlp,
            self.sub_norm,
            self.layer_scale,
            self.rope,
        )


class MAPHead(nn.Module):
    """Multihead attention pooling: one learned query, then x + mlp(LN x)."""

    config: ImageTowerConfig
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Pool tokens [n, l, D] into the vector before the residual MLP and the one after it, each [n, D]."""
        c = self.config
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, c.width)).astype(x.dtype)
        heads = c.pool_heads or c.heads
        attention = MultiHeadDotProductAttention(heads, self.dtype, name="MultiHeadDotProductAttention_0")
        pooled, _ = attention(x, jnp.broadcast_to(probe, (x.shape[0], 1, c.width)))
        y = LayerNorm(c.norm_epsilon, self.dtype, name="LayerNorm_0")(pooled)
        y = MlpBlock(c.mlp_hidden, c.activation, dtype=self.dtype, name="MlpBlock_0")(y)
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
        rows, columns = h // p, w // p
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (p, p, channels, self.width))
        x = pixels[:, : rows * p, : columns * p].reshape(n, rows, p, columns, p, channels)
        x = x.swapaxes(2, 3).reshape(n, rows * columns, p * p * channels)  # in the order of the kernel
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

    `__call__` is `embed` and then `encode`; visual inversion enters at `encode`, with patches that no image
    has.
    """

    config: ImageTowerConfig
    dtype: Any = None

    def setup(self) -> None:
        c = self.config
        self.embedding = PatchEmbedding(c.patch_size, c.width, c.patch_bias, self.dtype)
        init = nn.initializers.normal(c.width**-0.5)
        if c.learned_positions:
            shape = (1, c.num_patches + c.has_class_token, c.width)
            self.pos_embedding = self.param("pos_embedding", init, shape)
        if c.has_class_token:
            self.cls = self.param("cls", nn.initializers.zeros_init(), (1, 1, c.width))
        if c.registers:
            self.reg = self.param("reg", init, (1, c.registers, c.width))
        if c.pre_norm:
            self.pre_norm = LayerNorm(c.norm_epsilon, self.dtype)
        self.Transformer = Encoder(c.depth, c.block, dtype=self.dtype)
        if c.pooling == "map":
            self.pool = MAPHead(c, self.dtype, name="MAPHead_0")
        if c.projection is not None:
            self.head = nn.Dense(c.projection, use_bias=c.projection_bias, dtype=self.dtype)

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
          before the residual MLP (IsoCLIP, supplement D). Under attention pooling that vector is also there
          as `"pooled"` [n, D].
        """
        return self.encode(self.embedding(pixels, kept_patches), kept_patches=kept_patches)

    def encode(
        self, x: jax.Array, *, kept_patches: jax.Array | None = None
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Embed patches [n, l, D], without positions; returns what `__call__` does."""
        c = self.config
        x = self._with_positions(x, kept_patches)
        if c.pre_norm:
            x = self.pre_norm(x)
        rotation = self._rotation(kept_patches)
        if c.pooling == "cls":
            x, _ = self.Transformer(x, rotation=rotation, only=slice(0, 1))
            pre = z = x[:, 0]
            out = {}
        elif c.pooling == "avg":
            patches = slice(c.num_prefix, None)
            x, _ = self.Transformer(x, rotation=rotation, average=patches if c.norm_after_pool else None)
            pooled = x if c.norm_after_pool else x[:, patches].mean(1, keepdims=True, dtype=jnp.float32)
            pre = z = pooled[:, 0].astype(x.dtype)
            out = {}
        else:
            x, _ = self.Transformer(x, rotation=rotation)
            pre, z = self.pool(x)
            out = {"pooled": pre}
        if c.projection is not None:
            pre, z = z, self.head(z)
        return z, {"pre_logits": pre, **out}

    def _with_positions(self, x: jax.Array, kept_patches: jax.Array | None) -> jax.Array:
        """Add positions to patches [n, l, D] and put the class token and the registers before them."""
        c = self.config
        prefix = [self.cls.astype(x.dtype)] if c.has_class_token else []
        if c.learned_positions:
            position = self.pos_embedding.astype(x.dtype)
            if c.has_class_token:
                prefix, position = [prefix[0] + position[:, :1]], position[:, 1:]
            x = x + (position if kept_patches is None else self._pick(position[0], kept_patches))
        if c.registers:
            prefix.append(self.reg.astype(x.dtype))
        prefix = [jnp.broadcast_to(token, (x.shape[0], *token.shape[1:])) for token in prefix]
        return jnp.concatenate([*prefix, x], 1) if prefix else x

    def _rotation(self, kept_patches: jax.Array | None) -> Rotation | None:
        """Sines and cosines for all tokens, those of the prefix unrotated."""
        c = self.config
        if c.rope is None:
            return None
        tables = rotation_table(
            c.rope, c.grid, c.width // c.heads, reference=c.rope_reference, prefix=c.num_prefix
        )
        sin, cos = map(jnp.asarray, tables)
        if kept_patches is None:
            return sin, cos
        n, prefix = len(kept_patches), c.num_prefix

        def keep(table: jax.Array) -> jax.Array:
            before = jnp.broadcast_to(table[:prefix], (n, prefix, table.shape[1]))
            return jnp.concatenate([before, self._pick(table[prefix:], kept_patches)], 1)

        return keep(sin), keep(cos)

    def _pick(self, table: jax.Array, kept_patches: jax.Array) -> jax.Array:
        """Rows [n, k, D] of `table` [N, D] by a product with one-hot rows: the transpose of a gather is a
        scatter, slow on CPU."""
        rows = jax.nn.one_hot(kept_patches, self.config.num_patches, dtype=table.dtype)
        return jnp.matmul(rows, table, precision=jax.lax.Precision.HIGHEST)
