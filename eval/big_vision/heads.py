"""The projectors of a big_vision two-tower: read from its parameters, and put back into them.

An image tower of `two_towers` ends in one of three ways. With an `out_dim` of its own it has a linear `head`.
Without one, SigLIP's attention pool (`pool_type="map"`) ends in a residual MLP, which IsoCLIP linearises.
Without either, the pooled feature is the embedding and its projector the identity.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.models.attention import MultiHeadDotProductAttention
from jaxalign.projectors import MODALITIES

Params = Mapping[str, Any]


def read_projectors(params: Params) -> ja.Projectors:
    """Both heads, as `model.projectors` of a converted model; works under `jit`.

    Args:
      params: of `two_towers`: the subtrees `img` and `txt`.

    Raises:
      JaxalignError: parameters of another model, or a text tower without head.
    """
    image, text = _towers(params)
    text_head = _linear(text["head"])
    if "head" in image:
        return ja.Projectors(_linear(image["head"]), text_head)
    if "MAPHead_0" in image:
        return ja.Projectors(ja.linearize_mlp_head(image["MAPHead_0"]), text_head)
    return ja.Projectors(ja.Projector(jnp.eye(text_head.kernel.shape[1])), text_head)


def pre_projection(params: Params, out: Mapping[str, jax.Array]) -> jax.Array:
    """The image features `[n, d_image]` that `read_projectors(params).image` maps to embeddings; float32.

    Args:
      out: what `two_towers` returns beside the embeddings, for images.
    """
    image, _ = _towers(params)
    if "head" in image or "MAPHead_0" not in image:
        return jnp.asarray(out["img/pre_logits"], jnp.float32)
    # The pooled vector before the residual MLP is not among the outputs; the tokens that are pooled are.
    pool = image["MAPHead_0"]
    tokens = jnp.asarray(out["img/encoded"], jnp.float32)
    probe = jnp.broadcast_to(pool["probe"], (len(tokens), *pool["probe"].shape[1:]))
    weights = pool["MultiHeadDotProductAttention_0"]
    attention = MultiHeadDotProductAttention(heads=weights["query"]["kernel"].shape[1])
    pooled, _ = attention.apply({"params": weights}, tokens, probe)
    return jnp.asarray(pooled)[:, 0]


def with_projectors(
    params: Params, projectors: ja.Projectors, modalities: Sequence[str] = MODALITIES
) -> dict[str, Any]:
    """`params` of a two-tower whose heads are `projectors`, of the same structure, shapes and dtypes.

    Everything of big_vision that takes the parameters then sees these embeddings, its own evaluators too. A
    residual MLP gives way to its linear projector: the projector is multiplied into the output of the
    attention before it, and the last layer of the MLP becomes zero. The result is for measuring: its own
    `read_projectors` are no longer those of a trained model.

    Args:
      modalities: which of the two heads are put in.

    Raises:
      JaxalignError: projectors of other shapes, a bias without a place, or an image tower without a head.
    """
    for modality in modalities:
        if modality not in MODALITIES:
            raise unknown_name("modality", modality, MODALITIES)
    image, text = _towers(params)
    if "image" in modalities:
        image = _with_image_projector(image, projectors.image)
    if "text" in modalities:
        text = {**text, "head": _with_linear("text", text["head"], projectors.text)}
    return {**params, "img": image, "txt": text}


def isoclip_params(
    params: Params,
    k_top: ArrayLike,
    k_bottom: ArrayLike,
    *,
    spectrum: ja.Spectrum | None = None,
    modalities: Sequence[str] = MODALITIES,
) -> dict[str, Any]:
    """`params` with IsoCLIP's projectors for the band `[k_top, r - k_bottom)` in place of the heads.

    Works under `jit`, with traced counts too.

    Args:
      params: of `two_towers`.
      spectrum: `ja.decompose(read_projectors(params))`, where it is at hand.
      modalities: which of the two heads are filtered.

    Raises:
      JaxalignError: as `ja.isoclip` and `with_projectors`.
    """
    return with_projectors(params, ja.isoclip(read_projectors(params), k_top, k_bottom, spectrum), modalities)


def _towers(params: Params) -> tuple[dict[str, Any], dict[str, Any]]:
    missing = [name for name in ("img", "txt") if name not in params]
    if missing:
        raise JaxalignError(
            f"the parameters have {', '.join(params)} and no {', '.join(missing)};"
            " expected those of big_vision's proj.image_text.two_towers"
        )
    if "head" not in params["txt"]:
        raise JaxalignError("the text tower has no head; expected a two-tower with an out_dim for texts")
    return dict(params["img"]), dict(params["txt"])


def _linear(head: Params) -> ja.Projector:
    arrays = {name: jnp.asarray(x, jnp.float32) for name, x in head.items()}
    return ja.Projector(arrays["kernel"], arrays.get("bias"))


def _with_image_projector(image: dict[str, Any], projector: ja.Projector) -> dict[str, Any]:
    if "head" in image:
        return {**image, "head": _with_linear("image", image["head"], projector)}
    if "MAPHead_0" not in image:
        raise JaxalignError(
            "the image tower has neither a linear head nor an attention pool, so there is no place for a"
            " projector; train it with an out_dim for images"
        )
    pool = image["MAPHead_0"]
    attention, mlp = pool["MultiHeadDotProductAttention_0"], pool["MlpBlock_0"]
    out = attention["out"]
    heads, per_head, width = out["kernel"].shape
    _check_shape("image", projector, (width, width))
    kernel = ja.Projector(projector.kernel)(jnp.asarray(out["kernel"], jnp.float32).reshape(-1, width))
    rewritten = {
        "kernel": kernel.reshape(heads, per_head, width).astype(out["kernel"].dtype),
        "bias": projector(jnp.asarray(out["bias"], jnp.float32)).astype(out["bias"].dtype),
    }
    silent = jax.tree.map(jnp.zeros_like, mlp["Dense_1"])
    pool = {
        **pool,
        "MultiHeadDotProductAttention_0": {**attention, "out": rewritten},
        "MlpBlock_0": {**mlp, "Dense_1": silent},
    }
    return {**image, "MAPHead_0": pool}


def _with_linear(modality: str, head: Params, projector: ja.Projector) -> dict[str, Any]:
    _check_shape(modality, projector, head["kernel"].shape)
    if projector.bias is not None and "bias" not in head:
        raise JaxalignError(f"the {modality} head has no bias; expected a projector without one")
    new = {"kernel": projector.kernel.astype(head["kernel"].dtype)}
    if "bias" in head:
        like = head["bias"]
        new["bias"] = jnp.zeros_like(like) if projector.bias is None else projector.bias.astype(like.dtype)
    return new


def _check_shape(modality: str, projector: ja.Projector, shape: tuple[int, ...]) -> None:
    if projector.kernel.shape != tuple(shape):
        raise JaxalignError(
            f"the {modality} projector has a kernel {projector.kernel.shape}; expected {tuple(shape)},"
            " that of the model's head"
        )
