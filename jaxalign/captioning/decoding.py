"""Tokens of captions, one after the other: the likeliest each time, or by beam search, as ClipCap does.

Shapes: n embeddings, d their width, b beams, m tokens at most, V vocabulary.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxalign.models.caption_decoder import Cache, CaptionDecoder, CaptionDecoderConfig

Params = Any


class Said(NamedTuple):
    """Captions that are being written, n of them, or n b.

    Attributes:
      tokens: int32 [n, m], zeros behind the length.
      lengths: int32 [n].
      stopped: bool [n], whether the last token ended it.
    """

    tokens: jax.Array
    lengths: jax.Array
    stopped: jax.Array


class Beams(NamedTuple):
    """All beams of n captions, the best first."""

    said: Said  # [n, b, ...]
    scores: jax.Array  # [n, b], the sum of log probabilities


@partial(jax.jit, static_argnames=("config", "most"))
def greedy(
    config: CaptionDecoderConfig, params: Params, embeddings: jax.Array, stop: int, most: int
) -> tuple[jax.Array, jax.Array]:
    """The likeliest token each time, up to and with `stop`, at most so many.

    Returns:
      tokens int32 [n, m], and how many of them there are, int32 [n].
    """
    start, step = _functions(config, params, most)
    logits, cache = start(embeddings)
    n = len(embeddings)
    nothing = Said(jnp.zeros((n, most), jnp.int32), jnp.zeros(n, jnp.int32), jnp.zeros(n, bool))

    def say(i: jax.Array, said: Said, logits: jax.Array) -> Said:
        token = jnp.where(said.stopped, 0, logits.argmax(-1).astype(jnp.int32))
        lengths = said.lengths + ~said.stopped
        return Said(said.tokens.at[:, i].set(token), lengths, said.stopped | (token == stop))

    def more(state: tuple[jax.Array, Said, Cache]) -> tuple[jax.Array, Said, Cache]:
        i, said, cache = state
        logits, cache = step(said.tokens[:, i - 1], i - 1, cache)
        return i + 1, say(i, said, logits), cache

    first = jnp.int32(1), say(jnp.int32(0), nothing, logits), cache
    _, said, _ = jax.lax.while_loop(lambda s: (s[0] < most) & ~s[1].stopped.all(), more, first)
    return said.tokens, said.lengths


@partial(jax.jit, static_argnames=("config", "most", "beams"))
def beam_search(
    config: CaptionDecoderConfig, params: Params, embeddings: jax.Array, stop: int, most: int, beams: int
) -> tuple[jax.Array, jax.Array]:
    """The best of so many beams by the mean log probability of their tokens; returns as `greedy`.

    A beam that has stopped keeps its mean, with which the others compete until all have stopped.
    """
    start, step = _functions(config, params, most)
    logits, cache = start(embeddings)
    n, flat = len(embeddings), len(embeddings) * beams
    scores, tokens = jax.lax.top_k(jax.nn.log_softmax(logits), beams)
    tokens = tokens.astype(jnp.int32)
    written = jnp.zeros((n, beams, most), jnp.int32).at[..., 0].set(tokens)
    found = Beams(Said(written, jnp.ones((n, beams), jnp.int32), tokens == stop), scores)
    cache = jax.tree.map(lambda kv: jnp.repeat(kv, beams, axis=0), cache)

    def more(state: tuple[jax.Array, Beams, Cache]) -> tuple[jax.Array, Beams, Cache]:
        i, old, cache = state
        logits, cache = step(old.said.tokens[..., i - 1].reshape(flat), i - 1, cache)
        new, source = _extended(old, jax.nn.log_softmax(logits).reshape(n, beams, -1), i, stop)
        done = old.said.stopped.all(1)  # whose beams stay as they are
        kept = jax.tree.map(lambda o, x: jnp.where(done.reshape(n, *(1,) * (x.ndim - 1)), o, x), old, new)
        rows = (jnp.arange(n)[:, None] * beams + source).reshape(flat)
        return i + 1, kept, jax.tree.map(lambda kv: kv[rows], cache)

    going = lambda state: (state[0] < most) & ~state[1].said.stopped.all()
    _, found, _ = jax.lax.while_loop(going, more, (jnp.int32(1), found, cache))
    best = (found.scores / found.said.lengths).argmax(1)
    take = lambda x: jnp.take_along_axis(x, best.reshape(n, *(1,) * (x.ndim - 1)), 1)[:, 0]
    return take(found.said.tokens), take(found.said.lengths)


def _extended(old: Beams, log_p: jax.Array, i: jax.Array, stop: int) -> tuple[Beams, jax.Array]:
    """The best continuations by one token, and which beam [n, b] each continues.

    Args:
      log_p: [n, b, V], of the next token.
    """
    n, beams, words = log_p.shape
    stopped = old.said.stopped[..., None]
    silence = jnp.where(jnp.arange(words) == 0, 0.0, -jnp.inf)  # one way to go on, which costs nothing
    sums = old.scores[..., None] + jnp.where(stopped, silence, log_p)
    lengths = old.said.lengths + ~old.said.stopped
    means, where = jax.lax.top_k((sums / lengths[..., None]).reshape(n, -1), beams)
    source, token = where // words, (where % words).astype(jnp.int32)
    of = lambda x: jnp.take_along_axis(x, source.reshape(n, beams, *(1,) * (x.ndim - 2)), 1)
    lengths = of(lengths)
    written = of(old.said.tokens).at[..., i].set(token)
    said = Said(written, lengths, of(old.said.stopped) | (token == stop))
    return Beams(said, means * lengths), source


def _functions(config: CaptionDecoderConfig, params: Params, most: int) -> tuple[Any, Any]:
    """The decoder's two steps: of embeddings [n, d], and of tokens [n] that come `at` places behind the
    prefix."""
    decoder, prefix = CaptionDecoder(config), config.mapper.prefix
    apply = partial(decoder.apply, {"params": params})
    start = lambda embeddings: apply(embeddings, most, method=CaptionDecoder.start)
    step = lambda tokens, at, cache: apply(tokens, prefix + at, cache, method=CaptionDecoder.step)
    return start, step
