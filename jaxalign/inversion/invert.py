"""`invert_to_text` (OTI) and `invert_to_image` (OVI)."""

from __future__ import annotations  # help() shows them as they are written here

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.arguments import check_kind
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.features import as_floats, as_rows, is_count
from jaxalign.models import ImageTowerConfig
from jaxalign.sharding import check_mesh

from .batches import Examples, Inversion, OnBatch, invert_all, is_concrete
from .descent import Descent
from .image_path import ImagePath
from .prompt import text_path


def invert_to_text(
    model: DualEncoder,
    image_embeddings: ArrayLike,
    *,
    steps: int = 150,
    learning_rate: float = 0.02,
    weight_decay: float = 0.01,
    num_tokens: int = 1,
    template: str = "a photo of {}",
    key: jax.Array | None = None,
    batch_size: int | None = None,
    keep: Sequence[int] = (),
    tolerance: float | None = None,
    initial: ArrayLike | None = None,
    indices: ArrayLike | None = None,
    skip_invalid: bool = False,
    on_batch: OnBatch | None = None,
    mesh: Mesh | None = None,
) -> Inversion:
    """OTI: pseudo-tokens whose prompt has the text embedding nearest to an image embedding, by cosine.

    AdamW with betas 0.9 and 0.999 and eps 1e-8 from N(0, 0.02^2). In a causal text tower nothing before the
    pseudo-tokens depends on them, so the keys and values of that prefix are computed once and a step runs
    only the pseudo-tokens, the rest of the template and the end token; the result is the same. A model that
    computes in bfloat16 does so here too; pseudo-tokens and optimiser state stay float32.

    Args:
      image_embeddings: `[n, d]`; their lengths do not matter.
      num_tokens: pseudo-tokens in place of the `{}` of `template`.
      key: `jax.random.key(seed)`; example i starts from `fold_in(key, i)`, whatever the batch size. May be
        left out with `initial`.
      batch_size: examples optimised at once; by default what keeps the device busy and fits its memory.
      keep: step counts between 0 and `steps` whose embeddings are returned too.
      tolerance: an example whose loss has not fallen by this much within 10 steps has converged and is left
        as it is; the batch ends when all have. None for all `steps`.
      initial: starting points instead of random ones, `[n, num_tokens, width]`, or `[num_tokens, width]` for
        all examples, such as rows of `model.params["txt"]["Embed_0"]["embedding"]`.
      indices: the examples' numbers int `[n]`, by default 0 to n - 1. A part of a data set, inverted with its
        numbers in the whole, gives what it gives there: an interrupted run goes on with what is missing.
      skip_invalid: examples with NaN, infinite values or zeros only get NaN instead of an error; the others
        are as without them.
      on_batch: called with each finished batch: its positions among the examples, and its `Inversion`. For
        progress, and for writing results down as they come.
      mesh: devices whose axis `data` the examples of a batch are divided over.

    Returns:
      Inversion with `tokens [n, num_tokens, width]` and text embeddings.

    Raises:
      JaxalignError: a template without exactly one `{}` or too long for the context, an image-only model,
        embeddings of another width, or with NaN, infinite values or zeros only (the examples are named),
        counts out of range, or neither `key` nor `initial`.

    Examples:
      >>> import jax
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> model = ja.load("emoji-clip")
      >>> images = model.encode_image(np.zeros((1, 48, 48, 3), np.uint8))
      >>> found = ja.invert_to_text(model, images, steps=2, key=jax.random.key(0))
      >>> found.embeddings.shape
      (1, 64)
    """
    check_kind("model", model, DualEncoder, "what jaxalign.load gives")
    model.require_text()
    descent = _descent(steps, learning_rate, weight_decay, keep, tolerance)
    _check_counts(num_tokens=num_tokens, batch_size=batch_size)
    if mesh is not None:
        check_mesh(mesh)
    path = text_path(model, template, num_tokens)
    examples, valid = _examples(
        "image_embeddings", image_embeddings, model, path.shape, key, initial, indices, skip_invalid
    )
    found = invert_all(
        path, descent, model.params["txt"], examples, batch_size, mesh, _masked(on_batch, valid)
    )
    return _mask(found, valid)


