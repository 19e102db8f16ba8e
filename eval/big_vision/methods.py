"""Settings of the methods that both evaluators log, as a config gives them, and their embeddings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.inputs.sentencepieces import read_sentencepieces
from jaxalign.inputs.text_cleaning import CLEANERS
from jaxalign.inputs.tokenization import TOKENIZER_JSON, Tokenizer, read_json_vocabulary

from .encode import Encoder, ImageFeatures

Tokenize = Callable[[Sequence[str]], np.ndarray]
METHODS = ("image-image", "pre", "isoclip", "pca")
AUTO = "auto"


@dataclass(frozen=True)
class MethodSettings:
    """What IsoCLIP and PCA<- need beside the model.

    Attributes:
      band: `(k_top, k_bottom)`, or "auto" for `ja.select_band` of each evaluation's spectrum.
      rank: directions that PCA<- keeps; by default half the embeddings' width.
      class_names: whose directions those are; `None` for CLIP's names of the ImageNet classes.
      template: of the prompt.
      tokenize: texts to ids int32 `[n, context]`; without it PCA<- is not measured.
    """

    band: tuple[int, int] | str = AUTO
    rank: int | None = None
    class_names: tuple[str, ...] | None = None
    template: str = "a photo of {}"
    tokenize: Tokenize | None = None

    def __post_init__(self):
        band = self.band if self.band == AUTO else tuple(self.band)
        if band != AUTO and (len(band) != 2 or not all(isinstance(k, int) and k >= 0 for k in band)):
            raise JaxalignError(f"band is {self.band!r}; expected 'auto' or (k_top, k_bottom)")
        object.__setattr__(self, "band", band)
        if "{}" not in self.template:
            raise JaxalignError(f"template is {self.template!r}; expected one with {{}} for the class name")

    @property
    def names(self) -> tuple[str, ...]:
        """The methods that are measured."""
        return METHODS if self.tokenize else METHODS[:-1]

    @property
    def texts(self) -> list[str]:
        names = ja.class_names("imagenet") if self.class_names is None else self.class_names
        return [self.template.replace("{}", name) for name in names]


def make_tokenizer(settings: Tokenize | Mapping[str, Any] | None) -> Tokenize | None:
    """The function that a config's `tokenizer` stands for: a function already, or a file and its layout.

    Args:
      settings: `dict(file=..., context=64, end_token=1, pad_token=1, start_token=None,
        cleaning="lower_ascii")`: `file` a SentencePiece model or a `tokenizer.json`. The numbers shown, and
        the cleaning, are those of big_vision's SigLIP, and used where none are given.

    Raises:
      JaxalignError: a file that cannot be read, or settings of another name.
    """
    if settings is None or callable(settings):
        return settings
    found: dict[str, Any] = {
        "context": 64,
        "start_token": None,
        "end_token": 1,
        "pad_token": 1,
        "cleaning": "lower_ascii",
    }
    for name in settings:
        if name not in (*found, "file"):
            raise unknown_name("setting of the tokenizer", name, ("file", *found))
    if "file" not in settings:
        raise JaxalignError("the tokenizer has no file; expected a SentencePiece model or a tokenizer.json")
    found |= {name: value for name, value in settings.items() if name != "file"}
    if found["cleaning"] is not None and found["cleaning"] not in CLEANERS:
        raise unknown_name("cleaning", found["cleaning"], CLEANERS)
    path = Path(settings["file"]).expanduser()
    vocabulary = read_json_vocabulary(path) if path.name == TOKENIZER_JSON else read_sentencepieces(path)
    return Tokenizer(vocabulary, **found)


@dataclass(frozen=True, eq=False)
class FittedMethods:
    """Embeddings under every method, for the parameters of one moment.

    Attributes:
      facts: numbers to log beside the metrics.
    """

    embed: Mapping[str, Callable[[ImageFeatures], jax.Array]]
    facts: Mapping[str, float]


def fit_methods(settings: MethodSettings, encoder: Encoder, train_state: Any) -> FittedMethods:
    """All methods for the parameters in `train_state`.

    A model whose heads or text embeddings are not finite, as of a run that has diverged, has no IsoCLIP and
    no PCA<- until they are again.

    Raises:
      JaxalignError: a band or a rank that does not fit the model.
    """
    projectors = encoder.projectors(train_state)
    embed: dict[str, Callable[[ImageFeatures], Any]] = {
        "image-image": lambda x: x.embeddings,
        "pre": lambda x: x.pre,
    }
    facts: dict[str, float] = {}
    texts = (
        None if settings.tokenize is None else encoder.texts(train_state, settings.tokenize(settings.texts))
    )
    with jax.transfer_guard("allow"):  # from here on single arrays on one device; trainers forbid the rest
        if band := choose_band(settings, projectors):
            k_top, k_bottom, spectrum = band
            image = ja.isoclip(projectors, k_top, k_bottom, spectrum).image
            embed["isoclip"] = lambda x: image(x.pre)
            facts = {"isoclip/k_top": k_top, "isoclip/k_bottom": k_bottom}
        if texts is not None and is_usable(texts):
            subspace = ja.principal_subspace(texts, settings.rank)
            embed["pca"] = lambda x: subspace.project(x.embeddings)
    return FittedMethods(embed, facts)


def is_usable(x: np.ndarray | jax.Array) -> bool:
    """Whether every row has a direction: finite and not zero."""
    array = np.asarray(x)
    return bool(np.isfinite(array).all() and array.any(axis=-1).all())


def choose_band(settings: MethodSettings, projectors: ja.Projectors) -> tuple[int, int, ja.Spectrum] | None:
    """`(k_top, k_bottom)` and the spectrum; None where heads that are zero or not finite have none."""
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(projectors)):
        return None
    spectrum = ja.decompose(projectors)
    if not float(spectrum.s[0]) > 0:
        return None
    k_top, k_bottom = ja.select_band(spectrum) if settings.band == AUTO else settings.band
    return int(k_top), int(k_bottom), spectrum
