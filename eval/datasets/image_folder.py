"""Any folder of images as a data set. Its subfolders are the classes, or splits: their names decide. Nothing
is copied."""

import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from jaxalign.errors import JaxalignError

from .data_reading import Keys, own_record
from .examples import UNLABELLED, Examples
from .file_contents import real_paths
from .image_tree import ImageFile, expected_files, find_images, natural, tell_not_read
from .images import FolderImages
from .records import DatasetRecord, Folder

# What stands before the path of a folder: whether its subfolders are splits or classes follows from their
# names, or is said.
FOLDER, CLASSES, SPLITS = READINGS = ("folder:", "classes:", "splits:")
ALL = "all"
# Names of folders that are splits, in any case, and what the split is then called.
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLIT_OF = {name: split for split, names in SPLIT_NAMES.items() for name in names}
# Words of other names of splits: what `train2017`, `test-set` or `gallery` is people have to say.
_SPLIT_WORDS = {
    *_SPLIT_OF,
    *("trains", "tests", "trainval", "eval", "evaluation", "holdout", "query", "queries", "gallery"),
}
_NAMED = 5  # folders or classes that a message names


@dataclass(frozen=True)
class Reading:
    """What the subfolders of a folder are.

    Attributes:
      splits: the images of each split, in order; `all` is the only one where the subfolders are classes.
      classes: names of the class folders of all splits, in the order of numbers and letters.
      class_of: the class folder of each image, None for one that is in none.
      beside: images beside the folders of splits, which no split has.
      not_read: how many other files look like images, as `find_images` counts them.
    """

    splits: Mapping[str, tuple[ImageFile, ...]]
    classes: tuple[str, ...]
    class_of: Mapping[ImageFile, str | None]
    beside: int = 0
    not_read: Mapping[str, int] = field(default_factory=dict)


def canonical(split: str) -> str:
    """What a split is called here that a folder, or somebody, calls `split`."""
    return _SPLIT_OF.get(split.casefold(), split)


def interpret(root: Path, images: Sequence[ImageFile], reading: str = FOLDER) -> Reading:
    """What the subfolders of `root` are, of which `images` are the images, in order.

    Args:
      reading: `FOLDER`, `CLASSES` or `SPLITS`, as for `read_folder`.

    Raises:
      JaxalignError: names of splits beside others, two folders for one split, or classes of different splits
        that differ in spelling alone; or names that only sound like those of splits.
    """
    files = [(file, file.name.split("/")) for file in images]
    folders = dict.fromkeys(parts[0] for _, parts in files if len(parts) > 1)
    split_of = {name: _SPLIT_OF[name.casefold()] for name in folders if name.casefold() in _SPLIT_OF}
    if not _are_splits(root, tuple(folders), split_of, reading):
        class_of = {file: parts[0] if len(parts) > 1 else None for file, parts in files}
        return Reading({ALL: tuple(class_of)}, _classes(class_of.values()), class_of)
    splits: dict[str, list[ImageFile]] = {split: [] for split in SPLIT_NAMES if split in split_of.values()}
    class_of = {}
    for file, parts in files:
        if len(parts) > 1 and parts[0] in split_of:
            splits[split_of[parts[0]]].append(file)
            class_of[file] = parts[1] if len(parts) > 2 else None
    _check_spelling(root, {split: {class_of[file] for file in own} for split, own in splits.items()})
    taken = {split: tuple(own) for split, own in splits.items()}
    return Reading(taken, _classes(class_of.values()), class_of, len(files) - len(class_of))


def describe_reading(root: Path, found: Reading) -> str:
    """For people: what the subfolders are taken for, and what is left out."""
    classes = "without classes"
    if found.classes:
        number = len(found.classes)
        classes = f"with {number:,} class{'es' * (number != 1)}: {_some(found.classes)}"
    if ALL in found.splits:
        said = f"{root} is read as one split, {ALL}, {classes}"
        loose = sum(name is None for name in found.class_of.values())
        return f"{said}; {_images(loose)} in no class folder" if found.classes and loose else said
    counts = ", ".join(f"{split} ({_images(len(files))})" for split, files in found.splits.items())
    said = f"{root} is read as splits {counts}, {classes}"
    for split, files in found.splits.items():
        absent = set(found.classes) - {found.class_of[file] for file in files}
        said += f"; {split} has no image of {_some(sorted(absent, key=natural))}" if absent else ""
    return said + (f"; {_images(found.beside)} outside of them left out" if found.beside else "")


def _are_splits(root: Path, folders: Sequence[str], split_of: Mapping[str, str], reading: str) -> bool:
    """Whether the folders of `split_of` are splits; raises where that cannot be told, or two are one."""
    if reading == CLASSES or (reading == FOLDER and not split_of and not _sound_like_splits(folders)):
        return False
    if not split_of:
        names = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
        others = f" ({_some(folders)} sound like names of splits)" if reading == FOLDER else ""
        raise JaxalignError(
            f"no folder in {root} has the name of a split and holds images{others}; expected one of {names},"
            f" or {CLASSES}{root} for the images of all folders"
        )
    others = [name for name in folders if name not in split_of]
    if others and reading == FOLDER:
        raise JaxalignError(
            f"{root} has folders with names of splits ({_some(split_of)}) beside others ({_some(others)});"
            f" say what is meant: {SPLITS}{root} takes the former as splits and leaves the others out,"
            f" {CLASSES}{root} takes all of them as classes"
        )
    for split in split_of.values():
        same = [other for other, own in split_of.items() if own == split]
        if len(same) > 1:
            raise JaxalignError(
                f"the folders {' and '.join(same)} in {root} are both the split {split}; put them together,"
                f" or take them as classes with {CLASSES}{root}"
            )
    return True


