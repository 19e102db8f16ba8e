"""Plain data out of a pickle, of which nothing is run.

The ground truth of revisited Oxford and Paris is published as a pickle; all it needs are lists, dictionaries,
strings, numbers and NumPy arrays of numbers. Anything else is refused.
"""

import io
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.local_files import read_limited
from jaxalign.weights.inert_pickle import LIMIT, unpickle
from jaxalign.weights.pickle_records import Called, Named, Pairs
from jaxalign.weights.pickled_arrays import as_array, as_bytes

_DEEPEST = 20  # lists in lists
_LONGEST = 4096  # bits of a number: Python prints none of 4,300 digits
_MOST = 10_000_000  # values; what holds another thing often has more of them than bytes


def read_plain_pickle(file: Path) -> Any:
    """The lists, dictionaries with strings as keys, strings, numbers and arrays of numbers in a pickle.

    Raises:
      JaxalignError: the file is damaged, or asks for anything else; none of it has been run.
    """
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
