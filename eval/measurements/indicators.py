"""`jaxalign indicators`: the papers' histograms, dogs and cats, degrees of freedom, and views of the
space."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.protocols.ambiguity import ambiguity
from jaxalign.eval.protocols.dogs_cats import dogs_cats
from jaxalign.eval.protocols.freedom import degrees_of_freedom
from jaxalign.eval.protocols.indicators import class_indicator, modality_indicator
from jaxalign.eval.protocols.views import embedding_views
from jaxalign.eval.tasks import own
from jaxalign.eval.tasks.fitting import Fitting
from jaxalign.eval.tasks.heads import image_embeddings, text_embeddings
from jaxalign.eval.tasks.methods import MethodOptions, default_methods, find_method, subspace_of
from jaxalign.eval.tasks.pairs import ImagePair
from jaxalign.eval.tasks.runs import Result, Run
from jaxalign.eval.tasks.workspace import Workspace, choose_task, model_settings


@dataclass(frozen=True)
class Indicating:
    """What is shown, beside model and data set.

    Attributes:
      methods: whose histograms are compared; by default all that need neither inversion nor a choice.
      options: of the methods.
      task: labelling; by default the data set's first one.
      split: whose pictures; by default the queries of the retrieval protocol.
      max_pictures: at most so many, evenly spaced.
    """

    methods: tuple[str, ...] = ()
    options: MethodOptions = field(default_factory=MethodOptions)
    task: str = ""
    split: str = ""
    max_pictures: int = 5000

    def __post_init__(self):
        if self.max_pictures < 2:
            raise JaxalignError(f"max_pictures is {self.max_pictures}; expected 2 or more")


class Indicators:
    """Pictures of one split under several methods, and the class names beside them; embedded once."""

    def __init__(self, workspace: Workspace, model: DualEncoder, dataset: str, indicating: Indicating):
        self.workspace, self.model, self.indicating = workspace, model, indicating
        split = indicating.split
        self.pair = ImagePair(workspace, model, dataset, split, split)
        self.task = choose_task(self.pair.query, indicating.task)
        names = indicating.methods or default_methods(model, "image", indicating.options)
        self.methods = {n: find_method(n, model, "image", indicating.options) for n in dict.fromkeys(names)}
        inverting = [name for name, method in self.methods.items() if method.inverts]
        if inverting:
            raise JaxalignError(f"{inverting[0]} changes only the queries; leave it out of the indicators")
        self.fitting = Fitting(workspace, model, lambda: self.pair.query_pre)

    @property
    def settings(self) -> dict:
        """The part of a run's settings that all indicators share."""
        shared = model_settings(self.model) | self.pair.settings
        del shared["gallery"], shared["gallery_version"]
        return shared | {"task": self.task, "max_pictures": self.indicating.max_pictures}

    @property
    def text_settings(self) -> dict:
        """The same, where the class names take part."""
        return self.settings | self.pair.text_settings(self.task)

    @cached_property
    def rows(self) -> np.ndarray:
        """Positions of the pictures that are looked at."""
        labelled = np.flatnonzero(self.pair.read_query.examples.labels[self.task] >= 0)
        count = min(len(labelled), self.indicating.max_pictures)
        return labelled[np.linspace(0, len(labelled) - 1, count).round().astype(int)]

    @property
    def labels(self) -> np.ndarray:
        return self.pair.read_query.examples.labels[self.task][self.rows]

    @cached_property
    def texts(self) -> np.ndarray:
        """Embeddings `[c, d]` of a prompt for each class."""
        return np.asarray(text_embeddings(self.model, self.pair.name_features(self.task)[0]))

    def embeddings(self, name: str) -> np.ndarray:
        """The pictures `[n, d]` under a method."""
        return np.asarray(self.fitting.embed(self.methods[name])(self.pair.query_pre[self.rows]))

    def baseline(self) -> np.ndarray:
        """The pictures' embeddings `[n, d]` as they are."""
        return np.asarray(image_embeddings(self.model, self.pair.query_pre[self.rows]))

    def _measure(self, protocol: str, settings: Mapping[str, Any], compute: Callable[[], Result]) -> Run:
        return self.workspace.measure(protocol, settings, lambda: self.pair.name_left_out(compute()))

    def by_class(self) -> list[Run]:
        """Runs of protocol `class-indicator`, one for each method."""
        return [
            self._measure(
                "class-indicator",
                self.settings | method.to_json(),
                lambda n=name: class_indicator(self.embeddings(n), self.labels),
            )
            for name, method in self.methods.items()
        ]

    def by_modality(self) -> list[Run]:
        """Runs of protocol `modality-indicator`, for the methods whose embeddings stay beside the texts."""
        shown = [m for m in self.methods.values() if m.name == "image-image" or m.rank is not None]
        if self.model.config.text is None:
            return []
        return [
            self._measure(
                "modality-indicator",
                self.text_settings | method.to_json(),
                lambda m=method: modality_indicator(self.embeddings(m.name), self.texts),
            )
            for method in shown
        ]

    def dogs_and_cats(self) -> Run:
        """The run of protocol `dogs-cats`: this data set has two classes, of which the second is the
        query."""
        names = self.pair.query.label_names[self.task]
        if len(names) != 2:
            raise JaxalignError(
                f"{self.pair.query.dataset} has {len(names)} classes of {self.task}; dogs and cats are two"
            )

        def compute() -> Result:
            texts = None if self.model.config.text is None else self.texts
            found = {name: self.embeddings(name) for name in self.methods}
            ks = tuple(k for k in (1, 5, 10, 50, 100, 500, 1000) if k < len(self.rows) // 2)
            return dogs_cats(found, self.labels, texts, ks=ks)

        methods = [method.to_json() for method in self.methods.values()]
        return self._measure("dogs-cats", self.text_settings | {"methods": methods}, compute)

    def tasks(self) -> Run:
        """The run of protocol `ambiguity`: all labellings of the same pictures."""

        def compute() -> Result:
            whole = self.pair.read_query.examples.labels
            labels = {task: values[self.rows] for task, values in whole.items()}
            found = {name: self.embeddings(name) for name in self.methods}
            pairs = {name: (x, x) for name, x in found.items()}
            exclude = own.exclusion(own.renumber(self.pair.own, self.rows, self.rows))
            return ambiguity(pairs, labels, labels, exclude_self=exclude)

        methods = [method.to_json() for method in self.methods.values()]
        settings = {**self.settings, "methods": methods, "tasks": sorted(self.pair.query.labels)}
        return self._measure("ambiguity", settings, compute)

    def freedom(self) -> Run:
        """The run of protocol `degrees-of-freedom`, with the class names' and PCA<-'s texts as anchors."""
        method = find_method("pca", self.model, "image", self.indicating.options)

        def compute() -> Result:
            anchors = np.concatenate([self.texts, self.fitting.subspace_texts(method)])
            images = self.baseline()
            with self.workspace.stages.stage("recover", f"{self.model.name}: recovering similarities"):
                return degrees_of_freedom(images, anchors)

        return self._measure("degrees-of-freedom", self.text_settings | method.to_json(), compute)

    def view(self, kind: str, seed: int = 0) -> Run:
        """The run of protocol `view`: texts, pictures and projected pictures in two dimensions."""
        method = find_method("pca", self.model, "image", self.indicating.options)

        def compute() -> Result:
            subspace = subspace_of(method, self.fitting.subspace_texts(method))
            images, texts = self.baseline(), self.texts
            with self.workspace.stages.stage("view", f"{self.model.name}: {kind} view"):
                return embedding_views(images, texts, subspace, view=kind, seed=seed)

        settings = self.text_settings | method.to_json() | {"view": kind, "seed": seed}
        return self._measure("view", settings, compute)