def _sound_like_splits(folders: Sequence[str]) -> bool:
    """Whether each of the names has a word that splits are called by; one alone may be a class."""
    words = [set(re.split(r"[^a-z]+", name.casefold())) for name in folders]
    return len(words) > 1 and all(own & _SPLIT_WORDS for own in words)


def _check_spelling(root: Path, classes: Mapping[str, Iterable[str | None]]) -> None:
    """Raise where the class folders of two splits differ in spelling alone: one class, or two?"""
    names = {split: {name for name in own if name is not None} for split, own in classes.items()}
    for split, own in names.items():
        for other, others in names.items():
            alike = {_folded(name): name for name in others - own}
            for name in sorted(own - others, key=natural):
                if split != other and _folded(name) in alike:
                    raise JaxalignError(
                        f"{root} has the class folder {name!r} in {split} and {alike[_folded(name)]!r} in"
                        f" {other}: they differ only in case, Unicode form or leading zeros, or in what"
                        " parts their words; give one class one name"
                    )


def _folded(name: str) -> tuple[tuple[int, str], ...]:
    """Equal for names that people may take for one."""
    words = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", unicodedata.normalize("NFKC", name).casefold()).strip()
    return tuple(natural(words)[0])


def _classes(names: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(sorted({name for name in names if name is not None}, key=natural))


def _some(names: Iterable[str]) -> str:
    """The first few of them."""
    every = list(names)
    return ", ".join(every[:_NAMED]) + (f" and {len(every) - _NAMED:,} more" if len(every) > _NAMED else "")


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def read_folder(root: Path, reading: str = FOLDER) -> Reading:
    """The images of a folder and of all folders below it, in the order of numbers and letters.

    Where all subfolders that hold images have the names of splits (`SPLIT_NAMES`, in any case), they are the
    splits `train`, `val` and `test`, and the classes lie below them; otherwise they are the classes of the
    one split `all`. Plain files, hidden ones and those of systems (`__MACOSX`, `@eaDir`) do not count. An
    image that lies in no class folder has label -1. The classes are those of all splits, so that a label
    means the same in each.

    Args:
      reading: "classes:" where subfolders are classes whatever they are called, "splits:" where those with
        names of splits are splits and others do not count; by default others beside splits are an error.

    Raises:
      JaxalignError: there is no such folder, no image in it, or subfolders of which only some have the names
        of splits.
    """
    tree = find_images(root)
    if not tree.files:
        raise JaxalignError(f"there are no images in {root}; {expected_files(tree)}")
    return replace(interpret(root, tree.files, reading), not_read=tree.not_read)


def folder_record(name: str) -> DatasetRecord:
    """The record of `folder:PATH`, `classes:PATH` or `splits:PATH`, as the folder is now; raises as
    `read_folder`."""
    reading, _, path = name.partition(":")
    reading, root = f"{reading}:", Path(path).expanduser()
    found = read_folder(root, reading)
    return own_record(
        f"{reading}{os.path.realpath(root)}",
        {split: len(files) for split, files in found.splits.items()},
        Keys(image="image", label="label" if found.classes else ""),
        partial(open_folder, root, reading, found),
        source=str(root),
        version="",  # that of the examples, which follows from what the images are
        description="A folder of images",
        reading=describe_reading(root, found),
    )


def open_folder(root: Path, reading: str, found: Reading, split: str, *places: Folder) -> Examples:
    """A split of a folder that was read; what of the folder is not read is said on standard error.

    The version of the examples changes with the names and the content of the files.
    """
    files = found.splits[split]
    names = tuple(file.name for file in files)
    label_of = {name: label for label, name in enumerate(found.classes)}
    labels = [UNLABELLED if (own := found.class_of[file]) is None else label_of[own] for file in files]
    images = FolderImages(files, str(root))
    examples = Examples(
        dataset=f"{reading}{os.path.realpath(root)}",
        split=split,
        version=version_of(names, images, found.classes),
        images=images,
        labels={"label": np.array(labels, np.int32)} if found.classes else {},
        label_names={"label": found.classes} if found.classes else {},
        captions=(),
        file_names=names,
        not_read=found.not_read,
        same=tuple(file.identity or path for file, path in zip(files, real_paths(files), strict=True)),
    )
    tell_not_read(examples.origin, examples.not_read)
    return examples


def version_of(names: Sequence[str], images: FolderImages, classes: Sequence[str]) -> str:
    """A version that changes with what the images are, with their names, and with what their labels mean."""
    parts = [*classes, ""]
    for name, content in zip(names, images.contents, strict=True):
        parts += name, content
    return hashlib.sha256(os.fsencode("\0".join(parts))).hexdigest()[:16]
