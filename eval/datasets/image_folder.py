"""Any folder of images as a data set: its subfolders are the classes, or splits. Nothing is copied."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from .examples import UNLABELLED, Examples
from .file_contents import real_paths
from .folder_images import FolderImages
from .folder_splits import ALL, FOLDER, Reading, canonical, describe_reading, interpret
from .image_tree import expected_files, find_images, tell_not_read
from .records import DatasetRecord, Folder


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
    """The record of `folder:PATH`, `classes:PATH` or `splits:PATH`, as the folder is now.

    Raises:
      JaxalignError: as `read_folder`.
    """
    reading, _, path = name.partition(":")
    reading, root = f"{reading}:", Path(path).expanduser()
    found = read_folder(root, reading)
    test = next(split for split in ("test", "val", "train", ALL) if split in found.splits)
    gallery = "train" if "train" in found.splits else test
    return DatasetRecord(
        name=f"{reading}{os.path.realpath(root)}",
        builder="",
        version="",  # that of the examples, which follows from what the images are
        splits={split: len(files) for split, files in found.splits.items()},
        tasks=("label",) if found.classes else (),
        licence="one's own",
        source=str(root),
        description="A folder of images",
        reading=describe_reading(root, found),
        protocol=(
            f"Queries are `{test}`, the gallery is `{gallery}`; a query that is in the gallery is left out of"
            " its own."
        ),
        query=test,
        gallery=gallery,
        train=gallery,
        test=test,
        open_split=partial(open_folder, root, reading, found),
    )


def open_folder(
    root: Path, reading: str, found: Reading, split: str, data_dir: Folder = None, source_dir: Folder = None
) -> Examples:
    """A split of a folder that was read; what of the folder is not read is said on standard error.

    Args:
      split: `all`, or one of the splits, by the name here or the folder's.

    Returns:
      Examples whose version changes with the names and the content of the files.

    Raises:
      JaxalignError: no such split.
    """
    known = canonical(split)
    if known not in found.splits:
        raise unknown_name(f"split of {root}", split, found.splits)
    files = found.splits[known]
    names = tuple(file.name for file in files)
    label_of = {name: label for label, name in enumerate(found.classes)}
    labels = [UNLABELLED if (own := found.class_of[file]) is None else label_of[own] for file in files]
    images = FolderImages(files, str(root))
    examples = Examples(
        dataset=f"{reading}{os.path.realpath(root)}",
        split=known,
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
