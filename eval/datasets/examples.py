"""Read a split of a prepared data set: names, labels and captions at once, pictures on demand."""

import hashlib
import os
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

from .catalogue import JOINED, READINGS, find_dataset
from .index import Index, index_file, read_index
from .pictures import Pictures, decode
from .preparation import READ_ERRORS, damaged, prepare
from .prepared_content import content_digest
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
      content: a digest of all of it, which tells copies of one version apart; empty where the version does.
      same: of each example what is equal for the same one in another split, however that is spelled; by
        default data set, split and file name.
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
    content: str = ""
    same: tuple[Hashable, ...] = ()
    not_read: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.file_names)

    @property
    def ids(self) -> tuple[str, ...]:
        return self.file_names

    @property
    def identities(self) -> tuple[Hashable, ...]:
        """What each example is: `same`, or its default."""
        return self.same or tuple((self.dataset, self.split, name) for name in self.file_names)

    @property
    def origin(self) -> str:
        """Data set and split, for people."""
        return f"{self.dataset}/{self.split}"

    @property
    def state(self) -> str:
        """The version, and the digest of the content where versions alone do not tell: part of every key."""
        return f"{self.version}+{self.content}" if self.content else self.version

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
            same=tuple(self.same[i] for i in rows) if self.same else (),
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
        catalogue; `folder:PATH` for the pictures of a folder, `classes:PATH` or `splits:PATH` where it
        is to be said what its subfolders are.
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
    parts = split.split("+")
    _check_each_once(split, parts)
    if record.in_place:
        loaded = [load_in_place(record.name, part, data_dir, source_dir) for part in parts]
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


def load_in_place(
    name: str, split: str, data_dir: str | os.PathLike | None, source_dir: str | os.PathLike | None
) -> Examples:
    """A split of a folder of pictures, or of a copy of TFDS."""
    from .image_tree import tell_not_read
    from .join import load_joined
    from .picture_folder import load_folder

    if name.endswith(JOINED) and not name.startswith(READINGS):
        return load_joined(name.removesuffix(JOINED), split, data_dir, source_dir)
    reading, _, folder = name.partition(":")
    examples = load_folder(folder, split, f"{reading}:")
    tell_not_read(f"{examples.dataset}/{split}", examples.not_read)
    return examples


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
        content=content_digest(folder, split, prepared_files(record, builder, split, folder)),
        same=tuple((record.name, name) for name in index.file_names),  # unique in the data set
    )


def prepared_files(record: DatasetRecord, builder: Any, split: str, folder: Path) -> list[Path]:
    """All files that decide what a split of a prepared copy holds."""
    shards = [Path(os.fspath(path)) for path in builder.info.splits[split].filepaths]
    beside = [index_file(folder, split), *(folder / f"{task}.labels.txt" for task in record.tasks)]
    return [*shards, *(path for path in beside if path.is_file())]


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


def concatenate(parts: Sequence[Examples]) -> Examples:
    """The examples of several splits of a data set, one after the other.

    Raises:
      JaxalignError: splits of which only some have captions, lists of positives, or a labelling.
    """
    first = parts[0]
    for part in parts[1:]:
        for kind in ("labels", "captions", "ground_truth"):
            if bool(getattr(part, kind)) != bool(getattr(first, kind)):
                have, lack = (part, first) if getattr(part, kind) else (first, part)
                raise JaxalignError(
                    f"{have.origin} has {kind.replace('_', ' ')} and {lack.origin} has none; expected splits"
                    " that can be put together"
                )
    labels, label_names = _concatenate_labels(parts)
    return replace(
        first,
        split="+".join(part.split for part in parts),
        version=_joint([part.version for part in parts]),
        content=_joint([part.content for part in parts]),
        images=_concatenate_images([part.images for part in parts]),
        labels=labels,
        label_names=label_names,
        captions=tuple(texts for part in parts for texts in part.captions),
        file_names=tuple(name for part in parts for name in part.file_names),
        ground_truth=tuple(truth for part in parts for truth in part.ground_truth),
        same=tuple(identity for part in parts for identity in part.identities),
    )


def _concatenate_images(images: Sequence[Any]) -> Any:
    if images[0] is None:
        return None
    if isinstance(images[0], np.ndarray):
        return np.concatenate(images)
    return Pictures.concatenate(images)


def _concatenate_labels(
    parts: Sequence[Examples],
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
    """Labels of all parts under the names of all."""
    from .matching import common_labels

    first, labels, label_names = parts[0], {}, {}
    for task in first.labels:
        found, known = [first.labels[task]], first
        for part in parts[1:]:
            _, own, names = common_labels(known, part, task)
            found.append(own)
            known = replace(known, label_names={**known.label_names, task: names})
        labels[task], label_names[task] = np.concatenate(found), known.label_names[task]
    return labels, label_names


def _joint(versions: Sequence[str]) -> str:
    """One for all: what they share, or a digest of them."""
    if len(set(versions)) == 1:
        return versions[0]
    return hashlib.sha256("+".join(versions).encode()).hexdigest()[:16]
