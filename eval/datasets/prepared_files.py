"""What lies beside the examples of a prepared split: an index of names, labels and captions, and a digest.

The index tells what is in a split without reading images; it is a file with its SHA-256 in the first line.
The digest tells copies of one version apart, which need not hold the same images. TFDS ignores both.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.files import write_json
from jaxalign.local_files import read_json

VERSION = 1
# What TFDS and ArrayRecord raise for a damaged copy; RuntimeError: a hash of ArrayRecord does not match.
_READ_ERRORS = (OSError, KeyError, IndexError, TypeError, ValueError, RuntimeError)
_LONGEST = 160  # characters of what they say


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of the n examples of a split.

    Attributes:
      file_names, labels, label_names, captions, ground_truth: as of `Examples`.
      boxes: left, top, right, bottom of each example, in pixels; empty where the whole images are meant.
    """

    file_names: tuple[str, ...]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    captions: tuple[tuple[str, ...], ...] = ()
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    ground_truth: tuple[Mapping[str, list[int]], ...] = ()


def index_file(folder: Path, split: str) -> Path:
    return Path(folder) / f"{split}.index.json"


def write_index(folder: Any, split: str, index: Index) -> None:
    """Write the index of a split into `folder`."""
    content = {
        "version": VERSION,
        "file_names": index.file_names,
        "labels": {task: values.tolist() for task, values in index.labels.items()},
        "label_names": index.label_names,
        "captions": index.captions,
        "boxes": index.boxes,
        "ground_truth": index.ground_truth,
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    index_file(folder, split).write_text(f"{digest}\n{text}\n", encoding="utf-8")


def read_index(folder: Path, split: str) -> Index:
    """The index of a split; raises ValueError for one that is not there, or damaged."""
    file = index_file(folder, split)
    if not file.is_file():
        raise ValueError(f"the index of {split} is missing")
    digest, _, text = file.read_text(encoding="utf-8").rstrip("\n").partition("\n")
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise ValueError(f"{file.name} does not have the content that was written")
    content = json.loads(text)
    if content["version"] != VERSION:
        raise ValueError(f"{file.name} has version {content['version']} instead of {VERSION}")
    return Index(
        file_names=tuple(content["file_names"]),
        labels={task: np.array(values, np.int32) for task, values in content["labels"].items()},
        label_names={task: tuple(names) for task, names in content["label_names"].items()},
        captions=tuple(tuple(texts) for texts in content["captions"]),
        boxes=tuple((box[0], box[1], box[2], box[3]) for box in content["boxes"]),
        ground_truth=tuple(content["ground_truth"]),
    )


def content_digest(folder: Path, split: str, files: Sequence[Path]) -> str:
    """Of the content of `files`, which are those of `split` in `folder`: sixteen hexadecimal digits.

    Reading them all takes a second for a gigabyte or so. So the digest is remembered beside them, and taken
    anew where the size of a file or one of its times has changed; in a folder that cannot be written, every
    time. Raises OSError for a file that cannot be read.
    """
    facts = {path.name: _facts(path) for path in sorted(files)}
    remembered = folder / f"{split}.digest.json"
    known = _read(remembered)
    if known.get("files") == facts and isinstance(known.get("digest"), str):
        return known["digest"]
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    found = digest.hexdigest()[:16]
    with contextlib.suppress(OSError):  # of a folder that cannot be written nothing is remembered
        write_json(remembered, {"files": facts, "digest": found}, indent=None)
    return found


def _facts(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read(path: Path) -> dict[str, Any]:
    """What was remembered; empty where that is nothing, or damaged."""
    try:
        content = read_json(path) if path.is_file() else {}
    except JaxalignError:
        return {}
    return content if isinstance(content, dict) else {}


@contextlib.contextmanager
def explained(say: Callable[[str], str]) -> Iterator[None]:
    """What TFDS and ArrayRecord raise of a damaged copy, as an error of one line: what `say` makes of it."""
    from google.protobuf.json_format import ParseError  # here: most data sets are not read by TFDS

    try:
        yield
    except JaxalignError:
        raise
    except (*_READ_ERRORS, ParseError) as error:
        raise JaxalignError(say(one_line(error))) from error


def one_line(error: Exception) -> str:
    """What an exception of TFDS or ArrayRecord says, without its line breaks and not at length."""
    text = " ".join((getattr(error, "strerror", None) or str(error)).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
