"""CoOp's splits on images that TFDS has prepared from its own catalogue, for those who hold such a copy.

The split file decides on splits, labels and class names; TFDS gives the images only. Its copies differ
from the original files for a few data sets (Pets: 12 re-encoded images; SUN397: all are shrunk), so what
is joined has a version of its own.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from . import catalogue
from .examples import Examples
from .images import Images
from .prepared_files import READ_ERRORS, one_line
from .readers.annotations import read_split_file
from .records import DatasetRecord, data_root, source_root

JOINED = "@tfds"  # ending of the names of these data sets
BLOCK = 256  # examples that are read at a time
Row = Mapping[str, Any]


def _text(row: Row, key: str) -> str:
    value = row[key]
    return value.decode() if isinstance(value, bytes) else str(value)


# From an example of TFDS, its split and its class name to the path in CoOp's file.
KEYS: Mapping[str, Callable[[Row, str, str], str]] = {
    "caltech101": lambda row, split, name: f"{name}/{_text(row, 'image/file_name')}",
    "pets": lambda row, split, name: _text(row, "file_name"),
    "cars": lambda row, split, name: f"cars_{split}/{_text(row, 'id')}.jpg",
    "flowers102": lambda row, split, name: _text(row, "file_name"),
    "food101": lambda row, split, name: f"{_text(row, 'id')}.jpg",
    "eurosat": lambda row, split, name: f"{_text(row, 'filename').split('_')[0]}/{_text(row, 'filename')}",
    "dtd": lambda row, split, name: _text(row, "file_name"),
    "sun397": lambda row, split, name: _text(row, "file_name").removeprefix("/"),
}
IGNORES_CASE = frozenset({"caltech101"})  # TFDS has its class names, which are folder names, in lower case


def load_joined(
    name: str,
    split: str,
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
) -> Examples:
    """A split of CoOp's file, with the images of a copy that TFDS has prepared (in ArrayRecord).

    Reads the whole copy once to find the images.

    Args:
      name: one of `KEYS`.
      split: `train`, `val` or `test` of CoOp's file.
      data_dir: where TFDS has its copies; see `data_root`.
      source_dir: where the split file is; see `source_root`.

    Raises:
      JaxalignError: unknown names, a copy or a split file that is not there, or an image of the file that
        is not exactly once in the copy.
    """
    joined, record = joined_record(name), catalogue.DATASETS[name]
    if split not in record.splits:
        raise unknown_name(f"split of {name}", split, record.splits)
    splits, names = read_split_file(record, split_file(record, source_root(data_dir, source_dir)))
    sources, found, images = find_images(record.name, tfds_folder(record, data_root(data_dir)))
    paths = [path for path, _ in splits[split]]
    place_of = {path: locate(record, found, path) for rows in splits.values() for path, _ in rows}
    places = [place_of[path] for path in paths]

    def read(row: int) -> bytes:
        part, index = places[row]
        try:
            return sources[part][index]["image"]
        except READ_ERRORS as error:
            raise JaxalignError(f"{paths[row]} of {record.tfds} cannot be read: {one_line(error)}") from error

    return Examples(
        dataset=joined.name,
        split=split,
        version=joined.version,
        images=Images(read, paths, f"{name}@tfds/{split}"),
        labels={"label": np.array([label for _, label in splits[split]], np.int32)},
        label_names={"label": names},
        captions=(),
        file_names=tuple(paths),
        content=hashlib.sha256(f"{images} {splits[split]} {names}".encode()).hexdigest()[:16],
        same=tuple(places),
    )


def joined_record(name: str) -> DatasetRecord:
    """The record of `NAME@tfds`; its version has that of TFDS's copy in it."""
    if name not in KEYS:
        raise unknown_name("data set with a copy of TFDS", name, KEYS)
    record = catalogue.DATASETS[name]
    version = f"{record.version}+tfds-{record.tfds.rpartition(':')[2]}"
    opened = functools.partial(load_joined, name)
    return replace(record, name=f"{name}{JOINED}", version=version, open_split=opened)


def split_file(record: DatasetRecord, root: Path) -> Path:
    source = next(source for source in record.sources if source.path.endswith(".json"))
    file = root / source.path
    if not file.is_file():
        raise JaxalignError(f"{record.name}@tfds: put {source.what} to {file} (from {source.url})")
    return file


def tfds_folder(record: DatasetRecord, root: Path) -> Path:
    """Where TFDS has its copy."""
    name, _, version = record.tfds.rpartition(":")
    folder = root / name / version
    if not folder.is_dir():
        others = sorted(path.name for path in (root / name).glob("*.*.*") if path.is_dir())
        beside = f", but of version {', '.join(others)}" if others else ""
        raise JaxalignError(
            f"{record.name}@tfds: there is no copy of TFDS in {folder}{beside}; prepare {record.tfds} there"
            " with tensorflow-datasets, as array_record"
        )
    return folder


@functools.lru_cache(maxsize=1)  # for the splits of a data set, one after the other
def find_images(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, list], str]:
    """A data source for each split, for each path of CoOp the places (split, index) of its image, and a
    digest of all images."""
    import tensorflow_datasets as tfds

    record = catalogue.DATASETS[name]
    found: dict[str, list[tuple[str, int]]] = {}
    digest = hashlib.sha256()
    try:
        builder: Any = tfds.builder_from_directory(folder)
        decoders: Any = {"image": tfds.decode.SkipDecoding()}
        sources = {split: builder.as_data_source(split, decoders=decoders) for split in builder.info.splits}
        names = builder.info.features["label"].names
        for split, source in sources.items():
            for index, row in enumerate(read_rows(source)):
                key = KEYS[record.name](row, split, names[int(row["label"])])
                digest.update(hashlib.sha256(row["image"]).digest())
                found.setdefault(key.lower() if record.name in IGNORES_CASE else key, []).append(
                    (split, index)
                )
    except NotImplementedError as error:  # TFRecord, which only TensorFlow reads
        raise JaxalignError(
            f"{record.name}@tfds: the copy in {folder} is not in ArrayRecord; prepare it again with"
            " file_format='array_record'"
        ) from error
    except READ_ERRORS as error:
        raise JaxalignError(
            f"{record.name}@tfds: the copy in {folder} cannot be read ({one_line(error)}); prepare "
            f"{record.tfds}"
            " there again"
        ) from error
    return sources, found, digest.hexdigest()


def read_rows(source: Any) -> Iterator[Row]:
    """All examples of a data source, in order."""
    for start in range(0, len(source), BLOCK):
        yield from source.__getitems__(range(start, min(start + BLOCK, len(source))))


def locate(record: DatasetRecord, found: Mapping[str, list], path: str) -> tuple[str, int]:
    """Where the image is; it must be there once."""
    places = found.get(path.lower() if record.name in IGNORES_CASE else path, [])
    if len(places) != 1:
        raise JaxalignError(
            f"{record.name}@tfds: {path} of the split file is {len(places)} times in {record.tfds}; "
            "expected once:"
            f" use the original images, with the data set {record.name}"
        )
    return places[0]
