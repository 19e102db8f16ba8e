"""Read a split of any data set, by its name: a prepared one, a folder, or CoOp's splits on a copy of TFDS."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from .examples import Examples, concatenate
from .feature_reading import FeatureReading
from .finding import find_dataset
from .images import Images, decode_image
from .preparation import damaged, prepare
from .prepared_files import READ_ERRORS, Index, content_digest, index_file, read_index
from .records import DatasetRecord

BLOCK = 256  # examples that a thread reads and decodes at a time
THREADS = 4
UNCROPPED = "-uncropped"  # ending of the split whose images are not cropped to their boxes


def load_split(
    name: str | DatasetRecord,
    split: str,
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
    *,
    on_demand: bool = False,
    reading: FeatureReading | None = None,
) -> Examples:
    """The examples of a split in the order of the files; prepares the data set first where that was not done.

    Args:
      name: of `DATASETS`; `NAME@tfds` for the images of a copy that TFDS has prepared from its own
        catalogue; `folder:PATH` for the images of a folder, `classes:PATH` or `splits:PATH` where it
        is to be said what its subfolders are; `features:PATH` for features that are there already; or the
        record of any of them.
      split: of the data set; `a+b` is both, one after the other. `query-uncropped` is `query` with whole
        images.
      data_dir: see `data_root`.
      source_dir: see `source_root`.
      on_demand: whether the images of the embedded data sets, too, are decoded when they are asked for.

      reading: how the files of `features:PATH` are read.

    Raises:
      JaxalignError: unknown data set or split, data that are not there (and where to put them), a folder
        that cannot be written, or a damaged prepared copy.
    """
    record = find_dataset(name, reading)
    parts = split.split("+")
    _check_each_once(split, parts)
    if record.open_split is not None:
        loaded = [record.open_split(part, data_dir, source_dir) for part in parts]
        _check_each_once(split, [part.split for part in loaded])  # a folder's have several names
    else:
        loaded = load_prepared(record, parts, data_dir, source_dir, on_demand)
    return loaded[0] if len(loaded) == 1 else concatenate(loaded)


def _check_each_once(split: str, parts: Sequence[str]) -> None:
    twice = [part for i, part in enumerate(parts) if part in parts[:i]]
    if twice:
        raise JaxalignError(f"the split {split} has {twice[0]} twice; expected each once")


def load_prepared(
    record: DatasetRecord,
    parts: Sequence[str],
    data_dir: str | os.PathLike | None,
    source_dir: str | os.PathLike | None,
    on_demand: bool,
) -> list[Examples]:
    """Splits of a data set that is prepared, or is now."""
    for part in parts:
        check_split(record, part)
    builder = prepare(record, data_dir, source_dir)
    try:
        return [load_part(record, builder, part, record.folder(data_dir), on_demand) for part in parts]
    except JaxalignError:
        raise
    except READ_ERRORS as error:
        raise damaged(record, record.folder(data_dir), error) from error


def check_split(record: DatasetRecord, split: str) -> None:
    """Raise unless the data set has the split."""
    known = [*record.splits, *(f"{s}{UNCROPPED}" for s in record.splits if s == "query")]
    if split not in known:
        raise unknown_name(f"split of {record.name}", split, known)


def load_part(record: DatasetRecord, builder: Any, name: str, folder: Path, on_demand: bool) -> Examples:
    """One split, without `+`."""
    import tensorflow_datasets as tfds

    split = name.removesuffix(UNCROPPED)
    if split not in builder.info.splits:
        needed = [source.path for source in record.sources if not source.required]
        raise JaxalignError(
            f"the prepared copy of {record.name} has no split {split}: it was prepared without "
            f"{', '.join(needed)};"
            f" put that in place, delete the folder {folder} and run again"
        )
    decoders = {"image": tfds.decode.SkipDecoding()} if record.images else None
    source = builder.as_data_source(split, decoders=decoders)
    index = read_index(folder, split)
    if record.in_memory:
        index, images = read_all(record, builder, source, decoded=not on_demand)
    elif index is None:
        raise ValueError(f"the index of {split} is missing")
    else:
        boxes = () if name.endswith(UNCROPPED) else index.boxes
        reader = reader_of(record, source, folder)
        images = Images(reader, index.file_names, f"{record.name}/{name}", boxes) if record.images else None
    if len(index.file_names) != len(source):
        raise ValueError(
            f"the index of {split} has {len(index.file_names)} examples instead of {len(source)}"
        )
    return Examples(
        dataset=record.name,
        split=name,
        version=record.version,
        images=images,
        labels=index.labels,
        label_names=index.label_names,
        captions=index.captions,
        file_names=index.file_names,
        ground_truth=index.ground_truth,
        content=content_digest(folder, split, prepared_files(record, builder, split, folder)),
        same=tuple((record.name, name) for name in index.file_names),  # unique in the data set
    )


def prepared_files(record: DatasetRecord, builder: Any, split: str, folder: Path) -> list[Path]:
    """All files that decide what a split of a prepared copy holds."""
    shards = [Path(os.fspath(path)) for path in builder.info.splits[split].filepaths]
    beside = [index_file(folder, split), *(folder / f"{task}.labels.txt" for task in record.tasks)]
    return [*shards, *(path for path in beside if path.is_file())]


def reader_of(record: DatasetRecord, source: Any, folder: Path) -> Any:
    """Reads the bytes of an image, by its position in the split."""

    def read(row: int) -> bytes:
        try:
            return source[row]["image"]
        except READ_ERRORS as error:
            raise damaged(record, folder, error) from error

    return read


def read_all(
    record: DatasetRecord, builder: Any, source: Any, *, decoded: bool
) -> tuple[Index, np.ndarray | Images]:
    """Every example of a split; images uint8 [n, h, w, 3], or as their files hold them."""

    def read(start: int) -> list[dict]:
        rows = source.__getitems__(range(start, min(start + BLOCK, len(source))))
        if not decoded:
            return rows
        return [row | {"image": decode_image(row["image"], row["file_name"].decode())} for row in rows]

    with ThreadPoolExecutor(THREADS) as pool:
        rows = [row for block in pool.map(read, range(0, len(source), BLOCK)) for row in block]
    index = Index(
        file_names=tuple(row["file_name"].decode() for row in rows),
        labels={task: np.array([row[task] for row in rows], np.int32) for task in record.tasks},
        label_names={task: tuple(builder.info.features[task].names) for task in record.tasks},
        captions=tuple(tuple(text.decode() for text in row["captions"]) for row in rows),
    )
    images = [row["image"] for row in rows]
    if decoded:
        return index, np.stack(images)
    return index, Images(images.__getitem__, index.file_names, record.name)
