"""What both evaluators stand on: images of a data set, embedded by every method that the parameters of the
moment allow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets import Examples, find_dataset, load_split
from jaxalign.eval.datasets.examples import UNLABELLED, common_labels
from jaxalign.inputs.sentencepieces import read_sentencepieces
from jaxalign.inputs.text_cleaning import CLEANERS
from jaxalign.inputs.tokenization import TOKENIZER_JSON, Tokenizer, read_json_vocabulary

from .encode import Encoder, ImageFeatures, PredictFn

Tokenize = Callable[[Sequence[str]], np.ndarray]
METHODS = ("image-image", "pre", "isoclip", "pca")
AUTO = "auto"
# What `resize(size)|value_range(-1, 1)` does in big_vision's configs.
PREPROCESS: Mapping[str, Any] = {"pipeline": "big_vision", "interpolation": "bilinear"}


@dataclass(frozen=True)
class MethodSettings:
    """What IsoCLIP and PCA<- need beside the model.

    Attributes:
      band: `(k_top, k_bottom)`, or "auto" for `ja.select_band` of each evaluation's spectrum.
      rank: directions that PCA<- keeps; by default half the embeddings' width.
      class_names: whose directions those are; `None` for CLIP's names of the ImageNet classes.
      template: of the prompt.
      tokenizer: what `make_tokenizer` takes; without it PCA<- is not measured.
      tokenize: texts to ids int32 `[n, context]`.
    """

    band: tuple[int, int] | str = AUTO
    rank: int | None = None
    class_names: Sequence[str] | None = None
    template: str = "a photo of {}"
    tokenizer: Tokenize | Mapping[str, Any] | None = None
    tokenize: Tokenize | None = field(init=False)

    def __post_init__(self) -> None:
        band = self.band if self.band == AUTO else tuple(self.band)
        if band != AUTO and (len(band) != 2 or not all(isinstance(k, int) and k >= 0 for k in band)):
            raise JaxalignError(f"band is {self.band!r}; expected 'auto' or (k_top, k_bottom)")
        object.__setattr__(self, "band", band)
        object.__setattr__(self, "tokenize", make_tokenizer(self.tokenizer))
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


Embeds = Mapping[str, Callable[[ImageFeatures], jax.Array]]  # by method


def fit_methods(
    settings: MethodSettings, encoder: Encoder, train_state: Any
) -> tuple[Embeds, Mapping[str, float]]:
    """Embeddings under every method for the parameters in `train_state`, and numbers to log beside metrics.

    A model whose heads or text embeddings are not finite, as of a run that has diverged, has no IsoCLIP and
    no PCA<- until they are again. Raises JaxalignError for a band or a rank that does not fit the model.
    """
    projectors = encoder.projectors(train_state)
    embed: dict[str, Callable[[ImageFeatures], Any]] = {
        "image-image": lambda x: x.embeddings,
        "pre": lambda x: x.pre,
    }
    facts: dict[str, float] = {}
    tokenize = settings.tokenize
    texts = None if tokenize is None else encoder.texts(train_state, tokenize(settings.texts))
    with jax.transfer_guard("allow"):  # from here on single arrays on one device; trainers forbid the rest
        if band := choose_band(settings, projectors):
            k_top, k_bottom, spectrum = band
            image = ja.isoclip(projectors, k_top, k_bottom, spectrum).image
            embed["isoclip"] = lambda x: image(x.pre)
            facts = {"isoclip/k_top": k_top, "isoclip/k_bottom": k_bottom}
        if texts is not None and is_usable(texts):
            subspace = ja.principal_subspace(texts, settings.rank)
            embed["pca"] = lambda x: subspace.project(x.embeddings)
    return embed, facts


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


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images, read when they are asked for, and their labels int32 `[n]`.

    Attributes:
      examples: what they are, without those that have no label.
      task: which of its labellings this is; empty for none.
      labels: numbers of `names`.
    """

    examples: Examples
    task: str
    labels: np.ndarray
    names: tuple[str, ...]

    def numbered_as(self, other: "LabelledImages") -> "LabelledImages":
        """These, the labels numbered by name as those of `other`, whose names may be too few."""
        if not self.task or not other.task:
            return self
        _, labels, names = common_labels(other.examples, self.examples, self.task)
        return replace(self, labels=labels, names=names)

    def __len__(self) -> int:
        return len(self.labels)


