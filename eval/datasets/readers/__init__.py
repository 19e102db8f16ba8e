"""How data sets lie on disk once they are unpacked: a function for each layout, from a folder to its content.

Each takes the record and the source folder, and gives a `Content`; it reads lists, and no image.
The lists that come with a data set are JSON or lines of text, from which nothing is believed unseen.
"""

import json
import os
import reprlib
from collections import Counter
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.local_files import decode_text, read_limited

from ..records import DatasetRecord

LIST_LIMIT = 2 << 30  # bytes; the largest list, of BDD100K's training split, has 1.3 GB


def read_json(record: DatasetRecord, path: Path) -> Any:
    """The content of a JSON file, with or without a byte order mark; raises JaxalignError for what is no
    regular file, too large or no JSON, or has a name twice in an object."""
    try:
        content = read_limited(path, LIST_LIMIT).decode("utf-8-sig")
        return json.loads(content, object_pairs_hook=_without_duplicates)
    except JaxalignError as error:
        raise JaxalignError(f"{record.name}: {error}; get the file again") from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise JaxalignError(
            f"{record.name}: {path} is not valid JSON ({reason:.200}); get the file again"
        ) from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of which nothing depends on which of two values is taken."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice!r:.80} occurs twice in one object")
    return found


def read_lines(record: DatasetRecord, file: Path) -> list[str]:
    """The lines of a list without blank ones."""
    if not file.is_file():
        raise JaxalignError(f"{record.name}: there is no {file}; unpack the archive again")
    try:
        text = decode_text(read_limited(file, LIST_LIMIT))
    except UnicodeDecodeError as error:
        raise JaxalignError(f"{record.name}: {file} is no UTF-8 text; get the file again") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def broken(record: DatasetRecord, path: Path, expected: str) -> JaxalignError:
    """The error for an annotation file that does not hold what it should."""
    return JaxalignError(f"{record.name}: {path} is not what was expected ({expected}); get the file again")


def text(value: Any) -> str:
    """`value`, which is a string; raises TypeError for what else JSON has."""
    if type(value) is not str:
        raise TypeError(f"string, but {reprlib.repr(value)}")
    return value


def integer(value: Any) -> int:
    """`value`, which is an integer and neither true nor 1.0; raises TypeError for what else JSON has."""
    if type(value) is not int:
        raise TypeError(f"integer, but {reprlib.repr(value)}")
    return value


def is_below(path: str) -> bool:
    """Whether a relative path stays in its folder; a list of somebody else's must not reach other files."""
    return bool(path) and not os.path.isabs(path) and ".." not in path.replace("\\", "/").split("/")
