"""Members of a zip file that are stored as they are: tensors are read from them directly."""

import zipfile
from pathlib import Path
from typing import BinaryIO

from jaxalign.stored import Span

_MAGIC = b"PK\x03\x04"
_LOCAL_HEADER = 30  # bytes before the name and the extra field of a member


def find_member(file: BinaryIO, path: Path, info: zipfile.ZipInfo) -> Span | None:
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
    return Span(path, info.header_offset + _LOCAL_HEADER + before, info.file_size, info.CRC)
