"""What a layout holds before it is prepared: the examples of each split, checked before they are copied."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError

from .examples import UNLABELLED
from .records import DatasetRecord, Folder


@dataclass(frozen=True, slots=True)
class Item:
    """One example.

    Attributes:
      file_name: unique in the data set.
      path: of the image, or None where only the captions are wanted.
      labels: one for each task of the record, or `UNLABELLED`.
      box: left, top, right, bottom in pixels: what of the image is meant.
    """

    file_name: str
    path: Path | None = None
    labels: tuple[int, ...] = ()
    captions: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Content:
    """The examples of each split in their order, and the names of each label's values.

    Attributes:
      ground_truth: by split, for each query the positions in the gallery under `easy`, `hard` and `junk`.
    """

    splits: Mapping[str, list[Item]]
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    ground_truth: Mapping[str, list[dict[str, list[int]]]] = field(default_factory=dict)


def read_content(record: DatasetRecord, folder: Path) -> Content:
    """What the data set's layout holds in the source folder, which `check_sources` has seen. Raises
    JaxalignError for files that cannot be understood, wrong counts, labels out of range, names that are there
    twice, or images that are not there."""
    try:
        content: Content = record.builder_class()(record, folder)
    except UnicodeDecodeError as error:
        raise JaxalignError(f"{record.name}: a list is not in UTF-8 ({error}); get the file again") from error
    check_content(record, content)
    return content


def check_sources(record: DatasetRecord, folder: Path, data_dir: Folder = None) -> None:
    """Raise unless everything that preparing needs is in the source folder."""
    missing = [source for source in record.missing_sources(folder) if source.required]
    if missing:
        wanted = "; ".join(source.told(folder) for source in missing)
        others = ", ".join(record.other_versions(data_dir))
        version = f" in version {record.version} (but in {others})" if others else ""
        raise JaxalignError(
            f"{record.name} is not prepared{version}, and its data are not there: put {wanted}"
        )


def check_content(record: DatasetRecord, content: Content) -> None:
    """Raise for wrong counts, labels out of range, names that are there twice and missing images."""
    for split, expected in record.splits.items():
        if split not in content.splits and split in record.optional_splits:
            continue
        found = len(content.splits.get(split, ()))
        if found != expected:
            raise JaxalignError(
                f"{record.name}: {split} has {found:,} examples instead of {expected:,}; get the lists"
                f" and images again from {record.source}"
            )
    items = [item for split in content.splits.values() for item in split]
    for at, task in enumerate(record.tasks):
        classes = len(content.label_names[task])
        wrong = [item for item in items if not UNLABELLED <= item.labels[at] < classes]
        if wrong:
            raise JaxalignError(
                f"{record.name}: {count(wrong, 'label')} of {task} out of range, {wrong[0].labels[at]} of"
                f" {wrong[0].file_name} the first; expected 0 to {classes - 1}"
            )
    check_names(record, [item.file_name for item in items])
    check_images(record, items)


def check_names(record: DatasetRecord, names: list[str]) -> None:
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise JaxalignError(
            f"{record.name}: {count(twice, 'file name')} there twice, {twice[0]!r} the first; "
            "expected each once"
        )


def check_images(record: DatasetRecord, items: Iterable[Item]) -> None:
    """Raise for images that are not there, or whose names no file system takes.

    What is in the others is seen when they are read.
    """
    lost = [item.path for item in items if item.path is not None and not os.path.isfile(item.path)]
    if lost:
        raise JaxalignError(
            f"{record.name}: {count(lost, 'image')} missing, {lost[0]} the first; unpack the archive again"
        )


def content_bytes(content: Content) -> int:
    """Bytes of all images."""
    items = (item for split in content.splits.values() for item in split)
    return sum(item.path.stat().st_size for item in items if item.path is not None)


def count(things: list[Any], noun: str) -> str:
    """`1 label is`, `2 labels are`."""
    return f"1 {noun} is" if len(things) == 1 else f"{len(things):,} {noun}s are"
