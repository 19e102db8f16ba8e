"""The indicators that were taken for intra-modal misalignment (Reevaluating, figures 2, 5, 8; IsoCLIP, figure
S7)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.examples import UNLABELLED, choose_task

from .methods import MethodOptions, find_methods
from .pairs import ImagePair, some
from .projecting import Fitting, image_embeddings
from .runs import Result, Run
from .task import Column, Task
from .workspace import Workspace, model_settings

_OVERLAP = (Column("overlap", "overlap", 3), Column("iou", "IoU", 3))
BY_CLASS = Task(
    name="class-indicator",
    title="Similarities by class",
    about="How far same-class and different-class pairs overlap.",
    headline="overlap",
    columns=(*_OVERLAP, Column("same_mean", "same mean", 3), Column("different_mean", "different mean", 3)),
)
BY_MODALITY = Task(
    name="modality-indicator",
    title="Similarities by modality",
    about="Pairs of images, of texts, and of both.",
    headline="overlap",
    columns=(
        *_OVERLAP,
        Column("gap", "gap", 3),
        Column("image_image_mean", "image-image mean", 3),
        Column("image_text_mean", "image-text mean", 3),
        Column("text_text_mean", "text-text mean", 3),
    ),
)


def class_indicator(embeddings: ArrayLike, labels: np.ndarray, *, bins: int = 100) -> Result:
    """Cosines of same-class and of different-class pairs (figures 2, 5 left, and S7).

    Args:
      embeddings: `[n, d]`.
      labels: int `[n]`; examples with label -1 are left out.

    Returns:
      Metrics: `overlap` and `iou` of the two histograms, 0 to 1, `same_mean`, `different_mean`. Arrays:
      `edges`, `same`, `different`, counts of pairs.

    Raises:
      JaxalignError: as `ja.similarity_histograms`, or no pair of one of the kinds.
    """
    labels = np.asarray(labels)
    kept = labels != UNLABELLED
    found = ja.similarity_histograms(np.asarray(embeddings)[kept], labels[kept], bins=bins)
    pairs = {"same": found.same, "different": found.different}
    metrics = _overlap(found) | _means(found.edges, pairs) | {"unlabelled": int((~kept).sum())}
    return Result(metrics, {"edges": found.edges, **pairs})


def modality_indicator(images: ArrayLike, texts: ArrayLike, *, bins: int = 100) -> Result:
    """Cosines of image-image, image-text and text-text pairs (figures 2, 5 right, and 8).

    Args:
      images, texts: embeddings `[n, d]` and `[m, d]`.

    Returns:
      Metrics: `overlap` and `iou` of image-image and image-text pairs, `gap`, the distance of the centroids,
      and the means of the three. Arrays: `edges`, `image_image`, `image_text`, `text_text`, counts of pairs.
    """
    found = ja.modality_histograms(images, texts, bins=bins)
    pairs = {"image_image": found.image_image, "image_text": found.image_text, "text_text": found.text_text}
    metrics = _overlap(found) | {"gap": float(ja.modality_gap(images, texts))} | _means(found.edges, pairs)
    return Result(metrics, {"edges": found.edges, **pairs})


def _overlap(found: Any) -> dict[str, Any]:
    return {"overlap": ja.histogram_overlap(found), "iou": ja.histogram_overlap(found, kind="iou")}


def _means(edges: np.ndarray, pairs: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    return {f"{kind}_mean": histogram_mean(edges, counts) for kind, counts in pairs.items()}


def histogram_mean(edges: np.ndarray, counts: np.ndarray) -> float | None:
    """The mean, every pair taken to lie in the middle of its bin; None without any pair."""
    if not counts.sum():
        return None
    return float(np.average((edges[1:] + edges[:-1]) / 2, weights=counts))


@dataclass(frozen=True)
class Indicating:
    """What is shown, beside model and data set.

    Attributes:
      methods: whose histograms are compared; by default all that need neither inversion nor a choice.
      options: of the methods.
      task: labelling; by default the data set's first one.
      split: whose images; by default the queries of the retrieval protocol.
      max_images: at most so many, evenly spaced.
    """

    methods: tuple[str, ...] = ()
    options: MethodOptions = field(default_factory=MethodOptions)
    task: str = ""
    split: str = ""
    max_images: int = 5000

    def __post_init__(self) -> None:
        if self.max_images < 2:
            raise JaxalignError(f"max_images is {self.max_images}; expected 2 or more")


class Indicators:
    """Images of one split under several methods, and the class names beside them; embedded once."""

    def __init__(self, workspace: Workspace, model: DualEncoder, dataset: str, indicating: Indicating):
        self.workspace, self.model, self.indicating = workspace, model, indicating
        split = indicating.split
        self.pair = ImagePair(workspace, model, dataset, split, split)
        self.task = choose_task(self.pair.query, indicating.task)
        found = find_methods(indicating.methods, model, "image", indicating.options)
        self.methods = {method.name: method for method in found}
        inverting = [name for name, method in self.methods.items() if method.inverts]
        if inverting:
            raise JaxalignError(f"{inverting[0]} changes only the queries; leave it out of the indicators")
        self.fitting = Fitting(workspace, model, lambda: self.pair.query_pre)

    @property
    def settings(self) -> dict:
        """The part of a run's settings that all indicators share."""
        shared = model_settings(self.model) | self.pair.settings
        del shared["gallery"], shared["gallery_version"]
        return shared | {"task": self.task, "max_images": self.indicating.max_images}

    @property
    def text_settings(self) -> dict:
        """The same, where the class names take part."""
        return self.settings | self.pair.text_settings(self.task)

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions of the images that are looked at."""
        labelled = np.flatnonzero(self.pair.read.query.examples.labels[self.task] >= 0)
        return some(labelled, self.indicating.max_images)

    @property
    def labels(self) -> np.ndarray:
        return self.pair.read.query.examples.labels[self.task][self.rows]

    @cached_property
    def texts(self) -> np.ndarray:
        """Embeddings `[c, d]` of a prompt for each class."""
        return self.pair.name_embeddings(self.task)

    def embeddings(self, name: str) -> np.ndarray:
        """The images `[n, d]` under a method."""
        return np.asarray(self.fitting.embed(self.methods[name])(self.pair.query_pre[self.rows]))

    def baseline(self) -> np.ndarray:
        """The images' embeddings `[n, d]` as they are."""
        return np.asarray(image_embeddings(self.model, self.pair.query_pre[self.rows]))

    def measure(self, task: str, settings: Mapping[str, Any], compute: Callable[[], Result]) -> Run:
        """The run of a task, in which images that cannot be read are named."""
        return self.workspace.measure(task, settings, lambda: self.pair.name_left_out(compute()))

    def by_class(self) -> list[Run]:
        """Runs of the task `class-indicator`, one for each method."""
        compute = lambda name: lambda: class_indicator(self.embeddings(name), self.labels)
        return [
            self.measure(BY_CLASS.name, self.settings | method.to_json(), compute(name))
            for name, method in self.methods.items()
        ]

    def by_modality(self) -> list[Run]:
        """Runs of the task `modality-indicator`, for the methods whose embeddings stay beside the texts."""
        shown = [m for m in self.methods.values() if m.name == "image-image" or m.rank is not None]
        if self.model.config.text is None:
            return []
        compute = lambda name: lambda: modality_indicator(self.embeddings(name), self.texts)
        return [
            self.measure(BY_MODALITY.name, self.text_settings | method.to_json(), compute(method.name))
            for method in shown
        ]
