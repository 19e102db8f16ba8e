"""A caption decoder: an embedding becomes a prefix, GPT-2 goes on from there (ClipCap, arXiv:2111.09734).

Shapes: n embeddings, d their width; p tokens of the prefix, l of a text, t of both; D width, H heads,
h = D / H.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError, unknown_name

from .attention import KeyValue
from .layers import LayerNorm, check_epsilon, check_sizes, check_transformer
from .transformer import BlockConfig, EncoderBlock

MAPPERS = ("mlp", "transformer")
Cache = tuple[KeyValue, ...]  # of every block, each [n, t, H, h]


@dataclass(frozen=True)
class MapperConfig:
    """How an embedding becomes the prefix.

    Attributes:
      kind: "mlp", two layers with a tanh between them; or "transformer", which puts learned tokens behind
        those of the embedding and takes what becomes of them.
      prefix: tokens of the prefix, p.
      hidden: of the MLP, or of those in the transformer's blocks.
      tokens: that the embedding is made of; transformer alone, as depth and heads.
    """

    kind: Literal["mlp", "transformer"]
    prefix: int
    hidden: int
    tokens: int = 0
    depth: int = 0
    heads: int = 0

    def check(self, width: int) -> None:
        """Raise JaxalignError for sizes that give no mapper of this width."""
        if self.kind not in MAPPERS:
            raise unknown_name("mapper", str(self.kind), MAPPERS)
        check_sizes("mapper", self, ("prefix", "hidden"))
        if self.kind == "transformer":
            check_sizes("mapper", self, ("tokens", "depth", "heads"))
            check_transformer("mapper", width, self.heads, "relu")


@dataclass(frozen=True)
class CaptionDecoderConfig:
    """Sizes and options of a caption decoder.

    Attributes:
      embedding: width of the embeddings that are put into words, d.
      context: positions that there are, those of the prefix among them.
    """

    embedding: int
    mapper: MapperConfig
    vocabulary: int
    context: int
    width: int
    depth: int
    heads: int
    mlp_hidden: int
    activation: str = "gelu_tanh"
    norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        part = "caption decoder"
        sizes = ("embedding", "vocabulary", "context", "width", "depth", "heads", "mlp_hidden")
        check_sizes(part, self, sizes)
        check_transformer(part, self.width, self.heads, self.activation)
        check_epsilon(part, self.norm_epsilon)
        self.mapper.check(self.width)
        if self.mapper.prefix >= self.context:
            raise JaxalignError(
                f"{part}: a prefix of {self.mapper.prefix} tokens leaves none of {self.context} positions for"
                " a caption"
            )


class MlpMapper(nn.Module):
    """[n, d] to [n, p, D] by two layers with a tanh between them."""

    config: MapperConfig
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.tanh(nn.Dense(self.config.hidden, name="Dense_0")(x))
        x = nn.Dense(self.config.prefix * self.width, name="Dense_1")(x)
        return x.reshape(-1, self.config.prefix, self.width)


class TransformerMapper(nn.Module):
    """[n, d] to [n, p, D]: what learned tokens become that see those of the embedding, and each other.

    Its blocks have no LayerNorm behind them.
    """

    config: MapperConfig
    width: int
    norm_epsilon: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c = self.config
        learned = self.param("prefix", nn.initializers.normal(1.0), (c.prefix, self.width))
        x = nn.Dense(c.tokens * self.width, name="Dense_0")(x).reshape(-1, c.tokens, self.width)
        x = jnp.concatenate([x, jnp.broadcast_to(learned, (len(x), *learned.shape)).astype(x.dtype)], 1)
        block = BlockConfig(c.heads, c.hidden, "relu", self.norm_epsilon)
        for i in range(c.depth):
            x, _ = EncoderBlock(block, name=f"encoderblock_{i}")(x)
        return x[:, c.tokens :]


class CaptionDecoder(nn.Module):
    """Embeddings, and the tokens so far, to logits of the next token.

    `start` and `step` give the same one token at a time, with a cache of a fixed length.
    """

    config: CaptionDecoderConfig

    def setup(self) -> None:
        c = self.config
        if c.mapper.kind == "mlp":
            self.mapper = MlpMapper(c.mapper, c.width)
        else:
            self.mapper = TransformerMapper(c.mapper, c.width, c.norm_epsilon)
        self.words = nn.Embed(c.vocabulary, c.width, name="Embed_0")
        self.positions = self.param("pos_embedding", nn.initializers.normal(0.01), (c.context, c.width))
        block = BlockConfig(c.heads, c.mlp_hidden, c.activation, c.norm_epsilon)
        self.blocks = [EncoderBlock(block, name=f"encoderblock_{i}") for i in range(c.depth)]
        self.norm = LayerNorm(c.norm_epsilon, name="encoder_norm")

    def __call__(self, embeddings: jax.Array, tokens: jax.Array) -> jax.Array:
        """Logits [n, p + l, vocabulary] of what follows each position.

        Args:
          embeddings: [n, d].
          tokens: int32 [n, l].
        """
        x = jnp.concatenate([self.mapper(embeddings), self.words(tokens)], 1)
        return self.logits(self.encode(x)[0])

    def encode(
        self,
        x: jax.Array,
        at: Any = 0,
        mask: jax.Array | None = None,
        cache: Sequence[KeyValue] | None = None,
    ) -> tuple[jax.Array, Cache]:
        """Features of tokens [n, t, D] at positions from `at` on, and every block's keys and values.

        Args:
          mask: bool [t, m + t], where attention is allowed to the m tokens of `cache` and these; by default
            to those that stand before.
        """
        length = x.shape[1]
        x = x + jax.lax.dynamic_slice_in_dim(self.positions, at, length).astype(x.dtype)
        mask = jnp.tril(jnp.ones((length, length), bool)) if mask is None else mask
        key_values = []
        for i, block in enumerate(self.blocks):
            x, key_value = block(x, mask=mask, cache=cache[i] if cache else None)
            key_values.append(key_value)
        return self.norm(x), tuple(key_values)

    def logits(self, features: jax.Array) -> jax.Array:
        """Logits [..., vocabulary] by the word vectors themselves."""
        return self.words.attend(features)

    def start(self, embeddings: jax.Array, room: int) -> tuple[jax.Array, Cache]:
        """Logits [n, vocabulary] of the first token, and a cache with room for so many more tokens."""
        x, key_values = self.encode(self.mapper(embeddings))
        grown = jax.tree.map(lambda kv: jnp.pad(kv, ((0, 0), (0, room), (0, 0), (0, 0))), key_values)
        return self.logits(x[:, -1]), grown

    def step(self, tokens: jax.Array, at: jax.Array, cache: Cache) -> tuple[jax.Array, Cache]:
        """Logits [n, vocabulary] of what follows `tokens` int32 [n] at position `at`; the cache with them."""
        length = cache[0][0].shape[1]
        place = jnp.arange(length + 1)
        seen = (place < at) | (place == length)  # what the cache holds so far, and the token itself
        x, new = self.encode(self.words(tokens)[:, None], at, seen[None], cache)
        put = lambda kept, own: jax.lax.dynamic_update_slice_in_dim(kept, own, at, 1)
        return self.logits(x[:, 0]), jax.tree.map(put, cache, new)
