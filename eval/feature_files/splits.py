"""The data set `features:PATH`: a record, and splits of features, labels and ids, row by row, as files have
them. All of it is read when the record is made."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.data_reading import FEATURES, DataReading, Keys, own_record
from jaxalign.eval.datasets.examples import UNLABELLED, Examples
from jaxalign.eval.datasets.image_folder import ALL
from jaxalign.eval.datasets.records import DatasetRecord
from jaxalign.local_files import open_regular

from .columns import ID_KEYS, LABEL_KEYS, choose, only_column, read_column, read_features
from .layouts import Part, find_splits, split_paths
from .tables import Table, read_table

FOLDERS = "folders"  # as `labels`: the folder of each id
LABEL = "label"


@dataclass(frozen=True, eq=False)
class Split:
    """Features `[n, d]`, labels `[n]` (texts or numbers; None without any) and ids, as they were read.

    Attributes:
      has_own_ids: whether the ids are the files' own, and not numbers of rows.
      content: a digest of all files and options.
    """

    features: np.ndarray
    labels: np.ndarray | None
    ids: tuple[str, ...]
    has_own_ids: bool
    content: str


def read_split(split: str, parts: Sequence[Part], reading: DataReading, count: int) -> Split:
    """The split `split` of `count`; raises JaxalignError for files that are damaged, ambiguous, or of
    different lengths or orders."""
    own = [read_table(part.metadata or part.features) for part in parts]
    files = [file for part in parts for file in part.files]
    other_labels = _other_file(split, "" if reading.labels == FOLDERS else reading.labels, "--labels", count)
    other_ids = _other_file(split, reading.ids, "--ids", count)
    labels = None
    if reading.labels != FOLDERS:
        labels = _column(own, other_labels, LABEL_KEYS, reading.label_key, "--label-key")
    ids = _ids(own, other_labels, other_ids, reading)
    beside = _used(own, reading)
    features, where = read_features(parts, reading.features_key, beside), parts[0].features
    for what, found, other in (("labels", labels, other_labels), ("ids", ids, other_ids)):
        if found is not None and len(found) != len(features):
            is_turned = len(found) == features.shape[1]
            advice = " (the features may be turned: save them [n, d])" if is_turned else ""
            raise JaxalignError(
                f"{(other or own[0]).path} has {len(found):,} {what} for the {len(features):,} features of"
                f" {where}; expected one for each, in their order{advice}"
            )
    if reading.labels == FOLDERS:
        labels = _folders(where, ids)
    names = tuple(map(str, range(len(features)))) if ids is None else _unique(ids, (other_ids or own[0]).path)
    files += [table.path for table in (other_labels, other_ids) if table is not None]
    if reading.label_names:
        files.append(Path(reading.label_names))
    return Split(features, labels, names, ids is not None, digest(files, asdict(reading)))


def _other_file(split: str, text: str, option: str, count: int) -> Table | None:
    """The file of a split that an option names; None where it names none."""
    if not text:
        return None
    paths = split_paths(text)
    if split not in paths and not (list(paths) == [ALL] and count == 1):
        raise JaxalignError(
            f"{option} {text!r:.200} says nothing of the split {split}; expected a file for each of {count}"
            f" splits, as in {option} {split}=FILE"
        )
    return read_table(paths.get(split, paths.get(ALL, Path())))


def _column(
    own: Sequence[Table], other: Table | None, known: Collection[str], key: str, option: str
) -> np.ndarray | None:
    """Labels or ids, out of the `other` file or out of those of the features; None where these have none."""
    if other is not None:
        return read_column(other, only_column(other, known, key, option))
    names = [choose(table, known, key, option) for table in own]
    if None in names:
        return None
    return np.concatenate(
        [read_column(t, name) for t, name in zip(own, names, strict=True) if name is not None]
    )


def _ids(
    own: Sequence[Table], labels: Table | None, other: Table | None, reading: DataReading
) -> np.ndarray | None:
    """Ids of the examples; where the labels' file has some too, they are the same in the same order."""
    if other is not None:
        return _column(own, other, ID_KEYS, reading.id_key, "--id-key")
    is_list = all(set(table.entries) == {""} and table.entries[""].ndim == 1 for table in own)
    if is_list and not reading.id_key:  # beside features
        found = np.concatenate([read_column(table, "") for table in own])
    elif labels is None and reading.label_key and reading.label_key == _id_of(own[0], reading.id_key):
        found = None  # what several rows share is a label
    else:
        found = _column(own, None, ID_KEYS, reading.id_key if labels is None else "", "--id-key")
    name = None if labels is None else _id_of(labels, reading.id_key if found is None else "")
    if labels is None or name is None or name == reading.label_key:
        return found
    of_labels = read_column(labels, name)
    if found is not None:
        same = len(found) == len(of_labels)
        differ = np.flatnonzero(found.astype(str) != of_labels.astype(str)) if same else [0]
        if len(differ):
            raise JaxalignError(
                f"the ids of {labels.path} are others than those of {own[0].path}, or in another order (first"
                f" in row {differ[0]:,}); expected the same ones"
            )
    return of_labels


