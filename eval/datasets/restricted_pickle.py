"""Read plain data out of a pickle without running what it asks for.

A pickle is a program, and `pickle.load` runs it. The ground truth of revisited Oxford and Paris is published
as one; all it needs are lists, dictionaries, strings, numbers and NumPy arrays of numbers. Anything else is
refused.
"""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError


def _dtype(spec: Any, *_: Any) -> np.dtype:
    """A dtype of numbers: an array of objects could hold anything."""
    dtype = np.dtype(spec)
    if dtype.kind not in "biuf":
        raise pickle.UnpicklingError(f"arrays of {dtype}")
    return dtype


def _empty_array(_: type, shape: tuple[int, ...], *__: Any) -> np.ndarray:
    return np.empty(shape, np.int8)  # `__setstate__` then gives it shape, dtype and content


def _scalar(dtype: np.dtype, data: bytes | str) -> Any:
    return np.frombuffer(_bytes(data), dtype)[0]


def _from_buffer(data: bytes, dtype: np.dtype, shape: tuple[int, ...], order: Any, *_: Any) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")


def _bytes(text: bytes | str, *_: Any) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")  # how Python 2's bytes are pickled


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("_codecs", "encode"): _bytes,
    **{
        (f"numpy.{core}.multiarray", name): function
        for core in ("core", "_core")
        for name, function in (("_reconstruct", _empty_array), ("scalar", _scalar))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("data of other files")


def read_plain_pickle(file: Path) -> Any:
    """The lists, dictionaries, strings, numbers and arrays of numbers in a pickle.

    Raises:
      JaxalignError: the file is damaged, or asks for anything else; none of it has been run.
    """
    try:
        return _Unpickler(io.BytesIO(file.read_bytes())).load()
    except pickle.UnpicklingError as error:
        raise JaxalignError(
            f"{file} is refused: a pickle of plain data was expected, this one is damaged or asks for "
            f"{error}; get it"
            " from its authors again"
        ) from error
    except (EOFError, ValueError, IndexError, KeyError, TypeError, AttributeError, MemoryError) as error:
        raise JaxalignError(f"{file} is damaged ({type(error).__name__}); get it again") from error
