"""What both evaluators stand on: images of a data set, embedded as the parameters of the moment allow."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets import Examples, find_dataset, load_split
from jaxalign.eval.datasets.examples import UNLABELLED, common_labels

from .encode import Encoder, PredictFn
from .methods import AUTO, MethodSettings, Tokenize, fit_methods, is_usable, make_tokenizer

# What `resize(size)|value_range(-1, 1)` does in big_vision's configs.
PREPROCESS: Mapping[str, Any] = {"pipeline": "big_vision", "interpolation": "bilinear"}


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

    @property
    def images(self) -> Any:
        return self.examples.images

    @property
    def ground_truth(self) -> tuple[Mapping[str, list[int]], ...]:
        """Of ROxford and RParis, whose images have no labels: `ja.revisited_metrics` takes it."""
        return self.examples.ground_truth

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
      band, rank, class_names, template, tokenizer: see `MethodSettings` and `make_tokenizer`.

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
        band: tuple[int, int] | str = AUTO,
        rank: int | None = None,
        class_names: Sequence[str] | None = None,
        template: str = "a photo of {}",
        tokenizer: Tokenize | Mapping[str, Any] | None = None,
    ):
        names = None if class_names is None else tuple(class_names)
        self._settings = MethodSettings(band, rank, names, template, make_tokenizer(tokenizer))
        self._processor = make_processor(image_size, preprocess)
        self._encoder = Encoder(predict_fn, batch_size, devices)
        self.dataset, self.record = dataset, find_dataset(dataset)
        self._label, self._data_dir = label, data_dir

    def read(self, split: str) -> LabelledImages:
        """The images of a split that have a label; all of them, with labels of -1, where there are none.

        Raises:
          JaxalignError: an unknown split or label, data that are not there, or nothing labelled.
        """
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
        fitted = fit_methods(self._settings, self._encoder, train_state)
        for method in self._settings.names:
            found: Mapping[str, Any] = dict.fromkeys(names, float("nan"))
            if method in fitted.embed:
                with jax.transfer_guard("allow"):
                    embedded = [np.asarray(fitted.embed[method](x)) for x in features]
                    if all(is_usable(x) for x in embedded):
                        found = measure(*embedded)
            for name in names:
                yield f"{method}/{name}", found[name]
        yield from fitted.facts.items()


def make_processor(image_size: int, preprocess: Mapping[str, Any] | None) -> ja.ImageProcessor:
    """The preprocessing: `ImageProcessor` with the options of `preprocess`, by default big_vision's own."""
    options = dict(PREPROCESS if preprocess is None else preprocess)
    known = [name for name in ja.ImageProcessor.__dataclass_fields__ if name != "size"]
    for name in options:
        if name not in known:
            raise unknown_name("option of preprocess", name, known)
    return ja.ImageProcessor(image_size, **options)