def _id_of(table: Table, key: str) -> str | None:
    return choose(table, ID_KEYS, key, "--id-key")


def _used(own: Sequence[Table], reading: DataReading) -> set[str]:
    """Columns of labels and ids, which are no numbers of the features."""
    found: set[str | None] = set()
    for table in own:
        found.add(None if reading.labels else choose(table, LABEL_KEYS, reading.label_key, "--label-key"))
        found.add(None if reading.ids else choose(table, ID_KEYS, reading.id_key, "--id-key"))
    return {key for key in found if key is not None}


def _folders(where: Path, ids: np.ndarray | None) -> np.ndarray:
    """The name of the folder that each id lies in."""
    if ids is None:
        raise JaxalignError(
            f"{where} has no ids whose folders could be the labels; give --ids FILE, or --id-key NAME"
        )
    names = list(map(str, ids.tolist()))
    folders = [PurePosixPath(name.replace("\\", "/")).parent.name for name in names]
    if "" in folders:
        raise JaxalignError(
            f"the id {names[folders.index('')]!r:.200} of {where} lies in no folder; expected CLASS/NAME"
        )
    return np.array(folders)


def _unique(ids: np.ndarray, path: Path) -> tuple[str, ...]:
    names = tuple(map(str, ids.tolist()))
    if len(set(names)) < len(names):
        first = Counter(names).most_common(1)[0][0]
        raise JaxalignError(
            f"{path} has {len(names) - len(set(names)):,} ids twice, {first!r:.200} among them; expected each"
            " once, or another column (--id-key NAME)"
        )
    return names


@dataclass(frozen=True)
class Classes:
    """Names of the classes, and what label each is in the files."""

    names: tuple[str, ...]
    place: Mapping[Any, int]

    def number(self, labels: np.ndarray) -> np.ndarray:
        """Positions int32 `[n]` of the labels' classes; -1 where there is none."""
        values, inverse = np.unique(labels, return_inverse=True)
        return np.array([self.place.get(value, UNLABELLED) for value in values.tolist()], np.int32)[inverse]


def read_classes(splits: Mapping[str, Split], label_names: str) -> Classes | None:
    """The classes of all splits: those of the file `label_names`, or what the labels say, in their order;
    raises JaxalignError for labels of two kinds, below -1 or all -1, or more of them than names."""
    found = [of.labels for of in splits.values() if of.labels is not None]
    if not found:
        if label_names:
            raise JaxalignError("there are names of labels and no labels; give --labels FILE or --label-key")
        return None
    if len({labels.dtype.kind == "U" for labels in found}) > 1:
        raise JaxalignError("labels are numbers in one split and texts in another; expected one kind")
    values: list[Any] = np.unique(np.concatenate(found)).tolist()
    if isinstance(values[0], int) and values[0] < UNLABELLED:
        raise JaxalignError(f"a label is {values[0]}; expected 0 or more, or -1 for none")
    values = [value for value in values if value != UNLABELLED]
    if not values:
        raise JaxalignError("all labels are -1, which stands for none; expected some from 0 on")
    if not label_names:
        return Classes(tuple(map(str, values)), {value: i for i, value in enumerate(values)})
    names = _read_names(Path(label_names).expanduser())
    place: dict[Any, int] = {name: i for i, name in enumerate(names)}
    if isinstance(values[0], int):
        place = {i: i for i in range(len(names))}
    strange = [value for value in values if value not in place]
    if strange or len(place) < len(names):
        twice = "one name for several classes" if not strange else f"none for the label {strange[0]!s:.100}"
        raise JaxalignError(
            f"{label_names} has {len(names):,} names, {twice}; expected one for each class, the first for 0"
        )
    return Classes(names, place)


