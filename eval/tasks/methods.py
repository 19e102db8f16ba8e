"""The one place where a method's name and its options become embeddings.

`find_method` resolves every option to what is used, which is what a run's settings hold; `Method.fit` turns
it into a function from stored pre-projection features to embeddings, so that one gallery serves all of them.
A new method is a `Kind` in `METHODS`; one from outside is an `OwnMethod`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import normalize

from .given import GivenFeatures, GivenTexts, Need
from .own_methods import Embed, Found, Given, as_found, import_method
from .projecting import (
    SUBSPACES,
    check_needs,
    digest_texts,
    image_embeddings,
    project,
    text_embeddings,
    texts_and_rank,
)

Modality = Literal["image", "text"]

BASELINES: dict[str, str] = {"image": "image-image", "text": "text-text"}


@dataclasses.dataclass(frozen=True)
class Inverter:
    """How embeddings of one modality are turned to the other.

    Attributes:
      modality: the other one.
      invert: `ja.invert_to_text` and the like, with the number of `patches` among the options.
      steps: of the optimiser, in the papers.
      has_patches: whether there are pseudo-patches.
    """

    modality: Modality
    invert: Callable[..., ja.Inversion]
    steps: int
    has_patches: bool = False


TO_TEXT = Inverter("text", lambda *given, patches, **options: ja.invert_to_text(*given, **options), 150)
TO_IMAGES = Inverter(
    "image",
    lambda *given, patches, **options: ja.invert_to_image(*given, num_patches=patches, **options),
    1000,
    has_patches=True,
)


@dataclasses.dataclass(frozen=True)
class Inverting:
    """How queries are inverted to the other modality; None takes the papers' value.

    Attributes:
      steps: of the optimiser; 150 for OTI, 1000 for OVI.
      patches: pseudo-patches of OVI; by default the backbone's of IsoCLIP's table S5.
      seed: of the starting points.
      curve: step counts at which the mAP is measured too; by default about ten.
      stop: the step after which queries are taken; by default the last one. It gives what so few steps alone
        do, from the stored inversion of all where it is one of the `curve`.
    """

    steps: int | None = None
    patches: int | None = None
    seed: int = 0
    curve: tuple[int, ...] | None = None
    stop: int | None = None


@dataclasses.dataclass(frozen=True)
class MethodOptions:
    """Options of all methods; each takes those that concern it.

    Attributes:
      band: `(k_top, k_bottom)` of `isoclip`; by default the one that the paper prints for the checkpoint.
      rank: of PCA<-; by default half the embeddings' width.
      subspace: which texts and options PCA<- takes, of `SUBSPACES`.
      class_names: that PCA<- keeps the directions of; by default those of ImageNet that `subspace` has.
      inverting: of methods that invert queries.
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
      inverting: of a method that inverts queries, with all its numbers.
      own: of a method from outside.
    """

    name: str
    modality: Modality
    band: tuple[int, int] | None = None
    rank: int | None = None
    subspace: str | None = None
    texts: tuple[str, ...] | GivenTexts = ()
    inverting: Inverting | None = None
    own: Found | None = None

    @property
    def kind(self) -> "Kind":
        return _kind_of_own(self.own) if self.own else METHODS[self.modality][self.name]

    @property
    def inverter(self) -> Inverter | None:
        """What turns queries to the other modality, where the gallery alone is embedded by `fit`."""
        return self.kind.inverter

    @property
    def inverts(self) -> bool:
        return self.inverter is not None

    def fit(
        self,
        model: DualEncoder,
        *,
        spectrum: ja.Spectrum | None = None,
        subspace_texts: ArrayLike | None = None,
        gallery: ArrayLike | None = None,
    ) -> Embed:
        """The function that embeds pre-projection features `[n, d_in]`, giving `[n, d]`, not normalised.

        Args:
          spectrum: `ja.decompose(model.projectors)`, where it is at hand.
          subspace_texts: embeddings `[len(method.texts), d]` of the method's texts, which PCA<- needs.
          gallery: pre-projection features `[g, d_in]`, whose mean `pca-mean` adds back.

        Raises:
          JaxalignError: without what the method needs.
        """
        embed = image_embeddings if self.modality == "image" else text_embeddings
        projectors = None
        if self.own is not None and {"projectors", "spectrum"} & {*self.kind.needs}:
            projectors = model.projectors
            spectrum = spectrum or ja.decompose(projectors)
        given = Given(partial(embed, model), projectors, spectrum, subspace_texts, gallery)
        return self.kind.fit(self, model, given)

    def to_json(self) -> dict[str, Any]:
        """What is set; the texts as a digest."""
        found: dict[str, Any] = {"method": self.name}
        if self.own is not None:
            found["code"] = self.own.code
        if self.band is not None:
            found["band"] = list(self.band)
        if self.texts:
            found |= {"rank": self.rank, "subspace": self.subspace, "texts": digest_texts(self.texts)}
        if self.inverting is not None:
            found |= {k: v for k, v in dataclasses.asdict(self.inverting).items() if v is not None}
            found["curve"] = list(self.inverting.curve or ())
        return found


def default_methods(model: DualEncoder, modality: Modality, options: MethodOptions) -> tuple[str, ...]:
    """All methods that need no optimisation and no choice that nobody has made for this model.

    `isoclip` is among them where a band was given or is printed for the checkpoint.
    """
    there = list(METHODS[modality])
    if isinstance(model, GivenFeatures):
        there = [name for name in there if not any(map(model.lacking, METHODS[modality][name].needs))]
    elif model.config.text is None:
        return (BASELINES[modality], "pre")
    printed = options.band or _printed_band(model, modality)
    names = [name for name in there if METHODS[modality][name].is_default]
    return tuple(name for name in names if name != "isoclip" or printed)


def find_methods(
    names: Sequence[str], model: DualEncoder, modality: Modality, options: MethodOptions
) -> list[Method]:
    """Those of `names`, each once, or the `default_methods`; raises as `find_method`."""
    chosen = dict.fromkeys(names or default_methods(model, modality, options))
    return [find_method(name, model, modality, options) for name in chosen]


def find_method(
    name: str, model: DualEncoder, modality: Modality = "image", options: MethodOptions = MethodOptions()
) -> Method:
    """The method called `name` with all its options resolved for `model`; raises JaxalignError for an unknown
    name, `isoclip` without a band, an empty band, a rank that the class names do not span, or an image-only
    model for what needs texts."""
    if modality not in METHODS:
        raise unknown_name("modality", modality, METHODS)
    found, installed = Method(name, modality), installed_methods()
    if name not in METHODS[modality]:
        own = import_method(name) if name.rpartition(":")[0] else installed.get(name)
        if own is None:
            known = [*METHODS[modality], *installed]
            raise unknown_name(f"{modality} method", name, known, "one's own is written module:name")
        found = replace(found, own=own)
    check_needs(model, name, found.kind.needs)
    return found.kind.resolve(found, model, options)


@cache
def installed_methods() -> Mapping[str, Found]:
    """What installed packages offer, by name; raises JaxalignError for a name that one here has, or what is
    no method."""
    offered = entry_points(group="jaxalign.methods")
    found = {entry.name: as_found(entry.name, entry.load(), entry.module) for entry in offered}
    if taken := {*found} & {name for kinds in METHODS.values() for name in kinds}:
        raise JaxalignError(f"an installed package calls a method {min(taken)!r}, as one here; rename it")
    return found


def _plain(method: Method, model: DualEncoder, given: Given) -> Embed:
    return given.embed


def _unprojected(method: Method, model: DualEncoder, given: Given) -> Embed:
    return lambda pre: project(pre, None, np.shape(pre)[-1])


def _whitened(method: Method, model: DualEncoder, given: Given) -> Embed:
    return ja.whiten(model.image_projector if method.modality == "image" else model.projectors.text)


def _in_a_band(method: Method, model: DualEncoder, given: Given) -> Embed:
    assert method.band is not None
    return getattr(ja.isoclip(model.projectors, *method.band, given.spectrum), method.modality)


def _on_a_subspace(method: Method, model: DualEncoder, given: Given) -> Embed:
    embed, subspace = given.embed, subspace_of(method, given.class_texts)
    return lambda pre: subspace.project(embed(pre))


def _on_a_subspace_with_mean(method: Method, model: DualEncoder, given: Given) -> Embed:
    embed, subspace = given.embed, subspace_of(method, given.class_texts)
    if given.gallery is None:
        raise JaxalignError("pca-mean adds back the mean of the gallery; pass the gallery's features")
    mean = normalize(embed(given.gallery)).mean(0)  # eq. 12 is about embeddings on the sphere
    return lambda pre: subspace.project(normalize(embed(pre)), mean)


def subspace_of(method: Method, text_embeddings: ArrayLike | None) -> ja.Subspace:
    """The subspace of a PCA<- method, from the embeddings `[n, d]` of its texts; raises JaxalignError for
    another number of texts, or texts that span fewer directions than the rank."""
    count = 0 if text_embeddings is None else len(jnp.asarray(text_embeddings))
    if text_embeddings is None or count != len(method.texts):
        raise JaxalignError(
            f"{method.name} got {count} text embeddings; expected those of its {len(method.texts)} texts"
        )
    variant = SUBSPACES[method.subspace or "paper"]
    if len(variant.templates) > 1 and not isinstance(method.texts, GivenTexts):
        x = jnp.asarray(text_embeddings)
        text_embeddings = ja.ensemble_text_weights(x.reshape(-1, len(variant.templates), x.shape[-1]))
    return ja.principal_subspace(
        text_embeddings, method.rank, center=variant.center, normalize=variant.normalize
    )


def _printed_band(model: DualEncoder, modality: Modality) -> tuple[int, int] | None:
    return model.spec.band if modality == "image" else model.spec.text_band


def _printed_or_given_band(method: Method, model: DualEncoder, options: MethodOptions) -> Method:
    band = options.band or _printed_band(model, method.modality)
    if not band:
        raise JaxalignError(
            f"the paper prints no {method.modality} band for {model.name}; pass one (--band K_TOP K_BOTTOM;"
            " `jaxalign sweep` finds one), or use isoclip-auto"
        )
    r = jax.eval_shape(ja.decompose, model.projectors).s.shape[0]  # its shape needs no decomposition
    if min(band) < 0 or sum(band) >= r:
        raise JaxalignError(
            f"the band ({band[0]}, {band[1]}) leaves none of the {r} singular directions of {model.name};"
            f" expected two counts of 0 or more with a sum below {r}"
        )
    return replace(method, band=(int(band[0]), int(band[1])))


def _chosen_band(method: Method, model: DualEncoder, options: MethodOptions) -> Method:
    return replace(method, band=ja.select_band(ja.decompose(model.projectors)))


def _with_texts(method: Method, model: DualEncoder, options: MethodOptions) -> Method:
    texts, rank = texts_and_rank(model, options.subspace, options.class_names, options.rank)
    return replace(method, rank=rank, subspace=options.subspace, texts=texts)


def _with_steps(method: Method, model: DualEncoder, options: MethodOptions) -> Method:
    model.require_text()
    given, inverter = options.inverting, METHODS[method.modality][method.name].inverter
    assert inverter is not None
    steps = inverter.steps if given.steps is None else given.steps
    patches = model.spec.inversion_patches if given.patches is None else given.patches
    if steps < 1 or patches < 1:
        raise JaxalignError(f"steps and patches are {steps} and {patches}; expected 1 or more of each")
    if given.stop is not None and not 0 < given.stop <= steps:
        raise JaxalignError(f"stop is {given.stop}; expected one of the {steps} steps")
    curve = [round(steps * i / 10) for i in range(11)] if given.curve is None else given.curve
    inverting = Inverting(
        steps,
        patches if inverter.has_patches else None,
        given.seed,
        tuple(sorted({k for k in (*curve, given.stop or steps) if k < steps} | {steps})),
        given.stop,
    )
    return replace(method, inverting=inverting)


@dataclasses.dataclass(frozen=True)
class Kind:
    """What methods of one name have in common.

    Attributes:
      fit: gives the embedding of a method, from what there is.
      resolve: fills in the options for a model.
      needs: what it cannot do without where features are given, in the order in which that is asked for; and
        what `fit` reads of `Given`.
      inverter: turns queries to the other modality first.
      is_default: whether it takes part where nothing is said.
    """

    fit: Callable[[Method, DualEncoder, Given], Embed]
    resolve: Callable[[Method, DualEncoder, MethodOptions], Method] = lambda method, model, options: method
    needs: tuple[Need, ...] = ("embedding",)
    inverter: Inverter | None = None
    is_default: bool = True


def _kind_of_own(found: Found) -> Kind:
    needs: tuple[Need, ...] = ("embedding", *found.method.needs)

    def resolve(method: Method, model: DualEncoder, options: MethodOptions) -> Method:
        if {"projectors", "spectrum"} & {*needs}:
            model.require_text()
        return _with_texts(method, model, options) if "class_texts" in needs else method

    return Kind(lambda method, model, given: found.fit(given), resolve, needs)


_BOTH: tuple[Need, ...] = ("projectors", "spectrum")
_OF_BOTH = {
    "pre": Kind(_unprojected, needs=("pre",)),  # the features before the projector
    "whitened": Kind(_whitened, needs=("projectors",)),  # the projector with all singular values set to one
    "isoclip": Kind(_in_a_band, _printed_or_given_band, _BOTH),  # projectors kept to a band of their spectrum
    "isoclip-auto": Kind(_in_a_band, _chosen_band, _BOTH),  # the band chosen from the spectrum alone
}
_OF_IMAGES = {
    "image-image": Kind(_plain),
    **_OF_BOTH,
    # The embeddings on the principal directions of class-name texts (PCA<-); with the mean of the gallery
    # added back (eq. 12).
    "pca": Kind(_on_a_subspace, _with_texts, ("embedding", "class_texts")),
    "pca-mean": Kind(
        _on_a_subspace_with_mean, _with_texts, ("embedding", "class_texts", "gallery"), is_default=False
    ),
    # Queries inverted to the other modality, the gallery as it is.
    "oti": Kind(_plain, _with_steps, ("towers",), TO_TEXT, is_default=False),
}
_OF_TEXTS = {
    "text-text": Kind(_plain),
    **_OF_BOTH,
    "ovi": Kind(_plain, _with_steps, ("towers",), TO_IMAGES, is_default=False),
}
# Not to be written into: a method of one's own is an `OwnMethod`.
METHODS: Mapping[str, Mapping[str, Kind]] = MappingProxyType(
    {"image": MappingProxyType(_OF_IMAGES), "text": MappingProxyType(_OF_TEXTS)}
)
