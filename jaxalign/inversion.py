"""Modality inversion: an embedding of one modality turned into input of the other tower, by optimisation.

OTI (text inversion) finds pseudo-tokens in place of `{}` in a prompt whose text embedding points where an
image embedding does; OVI (visual inversion) finds pseudo-patches for a text embedding. Source: Cross the Gap
(arXiv:2502.04263), as used for the baselines of IsoCLIP (supplement E.2).

The published code averages the loss over its batch, so Adam's epsilon weighs differently at each batch size.
Here every example is an optimisation of its own: the result does not depend on which examples share a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTower, ImageTowerConfig, TextTower, TextTowerConfig
from jaxalign.ranking import as_features

_INITIAL_SCALE = 0.02  # standard deviation of the pseudo-tokens before the first step
_TEXT_BATCH = 256  # two live tokens an example: larger products pay until memory bandwidth is used up
_IMAGE_BATCH = 16  # all tokens are live


@struct.dataclass
class Inversion:
    """n optimised inputs and the embeddings that they give.

    Attributes:
      tokens: pseudo-tokens or pseudo-patches `[n, p, width]`.
      embeddings: of the prompts or pictures with them, `[n, d]`, not normalised.
      losses: `1 - cosine` before each step, `[n, steps]`.
      kept: for each step in `keep`, the embeddings `[n, d]` after that many steps.
    """

    tokens: jax.Array
    embeddings: jax.Array
    losses: jax.Array
    kept: dict[int, jax.Array]


def invert_to_text(
    model: DualEncoder,
    image_embeddings: ArrayLike,
    *,
    steps: int = 150,
    learning_rate: float = 0.02,
    weight_decay: float = 0.01,
    num_tokens: int = 1,
    template: str = "a photo of {}",
    key: jax.Array,
    batch_size: int | None = None,
    keep: Sequence[int] = (),
) -> Inversion:
    """OTI: pseudo-tokens whose prompt has the text embedding nearest to an image embedding, by cosine.

    AdamW with betas 0.9 and 0.999 and eps 1e-8 from N(0, 0.02^2). In a causal text tower nothing before the
    pseudo-tokens depends on them, so the keys and values of that prefix are computed once and a step runs
    only the pseudo-tokens, the rest of the template and the end token; the result is the same.

    Args:
      image_embeddings: `[n, d]`; their lengths do not matter.
      num_tokens: pseudo-tokens in place of the `{}` of `template`.
      key: example i starts from `fold_in(key, i)`, whatever the batch size.
      batch_size: examples optimised at once; 256 by default.
      keep: step counts between 0 and `steps` whose embeddings are returned too.

    Returns:
      Inversion with `tokens [n, num_tokens, width]` and text embeddings.

    Raises:
      JaxalignError: a template without exactly one `{}` or too long for the context, embeddings of another
        width or with NaN (their positions are named), or counts out of range.
    """
    targets = _check_targets("image_embeddings", image_embeddings, model)
    descent = _check_descent(steps, learning_rate, weight_decay, keep)
    _check_counts(num_tokens=num_tokens, batch_size=batch_size)
    prompt = _prompt(model, template, num_tokens)
    shape = (num_tokens, model.config.text.width)
    return _invert(prompt, descent, model.params["txt"], targets, shape, key, batch_size or _TEXT_BATCH)


def invert_to_image(
    model: DualEncoder,
    text_embeddings: ArrayLike,
    *,
    steps: int = 1000,
    learning_rate: float = 0.02,
    weight_decay: float = 0.01,
    num_patches: int | None = None,
    key: jax.Array,
    batch_size: int | None = None,
    keep: Sequence[int] = (),
) -> Inversion:
    """OVI: pseudo-patches that give the image embedding nearest to a text embedding, by cosine.

    The pseudo-patches take the place of the patch embedding's output: repeated to the number of patches by
    nearest neighbour in reading order, then positions and the class token as for a picture. Optimiser and
    start as in `invert_to_text`.

    Args:
      text_embeddings: `[n, d]`; their lengths do not matter.
      num_patches: pseudo-patches; by default what suits the backbone (`spec.inversion_patches`).
      key: example i starts from `fold_in(key, i)`, whatever the batch size.
      batch_size: examples optimised at once; 16 by default.
      keep: step counts between 0 and `steps` whose embeddings are returned too.

    Returns:
      Inversion with `tokens [n, num_patches, width]` and image embeddings.

    Raises:
      JaxalignError: embeddings of another width or with NaN (their positions are named), or counts out of
        range.
    """
    targets = _check_targets("text_embeddings", text_embeddings, model)
    descent = _check_descent(steps, learning_rate, weight_decay, keep)
    _check_counts(num_patches=num_patches, batch_size=batch_size)
    config = model.config.image
    patches = num_patches or model.spec.inversion_patches
    if patches > config.num_patches:
        raise JaxalignError(
            f"num_patches is {patches}; expected at most the {config.num_patches} patches of a picture"
        )
    picture, shape = _Picture(config, model.dtype), (patches, config.width)
    return _invert(picture, descent, model.params["img"], targets, shape, key, batch_size or _IMAGE_BATCH)


# The ways from pseudo-tokens to an embedding. Frozen, so that equal ones share a compilation. `prepare`
# computes once a batch what no step changes.


@dataclass(frozen=True)
class _CausalPrompt:
    """`before`, the pseudo-tokens, `after` up to the end token; nothing behind that one is ever looked at."""

    config: TextTowerConfig
    dtype: Any
    before: tuple[int, ...]
    after: tuple[int, ...]

    def prepare(self, params: Any) -> Any:
        """Keys and values of the tokens before (None without any), embeddings [1, m, D] of those after."""
        tower = TextTower(self.config, self.dtype).bind({"params": params})
        after = tower.embed(jnp.array([self.after], jnp.int32))
        if not self.before:
            return None, after
        _, cache = tower.encode(tower.embed(jnp.array([self.before], jnp.int32)))
        return cache, after

    def __call__(self, params: Any, prepared: Any, tokens: jax.Array) -> jax.Array:
        tower = TextTower(self.config, self.dtype).bind({"params": params})
        cache, after = prepared
        live = _join(tokens.astype(self.dtype), after)
        x, _ = tower.encode(live, start=len(self.before), cache=cache, only=slice(-1, None))
        return tower.project(x[:, 0])


@dataclass(frozen=True)
class _PaddedPrompt:
    """The same in a bidirectional tower: `after` reaches to the end of the context, all is computed."""

    config: TextTowerConfig
    dtype: Any
    before: tuple[int, ...]
    after: tuple[int, ...]

    def prepare(self, params: Any) -> Any:
        """Embeddings [1, m, D] of the tokens before and of those after."""
        tower = TextTower(self.config, self.dtype).bind({"params": params})
        return tuple(tower.embed(jnp.array([ids], jnp.int32)) for ids in (self.before, self.after))

    def __call__(self, params: Any, prepared: Any, tokens: jax.Array) -> jax.Array:
        tower = TextTower(self.config, self.dtype).bind({"params": params})
        before, after = prepared
        x, _ = tower.encode(_join(before, tokens.astype(self.dtype), after), only=slice(-1, None))
        return tower.project(x[:, 0])


@dataclass(frozen=True)
class _Picture:
    """Pseudo-patches [n, p, D], each repeated to its share of the patches, in reading order."""

    config: ImageTowerConfig
    dtype: Any

    def prepare(self, params: Any) -> Any:
        return None

    def __call__(self, params: Any, prepared: Any, tokens: jax.Array) -> jax.Array:
        count, p = self.config.num_patches, tokens.shape[1]
        # a product with one-hot rows: the transpose of a gather is a scatter, slow on CPU
        source = jax.nn.one_hot(np.arange(count) * p // count, p, dtype=tokens.dtype)
        patches = jnp.einsum("lp,npD->nlD", source, tokens, precision=jax.lax.Precision.HIGHEST)
        tower = ImageTower(self.config, self.dtype).bind({"params": params})
        return tower.encode(patches.astype(self.dtype))[0]


def _join(*parts: jax.Array) -> jax.Array:
    """Tokens [n or 1, l, D] one after the other."""
    n = max(x.shape[0] for x in parts)
    return jnp.concatenate([jnp.broadcast_to(x, (n, *x.shape[1:])) for x in parts], axis=1)


@dataclass(frozen=True)
class _Descent:
    """The optimisation's own settings."""

    steps: int
    learning_rate: float
    weight_decay: float
    keep: tuple[int, ...]