def _read_names(path: Path) -> tuple[str, ...]:
    table, titles = read_table(path), ("name", "names")
    column = only_column(table, titles, "", "a column name")
    if column and column.lower() not in titles:  # which may be the name of class 0
        raise JaxalignError(f"{path} begins with {column!r:.100}; expected the line `name` above the names")
    names = tuple(map(str, read_column(table, column).tolist()))
    if empty := [row for row, name in enumerate(names) if not name.strip()]:
        raise JaxalignError(f"{path}: the name of class {empty[0]:,} is empty; expected one for each class")
    return names


def digest(files: Sequence[Path], options: Mapping[str, Any] | None = None) -> str:
    """Sixteen hexadecimal digits that stand for what the files hold, in their order, and for the options."""
    sha = hashlib.sha256(json.dumps(dict(options or {}), sort_keys=True).encode())
    for file in files:
        with open_regular(file.expanduser()) as opened:
            sha.update(f"\0{os.fstat(opened.fileno()).st_size}\0".encode())
            hashlib.file_digest(opened, lambda: sha)  # which adds what it reads
    return sha.hexdigest()[:16]


def features_record(name: str, reading: DataReading | None = None) -> DatasetRecord:
    """The record of `features:PATH`, or `features:train=PATH,test=PATH`; raises JaxalignError for files that
    are not there, damaged, ambiguous, or that do not belong together."""
    reading, text = reading or DataReading(), name.removeprefix(FEATURES)
    places = find_splits(text)
    splits = {split: read_split(split, parts, reading, len(places)) for split, parts in places.items()}
    widths = {split: of.features.shape[1] for split, of in splits.items()}
    if len(set(widths.values())) > 1:
        said = ", ".join(f"{split} {width}" for split, width in widths.items())
        raise JaxalignError(f"{name}: features of different widths ({said}); expected those of one model")
    classes, own = read_classes(splits, reading.label_names), _real_name(text)
    examples = {split: _examples(own, split, of, classes) for split, of in splits.items()}
    pick = lambda *names: next(split for split in (*names, *splits) if split in splits)
    query = pick("query", "test", ALL, "val")
    roles = {"query": query, "gallery": pick("gallery", "train", query)}
    roles |= {"train": pick("train", "gallery"), "test": pick("test", query)}
    return own_record(
        own,
        {split: len(of) for split, of in examples.items()},
        Keys(label=LABEL if classes else ""),
        lambda split, *places: examples[split],
        source=text,
        version=splits[query].content,
        description="Features that were computed elsewhere",
        **roles,
        reading=f"{text} is read as {_describe(splits, classes)}",
    )


def _describe(splits: Mapping[str, Split], classes: Classes | None) -> str:
    counts = ", ".join(f"{split} {len(of.features):,}" for split, of in splits.items())
    first = next(iter(splits.values())).features
    labels = "no labels" if classes is None else f"labels of {len(classes.names):,} classes"
    ids = "ids" if all(of.has_own_ids for of in splits.values()) else "no ids"
    return f"{first.dtype} features {first.shape[1]} wide ({counts}) with {labels} and {ids}"


def _real_name(text: str) -> str:
    """The same with absolute paths, by which its runs are found wherever they are asked for."""
    real = {split: os.path.realpath(path) for split, path in split_paths(text).items()}
    if list(real) == [ALL]:
        return f"{FEATURES}{real[ALL]}"
    return FEATURES + ",".join(f"{split}={path}" for split, path in real.items())


def _examples(dataset: str, split: str, of: Split, classes: Classes | None) -> Examples:
    labels, names = {}, {}
    if classes is not None and of.labels is not None:
        labels, names = {LABEL: classes.number(of.labels)}, {LABEL: classes.names}
    return Examples(
        dataset=dataset,
        split=split,
        version=of.content,
        images=None,
        features=of.features,
        labels=labels,
        label_names=names,
        captions=(),
        file_names=of.ids,
        same=tuple((dataset, name) for name in of.ids) if of.has_own_ids else (),
    )
