"""Files of ours: each is there whole or not at all, JSON has one form, and an image says whose it is."""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.local_files import open_regular
from jaxalign.replacing import partial_folder, replaced_file

CACHE = "~/.cache/jaxalign/features"
# What this program draws carries its name, so that it does not take it for a photo of the user's.
MARK = {"Software": "jaxalign"}  # metadata, as matplotlib's `savefig` takes them
_WRITTEN = b"\x89PNG\r\n\x1a\n", b"tEXtSoftware\0jaxalign"
# What a terminal obeys, what reverses a text or ends a line, and bytes of file names that are no UTF-8.
_ESCAPED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def default_store() -> Path | str:
    """Where features are kept: `$JAXALIGN_STORE`, a folder or a URL, or a folder in the user's cache."""
    given = os.environ.get("JAXALIGN_STORE", "")
    return given if "://" in given else Path(given or CACHE).expanduser()


def json_text(content: Any, indent: int | None = None) -> str:
    """`content` as JSON that can be written anywhere; readers of JSON get back every file name as it is."""
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    return _ESCAPED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write_json(file: Path, content: Any, indent: int | None = 2) -> Path:
    """Write `content` as JSON to `file`, as `write_whole` does."""
    return write_whole(file, json_text(content, indent) + "\n")


def write_whole(file: Path, content: str | bytes) -> Path:
    """Write a text, in UTF-8, or bytes to `file`, which is replaced when all of it is written.

    What is there and no regular file, as /dev/stdout, is written to and not replaced.
    """
    data = content.encode() if isinstance(content, str) else content
    if file.exists() and not file.is_file():
        file.write_bytes(data)
        return file
    with replaced_file(file) as partial:
        partial.write_bytes(data)
    return file


def is_own_image(path: Path) -> bool:
    """Whether the PNG `path` has the mark, which lies at its beginning; also where it cannot be read, no."""
    if not path.is_file():  # also of a link: a pipe or a device is not opened
        return False
    try:
        with open_regular(path) as file:
            start = file.read(128)
    except (JaxalignError, OSError):
        return False
    return start.startswith(_WRITTEN[0]) and _WRITTEN[1] in start


@contextlib.contextmanager
def staged_folder(out: str | os.PathLike[str]) -> Iterator[Path]:
    """A scratch folder whose files move into the folder `out` when the block ends without an exception.

    The scratch folder is made at once, on the file system of `out`, so a place that cannot be written is
    found before any work. Other files of an existing `out` stay. Raises JaxalignError where `out` is a file,
    or nothing can be written there.
    """
    out = Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise JaxalignError(f"the output {out} is a file; pass a folder, new or existing")
    # Inside an existing folder; otherwise beside the first folder that has to be made.
    missing = next((p for p in reversed((out, *out.parents)) if not p.exists()), None)
    place = out if missing is None else missing.parent
    with contextlib.ExitStack() as stack:
        try:
            stage = stack.enter_context(partial_folder(place.absolute() / out.absolute().name))
        except OSError as error:
            raise JaxalignError(
                f"cannot write to {place} ({error.strerror}); choose another output folder"
            ) from error
        yield stage
        _move(stage, out, existed=missing is None)


def _move(stage: Path, out: Path, existed: bool) -> None:
    try:
        if existed:
            for file in stage.iterdir():
                file.replace(out / file.name)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            stage.replace(out)
    except OSError as error:
        raise JaxalignError(f"cannot write to {out} ({error.strerror}); choose another folder") from error
