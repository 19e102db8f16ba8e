"""The texts that PCA<- takes its directions from."""

import dataclasses
import hashlib

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name

from .given import GivenTexts, class_texts_of


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

    Class texts that were given stand in place of prompts.

    Raises:
      JaxalignError: an unknown variant, an image-only model, or a rank that the names do not span.
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
