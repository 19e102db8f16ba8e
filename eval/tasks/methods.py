"""The one place where a method's name and its options become embeddings.

`find_method` resolves every option to what is used, which is what a run's settings hold; `fit` turns a method
into a function from stored pre-projection features to embeddings, so that one gallery serves all of them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name

from .heads import image_embeddings, text_embeddings

Embed = Callable[[ArrayLike], jax.Array]
Modality = Literal["image", "text"]

METHODS: dict[str, dict[str, str]] = {
    "image": {
        "image-image": "the embeddings as they are",
        "pre": "the features before the projection head",
        "whitened": "the head with all singular values set to one",
        "isoclip": "the heads restricted to a band of the inter-modal spectrum",
        "isoclip-auto": "the same, the band chosen from the spectrum alone",
        "pca": "the embeddings projected on the principal directions of class-name texts (PCA<-)",
        "pca-mean": "the same with the mean of the gallery added back (eq. 12)",
        "oti": "queries inverted to text, the gallery as it is",
    },
    "text": {
        "text-text": "the embeddings as they are",
        "pre": "the features before the projection head",
        "whitened": "the head with all singular values set to one",
        "isoclip": "the heads restricted to a band of the inter-modal spectrum",
        "isoclip-auto": "the same, the band chosen from the spectrum alone",
        "ovi": "queries inverted to pictures, the gallery as it is",
    },
}
BASELINES: dict[str, str] = {"image": "image-image", "text": "text-text"}
_INVERTING = ("oti", "ovi")


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


@dataclasses.dataclass(frozen=True)
class Inverting:
    """How queries are inverted to the other modality; None takes the papers' value.

    Attributes:
      steps: of the optimiser; 150 for OTI, 1000 for OVI.
      patches: pseudo-patches of OVI; by default the backbone's of IsoCLIP's table S5.
      seed: of the starting points.
      curve: step counts at which the mAP is measured too; by default about ten.
    """

    steps: int | None = None
    patches: int | None = None
    seed: int = 0
    curve: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class MethodOptions:
    """Options of all methods; each takes those that concern it.

    Attributes:
      band: `(k_top, k_bottom)` of `isoclip`; by default the one that the paper prints for the checkpoint.
      rank: of PCA<-; by default half the embeddings' width.
      subspace: which texts and options PCA<- takes, of `SUBSPACES`.
      class_names: that PCA<- keeps the directions of; by default those of ImageNet that `subspace` has.
      inverting: of `oti` and `ovi`.
    """

    band: tuple[int, int] | None = None
    rank: int | None = None
    subspace: str = "paper"
    class_names: tuple[str, ...] | None = None
    inverting: Inverting = Inverting()


@dataclasses.dataclass(frozen=True)
class Method:
    """A method with everything that its embeddings depend on, beside the model.

    Attributes:
      band: of `isoclip` and `isoclip-auto`.
      rank, subspace, texts: of PCA<-: its texts are prompts with class names, those of a name one after the
        other; no rank is that of `ja.principal_subspace`.
      inverting: of `oti` and `ovi`, with all its numbers.
    """

    name: str
    modality: Modality
    band: tuple[int, int] | None = None
    rank: int | None = None
    subspace: str | None = None
    texts: tuple[str, ...] = ()
    inverting: Inverting | None = None

    @property
    def inverts(self) -> bool:
        """Whether the queries are inverted to the other modality and only the gallery is embedded by
        `fit`."""
        return self.inverting is not None

    def to_json(self) -> dict[str, Any]:
        """What is set; the texts as a digest."""
        import hashlib

        found: dict[str, Any] = {"method": self.name}
        if self.band is not None:
            found["band"] = list(self.band)
        if self.texts:
            digest = hashlib.sha256("\0".join(self.texts).encode()).hexdigest()[:16]
            found |= {"rank": self.rank, "subspace": self.subspace, "texts": f"{len(self.texts)} {digest}"}
        if self.inverting is not None:
            found |= {k: v for k, v in dataclasses.asdict(self.inverting).items() if v is not None}
            found["curve"] = list(self.inverting.curve or ())
        return found


def default_methods(model: DualEncoder, modality: Modality, options: MethodOptions) -> tuple[str, ...]:
    """All methods that need no optimisation and no choice that nobody has made for this model.

    `isoclip` is among them where a band was given or is printed for the checkpoint.
    """
    if model.config.text is None:
        return (BASELINES[modality], "pre")
    printed = options.band or _printed_band(model, modality)
    names = [name for name in METHODS[modality] if name not in (*_INVERTING, "pca-mean")]
    return tuple(name for name in names if name != "isoclip" or printed)


def find_method(
    name: str, model: DualEncoder, modality: Modality = "image", options: MethodOptions = MethodOptions()
) -> Method:
    """The method called `name` with all its options resolved for `model`.

    Raises:
      JaxalignError: an unknown name, `isoclip` without a band, an empty band, a rank that the class names do
        not span, or an image-only model for what needs texts.
    """
    if modality not in METHODS:
        raise unknown_name("modality", modality, METHODS)
    if name not in METHODS[modality]:
        raise unknown_name(f"{modality} method", name, METHODS[modality])
    if name in ("isoclip", "isoclip-auto"):
        return Method(name, modality, band=_band(name, model, modality, options))
    if name in ("pca", "pca-mean"):
        texts, rank = _subspace_texts(model, options)
        return Method(name, modality, rank=rank, subspace=options.subspace, texts=texts)
    if name in _INVERTING:
        model.require_text()
        return Method(name, modality, inverting=_resolve(options.inverting, name, model))
    return Method(name, modality)


def fit(
    method: Method,
    model: DualEncoder,
    *,
    spectrum: ja.Spectrum | None = None,
    subspace_texts: ArrayLike | None = None,
    gallery: ArrayLike | None = None,
) -> Embed:
    """The function that embeds pre-projection features `[n, d_in]` under `method`, `[n, d]`, not normalised.

    Args:
      spectrum: `ja.decompose(model.projectors)`, where it is at hand.
      subspace_texts: embeddings `[len(method.texts), d]` of the method's texts, which PCA<- needs.
      gallery: pre-projection features whose mean `pca-mean` adds back.

    Raises:
      JaxalignError: without what the method needs.
    """
    baseline = _baseline(method.modality, model)
    if method.name == "pre":
        return lambda pre: jnp.asarray(pre)
    if method.name == "whitened":
        heads = model.image_projector if method.modality == "image" else model.projectors.text
        return ja.whiten(heads)
    if method.band is not None:
        return getattr(ja.isoclip(model.projectors, *method.band, spectrum), method.modality)
    if method.texts:
        return _fit_subspace(method, baseline, subspace_texts, gallery)
    return baseline


def subspace_of(method: Method, text_embeddings: ArrayLike | None) -> ja.Subspace:
    """The subspace of a PCA<- method, from the embeddings `[n, d]` of its texts.

    Raises:
      JaxalignError: another number of texts, or texts that span fewer directions than the rank.
    """
    count = 0 if text_embeddings is None else len(jnp.asarray(text_embeddings))
    if text_embeddings is None or count != len(method.texts):
        raise JaxalignError(
            f"{method.name} got {count} text embeddings; expected those of its {len(method.texts)} texts"
        )
    variant = SUBSPACES[method.subspace or "paper"]
    if len(variant.templates) > 1:
        x = jnp.asarray(text_embeddings)
        text_embeddings = ja.ensemble_text_weights(x.reshape(-1, len(variant.templates), x.shape[-1]))
    return ja.principal_subspace(
        text_embeddings, method.rank, center=variant.center, normalize=variant.normalize
    )


def _fit_subspace(
    method: Method, baseline: Embed, subspace_texts: ArrayLike | None, gallery: ArrayLike | None
) -> Embed:
    subspace = subspace_of(method, subspace_texts)
    if method.name != "pca-mean":
        return lambda pre: subspace.project(baseline(pre))
    if gallery is None:
        raise JaxalignError("pca-mean adds back the mean of the gallery; pass the gallery's features")
    mean = _unit(baseline(gallery)).mean(0)  # eq. 12 is about embeddings on the sphere
    return lambda pre: subspace.project(_unit(baseline(pre)), mean)


def _unit(x: jax.Array) -> jax.Array:
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(length == 0, 1, length)


def _baseline(modality: Modality, model: DualEncoder) -> Embed:
    embed = image_embeddings if modality == "image" else text_embeddings
    return lambda pre: embed(model, pre)


def _printed_band(model: DualEncoder, modality: Modality) -> tuple[int, int] | None:
    return model.spec.band if modality == "image" else model.spec.text_band


def _band(name: str, model: DualEncoder, modality: Modality, options: MethodOptions) -> tuple[int, int]:
    if name == "isoclip-auto":
        return ja.select_band(ja.decompose(model.projectors))
    band = options.band or _printed_band(model, modality)
    if not band:
        raise JaxalignError(
            f"the paper prints no {modality} band for {model.name}; pass one (--band K_TOP K_BOTTOM;"
            " `jaxalign sweep` finds one), or use isoclip-auto"
        )
    r = jax.eval_shape(ja.decompose, model.projectors).s.shape[0]  # its shape needs no decomposition
    if min(band) < 0 or sum(band) >= r:
        raise JaxalignError(
            f"the band ({band[0]}, {band[1]}) leaves none of the {r} singular directions of {model.name};"
            f" expected two counts of 0 or more with a sum below {r}"
        )
    return (int(band[0]), int(band[1]))


def _subspace_texts(model: DualEncoder, options: MethodOptions) -> tuple[tuple[str, ...], int]:
    if options.subspace not in SUBSPACES:
        raise unknown_name("variant of PCA<-", options.subspace, SUBSPACES)
    variant = SUBSPACES[options.subspace]
    width = model.require_text().projection
    names = options.class_names or ja.class_names(variant.names)
    most = min(len(names) - variant.center, width)
    rank = min(width // 2, most) if options.rank is None else options.rank
    if not 1 <= rank <= most:
        raise JaxalignError(
            f"the rank of PCA<- is {rank}; expected 1 to {most} with {len(names)} class names and embeddings"
            f" {width} wide"
        )
    return tuple(template.replace("{}", name) for name in names for template in variant.templates), rank


def _resolve(inverting: Inverting, name: str, model: DualEncoder) -> Inverting:
    usual = 150 if name == "oti" else 1000
    steps = usual if inverting.steps is None else inverting.steps
    patches = model.spec.inversion_patches if inverting.patches is None else inverting.patches
    if steps < 1 or patches < 1:
        raise JaxalignError(f"steps and patches are {steps} and {patches}; expected 1 or more of each")
    patches = None if name == "oti" else patches
    curve = inverting.curve or _even_steps(steps)
    return Inverting(steps, patches, inverting.seed, tuple(sorted({k for k in curve if k < steps} | {steps})))


def _even_steps(steps: int, points: int = 10) -> Sequence[int]:
    return [round(steps * i / points) for i in range(points + 1)]


def check_methods(
    names: Sequence[str], model: DualEncoder, modality: Modality, options: MethodOptions
) -> None:
    """Raise, before any work, what `find_method` would for one of `names`."""
    for name in names:
        find_method(name, model, modality, options)
