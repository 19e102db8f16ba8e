"""Files that others made: only regular ones are opened, and no more of them is read than a stated limit."""

import errno
import json
import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any, TypeVar

from jaxalign.errors import JaxalignError

T = TypeVar("T")
JSON_LIMIT = 16 << 20  # bytes; tokenizers, whose vocabularies are larger, have a limit of their own


def open_regular(path: Path) -> BufferedReader:
    """`path`, or what it links to, opened for reading its bytes.

    Raises:
      JaxalignError: a file that cannot be opened, or what is none: a folder, a pipe, a socket or a device.
        It is not waited for, nor for what the system calls a file and has nothing to read yet: an OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # the latter for a name with a NUL
        raise cannot_read(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise JaxalignError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'a device')}; expected a file")
    return BufferedReader(_Regular(descriptor))


class _Regular(FileIO):
    """Reads that would wait, as of the kernel's log, raise `OSError`, where Python's own give None."""

    def readinto(self, buffer: Any, /) -> int:
        return _came(super().readinto(buffer))

    def readall(self) -> bytes:
        return _came(super().readall())

    def read(self, size: int | None = -1, /) -> bytes:
        return _came(super().read(size))


def _came(result: T | None) -> T:
    if result is None:
        raise OSError(errno.EAGAIN, "has nothing to read")
    return result


def read_limited(path: Path, limit: int) -> bytes:
    """The bytes of the regular file `path`, of which there are at most `limit`; JaxalignError otherwise."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise JaxalignError(
                f"{path} has {size:,} bytes; expected at most {limit:,} of such a file: a damaged file?"
            )
        try:
            content = file.read(size + 1)
        except OSError as error:
            raise cannot_read(path, error) from error
    if len(content) != size:
        raise JaxalignError(f"{path} changes while it is read, or is no ordinary file; try again")
    return content


def decode_text(content: bytes) -> str:
    """A text file in UTF-8, without the byte order marks that editors of Windows begin it with, and that are
    left inside of it where several were joined.

    Raises:
      UnicodeDecodeError: another encoding. UTF-16 without its mark is UTF-8 as well, with a NUL beside each
        letter.
    """
    text = content.decode("utf-8")
    if (place := content.find(b"\0")) >= 0:
        raise UnicodeDecodeError("utf-8", content, place, place + 1, "a NUL, as UTF-16 has")
    return text.replace("\N{ZERO WIDTH NO-BREAK SPACE}", "")


def read_json(path: Path, limit: int = JSON_LIMIT) -> Any:
    """What the JSON file `path` says, with or without a byte order mark.

    Raises:
      JaxalignError: a file that `read_limited` refuses, or one that is no JSON in UTF-8 or nested too deeply.
    """
    content = read_limited(path, limit)
    try:
        return json.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise JaxalignError(
            f"{path} is nested too deeply to be a file of its kind; a damaged file?"
        ) from error
    except ValueError as error:
        raise JaxalignError(f"{path} is not JSON: {error}") from error


def is_there(path: Path) -> bool:
    """Whether there is such a file or folder.

    Raises:
      JaxalignError: where the system does not say: a folder that may not be looked into, or a name that is
        too long for one.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the latter for a name with a NUL
        return False
    except OSError as error:
        raise cannot_read(path, error) from error
    return True


def cannot_read(path: Path, error: Exception) -> JaxalignError:
    """The error for what the system says of `path`."""
    return JaxalignError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}")


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
