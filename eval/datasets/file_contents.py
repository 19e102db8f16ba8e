"""What image files are, by digests of their content, which are remembered: no file is read twice for it.

The memory is a small database beside the features that are kept for this user. It holds nothing that cannot
be read again: one that is damaged or of another kind is made anew, and one that is locked for long, or on a
disk that is full or may not be written, is done without.
"""

import contextlib
import functools
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jaxalign.errors import JaxalignError
from jaxalign.eval.files import CACHE, default_store
from jaxalign.inputs.image_files import FILE_LIMIT, is_turned
from jaxalign.local_files import open_regular

from .image_tree import ImageFile

T = TypeVar("T")
_THREADS, _BLOCK = 8, 512  # files after which what was read is kept
_PATIENCE = 1.0  # seconds to wait for another process
# Nanoseconds since a change: clocks of file systems do not tell two apart that follow each other closely.
_SETTLED = 2_000_000_000
# How SQLite calls a file that is no database or a damaged one, and one with other columns.
_BROKEN = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR)
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Content:
    """What is in an image file.

    Attributes:
      digest: SHA-256 in hexadecimal digits; empty for a file that cannot be read.
      turned: whether its orientation turns the image, as `is_turned` says.
    """

    digest: str = ""
    turned: bool = False


def read_contents(files: Sequence[ImageFile]) -> list[Content]:
    """What each file is; only those are read that are new or have changed since they were read last."""
    keys = [
        (os.fsencode(path), repr(file.state)) for path, file in zip(real_paths(files), files, strict=True)
    ]
    known = _FILES.recall([path for path, _ in keys])
    found = [_as_known(known.get(path), state) for path, state in keys]
    new = [row for row, content in enumerate(found) if content is None]
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(new), _BLOCK):
            rows, settled = new[start : start + _BLOCK], time.time_ns() - _SETTLED
            lasting: list[tuple[bytes, str, str, bool]] = []
            for row, (content, as_it_was) in zip(
                rows, pool.map(read_content, [files[i] for i in rows]), strict=True
            ):
                found[row] = content
                if as_it_was and max(files[row].times) < settled:
                    lasting.append((*keys[row], content.digest, content.turned))
            _FILES.keep(lasting)
    return [content or Content() for content in found]


def _as_known(row: tuple | None, state: str) -> Content | None:
    """What is remembered of a file that has this state now; None where it is nothing."""
    known, digest, turned = row or ("", "", 0)
    return Content(digest, turned == 1) if known == state and _DIGEST.fullmatch(str(digest)) else None


def is_as_it_was(file: ImageFile, now: os.stat_result | None = None) -> bool:
    """Whether the system says of a file what it said when its folder was read."""
    try:
        now = now or os.stat(file.path)
    except OSError:
        return False
    return file.state == (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def real_paths(files: Sequence[ImageFile]) -> list[str]:
    """Paths without links; those of a folder are resolved once for all files in it."""
    resolved = functools.cache(os.path.realpath)
    parts = ((file, *os.path.split(file.path)) for file in files)
    return [
        os.path.realpath(file.path) if file.is_link else os.path.join(resolved(folder), name)
        for file, folder, name in parts
    ]


def read_content(file: ImageFile) -> tuple[Content, bool]:
    """What is in a file now, and whether it is still the one that its folder had."""
    try:
        with open_regular(file.path) as opened:
            now = os.fstat(opened.fileno())
            if now.st_size > FILE_LIMIT:
                return Content(), False
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except (JaxalignError, OSError):
        return Content(), False
    return Content(digest, is_turned(file.path)), is_as_it_was(file, now)


def memory() -> Path:
    """Where what is known of files is kept: on this machine, wherever the features are."""
    store = default_store()
    return (store if isinstance(store, Path) else Path(CACHE).expanduser()) / "file-contents.sqlite"


@dataclass(frozen=True)
class Remembered:
    """A table of the memory, which is made where it is not there.

    Attributes:
      columns: with their types, as SQLite takes them; the first one is the key.
    """

    name: str
    columns: tuple[str, ...]

    def recall(self, keys: Sequence[Any]) -> dict[Any, tuple]:
        """What is remembered under `keys`, by key; anything may have written to it."""
        key, *others = (column.partition(" ")[0] for column in self.columns)

        def find(database: sqlite3.Connection) -> dict[Any, tuple]:
            found: dict[Any, tuple] = {}
            for start in range(0, len(keys), _BLOCK):  # SQLite takes 999 values and more
                some = keys[start : start + _BLOCK]
                chosen = f"{key} IN ({', '.join('?' * len(some))})"
                query = f"SELECT {key}, {', '.join(others)} FROM {self.name} WHERE {chosen}"
                found.update((row[0], row[1:]) for row in database.execute(query, some))
            return found

        return self._use(find) or {}

    def keep(self, rows: Sequence[tuple]) -> None:
        """Remember `rows`, the key of each first."""
        places = ", ".join("?" * len(self.columns))
        insert = f"INSERT OR REPLACE INTO {self.name} VALUES ({places})"
        self._use(lambda database: database.executemany(insert, rows))

    def _use(self, task: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `task` makes of the memory; None where that cannot be used, which is removed where it is
        none."""
        try:
            (place := memory()).parent.mkdir(parents=True, exist_ok=True)
            if place.exists() and not place.is_file():
                return None
            try:
                with contextlib.closing(sqlite3.connect(place, timeout=_PATIENCE)) as database, database:
                    database.text_factory = lambda text: text.decode(errors="replace")
                    database.execute(f"CREATE TABLE IF NOT EXISTS {self.name} ({', '.join(self.columns)})")
                    return task(database)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN:
                    place.unlink()
        except (OSError, RuntimeError):  # the latter for a user without a home
            pass
        return None


_FILES = Remembered("files", ("path BLOB PRIMARY KEY", "state TEXT", "digest TEXT", "turned INTEGER"))
