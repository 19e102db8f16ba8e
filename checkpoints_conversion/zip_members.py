"""Members of a zip file that are stored as they are: read in one go, their checksums compared."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxalign.errors import JaxalignError

_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = 30  # bytes before the name and the extra field of a member


@dataclass(frozen=True)
class StoredMember:
    """Where the bytes of a member are; `checksum` is None where there is none to compare."""

    path: Path
    offset: int
    length: int
    checksum: int | None

    def read(self) -> np.ndarray:
        """Its bytes, uint8; raises JaxalignError where the file is cut off or damaged."""
        try:
            raw = np.fromfile(self.path, np.uint8, self.length, offset=self.offset)
        except OSError as error:
            raise JaxalignError(f"cannot read {self.path}: {error.strerror or error}") from error
        if raw.size != self.length or (self.checksum is not None and zlib.crc32(raw.data) != self.checksum):
            raise JaxalignError(
                f"{self.path} is cut off or damaged: {self.length} bytes at {self.offset} do not match their"
                " checksum; fetch it again"
            )
        return raw


def find_member(file: BinaryIO, path: Path, info: zipfile.ZipInfo) -> StoredMember | None:
    """The place of a member of the zip `file`, opened from `path`; None for one that is compressed.

    Raises:
      zipfile.BadZipFile: a directory that points elsewhere than to members.
    """
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    file.seek(info.header_offset)
    header = file.read(_LOCAL_HEADER)
    if len(header) != _LOCAL_HEADER or not header.startswith(_MAGIC):
        raise zipfile.BadZipFile(f"no member {info.filename!r:.80} where the directory says")
    before = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return StoredMember(path, info.header_offset + _LOCAL_HEADER + before, info.file_size, info.CRC)
