"""Any folder of images as a data set: its subfolders are the classes, or splits. Nothing is copied."""

import hashlib
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.local_files import is_there

from .catalogue import FOLDER
from .content import UNLABELLED
from .examples import Examples
from .folder_splits import ALL, Reading, canonical, describe, interpret
from .image_tree import ImageTree, expected_files, find_images
from .layouts.class_folders import natural
from .pictures import Pictures
from .records import DatasetRecord


def load_folder(folder: str | os.PathLike, split: str = ALL, reading: str = FOLDER) -> Examples:
    """The images of a folder and of all folders below it, in the order of numbers and letters.

    Where all subfolders that hold images have the names of splits (`SPLIT_NAMES`, in any case), they are the
    splits `train`, `val` and `test`, and the classes lie below them; otherwise they are the classes of the
    one split `all`. Plain files, hidden ones and those of systems (`__MACOSX`, `@eaDir`) do not count. An
    image that lies in no class folder has label -1. The classes are those of all splits, so that a label
    means the same in each.

    Args:
      split: `all`, or one of the splits, by the name here or the folder's.
      reading: "classes:" where subfolders are classes whatever they are called, "splits:" where those with
        names of splits are splits and others do not count; by default others beside splits are an error.

    Returns:
      Examples whose version changes with the names, sizes and times of change of the files.

    Raises:
      JaxalignError: there is no such folder, no image in it, no such split, or subfolders of which only
        some have the names of splits.
    """
    root = Path(folder).expanduser()
    found = read_folder(root, reading)
    known = canonical(split)
    if known not in found.splits:
        raise unknown_name(f"split of {root}", split, found.splits)
    return _examples(root, reading, found, known)


def folder_record(name: str) -> DatasetRecord:
    """The record of `folder:PATH`, `classes:PATH` or `splits:PATH`.

    Raises:
      JaxalignError: as `load_folder`.
    """
    reading, _, path = name.partition(":")
    reading, root = f"{reading}:", Path(path).expanduser()
    found = read_folder(root, reading)
    examples = {split: _examples(root, reading, found, split) for split in found.splits}
    test = next(split for split in ("test", "val", "train", ALL) if split in examples)
    gallery = "train" if "train" in examples else test
    first = examples[test]
    return DatasetRecord(
        name=first.dataset,
        builder="",
        version=first.version,
        splits={split: len(own) for split, own in examples.items()},
        tasks=tuple(first.labels),
        captions="",
        licence="one's own",
        source=str(root),
        description="A folder of images",
        reading=describe(root, found),
        protocol=(
            f"Queries are `{test}`, the gallery is `{gallery}`; a query that is in the gallery is left out of"
            " its own."
        ),
        query=test,
        gallery=gallery,
        train=gallery,
        test=test,
        in_place=True,
    )


def read_folder(root: Path, reading: str) -> Reading:
    """The images below `root`, and what its subfolders are."""
    check_folder(root)
    tree = find_pictures(root)
    if not tree.files:
        raise JaxalignError(f"there are no pictures in {root}; {expected_files(tree)}")
    return replace(interpret(root, tree.files, reading), not_read=tree.not_read)


def check_folder(root: Path) -> None:
    """Raise unless there is such a folder."""
    if not is_there(root) or not root.is_dir():
        what = "is not a folder" if root.exists() else "is not there"
        raise JaxalignError(f"the folder {root} {what}; expected a folder of pictures")


def _examples(root: Path, reading: str, found: Reading, split: str) -> Examples:
    files = found.splits[split]
    names = tuple(path.relative_to(root).as_posix() for path in files)
    label_of = {name: label for label, name in enumerate(found.classes)}
    labels = [UNLABELLED if (own := found.class_of[path]) is None else label_of[own] for path in files]
    facts = [facts_of(path) for path in files]
    real = RealPaths()
    return Examples(
        dataset=f"{reading}{os.path.realpath(root)}",
        split=split,
        version=digest(names, facts, found.classes),
        images=Pictures(files.__getitem__, names, str(root)),
        labels={"label": np.array(labels, np.int32)} if found.classes else {},
        label_names={"label": found.classes} if found.classes else {},
        captions=(),
        file_names=names,
        not_read=found.not_read,
        same=tuple(own.identity or real(path) for path, own in zip(files, facts, strict=True)),
    )


def find_pictures(root: Path) -> ImageTree:
    """All pictures below `root`, as `find_images` finds them, in the order of numbers and letters."""
    tree = find_images(root)
    order = lambda path: [natural(part) for part in path.relative_to(root).parts]
    return replace(tree, files=tuple(sorted(tree.files, key=order)))


@dataclass(frozen=True)
class FileFacts:
    """What changes with a file.

    Attributes:
      size: bytes.
      times: of the change of the content, which can be set, and of the change of anything, which cannot.
      identity: of a file with several names (hard links), the same for each of them; else None.
    """

    size: int = 0
    times: tuple[int, int] = (0, 0)
    identity: Hashable = None


def facts_of(path: Path) -> FileFacts:
    """Of the file, or what it links to; zeros for a link that leads nowhere or a file that has gone, which is
    named when it is read.
    """
    try:
        stat = path.stat()
    except OSError:
        return FileFacts()
    times = (stat.st_mtime_ns, stat.st_ctime_ns)
    # File systems over a network may give one number to several files, but do not say that they are linked.
    own = (stat.st_dev, stat.st_ino, stat.st_size, *times) if stat.st_nlink > 1 else None
    return FileFacts(stat.st_size, times, own)


class RealPaths:
    """Paths without links; those of a folder are resolved once for all files in it."""

    def __init__(self):
        self._folders: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        if path.is_symlink():
            return os.path.realpath(path)
        if path.parent not in self._folders:
            self._folders[path.parent] = os.path.realpath(path.parent)
        return os.path.join(self._folders[path.parent], path.name)


def digest(names: Sequence[str], facts: Sequence[FileFacts], classes: Sequence[str]) -> str:
    """A version that changes with the images and with what their labels mean."""
    sha = hashlib.sha256(os.fsencode("\0".join([*classes, ""])))
    for name, own in zip(names, facts, strict=True):
        sha.update(os.fsencode(f"{name}\0{own.size}\0{own.times}\0"))
    return sha.hexdigest()[:16]
