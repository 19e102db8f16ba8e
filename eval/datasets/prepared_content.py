"""A digest of the files of a prepared split: two copies of one version need not hold the same images."""

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.local_files import read_json

Facts = dict[str, list[int]]


def content_digest(folder: Path, split: str, files: Sequence[Path]) -> str:
    """Of the content of `files`, which are those of `split` in `folder`: sixteen hexadecimal digits.

    Reading them all takes a second for a gigabyte or so. So the digest is remembered beside them, and taken
    anew where the size of a file or one of its times has changed; in a folder that cannot be written, every
    time.

    Raises:
      OSError: a file that cannot be read.
    """
    facts = {path.name: _facts(path) for path in sorted(files)}
    remembered = folder / f"{split}.digest.json"
    known = _read(remembered)
    if known.get("files") == facts and isinstance(known.get("digest"), str):
        return known["digest"]
    digest = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    found = digest.hexdigest()[:16]
    _remember(remembered, {"files": facts, "digest": found})
    return found


def _facts(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _read(path: Path) -> dict[str, Any]:
    """What was remembered; empty where that is nothing, or damaged."""
    try:
        content = read_json(path) if path.is_file() else {}
    except JaxalignError:
        return {}
    return content if isinstance(content, dict) else {}


def _remember(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # of a folder that cannot be written nothing is remembered
        try:
            partial.write_text(json.dumps(content), encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
