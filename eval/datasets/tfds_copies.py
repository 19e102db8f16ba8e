"""Data sets that TFDS has prepared, read where they are, without TensorFlow.

`tfds:NAME[:VERSION]` is any of them. Copies in ArrayRecord are read by TFDS. Those in TFRecord, for which
TFDS asks TensorFlow, hold the same records, each as its length, a checksum of that, the bytes, and a checksum
of these. (The checksums are CRC-32C, which nothing here computes; lengths that do not end with the file are
an error.)

`NAME@tfds` is CoOp's splits on such images, for those who hold a copy of TFDS's own catalogue. The split file
decides on splits, labels and class names; TFDS gives the images only. Its copies differ from the original
files for a few data sets (Pets: 12 re-encoded images; SUN397: all are shrunk), so what is joined has a
version of its own.
"""

import hashlib
import mmap
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from . import catalogue
from .data_reading import TFDS, Keys, as_texts, own_record
from .examples import Examples
from .images import Images
from .prepared import content_digest, explained
from .readers.annotations import read_split_file
from .records import DatasetRecord, Folder, data_root, source_root

_LENGTH = struct.Struct("<QI")  # and its checksum
_CHECKSUM = 4  # bytes
JOINED = "@tfds"  # ending of the names of these data sets
BLOCK = 256  # examples that are read at a time
Row = Mapping[str, Any]
IGNORES_CASE = frozenset({"caltech101"})  # TFDS has its class names, which are folder names, in lower case


def tfds_record(name: str, keys: Keys, data_dir: Folder = None) -> DatasetRecord:
    """The record of `tfds:NAME[/CONFIG][:VERSION]`, by default of the newest version that is prepared. Raises
    JaxalignError where nothing is prepared under that name in `data_dir` (see `data_root`), or `keys` do not
    tell its features apart."""
    folder = _folder(name.removeprefix(TFDS), data_root(data_dir))
    builder = _open(folder)
    chosen = _choose(name, builder, keys)
    return own_record(
        f"{TFDS}{os.path.relpath(folder, data_root(data_dir))}",
        {split: info.num_examples for split, info in builder.info.splits.items()},
        chosen,
        partial(_read_split, folder, chosen),
        source=str(folder),
        version=str(builder.info.version),
        licence=builder.info.redistribution_info.license or "not stated",
    )


def _folder(name: str, root: Path) -> Path:
    """Where the copy of NAME[/CONFIG][:VERSION] is."""
    place, _, version = name.partition(":")
    parts = place.split("/")
    if not place or ".." in parts or "" in parts:
        raise JaxalignError(f"{TFDS}{name} is no name; expected {TFDS}NAME[/CONFIG][:VERSION]")
    home = root.joinpath(*parts)
    found = {path.parent.name: path.parent for path in home.glob("*/dataset_info.json")}
    if not found and (configs := sorted(path.parts[-3] for path in home.glob("*/*/dataset_info.json"))):
        raise JaxalignError(f"{TFDS}{place} has the configs {', '.join(dict.fromkeys(configs))}; name one")
    if not found:
        raise JaxalignError(
            f"there is no copy of {place} in {root}; prepare it with tensorflow-datasets, or say where it is"
            " (--data-dir)"
        )
    if version and version not in found:
        raise unknown_name(f"version of {TFDS}{place}", version, found)
    newest = max(found, key=lambda v: [int(part) if part.isdigit() else -1 for part in v.split(".")])
    return found[version or newest]


