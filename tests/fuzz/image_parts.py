"""Images taken apart and put together again: PNG's chunks, JPEG's segments, RIFF's chunks, TIFF's entries."""

import struct
import zlib
from dataclasses import dataclass, replace

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Chunk:
    """A piece of a file: its kind and content; `claim` is the length that it states, None for the truth."""

    kind: bytes
    content: bytes
    claim: int | None = None

    @property
    def stated(self) -> int:
        return len(self.content) if self.claim is None else self.claim

    def holding(self, content: bytes) -> "Chunk":
        return replace(self, content=content)


def read_png(file: bytes) -> list[Chunk]:
    chunks, at = [], len(PNG_MAGIC)
    while at + 12 <= len(file):
        length = int.from_bytes(file[at : at + 4], "big")
        chunks.append(Chunk(file[at + 4 : at + 8], file[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def write_png(chunks: list[Chunk]) -> bytes:
    """With checksums that are right."""
    out = bytearray(PNG_MAGIC)
    for chunk in chunks:
        body = chunk.kind + chunk.content
        out += struct.pack(">I", chunk.stated % 2**32) + body + struct.pack(">I", zlib.crc32(body))
    return bytes(out)


def read_jpeg(file: bytes) -> list[Chunk]:
    """Segments by their markers; the last one is everything from the first scan on."""
    chunks, at = [], 2
    while at + 4 <= len(file):
        marker, length = file[at : at + 2], int.from_bytes(file[at + 2 : at + 4], "big")
        if marker == b"\xff\xda":
            return [*chunks, Chunk(b"", file[at:])]
        chunks.append(Chunk(marker, file[at + 4 : at + 2 + length]))
        at += 2 + length
    return chunks


def write_jpeg(chunks: list[Chunk]) -> bytes:
    out = bytearray(b"\xff\xd8")
    for chunk in chunks:
        length = struct.pack(">H", (chunk.stated + 2) % 2**16) if chunk.kind else b""
        out += chunk.kind + length + chunk.content
    return bytes(out)


def read_riff(file: bytes) -> list[Chunk]:
    """The chunks of a WebP file."""
    chunks, at = [], 12
    while at + 8 <= len(file):
        length = int.from_bytes(file[at + 4 : at + 8], "little")
        chunks.append(Chunk(file[at : at + 4], file[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return chunks


def write_riff(chunks: list[Chunk]) -> bytes:
    out = bytearray(b"WEBP")
    for chunk in chunks:
        out += (
            chunk.kind
            + struct.pack("<I", chunk.stated % 2**32)
            + chunk.content
            + bytes(len(chunk.content) % 2)
        )
    return b"RIFF" + struct.pack("<I", len(out)) + bytes(out)


@dataclass(frozen=True)
class Entry:
    """Of a TIFF's directory: a tag, the type and the count of its values, and where they are (or the one)."""

    tag: int
    kind: int
    count: int
    value: int


def read_tiff(file: bytes) -> tuple[list[Entry], int]:
    """The entries of the first directory of a little-endian TIFF, and where it is."""
    (at,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, at)
    return [Entry(*struct.unpack_from("<HHII", file, at + 2 + 12 * i)) for i in range(count)], at


def write_tiff(file: bytes, entries: list[Entry], following: int = 0) -> bytes:
    """`file` with another first directory, which is at its end; `following` is where the next one is."""
    at = len(file) + len(file) % 2
    body = b"".join(struct.pack("<HHII", *(x % m for x, m in _fields(entry))) for entry in entries)
    directory = struct.pack("<H", len(entries) % 2**16) + body + struct.pack("<I", following % 2**32)
    return file[:4] + struct.pack("<I", at) + file[8:] + bytes(len(file) % 2) + directory


def _fields(entry: Entry) -> tuple[tuple[int, int], ...]:
    return (entry.tag, 2**16), (entry.kind, 2**16), (entry.count, 2**32), (entry.value, 2**32)
