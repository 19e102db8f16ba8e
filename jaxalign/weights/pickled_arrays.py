"""NumPy's arrays and numbers in pickles and `.npy` headers: parsed here, never by NumPy's own classes."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.weights.pickle_records import Called, Named
from jaxalign.weights.stored import count_elements

_TYPE = re.compile(r"([<>])([iu][248]|f[248])|\|?([biu]1)")
_CORES = ("numpy.core", "numpy._core")  # before NumPy 2, and since


def number_type(descr: str) -> np.dtype:
    """The kind of numbers that NumPy's type string stands for: "<f4", ">i8", "|b1".

    Raises:
      JaxalignError: text, objects, records, times, complex numbers, or no word on the order of the bytes.
    """
    if not _TYPE.fullmatch(descr):
        raise JaxalignError(f"an array of {descr!r:.40}; expected numbers, such as '<f4'")
    return np.dtype(descr)


def as_array(value: Any) -> np.ndarray | None:
    """The array, or number without axes, that a record stands for; None for any other value.

    Raises:
      JaxalignError: an array that is damaged, or not of plain numbers.
    """
    if type(value) is not Called:
        return None
    if arguments := value.arguments_of(*(f"{core}.multiarray.scalar" for core in _CORES)):
        return _array((), *_exactly(2, arguments))
    if arguments := value.arguments_of(*(f"{core}.numeric._frombuffer" for core in _CORES)):
        content, dtype, shape, order = _exactly(4, arguments)
        return _array(shape, dtype, content, is_fortran=type(order) is str and order == "F")
    made = replace(value, state=None)
    if arguments := made.arguments_of(*(f"{core}.multiarray._reconstruct" for core in _CORES)):
        if type(arguments[0]) is not Named or arguments[0].name != "numpy.ndarray":
            return None
        _, shape, dtype, is_fortran, content = _exactly(5, value.state)
        return _array(shape, dtype, content, is_fortran=is_fortran is True)
    return None


def _exactly(count: int, values: Any) -> tuple[Any, ...]:
    if type(values) is not tuple or len(values) != count:
        raise JaxalignError("a damaged array")
    return values


def _array(shape: Any, dtype: Any, content: Any, is_fortran: bool = False) -> np.ndarray:
    kind, count, found = _pickled_type(dtype), count_elements(shape), as_bytes(content)
    if found is None or len(found) != count * kind.itemsize:
        raise JaxalignError("an array without all of its bytes")
    return np.frombuffer(found, kind).reshape(shape, order="F" if is_fortran else "C")


def _pickled_type(value: Any) -> np.dtype:
    """Of `numpy.dtype("f8", ...)`, whose state has the order of the bytes and nothing but defaults else."""
    made = replace(value, state=None) if type(value) is Called else Called(None, None)
    descr, *_ = made.arguments_of("numpy.dtype") or (None,)
    if type(value) is not Called or type(descr) is not str:
        raise JaxalignError("an array of nothing that is known; expected numbers")
    if value.state is not None:
        _, order, *rest = _exactly(8, value.state)
        if [type(x) for x in rest] != [type(None)] * 3 + [int] * 3 or rest[3:] != [-1, -1, 0]:
            raise JaxalignError(f"an array of {descr!r:.40} with fields, parts or flags; expected numbers")
        descr = f"{order if type(order) is str else '='}{descr}"
    return number_type(descr)


def as_bytes(value: Any) -> bytes | None:
    """Bytes of Python 3 (before protocol 3 an encoded string) or of Python 2; None for any other value."""
    if type(value) is bytes:
        return value
    if type(value) is str:  # of Python 2
        return value.encode() if value.isascii() else None
    if type(value) is not Called:
        return None
    if value.arguments_of("builtins.bytes", "__builtin__.bytes") == ():
        return b""
    arguments = value.arguments_of("_codecs.encode")
    if not arguments or len(arguments) != 2 or type(arguments[0]) is not str or type(arguments[1]) is not str:
        return None
    try:
        return arguments[0].encode("latin-1") if arguments[1] in ("latin1", "latin-1") else None
    except UnicodeEncodeError:
        return None
