"""Improved heads put into a model: what `isoclip`, `whiten` and PCA<- compute, as its own parameters.

All three are affine maps that end in the width of the embedding, so they take the place of the heads: PCA<-
as Q L Q^T, which projects back to that width, and is what `Subspace.project` does. Cosines of images are
then those of the method, in whatever program loads the model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxalign.arguments import check_kind
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.heads import Params
from jaxalign.models import TwoTowersConfig
from jaxalign.projectors import MODALITIES, Projector, isoclip, whiten
from jaxalign.subspace import Subspace
from jaxalign.weights.identity import own

BAKED = ("isoclip", "whitened", "pca")
_POOL, _LAST = "MAPHead_0", ("MlpBlock_0", "Dense_1")


@dataclass(frozen=True)
class BakedHead:
    """What takes a head's place.

    Attributes:
      on_embedding: whether it is applied to the embedding, as PCA<- is behind SigLIP's MLP, and not to the
        pre-projection feature.
    """

    projector: Projector
    on_embedding: bool = False

    def embed(self, model: DualEncoder, modality: str, inputs: Any) -> jax.Array:
        """The embeddings `[n, d]` of preprocessed images or token ids, by the towers of `model`."""
        apply = model.apply_image if modality == "image" else model.apply_text
        return self.projector(apply(model.params, inputs, projected=self.on_embedding))


def bake(
    model: DualEncoder,
    methods: str | Sequence[str] = "isoclip",
    *,
    band: tuple[int, int] | None = None,
    subspace: Subspace | None = None,
    modalities: Sequence[str] = MODALITIES,
    linearize: bool = False,
) -> DualEncoder:
    """`model` with the heads of a method in the place of its own, a model like any other.

    Meant to compare images with images and texts with texts. Texts find images better with the original
    heads (IsoCLIP, appendix H): keep the original beside it for that.

    Args:
      methods: `isoclip`, `whitened` or `pca`; or one of the first two and then `pca`, one after the other.
      band: `(k_top, k_bottom)` of `isoclip`, for both heads; by default what the paper prints for images in
        the image head, and for texts in the text head.
      subspace: of `pca`, `principal_subspace` of the original model's embeddings of class names.
      modalities: whose heads: `image`, `text`, or both. The other head stays as it is.
      linearize: whether an MLP head of images, SigLIP's, may be replaced by its linearisation, as
        `model.projectors` has it: its last layer then is zero, and a linear head follows.

    Returns:
      A model of its own, which claims no name, source or band of a known one.

    Raises:
      JaxalignError: unknown methods or modalities, an empty band, none for a model for which none is printed,
        `pca` without a subspace, an MLP head that would have to be linear, or an image-only model.

    Examples:
      >>> import jaxalign as ja
      >>> model = ja.load("emoji-clip")
      >>> better = ja.bake(model, "isoclip", band=(0, 32))
      >>> better.projectors.image.kernel.shape
      (256, 64)
    """
    heads = baked_heads(
        model, methods, band=band, subspace=subspace, modalities=modalities, linearize=linearize
    )
    return with_heads(model, heads, f"{model.name} + {' + '.join(as_methods(methods))}")


def as_methods(methods: str | Sequence[str]) -> tuple[str, ...]:
    """The names, in their order; raises JaxalignError for others, and for an order that is none."""
    names = (methods,) if isinstance(methods, str) else tuple(methods)
    for name in names:
        if name not in BAKED:
            raise unknown_name("method to bake", name, BAKED)
    if not names or len(names) > 2 or (len(names) == 2 and (names[1] != "pca" or names[0] == "pca")):
        raise JaxalignError(
            f"methods are {' '.join(names) or 'none'}; expected one of {', '.join(BAKED)}, or isoclip or"
            " whitened and then pca"
        )
    return names


def baked_heads(
    model: DualEncoder,
    methods: str | Sequence[str] = "isoclip",
    *,
    band: tuple[int, int] | None = None,
    subspace: Subspace | None = None,
    modalities: Sequence[str] = MODALITIES,
    linearize: bool = False,
) -> dict[str, BakedHead]:
    """The heads that `bake` puts in, by modality; arguments and errors as there."""
    check_kind("model", model, DualEncoder, "what jaxalign.load gives")
    model.require_text()
    names, modalities = as_methods(methods), _as_modalities(modalities)
    if model.spec.layout != "paper":
        raise JaxalignError(f"layout is {model.spec.layout!r}; expected 'paper': the towers compute as there")
    if "pca" in names:
        check_kind("subspace", subspace, Subspace, "principal_subspace(class-name embeddings), for pca")
    heads: dict[str, BakedHead] = {}
    for modality in modalities:
        is_mlp = modality == "image" and has_mlp_head(model)
        if is_mlp and names[0] != "pca" and not linearize:
            raise JaxalignError(
                f"the image head of {model.name} is an MLP, of which {names[0]} makes a linear one:"
                " linearize=True (--linearize) puts its linearisation, as model.projectors has it, in its"
                " place; modalities=['text'] (--text-only) is exact"
            )
        projector = getattr(model.projectors, modality)
        if names[0] == "isoclip":
            projector = getattr(isoclip(model.projectors, *_band(model, modality, band)), modality)
        elif names[0] == "whitened":
            projector = whiten(projector)
        elif is_mlp:
            projector = Projector(jnp.eye(model.config.image.embedding_width))
        if "pca" in names and subspace is not None:
            projector = subspace.project_head(projector)
        heads[modality] = BakedHead(projector, on_embedding=is_mlp and names[0] == "pca")
    return heads


def with_heads(model: DualEncoder, heads: Mapping[str, BakedHead], name: str) -> DualEncoder:
    """`model`, under another name, with `heads` in the place of its own."""
    params, towers = dict(model.params), model.config
    for modality, head in heads.items():
        put = _with_image_head if modality == "image" else _with_text_head
        params, towers = put(params, towers, head)
    source = f"{model.spec.source}, with other heads"  # no known model's, whose name and band it then had
    spec = own(replace(model.spec, towers=towers), name, source)
    return replace(model, spec=spec, params=params, origin=None)


def has_mlp_head(model: DualEncoder) -> bool:
    """Whether images are embedded by a residual MLP and nothing behind it, as in SigLIP."""
    return _POOL in model.params["img"] and "head" not in model.params["img"]


def printed_band(model: DualEncoder, modality: str) -> Any:
    """What the paper prints; false where it prints none."""
    return model.spec.band if modality == "image" else model.spec.text_band


def _band(model: DualEncoder, modality: str, band: tuple[int, int] | None) -> tuple[int, int]:
    chosen = band or printed_band(model, modality)
    if not chosen:
        raise JaxalignError(
            f"the paper prints no {modality} band for {model.name}; pass band=(k_top, k_bottom) (--band K_TOP"
            " K_BOTTOM; `jaxalign sweep` finds one)"
        )
    return chosen


def _as_modalities(modalities: Sequence[str]) -> tuple[str, ...]:
    names = (modalities,) if isinstance(modalities, str) else tuple(modalities)
    for name in names:
        if name not in MODALITIES:
            raise unknown_name("modality", name, MODALITIES)
    if not names:
        raise JaxalignError("modalities is empty; expected image, text, or both")
    return names


def _with_image_head(
    params: Params, towers: TwoTowersConfig, head: BakedHead
) -> tuple[dict[str, Any], TwoTowersConfig]:
    tower = dict(params["img"])
    if "head" in tower:
        return {**params, "img": {**tower, "head": _as_layer(head.projector)}}, towers
    if _POOL in tower and not head.on_embedding:
        tower[_POOL] = _without_mlp(tower[_POOL])
    width = head.projector.kernel.shape[1]
    bias = jnp.zeros(width) if head.projector.bias is None else head.projector.bias
    tower["head"] = {"kernel": head.projector.kernel, "bias": bias}
    image: Any = replace(towers.image, projection=width, projection_bias=True)  # pyright: ignore[reportCallIssue]
    return {**params, "img": tower}, replace(towers, image=image)


def _with_text_head(
    params: Params, towers: TwoTowersConfig, head: BakedHead
) -> tuple[dict[str, Any], TwoTowersConfig]:
    return {**params, "txt": {**params["txt"], "head": _as_layer(head.projector)}}, towers


def _as_layer(projector: Projector) -> dict[str, jax.Array]:
    bias = {} if projector.bias is None else {"bias": projector.bias}
    return {"kernel": projector.kernel, **bias}


def _without_mlp(pool: Params) -> dict[str, Any]:
    """The attention pool whose residual MLP adds nothing: its last layer is zero."""
    block, layer = _LAST
    last = {name: jnp.zeros_like(x) for name, x in pool[block][layer].items()}
    return {**pool, block: {**pool[block], layer: last}}
