"""Tar files in WebDataset's layout, `webdataset:PATH`: files of one example share a name, not an ending.

A shard is read once to find what is where; images are read from their places when they are asked for.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.inputs.image_files import FILE_LIMIT
from jaxalign.inputs.image_formats import image_endings
from jaxalign.local_files import JSON_LIMIT, open_regular

from .data_reading import WEBDATASET, Keys, as_texts, own_record
from .examples import UNLABELLED, Examples
from .images import Images
from .records import DatasetRecord, Folder

LABEL = "cls"  # ending of what holds a class number
_CLASSES = 1 << 20  # each has a name: the numbers up to the largest label


@dataclass(frozen=True)
class _Place:
    """Where a file lies in a shard, which is not compressed."""

    shard: Path
    start: int
    size: int

    def read(self, limit: int) -> bytes:
        if self.size > limit:
            raise JaxalignError(f"{self.shard} has a file of {self.size:,} bytes; expected at most {limit:,}")
        with open_regular(self.shard) as file:
            file.seek(self.start)
            content = file.read(self.size)
        if len(content) != self.size:
            raise JaxalignError(f"{self.shard} is cut off; get it again")
        return content


_Split = dict[str, dict[str, _Place]]  # examples by name: places by ending


def webdataset_record(name: str, keys: Keys) -> DatasetRecord:
    """The record of `webdataset:PATH`: a tar file, a folder of them, or a pattern as `photos/*.tar`.

    Shards whose names begin with `train`, `val`, `validation` or `test` are these splits, if all do; else all
    are the split `all`. Labels are numbers in `.cls` files, texts are in `.txt` files, unless `keys` say
    otherwise: `json.KEY` is what a `.json` file has under that key. Raises JaxalignError for no such files,
    compressed or damaged ones, or examples that `keys` do not tell apart.
    """
    path = name.removeprefix(WEBDATASET)
    splits = {split: _index(shards) for split, shards in _shards(path).items()}
    endings = sorted({ending for of in splits.values() for files in of.values() for ending in files})
    images = [ending for ending in endings if f".{ending}" in image_endings()]
    own = [key for key in (keys.label, keys.text) if key.startswith("json.") and "json" in endings]
    labels = [keys.label] if keys.label in own else [e for e in endings if e == LABEL]
    chosen = keys.choose(name, images, labels, [*endings, *own])
    sizes = {split: len(found) for split, found in splits.items()}
    return own_record(name, sizes, chosen, partial(_read_split, name, splits, chosen), source=path)


def _shards(path: str) -> dict[str, list[Path]]:
    whole = Path(path).expanduser()
    root, pattern = (whole, "*.tar") if whole.is_dir() else (whole.parent, whole.name)
    found = sorted(root.glob(pattern))
    if not found:
        raise JaxalignError(f"there are no tar files {path}; expected a .tar, a folder of them, or a pattern")
    names = [re.match(r"(train|validation|val|test)(?![a-z])", file.name) for file in found]
    splits: dict[str, list[Path]] = {}
    for file, named in zip(found, names, strict=True):
        splits.setdefault(named[1] if named and all(names) else "all", []).append(file)
    return splits


def _index(shards: list[Path]) -> _Split:
    found: _Split = {}
    for shard in shards:
        try:
            with open_regular(shard) as opened, tarfile.open(fileobj=opened, mode="r:") as tar:
                for member in tar:
                    folder, _, base = member.name.rpartition("/")
                    stem, _, ending = base.partition(".")
                    if member.isdir() or not stem or not ending:
                        continue
                    if not member.isreg() or member.issparse():
                        raise JaxalignError(
                            f"{shard} has {member.name}, which is a link or another kind than a plain file;"
                            " expected plain files (of tar: --dereference --hard-dereference)"
                        )
                    files = found.setdefault(f"{shard.name}/{folder}/{stem}", {})
                    if ending.lower() in files:
                        raise JaxalignError(f"{shard} has {member.name} twice; expected each once")
                    files[ending.lower()] = _Place(shard, member.offset_data, member.size)
        except (tarfile.TarError, EOFError) as error:
            raise JaxalignError(
                f"{shard} is no plain tar file, or damaged ({error}); expected an uncompressed one"
            ) from error
    return found


def _read_split(name: str, splits: Mapping[str, _Split], keys: Keys, split: str, *places: Folder) -> Examples:
    examples = splits[split]
    names = tuple(examples)
    for example, files in examples.items():
        if keys.image and keys.image not in files:
            raise JaxalignError(f"{example} of {name} has no .{keys.image}; expected one of every example")
    rows = list(examples.values())
    labelled = examples.items() if keys.label else ()
    labels = [_label(example, _value(files, keys.label)) for example, files in labelled]
    digest = hashlib.sha256(repr((names, keys)).encode())
    for shard in dict.fromkeys(place.shard for files in rows for place in files.values()):
        with open_regular(shard) as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    read = lambda row: rows[row][keys.image].read(FILE_LIMIT)
    return Examples(
        dataset=name,
        split=split,
        version="1.0.0",
        images=Images(read, names, f"{name}/{split}") if keys.image else None,
        labels={keys.label: np.array(labels, np.int32)} if keys.label else {},
        label_names={keys.label: tuple(map(str, range(max(labels, default=-1) + 1)))} if keys.label else {},
        captions=tuple(as_texts(_value(files, keys.text) or "") for files in rows) if keys.text else (),
        file_names=names,
        content=digest.hexdigest()[:16],
    )


def _value(files: Mapping[str, _Place], key: str) -> object:
    """What an example has under a key: the text of a file, or an entry of its JSON; else None."""
    ending, _, inner = key.partition(".")
    if ending not in files:
        return None
    try:
        text = files[ending].read(JSON_LIMIT).decode("utf-8-sig")
        return json.loads(text).get(inner) if inner else text.strip()
    except (ValueError, AttributeError, RecursionError) as error:
        raise JaxalignError(f"{files[ending].shard} has a .{ending} that cannot be read: {error}") from error


def _label(example: str, value: object) -> int:
    if value is None:
        return UNLABELLED
    if not re.fullmatch(r"\d{1,9}", str(value)) or int(str(value)) >= _CLASSES:
        raise JaxalignError(
            f"{example} has the label {value!r:.80}; expected a number of 0 to {_CLASSES - 1:,}"
        )
    return int(str(value))
