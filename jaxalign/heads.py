"""The projectors of a model, read off its parameters: of the paper, or of its published code."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from jaxalign.errors import JaxalignError
from jaxalign.linearize import linearize_mlp_head
from jaxalign.models import ImageTowerConfig
from jaxalign.projectors import Projector, Projectors
from jaxalign.specs import ModelSpec

Params = Mapping[str, Any]


def image_projector(spec: ModelSpec, params: Params) -> Projector:
    """The image head: linear, SigLIP's MLP linearised, or the identity where the feature is the embedding.

    With `spec.layout` "reference", as the published code of IsoCLIP has it: SigLIP's map transposed, EVA-02's
    bias dropped.
    """
    config, tower = spec.towers.image, params["img"]
    if "head" in tower:
        projector = _linear(tower["head"])
        return Projector(projector.kernel) if _is_reference(spec, "eva02") else projector
    if isinstance(config, ImageTowerConfig) and config.pooling == "map":
        return linearize_mlp_head(tower["MAPHead_0"], layout=spec.layout)
    return Projector(jnp.eye(config.width))  # the class token is the embedding


def text_projector(spec: ModelSpec, params: Params) -> Projector:
    """The text head; raises JaxalignError for an image-only model.

    With `spec.layout` "reference" the kernels of SigLIP and EVA-02 are transposed, as in the published code.
    """
    if spec.towers.text is None:
        raise no_text_tower(spec.name)
    projector = _linear(params["txt"]["head"])
    if _is_reference(spec, "eva02") or _is_reference(spec, None):
        return Projector(projector.kernel.T, projector.bias)
    return projector


def both_projectors(spec: ModelSpec, params: Params) -> Projectors:
    """Both heads; raises JaxalignError for an image-only model."""
    return Projectors(image=image_projector(spec, params), text=text_projector(spec, params))


def pre_projection_name(spec: ModelSpec) -> str:
    """Which of the image tower's outputs is its pre-projection feature.

    The published code applies the Perception Encoder's head to the pooled vector before the residual MLP,
    which it never adds again.
    """
    return "pooled" if _is_reference(spec, "pe") else "pre_logits"


def no_text_tower(name: str) -> JaxalignError:
    """The error for asking an image-only model for something of text."""
    return JaxalignError(
        f"model {name!r} is an image tower alone: it has no text tower, so no text embeddings, no text"
        " projector and no inter-modal operator; use encode_image, or load a model with both towers"
    )


def _linear(head: Params) -> Projector:
    bias = head.get("bias")
    return Projector(jnp.asarray(head["kernel"]), None if bias is None else jnp.asarray(bias))


def _is_reference(spec: ModelSpec, rope: str | None) -> bool:
    """Whether the published code departs for `spec`: the image tower rotates by `rope`, or for None ends in
    attention pooling without projector (SigLIP)."""
    image = spec.towers.image
    if spec.layout != "reference" or not isinstance(image, ImageTowerConfig):
        return False
    return image.rope == rope if rope else image.pooling == "map" and image.projection is None