@lru_cache(maxsize=2)
def _open(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    with _reading(folder):
        return tfds.builder_from_directory(folder)


def _reading(folder: Path) -> AbstractContextManager[None]:
    """In the block, what cannot be read of a copy is an error that names it."""
    return explained(
        lambda reason: f"the copy of TFDS in {folder} cannot be read: {reason}; prepare it again"
    )


def _choose(name: str, builder: Any, keys: Keys) -> Keys:
    """The features that `keys` name, or that can only be meant."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    of = lambda kind: [key for key, feature in features.items() if isinstance(feature, kind)]
    return keys.choose(name, of(tfds.features.Image), of(tfds.features.ClassLabel), list(features))


def _read_split(folder: Path, keys: Keys, split: str, *places: Folder) -> Examples:
    """A split: labels and texts at once, images when they are asked for."""
    builder = _open(folder)
    with _reading(folder):
        rows = _Rows(builder, split)
        light = [{key: row[key] for key in (keys.label, keys.text) if key} for row in rows]
    names = tuple(f"{split}/{index}" for index in range(len(rows)))
    stored = content_digest(folder, split, rows.shards)
    origin = f"{TFDS}{builder.info.full_name}/{split}"
    image = lambda index: rows[index][keys.image]
    return Examples(
        dataset=f"{TFDS}{builder.info.full_name}",
        split=split,
        version=f"{builder.info.version}",
        images=Images(_naming(image, names, f"in {folder}"), names, origin) if keys.image else None,
        labels={keys.label: np.array([row[keys.label] for row in light], np.int32)} if keys.label else {},
        label_names={keys.label: tuple(builder.info.features[keys.label].names)} if keys.label else {},
        captions=tuple(as_texts(row[keys.text]) for row in light) if keys.text else (),
        file_names=names,
        content=hashlib.sha256(f"{stored} {keys}".encode()).hexdigest()[:16],
    )


def _naming(read: Callable[[int], bytes], names: Sequence[str], where: str) -> Callable[[int], bytes]:
    """The same, whose errors name the image, and `where` it is."""

    def named(index: int) -> bytes:
        with explained(lambda reason: f"{names[index]} {where} cannot be read: {reason}"):
            return read(index)

    return named


class _Rows:
    """The examples of a split in the order of its files, the `shards`; images are not decoded. Raises
    JaxalignError, or what `explained` explains, for damaged files, or another number of examples than
    stated."""

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        info, features = builder.info.splits[split], builder.info.features
        self.shards = [Path(os.fspath(path)) for path in info.filepaths]
        images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
        self._decoders: Any = {key: tfds.decode.SkipDecoding() for key in images}
        self._features = features
        if builder.info.file_format.value == "tfrecord":
            self._records: Any = TfRecords(self.shards)
        elif builder.info.file_format.value == "array_record":
            raw: Any = tfds.decode.DeserializeMethod.RAW_BYTES
            self._records = builder.as_data_source(split, deserialize_method=raw)
        else:
            raise JaxalignError(
                f"{builder.info.full_name} is prepared as {builder.info.file_format.value}; expected"
                " array_record or tfrecord"
            )
        if len(self) != info.num_examples:
            raise ValueError(f"{split} has {len(self)} examples instead of {info.num_examples}")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Row:
        return self._read(self._records[index])

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), BLOCK):
            block = range(start, min(start + BLOCK, len(self)))
            yield from map(self._read, self._records.__getitems__(block))

    def _read(self, record: bytes) -> Row:
        return self._features.deserialize_example_np(record, decoders=self._decoders)


class TfRecords:
    """The records of TFRecord files, one file after the other."""

    def __init__(self, files: Sequence[Path]):
        self._maps, self._places = [], []
        for number, file in enumerate(files):
            with file.open("rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                content = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            self._maps.append(content)
            at = 0
            while at < len(content):
                length, _ = _LENGTH.unpack_from(content, at) if at + _LENGTH.size <= len(content) else (-1, 0)
                start = at + _LENGTH.size
                at = start + length + _CHECKSUM
                if length < 0 or at > len(content):
                    raise JaxalignError(f"{file} is cut off, or no TFRecord file; prepare the data set again")
                self._places.append((number, start, start + length))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> bytes:
        number, start, stop = self._places[index]
        return self._maps[number][start:stop]

    def __getitems__(self, indices: Sequence[int]) -> list[bytes]:
        return [self[index] for index in indices]


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


def load_joined(name: str, split: str, data_dir: Folder = None, source_dir: Folder = None) -> Examples:
    """A split of CoOp's file, with the images of a copy that TFDS has prepared.

    Reads the whole copy once to find the images.

    Args:
      name: one of `KEYS`.
      data_dir: where TFDS has its copies; see `data_root`.
      source_dir: where the split file is; see `source_root`.

    Raises:
      JaxalignError: unknown names, a copy or a split file that is not there, or an image of the file that
        is not exactly once in the copy.
    """
    joined, record = joined_record(name), catalogue.DATASETS[name]
    splits, names = read_split_file(record, split_file(record, source_root(data_dir, source_dir)))
    sources, found, images = find_images(record.name, copy_of(joined, data_dir))
    paths = [path for path, _ in splits[split]]
    place_of = {path: locate(record, found, path) for rows in splits.values() for path, _ in rows}
    places = [place_of[path] for path in paths]

    def read(row: int) -> bytes:
        part, index = places[row]
        return sources[part][index]["image"]

    return Examples(
        dataset=joined.name,
        split=split,
        version=joined.version,
        images=Images(_naming(read, paths, f"of {record.tfds}"), paths, f"{name}@tfds/{split}"),
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
    opened = partial(load_joined, name)
    return replace(record, name=f"{name}{JOINED}", version=version, open_split=opened)


def split_file(record: DatasetRecord, root: Path) -> Path:
    source = next(source for source in record.sources if source.path.endswith(".json"))
    file = root / source.path
    if not file.is_file():
        raise JaxalignError(f"{record.name}@tfds: put {source.told(root)}")
    return file


def copy_of(joined: DatasetRecord, data_dir: Folder) -> Path:
    """Where TFDS has the copy that is joined."""
    folder = joined.folder(data_dir)
    if not folder.is_dir():
        others = sorted(path.name for path in folder.parent.glob("*.*.*") if path.is_dir())
        beside = f", but of version {', '.join(others)}" if others else ""
        raise JaxalignError(
            f"{joined.name}: there is no copy of TFDS in {folder}{beside}; prepare {joined.tfds} there"
            " with tensorflow-datasets"
        )
    return folder


@lru_cache(maxsize=1)  # for the splits of a data set, one after the other
def find_images(name: str, folder: Path) -> tuple[dict[str, "_Rows"], dict[str, list], str]:
    """The examples of each split, for each path of CoOp the places (split, index) of its image, and a digest
    of all images."""
    found: dict[str, list[tuple[str, int]]] = {}
    digest, builder = hashlib.sha256(), _open(folder)
    with _reading(folder):
        sources = {split: _Rows(builder, split) for split in builder.info.splits}
        names = builder.info.features["label"].names
        for split, rows in sources.items():
            for index, row in enumerate(rows):
                key = KEYS[name](row, split, names[int(row["label"])])
                digest.update(hashlib.sha256(row["image"]).digest())
                found.setdefault(key.lower() if name in IGNORES_CASE else key, []).append((split, index))
    return sources, found, digest.hexdigest()


def locate(record: DatasetRecord, found: Mapping[str, list], path: str) -> tuple[str, int]:
    """Where the image is; it must be there once."""
    places = found.get(path.lower() if record.name in IGNORES_CASE else path, [])
    if len(places) != 1:
        raise JaxalignError(
            f"{record.name}@tfds: {path} of the split file is {len(places)} times in {record.tfds};"
            f" expected once: use the original images, with the data set {record.name}"
        )
    return places[0]
