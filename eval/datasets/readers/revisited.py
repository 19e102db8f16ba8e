"""Revisited Oxford and Paris, and their million distractors, in the folders of revisitop.

Radenovic et al., "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018.
Their ground truth is published as a pickle, of which nothing is run: it needs lists, dictionaries, strings,
numbers and NumPy arrays of numbers, and anything else is refused.
"""

import io
import reprlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.local_files import read_limited
from jaxalign.weights.inert_pickle import LIMIT, unpickle
from jaxalign.weights.pickle_records import Called, Named, Pairs
from jaxalign.weights.pickled_arrays import as_array, as_bytes

from ..items import Content, Item
from ..records import DatasetRecord
from . import broken, is_below, read_lines

T = TypeVar("T")
_DEEPEST = 20  # lists in lists
_LONGEST = 4096  # bits of a number: Python prints none of 4,300 digits
_MOST = 10_000_000  # values; what holds another thing often has more of them than bytes
LARGEST = 1 << 31  # pixels of a side
EXPECTED = "imlist, qimlist, and gnd with bbx, easy, hard and junk for each query"


def read_plain_pickle(file: Path) -> Any:
    """The lists, dictionaries with strings as keys, strings, numbers and arrays of numbers in a pickle.
    Raises JaxalignError where the file is damaged, or asks for anything else; none of it has been run."""
    content = read_limited(file, LIMIT)
    try:
        return _Plain().read(unpickle(io.BytesIO(content), len(content)).value, 0)
    except JaxalignError as error:
        raise JaxalignError(
            f"{file} is refused: {error}; expected lists, names and numbers alone: get it again"
        ) from error


class _Plain:
    """Reads records into what they stand for, and counts the values: one that is held often counts often."""

    def __init__(self):
        self.left = _MOST

    def read(self, value: Any, depth: int) -> Any:
        self.left -= len(value) if isinstance(value, list | tuple) else 1
        if self.left < 0 or depth > _DEEPEST:
            raise JaxalignError("its lists hold each other, or have too many values")
        if type(value) is Pairs:
            if not all(type(key) is str for key in value[::2]):
                raise JaxalignError("it has a dictionary whose keys are no strings")
            return {key: self.read(inner, depth + 1) for key, inner in value.by_name().items()}
        if type(value) in (list, tuple):
            return [self.read(inner, depth + 1) for inner in value]
        if type(value) is int and value.bit_length() > _LONGEST:
            raise JaxalignError(f"it has a number of {value.bit_length():,} bits")
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value
        if (content := as_bytes(value)) is not None:
            self.left -= len(content)
            return content
        array = as_array(value)
        if array is None:
            asked = value.name if isinstance(value, Called | Named) else "data of other files"
            raise JaxalignError(f"it asks for {asked}")
        self.left -= array.size
        return array if array.ndim else array.item()


def read(record: DatasetRecord, root: Path) -> Content:
    """`gnd_*.pkl` and `jpg/`: the splits `query`, with boxes and ground truth, and `gallery`."""
    folder = root / record.name
    file = folder / f"gnd_{record.name}.pkl"
    stored = read_plain_pickle(file)
    try:
        if type(stored) is not dict:
            raise TypeError(f"a dictionary expected; got {type(stored).__name__}")
        gallery, queries = (read_list(stored[key], str, "lists of names") for key in ("imlist", "qimlist"))
        rows = read_list(stored["gnd"], dict, "a dictionary for each query")
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
    item = lambda name, box=None: Item(f"{name}.jpg", folder / "jpg" / f"{name}.jpg", box=box)
    splits = {"query": list(map(item, queries, boxes)), "gallery": list(map(item, gallery))}
    return Content(splits, ground_truth={"query": truth})


def read_list(values: Any, kind: type[T], expected: str) -> list[T]:
    """`values`, which are a list of one kind; raises ValueError, saying what was expected, for others."""
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise ValueError(f"{expected} expected")
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
