"""Revisited Oxford and Paris, and their million distractors, in the folders of revisitop.

Radenovic et al., "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018.
"""

import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from ..items import Content, Item
from ..records import DatasetRecord
from .lists import broken, is_below, read_lines
from .plain_pickle import read_plain_pickle

LARGEST = 1 << 31  # pixels of a side
EXPECTED = "imlist, qimlist, and gnd with bbx, easy, hard and junk for each query"


def read(record: DatasetRecord, root: Path) -> Content:
    """`gnd_*.pkl` and `jpg/`: the splits `query`, with boxes and ground truth, and `gallery`."""
    folder = root / record.name
    file = folder / f"gnd_{record.name}.pkl"
    stored = read_plain_pickle(file)
    try:
        if type(stored) is not dict:
            raise TypeError(f"a dictionary expected; got {type(stored).__name__}")
        gallery, queries = (read_names(stored[key]) for key in ("imlist", "qimlist"))
        rows = read_rows(stored["gnd"])
        truth = [
            {level: read_positions(row[level], len(gallery)) for level in ("easy", "hard", "junk")}
            for row in rows
        ]
        boxes = [read_box(row["bbx"]) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise broken(record, file, f"{EXPECTED}; {error!s:.200}") from None
    if len(boxes) != len(queries):
        raise broken(record, file, f"{EXPECTED}; got {len(queries)} queries and {len(boxes)} ground truths")
    strange = [name for name in (*queries, *gallery) if not is_below(name)]
    if strange:
        raise broken(record, file, f"names of images; got {strange[0]!r:.80}")
    files = [f"{name}.jpg" for name in queries], [f"{name}.jpg" for name in gallery]
    return Content(
        {
            "query": [
                Item(name, folder / "jpg" / name, box=box) for name, box in zip(files[0], boxes, strict=True)
            ],
            "gallery": [Item(name, folder / "jpg" / name) for name in files[1]],
        },
        ground_truth={"query": truth},
    )


def read_names(values: Any) -> list[str]:
    """The names of images."""
    if not isinstance(values, list) or not all(type(name) is str for name in values):
        raise ValueError("lists of names expected")
    return values


def read_rows(values: Any) -> list[dict[str, Any]]:
    """What is said of each query."""
    if not isinstance(values, list) or not all(type(row) is dict for row in values):
        raise ValueError("a dictionary for each query expected")
    return values


def read_positions(values: Any, size: int) -> list[int]:
    """Positions in the gallery; a float is one where it is a whole number."""
    numbers = read_numbers(values)
    if not all(0 <= number < size and number == int(number) for number in numbers):
        raise ValueError(f"positions of the {size} images expected")
    return [int(number) for number in numbers]


def read_box(values: Any) -> tuple[float, float, float, float]:
    """Left, top, right, bottom in pixels."""
    left, top, right, bottom = read_numbers(values)
    if not (0 <= left < right < LARGEST and 0 <= top < bottom < LARGEST):
        raise ValueError(f"a box is left, top, right, bottom; got {reprlib.repr(values)}")
    return float(left), float(top), float(right), float(bottom)


def read_numbers(values: Any) -> list[int | float]:
    """The numbers in a list or array."""
    found = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(found, list) or not all(type(value) in (int, float) for value in found):
        raise ValueError("lists of numbers expected")
    return found


def read_distractors(record: DatasetRecord, root: Path) -> Content:
    """`revisitop1m.txt` and `jpg/`: the images in the order of the list."""
    folder = root / record.name
    names = read_lines(record, folder / f"{record.name}.txt")
    strange = [name for name in names if not is_below(name)]
    if strange:
        raise broken(record, folder / f"{record.name}.txt", f"paths of images; got {strange[0]!r}")
    return Content({"distractors": [Item(name, folder / "jpg" / name) for name in names]})
