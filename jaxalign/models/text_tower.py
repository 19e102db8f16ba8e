"""Text transformer: causal and pooled at the end token (CLIP), or bidirectional and at the last position."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError

from .attention import KeyValue
from .layers import check_epsilon, check_sizes, check_transformer
from .transformer import BlockConfig, Encoder

TextPooling = Literal["end", "argmax", "first", "last"]


@dataclass(frozen=True)
class TextTowerConfig:
    """Sizes and options of a text tower.

    Attributes:
      context: number of token ids that an input has, padding included.
      causal: True for CLIP; False for SigLIP, which attends over the padding too.
      end_token: the id that ends a text; None where nothing says which it is.
      pooling: the position whose vector is the feature: of the first `end_token`, of the largest id
        (`argmax`, OpenAI's rule, which is the same where the end token has the largest), or the `first` or
        `last` of the context. None for what the two kinds do: `end` if causal, else `last`.
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
    end_token: int | None
    pooling: TextPooling | None = None

    def __post_init__(self) -> None:
        sizes = ("vocabulary", "context", "width", "depth", "heads", "mlp_hidden", "projection")
        check_sizes("text tower", self, sizes)
        check_transformer("text tower", self.width, self.heads, self.activation)
        check_epsilon("text tower", self.norm_epsilon)
        if self.end_token is None and self.pools_at == "end":
            raise JaxalignError("text tower: end_token is null; expected the id that is pooled")
        if self.end_token is not None and not 0 <= self.end_token < self.vocabulary:
            raise JaxalignError(
                f"text tower: end_token is {self.end_token}; expected an id below {self.vocabulary}"
            )

    @property
    def pools_at(self) -> TextPooling:
        """`pooling`, or what None stands for."""
        return self.pooling or ("end" if self.causal else "last")


class TextTower(nn.Module):
    """Token ids to the pre-projection feature and the embedding.

    The methods are the parts that textual inversion recombines: `embed`, `encode`, `pool` and `project`;
    `__call__` runs them one after the other.
    """

    config: TextTowerConfig
    dtype: Any = None

    def setup(self) -> None:
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
        only = {"first": slice(0, 1), "last": slice(-1, None)}.get(self.config.pools_at)
        x, _ = self.encode(self.embed(tokens), only=only)
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
        pools_at = self.config.pools_at
        if pools_at in ("first", "last"):
            return x[:, 0 if pools_at == "first" else -1]
        score = tokens if pools_at == "argmax" else tokens == self.config.end_token
        return jnp.take_along_axis(x, score.argmax(-1)[:, None, None], axis=1)[:, 0]  # the first one

    def project(self, pre: jax.Array) -> jax.Array:
        """The linear projector: [n, D] to [n, d]."""
        return self.head(pre)
