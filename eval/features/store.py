"""A resumable array of features on a local disk or in cloud storage, in chunks that are whole or not there.

The array is zarr version 3 through tensorstore: one file for each chunk of rows, put in place at once, with a
checksum that is compared on every read. A run that was killed leaves whole chunks; the next one computes the
others. Rows that could not be computed (an image that cannot be read, where that is allowed) are NaN.
"""

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.files import default_store
from jaxalign.eval.processes import after_first, agree, is_first
from jaxalign.local_files import JSON_LIMIT, read_json

from .key import FeatureKey

Place = str | os.PathLike[str] | None
FORMAT, VERSION = "jaxalign-features", 1
CHUNK = 256  # rows: what a killed run loses at most; at width 768 in float32 a chunk is 0.75 MiB
DTYPE = np.dtype(np.float32)
ARRAY = "features/zarr.json"
_LIMITS = {"store.json": JSON_LIMIT, "examples.json": 512 << 20, ARRAY: JSON_LIMIT}  # bytes
_CHECKSUM = 4  # bytes at the end of a chunk
_CHUNK_FILE = re.compile(rb"c/\d+/0")  # not the temporary file of a process that was killed
_REDO = "run the same command again, which computes it anew"


@dataclass(frozen=True)
class Features:
    """A finished store's content, without the rows that were left out.

    Attributes:
      values: `[n, d]`; `ids` of the n examples.
      rows: int `[n]`, ascending: their positions among all examples.
      left_out: ids of the examples that could not be computed.
    """

    values: np.ndarray
    ids: tuple[str, ...]
    rows: np.ndarray
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: np.ndarray, ids: Sequence[str]) -> "Features":
        """Those of all examples, `[rows, d]`, of which those that were left out are NaN."""
        left_out = np.isnan(values).any(axis=1)
        kept = np.flatnonzero(~left_out)
        return cls(
            values[kept] if left_out.any() else values,
            tuple(ids[i] for i in kept.tolist()),
            kept,
            tuple(ids[i] for i in np.flatnonzero(left_out).tolist()),
        )

    def require(self, origin: str) -> "Features":
        """These; raises JaxalignError where no image of `origin` could be read."""
        if not self.ids:
            raise JaxalignError(
                f"none of the {len(self.left_out)} images of {origin} can be read,"
                f" {self.left_out[0]} for one; expected at least one"
            )
        return self


