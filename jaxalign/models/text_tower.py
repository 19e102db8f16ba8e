"""Text transformer: causal, pooled at the end token (CLIP), or bidirectional, at the last one (SigLIP)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError

from .attention import KeyValue
from .layers import check_sizes, check_transformer
from .transformer import BlockConfig, Encoder


@dataclass(frozen=True)
class TextTowerConfig:
    """Sizes and options of a text tower.

    Attributes:
      context: number of token ids that an input has, padding included.
      causal: True for CLIP (pooled at the first `end_token`), False for SigLIP (attends over the padding,
        pooled at the last position).
    """

    vocabulary: int
    context: int
    width: int
    depth: int
    heads: int
    mlp_hidden: int
    activation: str
    norm_epsilon: float
    causal: bool
    projection: int
    projection_bias: bool
    end_token: int

    def __post_init__(self):
        sizes = ("vocabulary", "context", "width", "depth", "heads", "mlp_hidden", "projection")
        check_sizes("text tower", self, sizes)
        check_transformer("text tower", self.width, self.heads, self.activation)
        if not 0 <= self.end_token < self.vocabulary:
            raise JaxalignError(
                f"text tower: end_token is {self.end_token}; expected an id below {self.vocabulary}"
            )


class TextTower(nn.Module):
    """Token ids to the pre-projection feature and the embedding.

    The methods are the parts that textual inversion recombines: `embed`, `encode`, `pool` and `project`;
    `__call__` runs them one after the other.
    """

    config: TextTowerConfig
    dtype: Any = None

    def setup(self):
        c = self.config
        self.token_embedding = nn.Embed(c.vocabulary, c.width, dtype=self.dtype, name="Embed_0")
        init = nn.initializers.normal(0.01)
        self.pos_embedding = self.param("pos_embedding", init, (1, c.context, c.width))
        block = BlockConfig(c.heads, c.mlp_hidden, c.activation, c.norm_epsilon)
        self.encoder = Encoder(c.depth, block, c.causal, self.dtype, name="Encoder_0")
        self.head = nn.Dense(c.projection, use_bias=c.projection_bias, dtype=self.dtype, name="head")

    def __call__(self, tokens: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Embed `tokens` int32 [n, context].

        Returns:
          The embedding [n, d], not normalised, and `{"pre_logits": pre-projection feature [n, D]}`.
        """
        # a causal tower pools another position for each text, a bidirectional one the last of all
        x, _ = self.encode(self.embed(tokens), only=None if self.config.causal else slice(-1, None))
        pre = self.pool(x, tokens)
        return self.project(pre), {"pre_logits": pre}

    def embed(self, tokens: jax.Array) -> jax.Array:
        """Token embeddings [n, l, D], without positions."""
        return self.token_embedding(tokens)

    def encode(
        self,
        x: jax.Array,
        *,
        start: int = 0,
        cache: Sequence[KeyValue] | None = None,
        only: slice | None = None,
    ) -> tuple[jax.Array, tuple[KeyValue, ...]]:
        """Run token embeddings [n, l, D] at positions `start` and following through the transformer.

        `cache` is what an earlier call returned for the tokens before `start` (causal towers only); `only`
        names the positions among these l that come back, where not all are needed.
        """
        position = self.pos_embedding[:, start : start + x.shape[1]].astype(x.dtype)
        return self.encoder(x + position, cache=cache, only=only)

    def pool(self, x: jax.Array, tokens: jax.Array) -> jax.Array:
        """The feature [n, D] of the pooled position of `x` [n, l, D]."""
        if not self.config.causal:
            return x[:, -1]
        end = (tokens == self.config.end_token).argmax(-1)  # the first one
        return jnp.take_along_axis(x, end[:, None, None], axis=1)[:, 0]

    def project(self, pre: jax.Array) -> jax.Array:
        """The linear projector: [n, D] to [n, d]."""
        return self.head(pre)
