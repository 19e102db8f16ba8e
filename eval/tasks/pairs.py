"""Queries and gallery of a data set: which splits, which labels, and their features once they are needed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DatasetRecord, Examples, fill_template, find_dataset
from jaxalign.eval.datasets.examples import (
    choose_task,
    collect_captions,
    common_labels,
    given_captions,
    own_positions,
)
from jaxalign.eval.datasets.records import Folder

from .projecting import class_texts_of
from .runs import Result
from .workspace import Readable, Workspace, digest_texts

# What feeds a measurement: the paper, or its published code.
PAPER, REFERENCE = VARIANTS = ("paper", "reference")


class ReadImages(NamedTuple):
    """What of queries, gallery and distractors can be read, and features `[g, d_image]` of the latter two."""

    query: Readable
    gallery: Readable
    distractors: Readable | None
    gallery_pre: np.ndarray

    @property
    def parts(self) -> tuple[Readable, Readable, Readable | None]:
        return self.query, self.gallery, self.distractors


def naming_left_out(result: Result, *parts: Readable | None) -> Result:
    """`result`, with the names of what was left out of the parts that it is about."""
    lost = {part.origin: part.left_out for part in parts if part is not None and part.left_out}
    return replace(result, left_out=lost)


class ImagePair:
    """Images as queries, and images as gallery; the same ones where both splits are the same.

    `query`, `gallery` and `distractors` are the whole splits, which are there before any image is read;
    everything else is about the images that can be read.

    Args:
      query, gallery: splits; by default those of the data set's protocol.
      distractors: whether the data set's distractors are added to the gallery.

    Raises:
      JaxalignError: unknown data set or split, captions without images, or no distractors.
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
        self.workspace, self.model, self.record = workspace, model, workspace.find_dataset(dataset)
        query, gallery = query or self.record.query, gallery or self.record.gallery
        if not query or not gallery:
            raise JaxalignError(
                f"{dataset} has no retrieval protocol; say which splits to take (--query, --gallery), of"
                f" {', '.join(self.record.splits)}"
            )
        self.query: Examples = workspace.load_split(self.record, query)
        self.same = query == gallery
        self.gallery: Examples = self.query if self.same else workspace.load_split(self.record, gallery)
        for examples in (self.query, self.gallery):
            if not examples.shows_images:
                raise JaxalignError(f"{dataset} has captions only; use `jaxalign text-retrieve`")
        if self.has_ground_truth and self.gallery.split != self.record.gallery:
            raise JaxalignError(
                f"{self.query.origin} has lists of positives, which are about the gallery"
                f" {self.record.gallery}; got {self.gallery.split}"
            )
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
            "version": self.query.state,
            "query": self.query.split,
            "gallery": self.gallery.split,
            "gallery_version": self.gallery.state,
        }
        found |= self.workspace.image_settings
        if self.distractors is None:
            return found
        more = self.distractors
        return found | {"distractors": more.dataset, "distractors_version": more.state}

    @property
    def has_ground_truth(self) -> bool:
        """Whether lists of positives (ROxford, RParis) stand in place of labels."""
        return bool(self.query.ground_truth)

    @property
    def has_captions_alone(self) -> bool:
        """Whether captions (COCO, Flickr30k, nocaps) stand in place of labels."""
        return not self.query.labels and bool(self.query.captions)

    def tasks(self, wanted: Sequence[str] = ()) -> tuple[str, ...]:
        """Labellings: `wanted`, or the data set's first one; one empty name where there are lists of
        positives, or captions alone."""
        if self.has_ground_truth or self.has_captions_alone:
            return ("",)
        return tuple(choose_task(self.query, task) for task in wanted or ("",))

    def labels(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Labels int `[q]` and `[g]` of queries and gallery, under one numbering; a distractor has none."""
        query, gallery, _ = self._numbered(task)
        return query, np.pad(gallery, (0, len(self.gallery_pre) - len(gallery)), constant_values=-1)

    def _numbered(self, task: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        return common_labels(self.read.query.examples, self.read.gallery.examples, task)

    @cached_property
    def read(self) -> ReadImages:
        """Queries, gallery and distractors with their features, which the store lacks no longer.

        A measurement whose run is there asks for none of it.
        """
        read = self.workspace.images
        query = read(self.model, self.query)
        gallery = query if self.same else read(self.model, self.gallery)
        if self.distractors is None:
            return ReadImages(query, gallery, None, gallery.pre)
        more, own = read(self.model, self.distractors), len(gallery.pre)
        whole = np.concatenate([gallery.pre, more.pre])  # a million distractors are in memory once
        return ReadImages(query, replace(gallery, pre=whole[:own]), replace(more, pre=whole[own:]), whole)

    @property
    def query_pre(self) -> np.ndarray:
        """Pre-projection features `[q, d_image]`."""
        return self.read.query.pre

    @property
    def gallery_pre(self) -> np.ndarray:
        """Pre-projection features `[g, d_image]`, those of the distractors last."""
        return self.read.gallery_pre

    @cached_property
    def own(self) -> np.ndarray:
        """Where each query is in the gallery, int `[q, m]`, as `own_positions` says."""
        return own_positions(self.read.query.examples, self.read.gallery.examples)

    @cached_property
    def ground_truth(self) -> tuple[Mapping[str, list[int]], ...]:
        """For each query its positions in the gallery under `easy`, `hard` and `junk`."""
        truth, gallery = self.read.query.examples.ground_truth, self.read.gallery
        if not gallery.left_out:
            return truth
        place = np.full(len(self.gallery), -1)
        place[gallery.rows] = np.arange(len(gallery.rows))
        kept = lambda rows: [int(place[row]) for row in rows if place[row] >= 0]
        return tuple({kind: kept(rows) for kind, rows in lists.items()} for lists in truth)

    def name_left_out(self, result: Result) -> Result:
        """`result` of queries and gallery, with the names of the images that were left out."""
        return naming_left_out(result, *self.read.parts)

    def positions(self) -> tuple[np.ndarray, np.ndarray]:
        """Where queries `[q]` and gallery `[g]` are in their whole splits, distractors behind the gallery."""
        query, gallery, more = self.read.parts
        if more is None:
            return query.rows, gallery.rows
        return query.rows, np.concatenate([gallery.rows, len(self.gallery) + more.rows])

    def text_settings(self, task: str) -> dict[str, Any]:
        """The part of a run's settings that its class names are, where there are any."""
        if self.has_captions_alone:
            return {}
        if (given := class_texts_of(self.model)) is not None:
            return {"class_texts": given.digest}
        names = self.gallery.label_names.get(task, ())
        return {"prompts": digest_texts([fill_template(self.record.template, name) for name in names])}

    def name_features(self, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Pre-projection features `[c, d_text]` of a prompt for each class in the gallery, and labels."""
        prompts, labels = self.name_prompts(task)
        return self.workspace.texts(self.model, *prompts), labels

    def name_prompts(self, task: str) -> tuple[tuple[str, list[str], list[str]], np.ndarray]:
        """These prompts, after what the feature store calls them and their ids; and their labels."""
        _, labels, names = self._numbered(task)
        labels = np.unique(labels[labels >= 0])
        prompts = [fill_template(self.record.template, names[i]) for i in labels]
        return (f"{task} names of {self.record.name}", [f"{i}" for i in labels], prompts), labels

    def name_embeddings(self, task: str) -> np.ndarray:
        """Embeddings `[c, d]` of the same prompts; or all class texts that were given in their place."""
        if (given := class_texts_of(self.model)) is not None:
            return given.values
        return self.workspace.text_embeddings(self.model, *self.name_prompts(task)[0])

    def text_features(self, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What finds images: `name_features`, or without a labelling all captions; labels of the gallery.

        Returns:
          Pre-projection features `[t, d_text]`, labels int `[t]` of the texts and `[g]` of the images.
        """
        if not self.has_captions_alone:
            return *self.name_features(task), self.labels(task)[1]
        examples = self.read.gallery.examples
        captions = [(row, i, text) for row, own in enumerate(examples.captions) for i, text in enumerate(own)]
        pre = self.workspace.texts(
            self.model,
            f"captions of the images of {examples.dataset} {examples.split}",
            [f"{examples.ids[row]}#{i}" for row, i, _ in captions],
            [text for *_, text in captions],
        )
        return pre, np.array([row for row, *_ in captions], np.int32), np.arange(len(examples))


class CaptionPair:
    """Captions of a split as queries (the first of each image) and gallery (all of them)."""

    def __init__(self, workspace: Workspace, model: DualEncoder, dataset: str, split: str = ""):
        self.workspace, self.model, self.record = workspace, model, workspace.find_dataset(dataset)
        split = split or self.record.gallery
        if not split:
            raise JaxalignError(
                f"{dataset} has no retrieval protocol; say which split to take (--split), of"
                f" {', '.join(self.record.splits)}"
            )
        self.examples = workspace.load_split(self.record, split)
        if self.examples.features is not None:
            self.captions = given_captions(self.examples)
        elif self.examples.captions:
            self.captions = collect_captions(self.examples.captions, self.examples.ids)
        else:
            raise JaxalignError(
                f"{dataset} has no captions; expected a data set with captions, see `jaxalign datasets`"
            )
        if len(np.unique(self.captions.images)) == len(self.captions.images):
            raise JaxalignError(
                f"{dataset} has one caption of each image, and text retrieval looks for the others; choose"
                " a data set with several, such as emoji or coco"
            )

    @property
    def settings(self) -> dict[str, Any]:
        """The part of a run's settings that this is."""
        examples = self.examples
        return {"dataset": examples.dataset, "version": examples.state, "query": examples.split}

    @property
    def name(self) -> str:
        """What the feature store calls the captions."""
        return f"captions of {self.examples.dataset} {self.examples.split}"

    def name_left_out(self, result: Result) -> Result:
        """`result` as it is: captions are all read."""
        return result

    @cached_property
    def pre(self) -> np.ndarray:
        """Pre-projection features `[n, d_text]` of all captions, or what was given in their place."""
        if self.examples.features is not None:
            return self.examples.features
        return self.workspace.texts(self.model, self.name, self.captions.ids, self.captions.texts)


def some(rows: np.ndarray, most: int | None) -> np.ndarray:
    """At most so many of `rows`, evenly spaced; all of them for None."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def variant_split(record: DatasetRecord, which: str, wanted: str, variant: str) -> str:
    """`wanted`, or where it is empty what the variant takes as `which`, "query" or "captions"; empty where
    that is the data set's own.

    The published code reads the queries of ROxford and RParis whole, and does not crop them to their boxes;
    of the captions of Flickr30k it takes `val`.
    """
    return wanted or (record.reference_splits.get(which, "") if variant == REFERENCE else "")


def takes_distractors(
    record: DatasetRecord, wanted: bool | None, variant: str, data_dir: Folder = None
) -> bool:
    """Whether a gallery gets the data set's distractors: `wanted`, or what the variant does.

    By the paper's none; the published code appends R1M to ROxford and RParis where it finds it, which here
    is where it is prepared or can be.
    """
    if wanted is not None:
        return wanted
    if variant != REFERENCE or not record.distractors:
        return False
    return find_dataset(record.distractors).find_copy(data_dir).state != "missing"