def invert_to_image(
    model: DualEncoder,
    text_embeddings: ArrayLike,
    *,
    steps: int = 1000,
    learning_rate: float = 0.02,
    weight_decay: float = 0.01,
    num_patches: int | None = None,
    key: jax.Array | None = None,
    batch_size: int | None = None,
    keep: Sequence[int] = (),
    tolerance: float | None = None,
    initial: ArrayLike | None = None,
    indices: ArrayLike | None = None,
    skip_invalid: bool = False,
    on_batch: OnBatch | None = None,
    mesh: Mesh | None = None,
) -> Inversion:
    """OVI: pseudo-patches that give the image embedding nearest to a text embedding, by cosine.

    The pseudo-patches take the place of the patch embedding's output: repeated to the number of patches by
    nearest neighbour in reading order, then positions and the class token as for an image. Optimiser, start
    and the arguments that are not listed here are as in `invert_to_text`.

    Args:
      text_embeddings: `[n, d]`; their lengths do not matter.
      num_patches: pseudo-patches; by default what suits the backbone (`spec.inversion_patches`, IsoCLIP's
        table S5).
      initial: starting points `[n, num_patches, width]` or `[num_patches, width]`.

    Returns:
      Inversion with `tokens [n, num_patches, width]` and image embeddings.

    Raises:
      JaxalignError: as `invert_to_text`, for more pseudo-patches than an image has patches, and for an image
        tower without patches (ResNet).

    Examples:
      >>> import jax
      >>> import jaxalign as ja
      >>> model = ja.load("emoji-clip")
      >>> texts = model.encode_text(["a photo of a goose"])
      >>> found = ja.invert_to_image(model, texts, steps=1, key=jax.random.key(0))
      >>> found.embeddings.shape
      (1, 64)
    """
    check_kind("model", model, DualEncoder, "what jaxalign.load gives")
    model.require_text()
    descent = _descent(steps, learning_rate, weight_decay, keep, tolerance)
    _check_counts(num_patches=num_patches, batch_size=batch_size)
    if mesh is not None:
        check_mesh(mesh)
    path = _image_path(model, num_patches)
    examples, valid = _examples(
        "text_embeddings", text_embeddings, model, path.shape, key, initial, indices, skip_invalid
    )
    found = invert_all(
        path, descent, model.params["img"], examples, batch_size, mesh, _masked(on_batch, valid)
    )
    return _mask(found, valid)


def _image_path(model: DualEncoder, num_patches: int | None) -> ImagePath:
    config = model.config.image
    if not isinstance(config, ImageTowerConfig):
        raise JaxalignError(
            f"the image tower of {model.name} is a ResNet; expected a vision transformer, whose patches can"
            " be optimised"
        )
    count = num_patches or model.spec.inversion_patches
    if count > config.num_patches:
        raise JaxalignError(
            f"num_patches is {count}; expected at most the {config.num_patches} patches of an image"
        )
    return ImagePath(config, model.dtype, count)


def _examples(
    name: str,
    embeddings: ArrayLike,
    model: DualEncoder,
    shape: tuple[int, int],
    key: jax.Array | None,
    initial: ArrayLike | None,
    indices: ArrayLike | None,
    skip_invalid: bool,
) -> tuple[Examples, np.ndarray | None]:
    """The examples and, where some are to be skipped, which are valid, bool [n]."""
    targets = as_rows(name, embeddings)
    width = model.require_text().projection
    if targets.ndim != 2 or targets.shape[1] != width or not len(targets):
        raise JaxalignError(
            f"{name} has shape {targets.shape}; expected [n, {width}], one row per example with the embedding"
            f" width of {model.name} (embeddings, not pre-projection features)"
        )
    n = len(targets)
    numbers = jnp.arange(n, dtype=jnp.int32) if indices is None else jnp.asarray(indices)
    if numbers.shape != (n,) or not jnp.issubdtype(numbers.dtype, jnp.integer):
        raise JaxalignError(
            f"indices have shape {numbers.shape} and dtype {numbers.dtype}; expected one integer for each of"
            f" the {n} examples"
        )
    targets, valid = _check_values(name, targets.astype(jnp.float32), numbers, skip_invalid)
    return Examples(targets, numbers, key, _initial(initial, n, shape, key)), valid


