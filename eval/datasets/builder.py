"""One TFDS builder for every layout: examples in order, images byte for byte, in shards; no TensorFlow.

What it shares with the builders of the emoji: a copy is checked before it counts, and TFDS's bucket has
nothing of it.
"""

import os
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from jaxalign.errors import JaxalignError

from .examples import Index, write_index
from .items import Content, Item
from .records import DatasetRecord

SHARD_BYTES = 256 * 2**20  # of images; one shard is one file


class LocalInfo(tfds.core.DatasetInfo):
    """The facts of a data set that is not in TFDS's own bucket."""

    def initialize_from_bucket(self) -> None:
        """Nothing: TFDS would make a temporary folder to copy facts to, and leave it behind."""


class LocalBuilder(tfds.core.DatasetBuilder, skip_registration=True):
    """Comes before TFDS's kind of builder among the bases.

    Attributes:
      on_example: called after each example while preparing, for a progress bar.
      expected: examples of each split that is written; others are an error, and nothing is kept.
    """

    on_example: Callable[[], object] | None = None
    expected: Mapping[str, int] | None = None

    def _download_and_prepare(self, *given: Any, **options: Any) -> None:
        super()._download_and_prepare(*given, **options)  # pyright: ignore[reportAbstractUsage]
        for split, info in self.info.splits.items():  # in the folder that is moved in place when this returns
            expected = (self.expected or {}).get(split, info.num_examples)
            if info.num_examples != expected:
                raise JaxalignError(
                    f"{self.name}: {info.num_examples:,} examples of {split} were written instead of"
                    f" {expected:,}; nothing was kept, run again"
                )


class ImageBuilder(LocalBuilder, tfds.core.ShardBasedBuilder, skip_registration=True):
    """Stores the content of a layout. `bind` makes the builder class of a data set.

    Beside the examples it writes an index of each split, so that labels and names are there without reading
    images.

    Attributes:
      record: what is known of the data set.
      content: what is to be stored.
    """

    VERSION = tfds.core.Version("1.0.0")
    record: DatasetRecord
    content: Content

    @classmethod
    def bind(cls, record: DatasetRecord, content: Content) -> "type[ImageBuilder]":
        """The builder class of `record`, to store `content`."""
        body = {
            "name": record.builder_name,
            "record": record,
            "content": content,
            "VERSION": tfds.core.Version(record.version),
            "RELEASE_NOTES": {record.version: "First release."},
        }
        name = "".join(part.capitalize() for part in record.builder_name.split("_"))
        return types.new_class(name, (cls,), {"skip_registration": True}, lambda space: space.update(body))

    def _info(self) -> tfds.core.DatasetInfo:
        return LocalInfo(
            builder=self,
            description=f"{self.record.description}. {self.record.protocol}",
            features=tfds.features.FeaturesDict(self._features()),
            homepage=self.record.source,
            license=self.record.licence,
            disable_shuffling=True,
        )

    def _features(self) -> dict[str, Any]:
        features: dict[str, Any] = {"file_name": tfds.features.Text(), "index": np.int64}
        if self.record.images:
            features["image"] = tfds.features.Image(shape=(None, None, 3))  # the file's bytes, as they are
        if self.record.captions:
            features["captions"] = tfds.features.Sequence(tfds.features.Text())
        for task in self.record.tasks:
            features[task] = tfds.features.ClassLabel(names=distinct(self.content.label_names[task]))
        return features

    def _shard_iterators_per_split(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Sequence[Callable[[], Iterator[tuple[int, dict[str, Any]]]]]]:
        return {
            split: [partial(self._examples, items, rows) for rows in shard_rows(items)]
            for split, items in self.content.splits.items()
        }

    def _examples(self, items: list[Item], rows: range) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in rows:
            item = items[index]
            example: dict[str, Any] = {"file_name": item.file_name, "index": index}
            if self.record.images:
                example["image"] = os.fspath(item.path or "")
            if self.record.captions:
                example["captions"] = list(item.captions)
            yield index, example | dict(zip(self.record.tasks, item.labels, strict=True))
            if self.on_example is not None:
                self.on_example()

    def _download_and_prepare(self, *given: Any, **options: Any) -> None:
        super()._download_and_prepare(*given, **options)
        # Into the folder that is moved in place when it is whole.
        for split, items in self.content.splits.items():
            write_index(self.data_path, split, make_index(self.record, self.content, split, items))


def make_index(record: DatasetRecord, content: Content, split: str, items: list[Item]) -> Index:
    """What of the examples is wanted without their images."""
    labels = np.array([item.labels for item in items], np.int32).reshape(len(items), len(record.tasks))
    return Index(
        file_names=tuple(item.file_name for item in items),
        labels={task: labels[:, at] for at, task in enumerate(record.tasks)},
        label_names={task: content.label_names[task] for task in record.tasks},
        captions=tuple(item.captions for item in items) if record.captions else (),
        boxes=tuple(item.box for item in items if item.box is not None),
        ground_truth=tuple(content.ground_truth.get(split, ())),
    )


def shard_rows(items: list[Item]) -> list[range]:
    """Consecutive examples of about `SHARD_BYTES` of images together."""
    starts, size = [0], 0
    for index, item in enumerate(items):
        size += item.path.stat().st_size if item.path is not None else 0
        if size >= SHARD_BYTES and index + 1 < len(items):
            starts.append(index + 1)
            size = 0
    return [range(start, stop) for start, stop in zip(starts, [*starts[1:], len(items)], strict=True)]


def distinct(names: Sequence[str]) -> list[str]:
    """The names, a repeated one with its label: TFDS wants them distinct, and a few data sets' are not."""
    times = Counter(names)
    return [f"{name} ({label})" if times[name] > 1 else name for label, name in enumerate(names)]
