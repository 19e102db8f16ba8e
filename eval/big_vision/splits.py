"""Labelled pictures of a data set, as a config names them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets import DatasetRecord, Examples, load_split
from jaxalign.eval.datasets.examples import common_labels
from jaxalign.eval.protocols.classification import UNLABELLED

# What `resize(size)|value_range(-1, 1)` does in big_vision's configs.
PREPROCESS: Mapping[str, Any] = {"pipeline": "big_vision", "interpolation": "bilinear"}


@dataclass(frozen=True, eq=False)
class LabelledPictures:
    """Pictures, read when they are asked for, and their labels int32 `[n]`.

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
        """Of ROxford and RParis, whose pictures have no labels: `ja.revisited_metrics` takes it."""
        return self.examples.ground_truth

    def numbered_as(self, other: "LabelledPictures") -> "LabelledPictures":
        """These, the labels numbered by name as those of `other`, whose names may be too few."""
        if not self.task or not other.task:
            return self
        _, labels, names = common_labels(other.examples, self.examples, self.task)
        return replace(self, labels=labels, names=names)

    def __len__(self) -> int:
        return len(self.labels)


def read_pictures(
    record: DatasetRecord, split: str, label: str, data_dir: str | os.PathLike | None
) -> LabelledPictures:
    """The pictures of a split that have a label; all of them, with labels of -1, where there are none.

    Args:
      label: which of the data set's labels; by default the first.

    Raises:
      JaxalignError: an unknown split or label, data that are not there, or nothing labelled.
    """
    examples, dataset = load_split(record, split, data_dir), record.name
    if examples.images is None:
        raise JaxalignError(f"{dataset} has no pictures; expected a data set of pictures")
    if not label and not examples.labels:
        return LabelledPictures(examples, "", np.full(len(examples), UNLABELLED, np.int32), ())
    task = label or next(iter(examples.labels), "")
    if task not in examples.labels:
        raise unknown_name(f"label of {dataset}", task, examples.labels)
    labelled = examples.labels[task] != UNLABELLED
    if not labelled.any():
        raise JaxalignError(f"no picture of {dataset}, {split}, has the label {task}")
    shown = examples if labelled.all() else examples.select(labelled)
    return LabelledPictures(shown, task, shown.labels[task], shown.label_names[task])


def make_processor(image_size: int, preprocess: Mapping[str, Any] | None) -> ja.ImageProcessor:
    """The preprocessing: `ImageProcessor` with the options of `preprocess`, by default big_vision's own."""
    options = dict(PREPROCESS if preprocess is None else preprocess)
    known = [name for name in ja.ImageProcessor.__dataclass_fields__ if name != "size"]
    for name in options:
        if name not in known:
            raise unknown_name("option of preprocess", name, known)
    return ja.ImageProcessor(image_size, **options)
