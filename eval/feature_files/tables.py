"""Files of features, labels, ids and names: for each format one reader, which says what a file holds by name.

Nothing in a file is executed: `.npy` and `.npz` are read without pickle, `.pt` by our own reader of tensors.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxalign.conversion.npz_files import map_npy, read_npz
from jaxalign.conversion.torch_files import read_torch
from jaxalign.errors import JaxalignError
from jaxalign.local_files import cannot_read, decode_text, open_regular, read_limited
from jaxalign.weights.safetensors_files import read_safetensors
from jaxalign.weights.stored import StoredTensor, aligned_zeros, fill

TEXT_LIMIT = 4 << 30  # bytes of a text file: a million rows of 512 numbers
_WHOLE = re.compile("-?[0-9]{1,18}")


@dataclass(frozen=True)
class Entry:
    """One array of a file: its number of axes, and what reads it."""

    ndim: int
    read: Callable[[], np.ndarray]


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Attributes:
      path: the file.
      entries: by key or column; the only array of a file that has no names is called "".
      is_wide: whether each number of a feature has a column of its own.
    """

    path: Path
    entries: Mapping[str, Entry]
    is_wide: bool = False

    @property
    def keys(self) -> str:
        """For messages: all names."""
        named = [repr(name) for name in self.entries if name]
        return ", ".join(named[:8]) + (", ..." if len(named) > 8 else "") or "one array without a name"


def read_table(path: Path) -> Table:
    """What the file `path` holds, by the reader of its ending; raises JaxalignError for an ending that
    nothing reads, or a file that is damaged or holds objects."""
    if path.suffix.lower() not in READERS:
        raise JaxalignError(
            f"{path}: no file of that ending is read as features, labels or names; expected"
            f" {', '.join(READERS)}"
        )
    return READERS[path.suffix.lower()](path)


def _npy(path: Path) -> Table:
    array = map_npy(path)
    return Table(path, {"": Entry(array.ndim, lambda: array)})


def _stored(read: Callable[[Path], Mapping[str, StoredTensor]], path: Path) -> Table:
    found = read(path)
    for name, tensor in found.items():
        if tensor.is_object:
            raise JaxalignError(
                f"{path}: {name or 'what it holds'!r:.80} is an object of {tensor.dtype:.80}, and no tensor;"
                " nothing was executed: save tensors alone"
            )
    read_one = lambda tensor, name: _named(tensor, path, name)
    entries = {n: Entry(len(t.shape), partial(read_one, t, n)) for n, t in found.items()}
    return Table(path, entries)


def _named(tensor: StoredTensor, path: Path, name: str) -> np.ndarray:
    try:
        if not jnp.issubdtype(jnp.dtype(tensor.dtype), jnp.number):
            return tensor.read()
        out = aligned_zeros(tensor.shape, jnp.dtype(tensor.dtype))  # which JAX takes without a copy
        fill([out.reshape(-1)], tensor)
        return out
    except JaxalignError as error:
        raise JaxalignError(f"{path}: {name!r:.80}: {error}") from error


def _lines(path: Path) -> Table:
    """A text on each line, in order; empty lines at the end do not count."""
    found = np.array(_text(path).rstrip("\n").split("\n"))
    return Table(path, {"": Entry(1, lambda: found)})


def _json(path: Path) -> Table:
    """A list of texts or of whole numbers; in `.jsonl` one on each line."""
    try:
        text = _text(path)
        lines = text.rstrip("\n").split("\n")  # and not where else Unicode has line ends, within a text
        is_lines = path.suffix.lower() == ".jsonl"
        values = [json.loads(line) for line in lines] if is_lines else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise JaxalignError(f"{path} is not JSON: {error!s:.200}") from error
    kinds = {type(value) for value in values} if isinstance(values, list) else set()
    if kinds not in ({str}, {int}):
        raise JaxalignError(f"{path}: expected a list of texts, or one of whole numbers")
    if kinds == {int} and not all(abs(value) < 1 << 63 for value in values):
        raise JaxalignError(f"{path} has a number beyond 64 bits; expected labels")
    found = np.array(values)
    return Table(path, {"": Entry(1, lambda: found)})


