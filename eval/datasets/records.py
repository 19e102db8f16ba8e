"""The table of data sets: what each holds, where it comes from, and where its prepared copy lies."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jaxalign.errors import unknown_name


@dataclass(frozen=True)
class DatasetRecord:
    """One data set.

    Attributes:
      builder: the TFDS builder class as `module:Class`; imported only when it is needed.
      version: of the builder; a prepared copy of another version is not read.
      splits: name of each split and its number of examples.
      tasks: names of the labels, each of which is a retrieval task.
      captions: what the captions of an example are.
      source: where the data come from and how one gets them.
    """

    name: str
    builder: str
    version: str
    splits: Mapping[str, int]
    tasks: tuple[str, ...]
    captions: str
    licence: str
    source: str
    description: str

    def builder_class(self) -> Any:
        """The TFDS builder class; importing it imports tensorflow_datasets (but not TensorFlow)."""
        module, _, name = self.builder.partition(":")
        return getattr(importlib.import_module(module), name)

    def folder(self, data_dir: str | os.PathLike | None = None) -> Path:
        """Where the prepared copy lies, or would lie, in `data_dir` (see `data_root`)."""
        return data_root(data_dir) / self.name.replace("-", "_") / self.version

    def is_prepared(self, data_dir: str | os.PathLike | None = None) -> bool:
        """Whether the prepared copy is there; TFDS moves a copy to its place only when it is complete."""
        return self.folder(data_dir).is_dir()


def data_root(data_dir: str | os.PathLike | None = None) -> Path:
    """`data_dir` or, as TFDS has it, `$TFDS_DATA_DIR` or `~/tensorflow_datasets`."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or Path("~", "tensorflow_datasets")
    return Path(chosen).expanduser()


EMOJI_LABELS = ("emoji", "group", "subgroup", "style")
EMOJI_LICENCE = "Apache-2.0, MIT, CC-BY-4.0, CC-BY-SA-4.0 (by drawing style)"
EMOJI_SPLITS = MappingProxyType({"train": 8088, "test": 2148})
RECORDS = (
    DatasetRecord(
        name="emoji",
        builder="eval.datasets.emoji.builders:Emoji",
        version="1.0.0",
        splits=EMOJI_SPLITS,
        tasks=EMOJI_LABELS,
        captions="the Unicode name, then pairs of CLDR keywords",
        licence=EMOJI_LICENCE,
        source="inside the package",
        description="Emoji in seven drawing styles on white, split by emoji",
    ),
    DatasetRecord(
        name="emoji-scenes",
        builder="eval.datasets.emoji.builders:EmojiScenes",
        version="1.0.0",
        splits=EMOJI_SPLITS,
        tasks=(*EMOJI_LABELS, "background", "texture", "size", "place"),
        captions="one, of the name and some of the context",
        licence=EMOJI_LICENCE,
        source="inside the package",
        description="The same emoji on coloured, textured backgrounds at several sizes and places",
    ),
)
DATASETS: Mapping[str, DatasetRecord] = MappingProxyType({record.name: record for record in RECORDS})


def find_dataset(name: str) -> DatasetRecord:
    """The record of `name`.

    Raises:
      JaxalignError: no data set has that name; the nearest names are offered.
    """
    if name not in DATASETS:
        raise unknown_name("data set", name, DATASETS)
    return DATASETS[name]
