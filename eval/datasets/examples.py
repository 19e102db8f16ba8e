"""Read a split of a prepared data set into memory."""

import io
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from jaxalign.errors import unknown_name

from .preparation import damaged, prepare
from .records import find_dataset

BLOCK = 256  # examples that a thread reads and decodes at a time
THREADS = 4


@dataclass(frozen=True, eq=False)
class Examples:
    """A split of a data set; n pictures.

    Attributes:
      images: uint8 [n, h, w, 3], RGB.
      labels: int32 [n] for each label, indices into `label_names`.
      label_names: the names of each label's values, those of the other splits included.
      captions: the captions of each picture.
      file_names: unique in the data set.
    """

    dataset: str
    split: str
    version: str
    images: np.ndarray
    labels: Mapping[str, np.ndarray]
    label_names: Mapping[str, tuple[str, ...]]
    captions: tuple[tuple[str, ...], ...]
    file_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def decode_image(data: bytes) -> np.ndarray:
    """The pixels uint8 [h, w, 3] of an image file; TFDS's own decoder keeps palettes and alpha channels."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def load_split(name: str, split: str, data_dir: str | os.PathLike | None = None) -> Examples:
    """All examples of a split in the order of the files; prepares the data set first where that was not done.

    Raises:
      JaxalignError: unknown data set or split, a folder that cannot be written, or a damaged prepared copy.
    """
    record = find_dataset(name)
    if split not in record.splits:
        raise unknown_name(f"split of {name}", split, record.splits)
    builder: Any = prepare(name, data_dir)
    import tensorflow_datasets as tfds

    source = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})

    def read(start: int) -> list[dict]:
        rows = source.__getitems__(range(start, min(start + BLOCK, len(source))))
        return [row | {"image": decode_image(row["image"])} for row in rows]

    try:
        with ThreadPoolExecutor(THREADS) as pool:
            rows = [row for block in pool.map(read, range(0, len(source), BLOCK)) for row in block]
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a hash of ArrayRecord does not match
        raise damaged(record, record.folder(data_dir), error) from error
    return Examples(
        dataset=name,
        split=split,
        version=record.version,
        images=np.stack([row["image"] for row in rows]),
        labels={task: np.array([row[task] for row in rows], np.int32) for task in record.tasks},
        label_names={task: tuple(builder.info.features[task].names) for task in record.tasks},
        captions=tuple(tuple(text.decode() for text in row["captions"]) for row in rows),
        file_names=tuple(row["file_name"].decode() for row in rows),
    )
