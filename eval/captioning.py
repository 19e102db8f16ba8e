"""What is left in images' embeddings under each method, in words (Reevaluating, figures 9 and 10).

The embedding that a method gives takes the place of the image's own in front of the caption decoder. PCA<-
stays in the shared space: Q L Q^T x (eq. 11), and `pca-mean` adds back what the mean lost (eq. 12). What the
projectors of IsoCLIP give, W_i U_b U_b^T f (its eq. 9), lies there, too: nothing has to be mapped back.
Lengths stay as they are, but where a decoder learned from embeddings of length one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.features.key import weights_digest
from jaxalign.eval.tasks.methods import Method, MethodOptions, default_methods, find_methods
from jaxalign.eval.tasks.projecting import Fitting
from jaxalign.weights.captioner_files import has_captioner

_SMALL_WORDS = {"a", "an", "and", "at", "in", "of", "on", "the", "with"}


def own_captioner(model: DualEncoder) -> ja.Captioner | None:
    """The captioner that comes with the package for the embeddings of `model`; None where there is none, be
    it that other weights go by the name of a model that has one."""
    if not has_captioner(model.name):
        return None
    same = weights_digest(ja.load(model.name).params) == weights_digest(model.params)
    return ja.load_captioner(model.name) if same else None


def find_captioner(
    model: DualEncoder, name_or_path: str | None = None, tokenizer: Any = None, normalize: bool | None = None
) -> ja.Captioner:
    """The captioner that was asked for, by default the model's own; arguments as of `ja.load_captioner`.
    Raises JaxalignError for a model that comes without one, or a captioner of embeddings of another width."""
    if name_or_path is None and own_captioner(model) is None:
        raise JaxalignError(
            f"no captioner comes with {model.title}; pass one of its embeddings (--captioner), as a ClipCap"
            " checkpoint"
        )
    captioner = ja.load_captioner(name_or_path or model.name, tokenizer=tokenizer, normalize=normalize)
    width = model.config.image.embedding_width
    if captioner.config.embedding != width:
        raise JaxalignError(
            f"{model.name} gives embeddings of width {width}, and the captioner {captioner.name} takes"
            f" {captioner.config.embedding}; take the captioner of this model (--captioner)"
        )
    return captioner


def caption_methods(names: Sequence[str], model: DualEncoder, options: MethodOptions) -> list[Method]:
    """Those of `names`, by default all that need no optimisation and give embeddings; raises JaxalignError as
    `find_methods` does, and for a method whose features no caption decoder takes."""
    own = default_methods(model, "image", options)
    methods = find_methods(names or [name for name in own if name != "pre"], model, "image", options)
    for method in methods:
        if method.inverts:
            raise JaxalignError(
                f"{method.name} optimises each image, and gives texts' embeddings; leave it out"
            )
        if method.name == "pre":
            raise JaxalignError("pre is what comes before the projector, and no embedding; leave it out")
    return methods


def captions_of(
    fitting: Fitting,
    captioner: ja.Captioner,
    methods: Sequence[Method],
    pre: np.ndarray,
    *,
    beams: int = 1,
) -> list[list[str]]:
    """For each method the captions of images with pre-projection features `pre` `[n, d_image]`."""
    embedded = [np.asarray(fitting.embed(method)(pre)) for method in methods]
    said = captioner.captions(np.concatenate(embedded), beams=beams)  # at once, which compiles one program
    return [said[i : i + len(pre)] for i in range(0, len(said), len(pre))]


def share_named(captions: Sequence[str], labels: Sequence[str]) -> float:
    """In how many captions, in percent, the words of its label stand, one after the other."""
    pairs = zip(captions, labels, strict=True)
    return 100 * float(np.mean([f" {label} " in f" {_spaced(caption)} " for caption, label in pairs]))


def share_hinted(captions: Sequence[str], labels: Sequence[str]) -> float:
    """In how many captions, in percent, a word of its label stands; of and the like do not count."""
    pairs = zip(captions, labels, strict=True)
    common = [{*label.split()} & {*_spaced(caption).split()} - _SMALL_WORDS for caption, label in pairs]
    return 100 * float(np.mean(list(map(bool, common))))


def _spaced(caption: str) -> str:
    return caption.replace(",", " ,")