class Evaluation:
    """The images of a data set, and a trainer's model to embed them with.

    Args:
      predict_fn, batch_size, devices: from the trainer.
      dataset: of `jaxalign datasets`, or `folder:PATH`.
      image_size: side of the images that the model takes, in pixels.
      label: which images are alike, or the classes; by default the data set's first label.
      data_dir: where prepared data sets are.
      preprocess: options of `ja.ImageProcessor`; by default big_vision's `resize(size)|value_range(-1, 1)`.
      **methods: those of `MethodSettings`.

    Raises:
      JaxalignError: settings that do not fit, when the evaluator is made and not in the middle of a run.
    """

    def __init__(
        self,
        predict_fn: PredictFn,
        *,
        dataset: str,
        image_size: int,
        batch_size: int | None,
        devices: Any,
        label: str = "",
        data_dir: str | None = None,
        preprocess: Mapping[str, Any] | None = None,
        **methods: Any,
    ):
        self._settings = MethodSettings(**methods)
        self._processor = make_processor(image_size, preprocess)
        self._encoder = Encoder(predict_fn, batch_size, devices)
        self.dataset, self.record = dataset, find_dataset(dataset, data_dir=data_dir)
        self._label, self._data_dir = label, data_dir

    def read(self, split: str) -> LabelledImages:
        """The images of a split that have a label; all of them, with labels of -1, where there are none.
        Raises JaxalignError for an unknown split or label, data that are not there, or nothing labelled."""
        examples = load_split(self.record, split, self._data_dir)
        if examples.images is None:
            raise JaxalignError(f"{self.dataset} has no images; expected a data set of images")
        if not self._label and not examples.labels:
            return LabelledImages(examples, "", np.full(len(examples), UNLABELLED, np.int32), ())
        task = self._label or next(iter(examples.labels), "")
        if task not in examples.labels:
            raise unknown_name(f"label of {self.dataset}", task, examples.labels)
        labelled = examples.labels[task] != UNLABELLED
        if not labelled.any():
            raise JaxalignError(f"no image of {self.dataset}, {split}, has the label {task}")
        shown = examples if labelled.all() else examples.select(labelled)
        return LabelledImages(shown, task, shown.labels[task], shown.label_names[task])

    def run(
        self,
        train_state: Any,
        images: Sequence[Any],
        names: Sequence[str],
        measure: Callable[..., Mapping[str, Any]],
    ) -> Iterator[tuple[str, float]]:
        """`(name, value)` of everything that is logged, for the parameters in `train_state`.

        Args:
          images: sets of images.
          names: of what is measured; NaN where the parameters of the moment do not allow a method.
          measure: takes the embeddings `[n, d]` of each set, and gives at least those.
        """
        features = [self._encoder.images(train_state, own, self._processor) for own in images]
        embed, facts = fit_methods(self._settings, self._encoder, train_state)
        for method in self._settings.names:
            found: Mapping[str, Any] = dict.fromkeys(names, float("nan"))
            if method in embed:
                with jax.transfer_guard("allow"):
                    embedded = [np.asarray(embed[method](x)) for x in features]
                    if all(is_usable(x) for x in embedded):
                        found = measure(*embedded)
            for name in names:
                yield f"{method}/{name}", found[name]
        yield from facts.items()


def make_processor(image_size: int, preprocess: Mapping[str, Any] | None) -> ja.ImageProcessor:
    """The preprocessing: `ImageProcessor` with the options of `preprocess`, by default big_vision's own."""
    options = dict(PREPROCESS if preprocess is None else preprocess)
    known = [name for name in ja.ImageProcessor.__dataclass_fields__ if name != "size"]
    for name in options:
        if name not in known:
            raise unknown_name("option of preprocess", name, known)
    return ja.ImageProcessor(image_size, **options)
