"""Any folder of pictures as a data set: its subfolders are the classes. Nothing is copied."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from .content import UNLABELLED
from .examples import Examples
from .image_tree import ImageTree, expected_files, find_images, unreadable_folder
from .layouts.class_folders import natural
from .pictures import Pictures
from .records import DatasetRecord

ALL = "all"


def load_folder(folder: str | os.PathLike, split: str = ALL) -> Examples:
    """The pictures of a folder and of all folders below it, in the order of numbers and letters.

    The class of a picture is the first folder of its path; one that lies in no subfolder has label -1.
    Hidden files and folders are left out. Of a folder whose subfolders are named `train`, `val` or `test`
    (and nothing else), they are the splits and the classes lie below them.

    Returns:
      Examples whose version changes with the names, sizes and times of change of the files.

    Raises:
      JaxalignError: there is no such folder, no picture in it, or no such split.
    """
    root = Path(folder).expanduser()
    check_folder(root)
    splits = find_splits(root)
    if split not in splits:
        raise unknown_name(f"split of {root}", split, splits)
    base = splits[split]
    tree = find_pictures(base)
    files = tree.files
    if not files:
        raise JaxalignError(f"there are no pictures in {base}; {expected_files(tree)}")
    names = tuple(path.relative_to(base).as_posix() for path in files)
    classes, labels = label_by_folder(names)
    return Examples(
        dataset=f"folder:{root.absolute()}",
        split=split,
        version=digest(base, names),
        images=Pictures(files.__getitem__, names, str(base)),
        labels={"label": labels} if classes else {},
        label_names={"label": classes} if classes else {},
        captions=(),
        file_names=names,
        not_read=tree.not_read,
    )


def folder_record(folder: str | os.PathLike) -> DatasetRecord:
    """The record of a folder of pictures.

    Raises:
      JaxalignError: there is no such folder, or no picture in it.
    """
    root = Path(folder).expanduser()
    check_folder(root)
    examples = {split: load_folder(root, split) for split in find_splits(root)}
    test = "test" if "test" in examples else next(iter(examples))
    gallery = "train" if "train" in examples else test
    first = examples[test]
    return DatasetRecord(
        name=first.dataset,
        builder="",
        version=first.version,
        splits={split: len(found) for split, found in examples.items()},
        tasks=tuple(first.labels),
        captions="",
        licence="one's own",
        source=str(root),
        description="A folder of pictures, its subfolders are the classes",
        protocol=(
            f"Queries are `{test}`, the gallery is `{gallery}`; where they are the same, a query is left out"
            " of its own gallery."
        ),
        query=test,
        gallery=gallery,
        train=gallery,
        test=test,
        in_place=True,
    )


def check_folder(root: Path) -> None:
    """Raise unless there is such a folder."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "is not there"
        raise JaxalignError(f"the folder {root} {what}; expected a folder of pictures")


def find_splits(root: Path) -> dict[str, Path]:
    """The folder of each split."""
    try:
        children = [path for path in root.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise unreadable_folder(error) from error
    if children and all(path.is_dir() and path.name in ("train", "val", "test") for path in children):
        return {path.name: path for path in children}
    return {ALL: root}


def find_pictures(root: Path) -> ImageTree:
    """All pictures below `root`, as `find_images` finds them, in the order of numbers and letters."""
    tree = find_images(root)
    order = lambda path: [natural(part) for part in path.relative_to(root).parts]
    return replace(tree, files=tuple(sorted(tree.files, key=order)))


def label_by_folder(names: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
    """Classes in the order of numbers and letters, and the label int32 [n] of each picture."""
    folders = [name.partition("/")[0] if "/" in name else None for name in names]
    classes = sorted({folder for folder in folders if folder is not None}, key=natural)
    label_of = {name: label for label, name in enumerate(classes)}
    labels = [UNLABELLED if folder is None else label_of[folder] for folder in folders]
    return tuple(classes), np.array(labels, np.int32)


def digest(base: Path, names: tuple[str, ...]) -> str:
    """A version that changes with the pictures."""
    sha = hashlib.sha256()
    for name in names:
        size, changed = size_and_change(base / name)
        sha.update(os.fsencode(f"{name}\0{size}\0{changed}\0"))
    return sha.hexdigest()[:16]


def size_and_change(path: Path) -> tuple[int, int]:
    """Bytes and time of change; zeros for a link that leads nowhere or a file that has gone, which is named
    when it is read.
    """
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
