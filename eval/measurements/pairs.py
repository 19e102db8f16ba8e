"""Queries and gallery of a data set: which splits, which labels, and their features once they are needed."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from eval.datasets import Examples, fill_template, find_dataset
from eval.protocols.text_retrieval import Captions, collect_captions
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError

from .workspace import Workspace, choose_task


class ImagePair:
    """Pictures as queries, and pictures as gallery; the same ones where both splits are the same.

    Args:
      query, gallery: splits; by default those of the data set's protocol.
      distractors: whether the data set's distractors are added to the gallery.

    Raises:
      JaxalignError: unknown data set or split, captions without pictures, or no distractors.
    """

    def __init__(
        self,
        workspace: Workspace,
        model: DualEncoder,
        dataset: str,
        query: str = "",
        gallery: str = "",
        distractors: bool = False,
    ):
        self.workspace, self.model, self.record = workspace, model, find_dataset(dataset)
        query, gallery = query or self.record.query, gallery or self.record.gallery
        if not query or not gallery:
            raise JaxalignError(
                f"{dataset} has no retrieval protocol; say which splits to take (--query, --gallery), of"
                f" {', '.join(self.record.splits)}"
            )
        self.query: Examples = workspace.load_split(dataset, query)
        self.same = query == gallery
        self.gallery: Examples = self.query if self.same else workspace.load_split(dataset, gallery)
        for examples in (self.query, self.gallery):
            if examples.images is None:
                raise JaxalignError(f"{dataset} has captions only; use `jaxalign text-retrieve`")
        self._names: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.distractors: Examples | None = None
        if distractors:
            if not self.record.distractors:
                raise JaxalignError(f"{dataset} has no distractors; leave out --distractors")
            self.distractors = workspace.load_split(self.record.distractors, "distractors")

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a run's settings that this is."""
        found = {
            "dataset": self.query.dataset,
            "version": self.query.version,
            "query": self.query.split,
            "gallery": self.gallery.split,
        }
        return found if self.distractors is None else found | {"distractors": self.distractors.dataset}

    @property
    def has_ground_truth(self) -> bool:
        """Whether lists of positives (ROxford, RParis) stand in place of labels."""
        return bool(self.query.ground_truth)

    def tasks(self, wanted: Sequence[str] = ()) -> tuple[str, ...]:
        """Labellings: `wanted`, or the data set's first one; one empty name where there are lists of
        positives."""
        if self.has_ground_truth:
            return ("",)
        return tuple(choose_task(self.query, task) for task in wanted or ("",))

    def labels(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels int `[q]` and `[g]` of queries and gallery."""
        missing = -np.ones(0 if self.distractors is None else len(self.distractors), np.int32)
        return self.query.labels[task], np.concatenate([self.gallery.labels[task], missing])

    @cached_property
    def query_pre(self) -> np.ndarray:
        """Pre-projection features `[q, d_image]`."""
        return self.workspace.images(self.model, self.query).values

    @cached_property
    def gallery_pre(self) -> np.ndarray:
        """Pre-projection features `[g, d_image]`, those of the distractors last."""
        own = self.query_pre if self.same else self.workspace.images(self.model, self.gallery).values
        if self.distractors is None:
            return own
        return np.concatenate([own, self.workspace.images(self.model, self.distractors).values])

    def name_prompts(self, task: str) -> tuple[list[str], np.ndarray]:
        """A prompt for each class of `task` that the gallery has, and their labels."""
        names = self.gallery.label_names[task]
        labels = np.unique(self.gallery.labels[task])
        labels = labels[labels >= 0]
        return [fill_template(self.record.template, names[i]) for i in labels], labels

    def name_features(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Pre-projection features `[c, d_text]` of `name_prompts`, and their labels."""
        if task not in self._names:
            prompts, labels = self.name_prompts(task)
            ids = [f"{i}" for i in labels]
            name = f"{task} names of {self.record.name}"
            self._names[task] = self.workspace.texts(self.model, name, ids, prompts), labels
        return self._names[task]


class CaptionPair:
    """Captions of a split as queries (the first of each picture) and gallery (all of them)."""

    def __init__(self, workspace: Workspace, model: DualEncoder, dataset: str, split: str = ""):
        self.workspace, self.model, self.record = workspace, model, find_dataset(dataset)
        split = split or self.record.gallery
        if not split:
            raise JaxalignError(
                f"{dataset} has no retrieval protocol; say which split to take (--split), of"
                f" {', '.join(self.record.splits)}"
            )
        self.examples = workspace.load_split(dataset, split)
        if not self.examples.captions:
            raise JaxalignError(
                f"{dataset} has no captions; expected a data set with captions, see `jaxalign datasets`"
            )
        self.captions: Captions = collect_captions(self.examples.captions, self.examples.ids)

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a run's settings that this is."""
        examples = self.examples
        return {"dataset": examples.dataset, "version": examples.version, "query": examples.split}

    @cached_property
    def pre(self) -> np.ndarray:
        """Pre-projection features `[n, d_text]` of all captions."""
        name = f"captions of {self.examples.dataset} {self.examples.split}"
        return self.workspace.texts(self.model, name, self.captions.ids, self.captions.texts)
