"""Zip files of others, opened with bounds; what is stored as it is can be read from the file itself."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from jaxalign.errors import JaxalignError
from jaxalign.local_files import cannot_read, open_regular
from jaxalign.weights.stored import Span

_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = 30  # bytes before the name and the extra field of a member
_AT_ONCE = 16 << 20  # bytes; the directory, which `zipfile` reads whole, then has some 200,000 members
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flags: of the content, strong, of the directory
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    ValueError,
)


class _Bounded(io.BufferedReader):
    """A file of which nobody reads much at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _AT_ONCE:
            raise zipfile.BadZipFile(f"a part of {size:,} bytes; expected at most {_AT_ONCE:,}")
        return super().read(_AT_ONCE if size is None or size < 0 else size)


class Archive:
    """An open zip file of plain or deflated members, each of another name; see `open_archive`."""

    def __init__(self, path: Path, file: BinaryIO, archive: zipfile.ZipFile):
        self.path, self._file, self._archive = path, file, archive
        self._size = file.seek(0, io.SEEK_END)
        self.members = {info.filename: info for info in archive.infolist()}
        if len(self.members) != len(archive.infolist()):
            raise JaxalignError("it has two members of the same name")
        for name, info in self.members.items():
            if info.flag_bits & _ENCRYPTED:
                raise JaxalignError(f"its member {name!r:.80} is encrypted; save it without a password")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise JaxalignError(f"its member {name!r:.80} is compressed; expected none or deflate")

    def open(self, name: str) -> IO[bytes]:
        """A member, to be read in parts; its checksum is compared at its end."""
        return self._archive.open(self.members[name])

    def read(self, name: str, limit: int) -> bytes:
        """A whole member of at most `limit` bytes."""
        size = self.members[name].file_size
        if size > limit:
            raise JaxalignError(f"its member {name!r:.80} has {size:,} bytes; expected at most {limit:,}")
        with self.open(name) as member:  # it ends where the directory says, whatever would be inflated then
            content = b"".join(iter(lambda: member.read(_AT_ONCE), b""))
        if len(content) != size:
            raise EOFError(f"{name!r:.80} ends early")
        return content

    def place(self, name: str) -> Span | None:
        """Where a member lies in the file; None for one that is deflated."""
        info = self.members[name]
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER)
        if len(header) != _LOCAL_HEADER or not header.startswith(_MAGIC):
            raise zipfile.BadZipFile(f"no member {name!r:.80} where the directory says")
        before = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = info.header_offset + _LOCAL_HEADER + before
        if info.compress_size != info.file_size or start + info.file_size > self._size:
            raise zipfile.BadZipFile(f"{name!r:.80} reaches beyond the file")
        return Span(self.path, start, info.file_size, info.CRC)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The zip file `path`. What goes wrong while it is open is an error of ours that names it.

    Raises:
      JaxalignError: what is no regular file, a damaged archive, one with a very large directory, with two
        members of one name, or with members that are encrypted or compressed otherwise than by deflate.
    """
    with _Bounded(open_regular(path).detach()) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield Archive(path, file, archive)
        except JaxalignError as error:
            raise JaxalignError(f"{path}: {error}") from error
        except OSError as error:
            raise cannot_read(path, error) from error
        except _DAMAGED as error:
            reason = str(error) or type(error).__name__
            raise JaxalignError(f"{path} is cut off, damaged or no {path.suffix}: {reason:.200}") from error
