"""An index beside the examples of a split: names, labels and captions at once, without reading pictures.

A file for each split, with its SHA-256 in the first line. TFDS ignores it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

VERSION = 1


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of the n examples of a split.

    Attributes:
      file_names: unique in the data set.
      labels: int32 [n] for each task, -1 where an example has none.
      label_names: the names of each task's values; two values may have the same one.
      captions: of each example; empty where the data set has none.
      boxes: left, top, right, bottom of each example, in pixels; empty where the whole pictures are meant.
      ground_truth: for each query the positions in the gallery that are `easy`, `hard` and `junk`; or empty.
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


def read_index(folder: Path, split: str) -> Index | None:
    """The index of a split, None where the copy has none.

    Raises:
      ValueError: the file is damaged.
    """
    file = index_file(folder, split)
    if not file.is_file():
        return None
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
