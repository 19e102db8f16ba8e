"""What is known of a data set: what it holds, how it is used, where it comes from and where it lies."""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .examples import Examples
from .prompts import read_templates

Folder = str | os.PathLike[str] | None
DEFAULT_TEMPLATE = "a photo of a {}."


@dataclass(frozen=True)
class Source:
    """A file or folder that preparing needs.

    Attributes:
      path: where it goes, below the source folder (see `source_root`).
      what: what it is, for people.
      url: where one gets it.
      required: whether the data set can be prepared without it; `needed_by` names what is then missing.
    """

    path: str
    what: str
    url: str
    required: bool = True
    needed_by: str = ""

    def told(self, folder: Path) -> str:
        """What to put where below the source folder, for messages."""
        return f"{self.what} to {folder / self.path} (from {self.url})"


@dataclass(frozen=True)
class PreparedCopy:
    """Attributes:
    state: `prepared`, `ready` to be prepared, or `missing` its sources.
    folder: where it is, or would be.
    advice: what to do; empty where nothing is.
    """

    state: Literal["prepared", "ready", "missing"]
    folder: Path
    advice: str = ""


@dataclass(frozen=True)
class DatasetRecord:
    """One data set.

    Attributes:
      builder: the TFDS builder class, or the function that reads the data set's layout, as `module:name`;
        imported only when it is needed.
      version: of the builder; a prepared copy of another version is not read.
      splits: name of each split and its number of examples.
      tasks: names of the labels, each of which is a retrieval task.
      captions: what the captions of an example are; empty if there are none.
      licence: as its authors state it.
      source: where the data come from.
      protocol: how the papers use it; what we chose where they are silent.
      query, gallery: splits of the retrieval protocol; `a+b` is both, one after the other. With the same
        split in both, a query is left out of its own gallery.
      train, test: splits of the classification protocol.
      classified: which of `tasks` it classifies; by default the first.
      distractors: data set whose images may be added to the gallery.
      reference_splits: what the papers' published code takes where it departs from the protocol: its `query`,
        and the `captions` of text retrieval.
      template: one prompt for a class name, as CoOp uses it.
      printed: its name in the papers' tables.
      tfds: a data set of the TFDS catalogue, `name:version`, whose prepared copy can stand in for the
        images (see `join`).
      sources: what to put where before it is prepared.
      optional_splits: that are left out where their source is.
      options: for the function that reads the layout.
      images: whether there are any; else there are captions only.
      in_memory: whether `load_split` decodes all images at once: they are few, small and of one size.
      open_split: of what is read where it is, without being prepared: the examples of a split, given its name
        and what `data_root` and `source_root` take.
      reading: of a folder of images, what its subfolders are taken for; to be said to whoever asks for it.
    """

    name: str
    builder: str
    splits: Mapping[str, int]
    licence: str
    source: str
    description: str
    version: str = "1.0.0"
    tasks: tuple[str, ...] = ()
    captions: str = ""
    protocol: str = ""
    query: str = ""
    gallery: str = ""
    train: str = ""
    test: str = ""
    classified: str = ""
    distractors: str = ""
    reference_splits: Mapping[str, str] = field(default_factory=dict)
    template: str = DEFAULT_TEMPLATE
    printed: str = ""
    tfds: str = ""
    sources: tuple[Source, ...] = ()
    optional_splits: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    images: bool = True
    in_memory: bool = False
    open_split: Callable[[str, Folder, Folder], Examples] | None = field(
        default=None, repr=False, compare=False
    )
    reading: str = ""

    @property
    def in_place(self) -> bool:
        """Whether it is read where it is; there is nothing to prepare."""
        return self.open_split is not None

    @property
    def needs_no_sources(self) -> bool:
        """Whether nothing has to be fetched: the data are inside the package, or a folder of the user's."""
        return not self.sources

    @property
    def builder_name(self) -> str:
        """The name under which TFDS stores it; a prefix keeps ours apart from those of the TFDS catalogue."""
        name = self.name.replace("-", "_")
        return name if self.needs_no_sources else f"jaxalign_{name}"

    @property
    def templates(self) -> Mapping[str, tuple[str, ...]]:
        """Prompt templates by name: `single` (CoOp's), `ensemble` (CLIP's), and for ImageNet `subset`."""
        return {"single": (self.template,), **read_templates(self.name)}

    def builder_class(self) -> Any:
        """What `builder` names; importing a TFDS builder imports tensorflow_datasets (but not TensorFlow)."""
        module, _, name = self.builder.partition(":")
        return getattr(importlib.import_module(module), name)

    def folder(self, data_dir: Folder = None) -> Path:
        """What is read in place, or where the prepared copy is, or would be, below `data_root`."""
        if not self.in_place:
            return data_root(data_dir) / self.builder_name / self.version
        if not self.tfds:
            return Path(self.source)
        name, _, version = self.tfds.rpartition(":")
        return data_root(data_dir) / name / version

    def is_prepared(self, data_dir: Folder = None) -> bool:
        """Whether the prepared copy is there; TFDS moves a copy to its place only when it is complete.

        What is one's own was there when its record was made.
        """
        return (self.in_place and not self.tfds) or self.folder(data_dir).is_dir()

    def other_versions(self, data_dir: Folder = None) -> list[str]:
        """Versions of which there are prepared copies, beside the one that is read."""
        found = (data_root(data_dir) / self.builder_name).glob("[0-9]*.*.*")
        return sorted(path.name for path in found if path.is_dir() and path.name != self.version)

    def missing_sources(self, folder: Path) -> list[Source]:
        """The sources that are not in `folder`, those that can be done without included."""
        return [source for source in self.sources if not (folder / source.path).exists()]

    def find_copy(
        self, data_dir: Folder = None, source_dir: Folder = None, *, optional: bool = False
    ) -> PreparedCopy:
        """Where the prepared copy is, or what preparing it lacks: with `optional` also what it can be done
        without."""
        folder = self.folder(data_dir)
        if self.is_prepared(data_dir):
            return PreparedCopy("prepared", folder)
        if self.in_place:
            return PreparedCopy("missing", folder, f"prepare {self.tfds} with TFDS: {folder}")
        sources = source_root(data_dir, source_dir)
        missing = [source for source in self.missing_sources(sources) if source.required or optional]
        if not missing:
            return PreparedCopy("ready", folder, "prepared when it is first used")
        wanted = "; ".join(source.told(sources) for source in missing)
        return PreparedCopy("missing", folder, f"put there: {wanted}")


def data_root(data_dir: Folder = None) -> Path:
    """`data_dir` or, as TFDS has it, `$TFDS_DATA_DIR` or `~/tensorflow_datasets`."""
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or Path("~", "tensorflow_datasets")
    return Path(chosen).expanduser()


def source_root(data_dir: Folder = None, source_dir: Folder = None) -> Path:
    """The folder of downloaded data sets as they were unpacked, which builders read.

    `source_dir` or `$JAXALIGN_SOURCE_DIR` or, as TFDS has it, `downloads/manual` below `data_root`. The
    folders in it have the names that CoOp and IsoCLIP give them, so that their data folder can be used as it
    is.
    """
    chosen = source_dir or os.environ.get("JAXALIGN_SOURCE_DIR")
    return Path(chosen).expanduser() if chosen else data_root(data_dir) / "downloads" / "manual"
