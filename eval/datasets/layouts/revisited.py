"""Revisited Oxford and Paris, and their million distractors, in the folders of revisitop.

Radenovic et al., "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..content import Content, Item, broken, is_below
from ..records import DatasetRecord
from ..restricted_pickle import read_plain_pickle
from .class_folders import read_lines

EXPECTED = "imlist, qimlist, and gnd with bbx, easy, hard and junk for each query"


def read(record: DatasetRecord, root: Path) -> Content:
    """`gnd_*.pkl` and `jpg/`: the splits `query`, with boxes and ground truth, and `gallery`."""
    folder = root / record.name
    file = folder / f"gnd_{record.name}.pkl"
    stored = read_plain_pickle(file)
    try:
        gallery, queries = ([str(name) for name in stored[key]] for key in ("imlist", "qimlist"))
        truth = [
            {level: read_positions(row[level], len(gallery)) for level in ("easy", "hard", "junk")}
            for row in stored["gnd"]
        ]
        boxes = [read_box(row["bbx"]) for row in stored["gnd"]]
    except (KeyError, TypeError, ValueError) as error:
        raise broken(record, file, f"{EXPECTED}; {error}") from None
    if len(boxes) != len(queries):
        raise broken(record, file, f"{EXPECTED}; got {len(queries)} queries and {len(boxes)} ground truths")
    strange = [name for name in (*queries, *gallery) if not is_below(name)]
    if strange:
        raise broken(record, file, f"names of pictures; got {strange[0]!r}")
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


def read_positions(values: Iterable[Any], size: int) -> list[int]:
    """Positions in the gallery."""
    positions = [int(value) for value in values]
    if not all(0 <= position < size for position in positions):
        raise ValueError(f"positions of the {size} pictures expected")
    return positions


def read_box(values: Iterable[Any]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom in pixels."""
    left, top, right, bottom = (float(value) for value in values)
    if not (0 <= left < right < math.inf and 0 <= top < bottom < math.inf):
        raise ValueError(f"a box is left, top, right, bottom; got {left}, {top}, {right}, {bottom}")
    return left, top, right, bottom


def read_distractors(record: DatasetRecord, root: Path) -> Content:
    """`revisitop1m.txt` and `jpg/`: the pictures in the order of the list."""
    folder = root / record.name
    names = read_lines(record, folder / f"{record.name}.txt")
    strange = [name for name in names if not is_below(name)]
    if strange:
        raise broken(record, folder / f"{record.name}.txt", f"paths of pictures; got {strange[0]!r}")
    return Content({"distractors": [Item(name, folder / "jpg" / name) for name in names]})
