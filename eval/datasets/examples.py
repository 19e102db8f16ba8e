"""Read a split of a prepared data set: names, labels and captions at once, pictures on demand."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from .catalogue import FOLDER, JOINED, find_dataset
from .index import Index, read_index
from .pictures import Pictures, decode
from .preparation import READ_ERRORS, damaged, prepare
from .records import DatasetRecord

BLOCK = 256  # examples that a thread reads and decodes at a time
THREADS = 4
UNCROPPED = "-uncropped"  # ending of the split whose pictures are not cropped to their boxes


@dataclass(frozen=True, eq=False)
class Examples:
    """A split of a data set; n examples.

    Attributes:
      images: the pictures. Of the embedded data sets uint8 [n, h, w, 3], RGB; of the others `Pictures`,
        which reads and decodes one when it is asked for; None where there are captions only.
      labels: int32 [n] for each label, indices into `label_names`, -1 where an example has none.
      label_names: the names of each label's values, those of the other splits included.
      captions: the captions of each picture; empty where the data set has none.
      file_names: unique in the data set.
      ground_truth: for each query the positions in the gallery that are `easy`, `hard` and `junk`; or empty.
      not_read: of a folder, how many files beside these look like images and are not read, by their endings.
    """

    dataset: str
    split: str
    version: str
    images: Any
    labels: Mapping[str, np.ndarray]
    label_names: Mapping[str, tuple[str, ...]]
    captions: tuple[tuple[str, ...], ...]
    file_names: tuple[str, ...]
    ground_truth: tuple[Mapping[str, list[int]], ...] = ()
    not_read: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file_names)

    @property
    def ids(self) -> tuple[str, ...]:
        return self.file_names

    def select(self, rows: Sequence[int] | np.ndarray) -> "Examples":
        """The examples at `rows`, int [m] or bool [n]; pictures that are read on demand still are."""
        rows = np.arange(len(self))[np.asarray(rows)]
        return replace(
            self,
            images=None if self.images is None else self.images[rows],
            labels={task: values[rows] for task, values in self.labels.items()},
            captions=tuple(self.captions[i] for i in rows) if self.captions else (),
            file_names=tuple(self.file_names[i] for i in rows),
            ground_truth=tuple(self.ground_truth[i] for i in rows) if self.ground_truth else (),
        )


def load_split(
    name: str | DatasetRecord,
    split: str,
    data_dir: str | os.PathLike | None = None,
    source_dir: str | os.PathLike | None = None,
    *,
    on_demand: bool = False,
) -> Examples:
    """The examples of a split in the order of the files; prepares the data set first where that was not done.

    Args:
      name: of `DATASETS`; `NAME@tfds` for the pictures of a copy that TFDS has prepared from its own
        catalogue; `folder:PATH` for the pictures of a folder.
      split: of the data set; `a+b` is both, one after the other. `query-uncropped` is `query` with whole
        pictures.
      data_dir: see `data_root`.
      source_dir: see `source_root`.
      on_demand: whether the pictures of the embedded data sets, too, are decoded when they are asked for.

    Raises:
      JaxalignError: unknown data set or split, data that are not there (and where to put them), a folder
        that cannot be written, or a damaged prepared copy.
    """
    record = find_dataset(name)
    if record.in_place:
        return load_in_place(record.name, split, data_dir, source_dir)
    parts = split.split("+")
    for part in parts:
        check_split(record, part)
    builder = prepare(record, data_dir, source_dir)
    try:
        loaded = [load_part(record, builder, part, record.folder(data_dir), on_demand) for part in parts]
    except JaxalignError:
        raise
    except READ_ERRORS as error:
        raise damaged(record, record.folder(data_dir), error) from error
    return loaded[0] if len(loaded) == 1 else concatenate(loaded, split)


def load_in_place(
    name: str, split: str, data_dir: str | os.PathLike | None, source_dir: str | os.PathLike | None
) -> Examples:
    """A split of a folder of pictures, or of a copy of TFDS."""
    from .image_tree import tell_not_read
    from .join import load_joined
    from .picture_folder import load_folder

    if name.startswith(FOLDER):
        examples = load_folder(name.removeprefix(FOLDER), split)
        tell_not_read(f"{examples.dataset}/{split}", examples.not_read)
        return examples
    return load_joined(name.removesuffix(JOINED), split, data_dir, source_dir)


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
    decoders = {"image": tfds.decode.SkipDecoding()} if record.pictures else None
    source = builder.as_data_source(split, decoders=decoders)
    index = read_index(folder, split)
    if record.in_memory:
        index, images = read_all(record, builder, source, decoded=not on_demand)
    elif index is None:
        raise ValueError(f"the index of {split} is missing")
    else:
        boxes = () if name.endswith(UNCROPPED) else index.boxes
        reader = reader_of(record, source, folder)
        images = (
            Pictures(reader, index.file_names, f"{record.name}/{name}", boxes) if record.pictures else None
        )
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
    )


def reader_of(record: DatasetRecord, source: Any, folder: Path) -> Any:
    """Reads the bytes of a picture, by its position in the split."""

    def read(row: int) -> bytes:
        try:
            return source[row]["image"]
        except READ_ERRORS as error:
            raise damaged(record, folder, error) from error

    return read


def read_all(
    record: DatasetRecord, builder: Any, source: Any, *, decoded: bool
) -> tuple[Index, np.ndarray | Pictures]:
    """Every example of a split; pictures uint8 [n, h, w, 3], or as their files hold them."""

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
    return index, Pictures(images.__getitem__, index.file_names, record.name)


def decode_image(data: bytes, name: str = "the file") -> np.ndarray:
    """The pixels uint8 [h, w, 3] of an image file; TFDS's own decoder keeps palettes and alpha channels."""
    return np.asarray(decode(data, name).convert("RGB"))


def concatenate(parts: Sequence[Examples], split: str) -> Examples:
    """The examples of several splits of a data set, one after the other."""
    first = parts[0]
    images: Any = [part.images for part in parts]
    if first.images is None:
        images = None
    elif isinstance(first.images, np.ndarray):
        images = np.concatenate(images)
    else:
        images = Pictures.concatenate(images)
    return replace(
        first,
        split=split,
        images=images,
        labels={task: np.concatenate([part.labels[task] for part in parts]) for task in first.labels},
        captions=tuple(texts for part in parts for texts in part.captions),
        file_names=tuple(name for part in parts for name in part.file_names),
        ground_truth=tuple(truth for part in parts for truth in part.ground_truth),
    )