def _invert(
    forward: _CausalPrompt | _PaddedPrompt | _Picture,
    descent: _Descent,
    params: Any,
    targets: jax.Array,
    shape: tuple[int, int],
    key: jax.Array,
    batch_size: int,
) -> Inversion:
    """Optimise for all `targets` [n, d], in batches of one size; the last one is filled up with copies."""
    n = len(targets)
    size = min(batch_size, n)
    batches = []
    for start in range(0, n, size):
        index = jnp.minimum(jnp.arange(start, start + size), n - 1)
        tokens = _initial_tokens(key, index, shape)
        batches.append(_descend(forward, descent, params, targets[index], tokens))
    tokens, embeddings, losses, kept = zip(*batches, strict=True)
    tokens, embeddings, losses = (jnp.concatenate(parts)[:n] for parts in (tokens, embeddings, losses))
    kept = jnp.concatenate(kept, axis=1)[:, :n]
    return Inversion(tokens, embeddings, losses, dict(zip(descent.keep, kept, strict=True)))


@partial(jax.jit, static_argnums=2)
def _initial_tokens(key: jax.Array, index: jax.Array, shape: tuple[int, int]) -> jax.Array:
    draw = lambda i: _INITIAL_SCALE * jax.random.normal(jax.random.fold_in(key, i), shape)
    return jax.vmap(draw)(index)


