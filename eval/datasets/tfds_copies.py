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
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from .examples import Examples
from .images import Images
from .prepared_files import READ_ERRORS, content_digest, one_line
from .records import DatasetRecord, Folder, data_root

PREFIX = "tfds:"
BLOCK = 256  # examples that are read at a time
_LENGTH = struct.Struct("<QI")  # and its checksum
_CHECKSUM = 4  # bytes


@dataclass(frozen=True)
class Keys:
    """Which features of an example are its image, its label and its texts; empty for the only ones.

    Attributes:
      image: "none" for a data set of texts.
      label: a `ClassLabel`, which is its task.
      text: what is taken for captions; by default nothing.
    """

    image: str = ""
    label: str = ""
    text: str = ""


def tfds_record(name: str, keys: Keys = Keys(), data_dir: Folder = None) -> DatasetRecord:
    """The record of `tfds:NAME[/CONFIG][:VERSION]`, by default of the newest version that is prepared.

    Raises:
      JaxalignError: nothing is prepared under that name in `data_dir` (see `data_root`), or features that
        `keys` do not tell apart.
    """
    folder = _folder(name.removeprefix(PREFIX), data_root(data_dir))
    builder = _open(folder)
    columns = _columns(name, builder, keys)
    sizes = {split: info.num_examples for split, info in builder.info.splits.items()}
    test = next((split for split in ("test", "validation", "val") if split in sizes), next(iter(sizes)))
    train = "train" if "train" in sizes else test
    return DatasetRecord(
        name=f"{PREFIX}{os.path.relpath(folder, data_root(data_dir))}",
        builder="",
        version=f"{builder.info.version}+{','.join(f'{k}={v}' for k, v in vars(columns).items())}",
        splits=sizes,
        tasks=columns.labels,
        captions=f"the feature {columns.text}" if columns.text else "",
        licence=builder.info.redistribution_info.license or "not stated",
        source=str(folder),
        description=f"{builder.info.full_name}, prepared by TFDS",
        protocol=(
            f"Queries are `{test}`, the gallery is `{train}`; a query that is in the gallery is left out of"
            " its own."
        ),
        query=test,
        gallery=train,
        train=train,
        test=test,
        images=bool(columns.image),
        open_split=partial(_read_split, folder, columns),
        reading=f"{PREFIX}{builder.info.full_name} is read from {folder}",
    )


@dataclass(frozen=True)
class _Columns:
    """The features that are read."""

    image: str
    labels: tuple[str, ...]
    text: str


def _folder(name: str, root: Path) -> Path:
    """Where the copy of NAME[/CONFIG][:VERSION] is."""
    place, _, version = name.partition(":")
    parts = place.split("/")
    if not place or ".." in parts or "" in parts:
        raise JaxalignError(f"{PREFIX}{name} is no name; expected {PREFIX}NAME[/CONFIG][:VERSION]")
    home = root.joinpath(*parts)
    found = {path.parent.name: path.parent for path in home.glob("*/dataset_info.json")}
    if not found and (configs := sorted(path.parts[-3] for path in home.glob("*/*/dataset_info.json"))):
        raise JaxalignError(f"{PREFIX}{place} has the configs {', '.join(dict.fromkeys(configs))}; name one")
    if not found:
        raise JaxalignError(
            f"there is no copy of {place} in {root}; prepare it with tensorflow-datasets, or say where it is"
            " (--data-dir)"
        )
    if version and version not in found:
        raise unknown_name(f"version of {PREFIX}{place}", version, found)
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


def _columns(name: str, builder: Any, keys: Keys) -> _Columns:
    """The features that `keys` name, or that can only be meant."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features)
    of = lambda kind: [key for key, feature in features.items() if isinstance(feature, kind)]
    images, labels = of(tfds.features.Image), of(tfds.features.ClassLabel)
    for key, known in ((keys.image, [*images, "none"]), (keys.label, labels), (keys.text, features)):
        if key and key not in known:
            raise unknown_name(f"feature of {name}", key, known)
    for what, key, known in (("image", keys.image, images), ("label", keys.label, labels)):
        if not key and len(known) > 1:
            raise JaxalignError(f"{name} has the {what}s {', '.join(known)}; say which (--{what}-key)")
    image = "" if keys.image == "none" else keys.image or "".join(images)
    if not image and not keys.text:
        raise JaxalignError(
            f"{name} has no images; say which of its features are texts (--text-key): one of"
            f" {', '.join(features)}"
        )
    return _Columns(image, (keys.label,) if keys.label else tuple(labels), keys.text)


def _read_split(
    folder: Path, columns: _Columns, split: str, data_dir: Folder = None, source_dir: Folder = None
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
        light = [{key: row[key] for key in (*columns.labels, columns.text) if key} for row in rows]
    except READ_ERRORS as error:
        raise _damaged(folder, error) from error
    names = tuple(f"{split}/{index}" for index in range(len(rows)))
    origin = f"{PREFIX}{builder.info.full_name}/{split}"
    image = lambda index: rows[index][columns.image]
    return Examples(
        dataset=f"{PREFIX}{builder.info.full_name}",
        split=split,
        version=f"{builder.info.version}",
        images=Images(_naming(image, names, folder), names, origin) if columns.image else None,
        labels={key: np.array([row[key] for row in light], np.int32) for key in columns.labels},
        label_names={key: tuple(builder.info.features[key].names) for key in columns.labels},
        captions=tuple(_texts(row[columns.text]) for row in light) if columns.text else (),
        file_names=names,
        content=hashlib.sha256(f"{content_digest(folder, split, shards)} {columns}".encode()).hexdigest()[
            :16
        ],
    )


def _naming(read: Any, names: Sequence[str], folder: Path) -> Any:
    def named(index: int) -> bytes:
        try:
            return read(index)
        except READ_ERRORS as error:
            raise JaxalignError(f"{names[index]} in {folder} cannot be read: {one_line(error)}") from error

    return named


def _texts(value: Any) -> tuple[str, ...]:
    """A text, or several."""
    values = [value] if isinstance(value, bytes | str) else list(value)
    return tuple(text.decode() if isinstance(text, bytes) else str(text) for text in values)


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