def _check_values(
    name: str, targets: jax.Array, numbers: jax.Array, skip_invalid: bool
) -> tuple[jax.Array, np.ndarray | None]:
    """Targets that all have a direction; raises, with the examples' numbers, or says which do not."""
    if not is_concrete(targets):
        return targets, None
    values = np.asarray(targets)
    valid = np.asarray(np.isfinite(values).all(axis=1) & values.any(axis=1))
    if valid.all():
        return targets, None
    if not skip_invalid:
        bad = np.asarray(numbers)[~valid]
        named = ", ".join(map(str, bad[:20])) + (", ..." if len(bad) > 20 else "")
        raise JaxalignError(
            f"{name} has NaN, infinite values or zeros only in {len(bad)} of {len(valid)} examples: {named};"
            " leave them out, or pass skip_invalid=True to get NaN for them"
        )
    return jnp.where(valid[:, None], targets, 1.0), valid  # any direction: no example depends on another


def _initial(
    initial: ArrayLike | None, n: int, shape: tuple[int, int], key: jax.Array | None
) -> jax.Array | None:
    """Starting points float32 [n, p, D], or None for random ones."""
    if initial is None:
        if key is None:
            raise JaxalignError(
                "key is missing; expected jax.random.key(seed), or starting points in `initial`"
            )
        return None
    start = as_floats("initial", initial).astype(jnp.float32)
    if start.shape not in (shape, (n, *shape)):
        raise JaxalignError(
            f"initial has shape {start.shape}; expected {list(shape)} for all examples or {[n, *shape]}"
        )
    if is_concrete(start) and not np.isfinite(np.asarray(start)).all():
        raise JaxalignError("initial has NaN or infinite values; expected finite starting points")
    return jnp.broadcast_to(start, (n, *shape))


def _masked(on_batch: OnBatch | None, valid: np.ndarray | None) -> OnBatch | None:
    """`on_batch` with NaN for the examples that are skipped."""
    if on_batch is None or valid is None:
        return on_batch
    return lambda rows, part: on_batch(rows, _mask(part, valid[rows]))


def _mask(found: Inversion, valid: np.ndarray | None) -> Inversion:
    if valid is None:
        return found

    def mask(x: jax.Array) -> jax.Array:
        return jnp.where(valid.reshape(-1, *(1,) * (x.ndim - 1)), x, jnp.nan)

    floats, updates = (found.tokens, found.embeddings, found.losses, found.kept), found.updates
    return Inversion(*jax.tree.map(mask, floats), updates=jnp.where(valid, updates, 0))


def _descent(
    steps: int, learning_rate: float, weight_decay: float, keep: Sequence[int], tolerance: float | None
) -> Descent:
    _check_counts(steps=steps)
    wrong = [k for k in keep if not 0 <= k <= steps]
    if wrong:
        raise JaxalignError(f"keep has {wrong[0]}; expected step counts from 0 to {steps}")
    if tolerance is not None and not tolerance >= 0:
        raise JaxalignError(f"tolerance is {tolerance}; expected a loss of 0 or more, or None")
    kept = tuple(dict.fromkeys(map(int, keep)))
    limit = None if tolerance is None else float(tolerance)
    return Descent(int(steps), float(learning_rate), float(weight_decay), kept, limit)


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and not is_count(count):
            raise JaxalignError(f"{name} is {count}; expected 1 or more")