@partial(jax.jit, static_argnums=(0, 1))
def _descend(
    forward: Any, descent: _Descent, params: Any, targets: jax.Array, tokens: jax.Array
) -> tuple[jax.Array, ...]:
    """One batch: tokens [b, p, D], embeddings [b, d], losses [b, steps], embeddings at `keep` [k, b, d].

    The gradient of the sum of the losses holds every example's own, and AdamW works element by element.
    """
    import optax

    optimizer = optax.adamw(descent.learning_rate, 0.9, 0.999, 1e-8, weight_decay=descent.weight_decay)
    prepared = forward.prepare(params)
    targets = targets / jnp.linalg.norm(targets, axis=-1, keepdims=True)
    keep = jnp.array(descent.keep, jnp.int32)[:, None, None]

    def objective(tokens: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        z = forward(params, prepared, tokens).astype(jnp.float32)
        loss = 1 - (z * targets).sum(-1) / jnp.linalg.norm(z, axis=-1)
        return loss.sum(), (loss, z)

    def step(carry: Any, i: jax.Array) -> tuple[Any, jax.Array]:
        tokens, state, kept = carry
        gradient, (loss, z) = jax.grad(objective, has_aux=True)(tokens)
        updates, state = optimizer.update(gradient, state, tokens)
        return (optax.apply_updates(tokens, updates), state, jnp.where(keep == i, z, kept)), loss

    start = (tokens, optimizer.init(tokens), jnp.zeros((len(descent.keep), *targets.shape)))
    (tokens, _, kept), losses = jax.lax.scan(step, start, jnp.arange(descent.steps))
    _, (_, z) = objective(tokens)
    return tokens, z, losses.T, jnp.where(keep == descent.steps, z, kept)


def _prompt(model: DualEncoder, template: str, num_tokens: int) -> _CausalPrompt | _PaddedPrompt:
    """The template around the pseudo-tokens, in token ids."""
    if template.count("{}") != 1:
        raise JaxalignError(
            f"template {template!r} has {{}} {template.count('{}')} times; expected it once, where the"
            " pseudo-tokens go"
        )
    tokenizer, config = model.require_tokenizer(), model.config.text
    before, after = tokenizer.words(template.split("{}"))
    before = before if tokenizer.start_token is None else [tokenizer.start_token, *before]
    after = [*after, tokenizer.end_token]
    length = len(before) + num_tokens + len(after)
    if length > config.context:
        raise JaxalignError(
            f"template {template!r} with {num_tokens} pseudo-tokens takes {length} tokens; expected at most"
            f" {config.context}, the context of {model.name}"
        )
    if config.end_token in (*before, *after[:-1]):
        raise JaxalignError(
            f"template {template!r} contains the end token, where the text would end; leave it out"
        )
    if config.causal:
        return _CausalPrompt(config, model.dtype, tuple(before), tuple(after))
    padding = [tokenizer.pad_token] * (config.context - length)
    return _PaddedPrompt(config, model.dtype, tuple(before), (*after, *padding))


def _check_targets(name: str, embeddings: ArrayLike, model: DualEncoder) -> jax.Array:
    targets = as_features(name, embeddings)
    width = model.config.text.projection
    if targets.shape[1] != width:
        raise JaxalignError(
            f"{name} has shape {targets.shape}; expected [n, {width}], the embedding width of {model.name}"
            " (embeddings, not pre-projection features)"
        )
    if not isinstance(targets, Tracer):
        zero = np.flatnonzero(~np.asarray(targets).any(axis=1))
        if zero.size:
            raise JaxalignError(
                f"{name} is all zero in row {zero[0]}, which has no direction; leave that example out"
            )
    return targets


def _check_descent(steps: int, learning_rate: float, weight_decay: float, keep: Sequence[int]) -> _Descent:
    _check_counts(steps=steps)
    wrong = [k for k in keep if not 0 <= k <= steps]
    if wrong:
        raise JaxalignError(f"keep has {wrong[0]}; expected step counts from 0 to {steps}")
    return _Descent(
        int(steps), float(learning_rate), float(weight_decay), tuple(dict.fromkeys(map(int, keep)))
    )


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise JaxalignError(f"{name} is {count}; expected 1 or more")
