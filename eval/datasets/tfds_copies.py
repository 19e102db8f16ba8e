"""Any data set that TFDS has prepared, `tfds:NAME[:VERSION]`, read where it is, without TensorFlow.

Copies in ArrayRecord are read by TFDS. Those in TFRecord, for which TFDS asks TensorFlow, hold the same
records, each as its length, a checksum of that, the bytes, and a checksum of these. (The checksums are
CRC-32C, which nothing here computes; lengths that do not end with the file are an error.)
"""

import hashlib
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from .data_reading import TFDS, Keys, as_texts, own_record
from .examples import Examples
from .images import Images
from .prepared_files import READ_ERRORS, content_digest, one_line
from .records import DatasetRecord, Folder, data_root

BLOCK = 256  # examples that are read at a time
_LENGTH = struct.Struct("<QI")  # and its checksum
_CHECKSUM = 4  # bytes


def tfds_record(name: str, keys: Keys, data_dir: Folder = None) -> DatasetRecord:
    """The record of `tfds:NAME[/CONFIG][:VERSION]`, by default of the newest version that is prepared.

    Raises:
      JaxalignError: nothing is prepared under that name in `data_dir` (see `data_root`), or features that
        `keys` do not tell apart.
    """
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

    try:
        return tfds.builder_from_directory(folder)
    except READ_ERRORS as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> JaxalignError:
    return JaxalignError(f"the copy of TFDS in {folder} cannot be read: {one_line(error)}; prepare it again")


def _choose(name: str, builder: Any, keys: Keys) -> Keys:
    """The features that `keys` name, or that can only be meant."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    of = lambda kind: [key for key, feature in features.items() if isinstance(feature, kind)]
    return keys.choose(name, of(tfds.features.Image), of(tfds.features.ClassLabel), list(features))


def _read_split(
    folder: Path, keys: Keys, split: str, data_dir: Folder = None, source_dir: Folder = None
) -> Examples:
    """A split: labels and texts at once, images when they are asked for."""
    builder = _open(folder)
    if split not in builder.info.splits:
        raise unknown_name(f"split of {builder.info.full_name}", split, builder.info.splits)
    info = builder.info.splits[split]
    shards = [Path(os.fspath(path)) for path in info.filepaths]
    rows = _Rows(builder, split, shards)
    if len(rows) != info.num_examples:
        raise _damaged(folder, ValueError(f"{split} has {len(rows)} examples instead of {info.num_examples}"))
    try:
        light = [{key: row[key] for key in (keys.label, keys.text) if key} for row in rows]
    except READ_ERRORS as error:
        raise _damaged(folder, error) from error
    names = tuple(f"{split}/{index}" for index in range(len(rows)))
    origin = f"{TFDS}{builder.info.full_name}/{split}"
    image = lambda index: rows[index][keys.image]
    return Examples(
        dataset=f"{TFDS}{builder.info.full_name}",
        split=split,
        version=f"{builder.info.version}",
        images=Images(_naming(image, names, folder), names, origin) if keys.image else None,
        labels={keys.label: np.array([row[keys.label] for row in light], np.int32)} if keys.label else {},
        label_names={keys.label: tuple(builder.info.features[keys.label].names)} if keys.label else {},
        captions=tuple(as_texts(row[keys.text]) for row in light) if keys.text else (),
        file_names=names,
        content=hashlib.sha256(f"{content_digest(folder, split, shards)} {keys}".encode()).hexdigest()[:16],
    )


def _naming(read: Any, names: Sequence[str], folder: Path) -> Any:
    def named(index: int) -> bytes:
        try:
            return read(index)
        except READ_ERRORS as error:
            raise JaxalignError(f"{names[index]} in {folder} cannot be read: {one_line(error)}") from error

    return named


class _Rows:
    """The examples of a split in the order of its files; images are not decoded."""

    def __init__(self, builder: Any, split: str, shards: Sequence[Path]):
        import tensorflow_datasets as tfds

        features = builder.info.features
        images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
        self._decoders: Any = {key: tfds.decode.SkipDecoding() for key in images}
        self._features = features
        if builder.info.file_format.value == "tfrecord":
            self._records: Any = TfRecords(shards)
        elif builder.info.file_format.value == "array_record":
            raw: Any = tfds.decode.DeserializeMethod.RAW_BYTES
            self._records = builder.as_data_source(split, deserialize_method=raw)
        else:
            raise JaxalignError(
                f"{builder.info.full_name} is prepared as {builder.info.file_format.value}; expected"
                " array_record or tfrecord"
            )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._features.deserialize_example_np(self._records[index], decoders=self._decoders)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return (self[index] for index in range(len(self)))


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