def _csv(path: Path) -> Table:
    """Columns by the names in the first line; where that line is numbers alone, one array without a name."""
    try:
        rows = [row for row in csv.reader(io.StringIO(_text(path))) if row]
    except csv.Error as error:
        raise JaxalignError(f"{path} is no CSV: {error!s:.200}") from error
    if not rows:
        raise JaxalignError(f"{path} is empty; expected a line for each feature or label")
    first = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if first is not None:
        raise JaxalignError(
            f"{path}: row {first + 1} has {len(rows[first])} columns, the first one {len(rows[0])}"
        )
    typed = _typed(rows[0])
    if typed.dtype.kind != "U":
        if len(rows[0]) > 1 and [value.strip() for value in rows[0]] == list(map(str, range(len(rows[0])))):
            raise JaxalignError(
                f"{path}: its first line counts its columns, 0, 1 and on, as pandas names them; leave that"
                " line out (header=False), or name them f0, f1 and on"
            )
        values = [value for row in rows for value in row]
        array = (_typed(values) if len(rows[0]) > 1 else _column(path, "", values)).reshape(len(rows), -1)
        if array.dtype.kind == "U":
            raise JaxalignError(f"{path} has something else than numbers; name its columns in its first line")
        array = array[:, 0] if array.shape[1] == 1 else array
        return Table(path, {"": Entry(array.ndim, lambda: array)})
    names, rows = [name.strip() for name in rows[0]], rows[1:]
    if len(set(names)) < len(names) or "" in names:
        raise JaxalignError(f"{path}: its first line names a column twice, or not at all")
    read = lambda i: _column(path, names[i], [row[i] for row in rows])
    entries = {name: Entry(1, partial(read, i)) for i, name in enumerate(names)}
    return Table(path, entries, is_wide=True)


def _column(path: Path, name: str, values: list[str]) -> np.ndarray:
    """As `_typed`; raises JaxalignError where two texts, as 1 and 01, would become one number."""
    found = _typed(values)
    if found.dtype == np.int64:
        first: dict[int, str] = {}
        for number, text in zip(found.tolist(), (value.strip() for value in values), strict=True):
            if first.setdefault(number, text) != text and {first[number], text} != {"0", "-0"}:
                where = f"{path}" + (f": {name!r:.80}" if name else "")
                raise JaxalignError(
                    f"{where} has {first[number]} and {text:.30}, one number in two spellings;"
                    " expected one of them, or texts that are no numbers"
                )
    return found


def _typed(values: list[str]) -> np.ndarray:
    """Whole numbers int64, numbers float64, or else texts."""
    stripped = [value.strip() for value in values]
    if all(map(_WHOLE.fullmatch, stripped)):
        return np.array([int(value) for value in stripped], np.int64)
    try:
        return np.array([float(value) for value in stripped], np.float64)
    except ValueError:
        return np.array(stripped, np.str_)


def _text(path: Path) -> str:
    try:
        return decode_text(read_limited(path, TEXT_LIMIT)).replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise JaxalignError(f"{path} is no UTF-8 text; save it as such") from error


def _parquet(path: Path) -> Table:
    """A list of numbers in a column is a feature; else each column of numbers is one number of it."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise JaxalignError(f"{path} needs pyarrow; pip install 'jaxalign[parquet]'") from error
    open_regular(path).close()
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    is_list = {field.name: any(of(field.type) for of in lists) for field in schema}
    if len(is_list) < len(schema):
        raise JaxalignError(f"{path} has two columns of one name; expected each once")
    entries = {n: Entry(1 + listed, partial(_parquet_column, path, n)) for n, listed in is_list.items()}
    return Table(path, entries, is_wide=not any(is_list.values()))


def _parquet_column(path: Path, name: str) -> np.ndarray:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        column = pq.read_table(path, columns=[name], memory_map=True).column(0).combine_chunks()
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    nulls = column.null_count
    shape: tuple[int, ...] = (len(column),)
    if pa.types.is_nested(column.type):
        values = column.flatten()
        nulls += values.null_count
        if len(column) and len(values) % len(column):
            raise JaxalignError(f"{path}: {name!r:.80} has rows of different lengths; expected one width")
        widths = column.value_lengths() if not pa.types.is_fixed_size_list(column.type) else None
        if widths is not None and len(widths.unique()) > 1:
            raise JaxalignError(f"{path}: {name!r:.80} has rows of different lengths; expected one width")
        shape, column = (len(column), len(values) // max(len(column), 1)), values
    if nulls:
        raise JaxalignError(f"{path}: {name!r:.80} lacks {nulls:,} values; leave those rows out")
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return np.array(column.to_pylist(), np.str_)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise JaxalignError(f"{path}: {name!r:.80} is a column of {column.type}; expected numbers or texts")
    return column.to_numpy(zero_copy_only=False).reshape(shape)


def _damaged(path: Path, error: Exception) -> JaxalignError:
    if isinstance(error, OSError) and error.strerror:
        return cannot_read(path, error)
    return JaxalignError(f"{path} is damaged or no parquet file: {error!s:.200}")


READERS: Mapping[str, Callable[[Path], Table]] = {
    ".npy": _npy,
    ".npz": partial(_stored, partial(read_npz, texts=True)),
    ".safetensors": partial(_stored, read_safetensors),
    ".pt": partial(_stored, partial(read_torch, alone=True)),
    ".pth": partial(_stored, partial(read_torch, alone=True)),
    ".parquet": _parquet,
    ".csv": _csv,
    ".txt": _lines,
    ".json": _json,
    ".jsonl": _json,
}
