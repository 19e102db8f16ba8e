"""Signatures of images by digests of their files, remembered beside these: nothing is decoded twice."""

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.file_contents import use_memory
from jaxalign.eval.datasets.images import FolderImages

from .signatures import LENGTH, signature

# Another way to make signatures needs another name.
_TABLE, _COLUMNS = "signatures_1", "digest TEXT PRIMARY KEY, width INTEGER, height INTEGER, signature BLOB"
_THREADS, _BLOCK = 8, 512  # images after which what was made is kept

Known = tuple[int, int, bytes]  # width and height of the image upright, and its signature


def read_signatures(
    images: FolderImages, digests: Sequence[str], progress: Callable[[int], None]
) -> list[Known | None]:
    """What each image is like; only those are read that are new. None for those that cannot be read.

    Args:
      images: upright.
      digests: of their files.
      progress: is told how many images are done since the last call.
    """
    known = _recall(digests)
    found = [known.get(digest) for digest in digests]
    new = [row for row, one in enumerate(found) if one is None]
    progress(len(found) - len(new))
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(new), _BLOCK):
            rows = new[start : start + _BLOCK]
            made: dict[str, Known] = {}
            for row, one in zip(rows, pool.map(lambda row: _read(images, row), rows), strict=True):
                progress(1)
                if one is not None:
                    made[digests[row]] = found[row] = one
            _keep(made)
    return found


def _read(images: FolderImages, row: int) -> Known | None:
    try:
        with images.opened(row) as image:
            return image.width, image.height, signature(image)
    except JaxalignError:
        return None


def _recall(digests: Sequence[str]) -> dict[str, Known]:
    def find(database: sqlite3.Connection) -> dict[str, Known]:
        _make_table(database)
        found: dict[str, Known] = {}
        for start in range(0, len(digests), _BLOCK):
            some = digests[start : start + _BLOCK]
            places = ", ".join("?" * len(some))
            rows = database.execute(f"SELECT * FROM {_TABLE} WHERE digest IN ({places})", some)
            found.update((digest, (w, h, made)) for digest, w, h, made in rows if _is_known(w, h, made))
        return found

    return use_memory(find) or {}


def _is_known(width: object, height: object, made: object) -> bool:
    """Whether a row of the memory, which anything may have written to, is one of ours."""
    sizes = all(isinstance(side, int) and side > 0 for side in (width, height))
    return sizes and isinstance(made, bytes) and len(made) == LENGTH


def _keep(made: dict[str, Known]) -> None:
    def insert(database: sqlite3.Connection) -> None:
        _make_table(database)
        rows = [(digest, *one) for digest, one in made.items()]
        database.executemany(f"INSERT OR REPLACE INTO {_TABLE} VALUES (?, ?, ?, ?)", rows)

    use_memory(insert)


def _make_table(database: sqlite3.Connection) -> None:
    database.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} ({_COLUMNS})")
