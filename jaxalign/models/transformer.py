"""The pre-LN transformer that every tower is made of, with a key/value cache for causal prefixes.

Modules and parameters carry big_vision's names and shapes (`big_vision/models/vit.py`), so its checkpoints
load as they are. Shapes: n examples, l tokens, D width, H heads, h = D / H.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .attention import KeyValue, MultiHeadDotProductAttention
from .layers import LayerNorm, LayerScale, MlpBlock
from .rope import RopeKind, Rotation


@dataclass(frozen=True)
class BlockConfig:
    """What the blocks of one tower have in common.

    Attributes:
      gated_mlp: `activation(gate(x)) * Dense_0(x)` in place of `activation(Dense_0(x))`.
      sub_norm: LayerNorms inside both branches, before their last projection (EVA-02).
      layer_scale: both branches end in a learned factor for each channel (DINO).
      rope: rotary positions on queries and keys.
    """

    heads: int
    mlp_hidden: int
    activation: str
    norm_epsilon: float
    gated_mlp: bool = False
    sub_norm: bool = False
    layer_scale: bool = False
    rope: RopeKind | None = None


class EncoderBlock(nn.Module):
    """x + attention(LN x), then x + mlp(LN x)."""

    config: BlockConfig
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        cache: KeyValue | None = None,
        mask: jax.Array | None = None,
        rotation: Rotation | None = None,
        only: slice | None = None,
    ) -> tuple[jax.Array, KeyValue]:
        """Map `x` [n, l, D]; with `only`, just those positions come back (the others still serve as keys)."""
        c = self.config
        sub_norm = c.norm_epsilon if c.sub_norm else None
        y = LayerNorm(c.norm_epsilon, self.dtype, name="LayerNorm_0")(x)
        y, key_value = MultiHeadDotProductAttention(
            c.heads, self.dtype, c.rope, sub_norm, name="MultiHeadDotProductAttention_0"
        )(y, only=only, cache=cache, mask=mask, rotation=rotation)
        x = (x if only is None else x[:, only]) + self._scaled(y, "LayerScale_0")
        y = LayerNorm(c.norm_epsilon, self.dtype, name="LayerNorm_1")(x)
        y = MlpBlock(c.mlp_hidden, c.activation, c.gated_mlp, sub_norm, self.dtype, name="MlpBlock_0")(y)
        return x + self._scaled(y, "LayerScale_1"), key_value

    def _scaled(self, y: jax.Array, name: str) -> jax.Array:
        return LayerScale(name=name)(y) if self.config.layer_scale else y


class Encoder(nn.Module):
    """A stack of blocks and a final LayerNorm."""

    depth: int
    block: BlockConfig
    causal: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        cache: Sequence[KeyValue] | None = None,
        rotation: Rotation | None = None,
        only: slice | None = None,
        average: slice | None = None,
    ) -> tuple[jax.Array, tuple[KeyValue, ...]]:
        """Encode `x` [n, l, D]; in a causal encoder `cache` holds what this call returned for the m tokens
        before.

        Args:
          rotation: sines and cosines of the l tokens, for every block; needs `block.rope`.
          only: the positions that are pooled afterwards. The last block then computes nothing else: a twelfth
            of a ViT-B, half of a tower with two blocks.
          average: positions whose mean takes the place of the tokens before the final LayerNorm.

        Returns:
          Tokens [n, l or the length of `only`, D] after the final LayerNorm ([n, 1, D] with `average`), and
          the keys and values of every block for all l tokens.
        """
        before = cache[0][0].shape[1] if cache else 0
        length = x.shape[1]
        mask = jnp.tril(jnp.ones((length, before + length), bool), before) if self.causal else None
        key_values = []
        for i in range(self.depth):
            block = EncoderBlock(self.block, self.dtype, name=f"encoderblock_{i}")
            last = only if i == self.depth - 1 else None
            cached = cache[i] if cache else None
            x, key_value = block(x, cache=cached, mask=mask, rotation=rotation, only=last)
            key_values.append(key_value)
        if average is not None:
            x = x[:, average].mean(1, keepdims=True, dtype=jnp.float32).astype(x.dtype)
        norm = LayerNorm(self.block.norm_epsilon, self.dtype, name="encoder_norm")
        return norm(x), tuple(key_values)
