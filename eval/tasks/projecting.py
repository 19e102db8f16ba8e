"""Embeddings out of stored pre-projection features, by the heads that the model really has."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.heads import pre_projection_name
from jaxalign.models import ImageTowerConfig
from jaxalign.models.layers import LayerNorm, MlpBlock
from jaxalign.projectors import Projector

from .given import GivenFeatures, check_needs, project

_ROWS = 8192  # features that pass through an MLP head together


def image_embeddings(model: DualEncoder, pre: ArrayLike) -> jax.Array:
    """`model.encode_image(...)` [n, d] of images whose pre-projection features are `pre` [n, d_image].

    SigLIP's residual MLP is computed as it is, not linearised as in `model.projectors`: the baseline of both
    papers is the embedding itself. Not normalised, float32.

    Of given features, what their stage asks for; large embeddings then stay as they are.

    Raises:
      JaxalignError: features of another width.
    """
    if isinstance(model, GivenFeatures):
        return _of_given(model, "image", pre)
    pre = _check(pre, model.config.image.width, model.name)
    config, tower = model.config.image, model.params["img"]
    if isinstance(config, ImageTowerConfig) and (
        pre_projection_name(model.spec) == "pooled" or (config.pooling == "map" and config.projection is None)
    ):
        # The stored feature is the pooled one, before the residual MLP.
        parts = [pre[i : i + _ROWS] for i in range(0, len(pre), _ROWS)]
        pre = jnp.concatenate([_residual(config, tower["MAPHead_0"], part) for part in parts])
    if "head" not in tower:
        return pre
    return Projector(jnp.asarray(tower["head"]["kernel"]), tower["head"].get("bias"))(pre)


def text_embeddings(model: DualEncoder, pre: ArrayLike) -> jax.Array:
    """`model.encode_text(...)` [n, d] of texts whose pre-projection features are `pre` [n, d_text].

    Raises:
      JaxalignError: features of another width, or an image-only model.
    """
    if isinstance(model, GivenFeatures):
        return _of_given(model, "text", pre)
    pre = _check(pre, model.require_text().width, model.name)
    head = model.params["txt"]["head"]
    return Projector(jnp.asarray(head["kernel"]), head.get("bias"))(pre)


def _of_given(model: GivenFeatures, modality: str, pre: ArrayLike) -> jax.Array:
    check_needs(model, "this", ("embedding",))
    if model.stage == "embedding":
        return project(pre, None, model.config.image.width)
    if model.heads is not None:
        head = getattr(model.heads, modality)
        return project(pre, head, head.kernel.shape[0])
    embed = image_embeddings if modality == "image" else text_embeddings
    return embed(model.text_encoder(), pre)


def _residual(config: ImageTowerConfig, head: dict, x: jax.Array) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        y = LayerNorm(config.norm_epsilon).apply({"params": head["LayerNorm_0"]}, x)
        mlp = MlpBlock(config.mlp_hidden, config.activation)
        return x + jnp.asarray(mlp.apply({"params": head["MlpBlock_0"]}, y))


def _check(pre: ArrayLike, width: int, name: str) -> jax.Array:
    x = jnp.asarray(pre, jnp.float32)
    if x.ndim != 2 or x.shape[1] != width:
        raise JaxalignError(
            f"features have shape {x.shape}; expected [n, {width}], the pre-projection features of {name}"
        )
    return x
