"""Embeddings out of stored pre-projection features: by the heads that the model really has, or what was given
in their place, by the texts of PCA<-, and by methods that are fitted to what the feature store has."""

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import is_streamed
from jaxalign.heads import pre_projection_name
from jaxalign.models import ImageTowerConfig
from jaxalign.models.layers import LayerNorm, MlpBlock
from jaxalign.projectors import Projector

from .given import GivenFeatures, GivenTexts, Need

if TYPE_CHECKING:
    from .methods import Embed, Method
    from .workspace import Workspace

_ROWS = 8192  # features that pass through an MLP head together


def image_embeddings(model: DualEncoder, pre: ArrayLike) -> jax.Array:
    """`model.encode_image(...)` [n, d] of images whose pre-projection features are `pre` [n, d_image].

    SigLIP's residual MLP is computed as it is, not linearised as in `model.projectors`: the baseline of both
    papers is the embedding itself. Not normalised, float32.

    Of given features, what their stage asks for; large embeddings then stay as they are. Raises JaxalignError
    for features of another width.
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
    """`model.encode_text(...)` [n, d] of texts whose pre-projection features are `pre` [n, d_text]; raises
    JaxalignError for features of another width, or an image-only model."""
    if isinstance(model, GivenFeatures):
        return _of_given(model, "text", pre)
    pre = _check(pre, model.require_text().width, model.name)
    head = model.params["txt"]["head"]
    return Projector(jnp.asarray(head["kernel"]), head.get("bias"))(pre)


def _of_given(model: GivenFeatures, modality: str, pre: ArrayLike) -> jax.Array:
    model.require("this", ("embedding",))
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


def check_needs(model: DualEncoder, what: str, needs: Sequence[Need]) -> None:
    """Raise JaxalignError where `model` is given features that lack what `what` needs; a real one has all."""
    if isinstance(model, GivenFeatures):
        model.require(what, needs)


def class_texts_of(model: DualEncoder) -> GivenTexts | None:
    """Embeddings of texts that were given in place of a text tower."""
    return model.class_texts if isinstance(model, GivenFeatures) else None


def project(features: ArrayLike, head: Projector | None, width: int) -> jax.Array:
    """Embeddings `[n, d]` of given features, whose `head` they go through; None for embeddings.

    Large ones are not copied. Raises JaxalignError for another width.
    """
    x = features if isinstance(features, jax.Array) else np.asarray(features)
    if x.ndim != 2 or x.shape[1] != width:
        raise JaxalignError(f"features have shape {x.shape}; expected [n, {width}], as all others")
    if head is not None:
        return head(jnp.asarray(x, jnp.float32))
    return jax.device_put(x, may_alias=True) if is_streamed(x) else jnp.asarray(x, jnp.float32)


@dataclasses.dataclass(frozen=True)
class SubspaceVariant:
    """Which texts PCA<- embeds, and how it decomposes them; `principal_subspace` says where each is from.

    Attributes:
      names: class names of `ja.class_names`, unless others are given.
      templates: prompts, each with one `{}`; where there are several, a name is their ensemble
        (`ja.ensemble_text_weights`).
      center, normalize: as in `ja.principal_subspace`.
    """

    names: str = "imagenet"
    templates: tuple[str, ...] = ("a photo of {}",)
    center: bool = True
    normalize: bool = False


_TORCHHUB = SubspaceVariant("imagenet-torchhub", ("{}",))
SUBSPACES: dict[str, SubspaceVariant] = {
    "paper": SubspaceVariant(),
    "code": _TORCHHUB,
    "readme": dataclasses.replace(_TORCHHUB, center=False, normalize=True),
    "few-shot": SubspaceVariant(templates=ja.imagenet_templates("subset")),
}


def digest_texts(texts: tuple[str, ...] | GivenTexts) -> str:
    """Their number, and what stands for them in a run's settings."""
    if isinstance(texts, GivenTexts):
        return texts.digest
    return f"{len(texts)} {hashlib.sha256(chr(0).join(texts).encode()).hexdigest()[:16]}"


def texts_and_rank(
    model: DualEncoder, subspace: str, class_names: tuple[str, ...] | None, rank: int | None
) -> tuple[tuple[str, ...] | GivenTexts, int]:
    """Prompts with class names, those of a name one after the other; and how many directions are kept.

    Class texts that were given stand in place of prompts. Raises JaxalignError for an unknown variant, an
    image-only model, or a rank that the names do not span.
    """
    if subspace not in SUBSPACES:
        raise unknown_name("variant of PCA<-", subspace, SUBSPACES)
    variant = SUBSPACES[subspace]
    width = model.require_text().projection
    given = class_texts_of(model)
    if given is not None and class_names:
        raise JaxalignError(
            "class names have class texts beside them, which are given; leave out one of both"
        )
    names = given or class_names or ja.class_names(variant.names)
    most = min(len(names) - variant.center, width)
    rank = min(width // 2, most) if rank is None else rank
    if not 1 <= rank <= most:
        raise JaxalignError(
            f"the rank of PCA<- is {rank}; expected 1 to {most} with {len(names)} class names and embeddings"
            f" {width} wide"
        )
    if isinstance(names, GivenTexts):
        return names, rank
    return tuple(template.replace("{}", name) for name in names for template in variant.templates), rank


class Fitting:
    """Methods of one model and modality, fitted once each; what they share is computed once."""

    def __init__(self, workspace: "Workspace", model: DualEncoder, gallery: Callable[[], np.ndarray]):
        self.workspace, self.model, self._gallery = workspace, model, gallery
        self._texts: dict[tuple[str, ...], np.ndarray] = {}

    @cached_property
    def spectrum(self) -> ja.Spectrum:
        return ja.decompose(self.model.projectors)

    def embed(self, method: "Method") -> "Embed":
        """The method as a function from pre-projection features to embeddings."""
        return method.fit(
            self.model,
            spectrum=self.spectrum if "spectrum" in method.kind.needs else None,
            subspace_texts=self.subspace_texts(method) if method.texts else None,
            gallery=self._gallery() if "gallery" in method.kind.needs else None,
        )

    def subspace_texts(self, method: "Method") -> np.ndarray:
        """Embeddings of the texts of PCA<-."""
        if isinstance(method.texts, GivenTexts):
            return method.texts.values
        if method.texts not in self._texts:
            ids = [f"{i}" for i in range(len(method.texts))]
            found = self.workspace.text_embeddings(self.model, "class names of PCA", ids, method.texts)
            self._texts[method.texts] = found
        return self._texts[method.texts]