class FeatureStore:
    """Features of the examples of one key. Open one with `FeatureStore.open`."""

    def __init__(self, url: str, content: dict[str, Any], ids: Sequence[str]):
        self.url = url
        self.rows, self.width, self.chunk = content["rows"], content["width"], content["chunk"]
        self.ids = tuple(ids)
        _read_json(_key_value_store(url), url, ARRAY)  # by C++ later, which has no limit of size or depth
        self._array = _open_array(url, self.rows, self.width, self.chunk)

    @classmethod
    def open(
        cls,
        root: Place,
        key: FeatureKey,
        ids: Sequence[str],
        labels: Mapping[str, np.ndarray],
        width: int,
        *,
        chunk: int = CHUNK,
        part: str = "",
    ) -> "FeatureStore":
        """The store of `key` below `root`, made if it is not there yet; one that is keeps its own chunk.

        Args:
          root: a folder, or a URL that tensorstore knows (`gs://bucket/path`, `s3://bucket/path`); None for
            `default_store()`.
          ids: of the examples in their order, each once.
          labels: int `[n]` by name, which are kept beside the ids: a store is of examples with these.
          width: of a feature.
          part: name of the store, where a key has several.

        Raises:
          JaxalignError: duplicate ids, labels of another length, a store that another version wrote or that
            holds other examples, or a place that cannot be written.
        """
        _check_examples(ids, labels)
        content: dict[str, Any] = {"rows": len(ids), "width": width, "chunk": chunk, "dtype": DTYPE.name}
        examples = {"ids": list(ids), "labels": {k: np.asarray(v).tolist() for k, v in labels.items()}}
        url = store_url(root, key, part)
        files = _key_value_store(url)
        header = {"format": FORMAT, "version": VERSION, "content": content, "key": key.to_json()}
        told = lambda: {"examples": hashlib.sha256(json.dumps(examples).encode()).hexdigest()}
        agree(f"the features of {key.dataset}", lambda: key.to_json() | content | told())
        with after_first("header of a store"):
            old = _read_header(files, url, key)
            if old is not None:
                content["chunk"] = old["chunk"]
                if old != content or _read_json(files, url, "examples.json") != examples:
                    raise JaxalignError(
                        f"{url} holds features of other examples under the same key; if these are some of a"
                        " split's, embed the whole split and select rows of the result; if the data set has"
                        " changed, give it a new version, or delete that folder"
                    )
            else:  # the header comes last: what has one is whole
                _write(files, url, "examples.json", examples)
                _write(files, url, "store.json", header)
            return cls(url, content, ids)

    @classmethod
    def find(cls, root: Place, key: FeatureKey, part: str = "") -> "FeatureStore | None":
        """The store of `key` below `root`, or None where there is none; raises as `open` does."""
        url = store_url(root, key, part)
        files = _key_value_store(url)
        if (content := _read_header(files, url, key)) is None:
            return None
        return cls(url, content, _read_ids(files, url, content["rows"]))

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.chunk)

    def rows_of(self, chunk: int) -> range:
        """The examples of a chunk."""
        return range(chunk * self.chunk, min((chunk + 1) * self.chunk, self.rows))

    def missing(self, *, left_out: bool = False, among: Iterable[int] | None = None) -> list[int]:
        """Numbers of the chunks that are not there, or whose checksum does not fit.

        Args:
          left_out: whether chunks with rows that were left out count, too.
          among: which chunks are looked at; all by default.
        """
        absent, looked_at = set(self.absent()), range(self.chunks) if among is None else among
        return [i for i in looked_at if i in absent or not self._is_whole(i, without_gaps=left_out)]

    def absent(self) -> list[int]:
        """Numbers of the chunks that are not there; those that are may be damaged (see `missing`)."""
        names = list_names(self.url + "features/")
        present = {int(name.decode().split("/")[1]) for name in names if _CHUNK_FILE.fullmatch(name)}
        return [i for i in range(self.chunks) if i not in present or not self._is_readable(i)]

    def _is_readable(self, chunk: int) -> bool:
        """Whether a local chunk is a file of at most its size: tensorstore waits for a pipe, and ends the
        process where it finds no memory for a file."""
        if not self.url.startswith("file://"):
            return True
        path = _local_path(self.url) / f"features/c/{chunk}/0"
        most = self.chunk * self.width * DTYPE.itemsize + _CHECKSUM
        return not path.exists() or (path.is_file() and path.stat().st_size <= most)

    def _is_whole(self, chunk: int, without_gaps: bool = False) -> bool:
        try:
            return not (np.isnan(self.read_chunk(chunk)).any() and without_gaps)
        except JaxalignError:
            return False

    def write(self, chunk: int, values: np.ndarray) -> None:
        """Put the rows of `chunk` in place, `[len(rows_of(chunk)), width]`; a NaN row is one left out."""
        rows = self.rows_of(chunk)
        if values.shape != (shape := (len(rows), self.width)):
            raise JaxalignError(f"chunk {chunk} has shape {values.shape}; expected {shape}")
        try:
            if not self._is_whole(chunk):  # the last one would be read before it is written
                _key_value_store(self.url).write(f"features/c/{chunk}/0", None).result()
            self._array[rows.start : rows.stop].write(np.asarray(values, DTYPE)).result()
        except ValueError as error:
            raise _unwritable(self.url, error) from error

    def read(self) -> Features:
        """All features; raises JaxalignError for a store with missing or damaged chunks."""
        if missing := self.absent():
            raise JaxalignError(
                f"{self.url} lacks {len(missing)} of {self.chunks} chunks (the first is number {missing[0]});"
                f" {_REDO}"
            )
        return Features.of(self._read(range(self.rows)), self.ids)

    def read_chunk(self, chunk: int) -> np.ndarray:
        """The rows of a chunk, `[len(rows_of(chunk)), width]`; raises JaxalignError where it is damaged.

        Rows that were left out are NaN, and so are those of a chunk that is not there (see `missing`).
        """
        return self._read(self.rows_of(chunk))

    def _read(self, rows: range) -> np.ndarray:
        for chunk in range(rows.start // self.chunk, -(-rows.stop // self.chunk)):
            if not self._is_readable(chunk):
                raise JaxalignError(f"{self.url} is damaged (chunk {chunk} is no file of its size); {_REDO}")
        try:
            return np.asarray(self._array[rows.start : rows.stop].read().result())
        except ValueError as error:
            raise JaxalignError(f"{self.url} is damaged ({_reason(error)}); {_REDO}") from error

    @contextmanager
    def locked(self):
        """Keep other runs on this machine from filling the same store; they get a clear error.

        Cloud storage has no such lock: there two runs do the same work twice, and each chunk is still whole.
        Of several processes of one run, the first one holds it.
        """
        if not self.url.startswith("file://") or not is_first():
            yield
            return
        from filelock import FileLock, Timeout

        lock = FileLock(_local_path(self.url) / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise JaxalignError(
                f"another process is filling {self.url}; wait for it, or choose another folder (--store DIR)"
            ) from None
        except OSError as error:
            raise _unwritable(f"{self.url}lock", error) from error
        try:
            yield
        finally:
            lock.release()


def store_url(root: Place, key: FeatureKey, part: str = "") -> str:
    """Where the store of `key`, or a part of it, is below `root`."""
    root = os.fspath(default_store() if root is None else root)
    if "://" not in root:
        root = Path(root).expanduser().absolute().as_uri()
    return f"{root.rstrip('/')}/{key.folder}/" + (f"{part}/" if part else "")


def _local_path(url: str) -> Path:
    """The folder of a `file://` URL, in which special characters are quoted."""
    return Path(unquote(url.removeprefix("file://")))


def _check_examples(ids: Sequence[str], labels: Mapping[str, np.ndarray]) -> None:
    if not ids:
        raise JaxalignError("there are no examples; expected one or more")
    if twice := [name for name, times in Counter(ids).items() if times > 1]:
        raise JaxalignError(f"{len(twice)} ids are there twice, {twice[0]!r} among them; expected each once")
    wrong = [f"{name} has {len(v)}" for name, v in labels.items() if len(v) != len(ids)]
    if wrong:
        raise JaxalignError(f"labels for {len(ids)} examples expected; {', '.join(wrong)}")


def _read_header(files: Any, url: str, key: FeatureKey) -> dict[str, Any] | None:
    """Rows, width, chunk and dtype of the store of `key` at `url`; None where there is no store."""
    header = _read_json(files, url, "store.json")
    if header is None:
        return None
    found = (header.get("format"), header.get("version")) if isinstance(header, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise JaxalignError(
            f"{url} was written as {found[0]} version {found[1]}, this program reads {FORMAT} version"
            f" {VERSION}; choose another folder, or delete that one"
        )
    content = header.get("content")
    numbers = {"rows", "width", "chunk"}
    if (
        not isinstance(content, dict)
        or content.keys() != numbers | {"dtype"}
        or not all(type(content[name]) is int and content[name] > 0 for name in numbers)
        or content["dtype"] != DTYPE.name
    ):
        raise _damaged(url, "store.json", "it does not say how many rows of which width and dtype it has")
    if header.get("key") != json.loads(json.dumps(key.to_json())):
        raise _damaged(url, "store.json", "it is of other features than its folder's name says")
    return content


def _read_ids(files: Any, url: str, rows: int) -> list[str]:
    found = _read_json(files, url, "examples.json")
    ids: Any = found.get("ids") if isinstance(found, dict) else None
    labels = found.get("labels") if isinstance(found, dict) else None
    lists = labels.values() if isinstance(labels, dict) else [None]
    is_labels = lambda values: _is_list(values, int, rows) and all(abs(x) < 1 << 31 for x in values)
    if not _is_list(ids, str, rows) or not all(map(is_labels, lists)):
        raise _damaged(url, "examples.json", f"expected ids and labels of {rows} examples")
    return ids


def _is_list(values: Any, kind: type, length: int) -> bool:
    return isinstance(values, list) and len(values) == length and all(type(value) is kind for value in values)


def _damaged(url: str, name: str, reason: str) -> JaxalignError:
    return JaxalignError(f"{url}{name} is damaged ({reason}); delete that folder")


def _key_value_store(url: str) -> Any:
    import tensorstore

    try:
        return tensorstore.KvStore.open(url).result()
    except ValueError as error:
        raise JaxalignError(f"cannot open {url}: {_reason(error)}") from error


def list_names(url: str) -> list[bytes]:
    """Names of what is below a URL."""
    try:
        return _key_value_store(url).list().result()
    except ValueError as error:
        raise JaxalignError(f"cannot read {url}: {_reason(error)}") from error


def _open_array(url: str, rows: int, width: int, chunk: int) -> Any:
    import tensorstore

    metadata = {
        "shape": [rows, width],
        "data_type": DTYPE.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [chunk, width]}},
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
        "fill_value": "NaN",
    }
    spec = {
        "driver": "zarr3",
        "kvstore": url + "features/",
        "metadata": metadata,
        "store_data_equal_to_fill_value": True,  # a chunk of rows that were all left out is there, too
    }
    try:
        return tensorstore.open(spec, create=True, open=True).result()
    except ValueError as error:
        raise JaxalignError(f"cannot open {url}: {_reason(error)}") from error


def _read_json(files: Any, url: str, name: str) -> Any:
    try:
        if url.startswith("file://"):
            path = _local_path(url) / name
            return read_json(path, _LIMITS[name]) if os.path.lexists(path) else None
        found = files.read(name).result()
        return json.loads(found.value) if found.state == "value" else None
    except (ValueError, RecursionError) as error:
        raise _damaged(url, name, _reason(error)) from error


def _write(files: Any, url: str, name: str, content: Any) -> None:
    try:
        files.write(name, json.dumps(content).encode()).result()
    except ValueError as error:
        raise _unwritable(url + name, error) from error


def _unwritable(url: str, error: Exception) -> JaxalignError:
    """The error for a write that failed, and what to do about it."""
    advice = "choose another folder for the store (--store DIR)"
    if "No space left" in str(error):
        advice = "make room and run the same command again, which keeps all finished chunks; or " + advice
    return JaxalignError(f"cannot write {url}: {_reason(error)}; {advice}")


def _reason(error: Exception) -> str:
    """tensorstore's message without its specification dump; a file's name may end in a zero byte."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).split(" [")[0].splitlines()[0].replace("\0", "/")
