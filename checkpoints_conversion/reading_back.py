"""Whether what was written is the model that it was written from: read as any other, and compared."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTowerConfig
from jaxalign.specs import ModelSpec
from jaxalign.weights.checkpoint import load
from jaxalign.weights.tensors import flatten

from .spec_choice import settings_of

_NAMED = 5  # differences that one message names
_TEXTS = ("a photo of a cat", "a photo of a dog, and of something else", "")


def differences(wanted: ModelSpec, found: ModelSpec) -> list[str]:
    """What of all that a model computes, and of its preprocessing, `found` has otherwise, in words."""
    ours, theirs = _all_settings(wanted), _all_settings(found)
    return [
        f"{what} {value}, there {theirs.get(what)}"
        for what, value in ours.items()
        if value != theirs.get(what)
    ]


def _all_settings(spec: ModelSpec) -> dict[str, Any]:
    """By words; what is said in two ways and computes the same is said in one."""
    image, text = spec.towers.image, spec.towers.text
    if isinstance(image, ImageTowerConfig):
        pool_heads = (image.pool_heads or image.heads) if image.pooling == "map" else None
        image = replace(image, class_token=image.has_class_token, pool_heads=pool_heads)
    if text is not None:
        is_largest = text.pools_at == "end" and text.end_token == text.vocabulary - 1
        pooling = "argmax" if is_largest else text.pools_at
        text = replace(text, pooling=pooling, end_token=text.end_token if pooling == "end" else None)
    towers = replace(spec.towers, image=image, text=text)
    shortest = (spec.resize_size or image.image_size) if spec.resize == "shortest" else None
    return settings_of(replace(spec, towers=towers)) | {
        "logit bias": towers.logit_bias,
        "resize": spec.resize,
        "shortest side": shortest,
        "interpolation": spec.interpolation,
        "mean": spec.mean,
        "standard deviation": spec.std,
    }


def read_back(model: DualEncoder, place: Path, dtype: str, *, is_told: bool) -> DualEncoder:
    """The model at `place`, where `model` was written.

    Args:
      dtype: of the weights there.
      is_told: whether the files say what the model is; if not, the facts of `model` are taken.

    Raises:
      JaxalignError: it is another one.
    """
    again = load(place, spec=None if is_told else model.spec)
    ours, theirs = flatten(model.params), flatten(again.params)
    wrong = sorted(ours.keys() ^ theirs.keys())
    for name in ours.keys() & theirs.keys():
        cast = np.asarray(ours[name]).astype(jnp.dtype(dtype)).astype(np.float32)
        if not np.array_equal(cast, np.asarray(theirs[name])):
            wrong.append(name)
    if is_told:
        wrong += differences(model.spec, again.spec)
    if not wrong and None not in (model.tokenizer, again.tokenizer):
        wrong += ["token ids"] if not _same_tokens(model, again) else []
    if wrong:
        raise JaxalignError(f"what was written, read back, is another model: {', '.join(wrong[:_NAMED])}")
    return again


def _same_tokens(model: DualEncoder, again: DualEncoder) -> bool:
    """Whether both give the same ids, up to the end of a text where the tower does not look beyond it."""
    text = model.require_text()
    ids = [encoder.require_tokenizer()(_TEXTS) for encoder in (model, again)]
    if text.causal and text.pools_at in ("end", "argmax"):
        end = model.require_tokenizer().end_token
        behind = np.cumsum(ids[0] == end, 1) > 0
        ids = [np.where(behind, end, x) for x in ids]
    return bool(np.array_equal(ids[0], ids[1]))
