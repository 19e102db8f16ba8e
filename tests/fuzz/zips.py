"""Zip archives whose members are changed, or whose directory lies about them."""

import functools
import io
import random
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace

from .mutant import HOSTILE_TEXTS, Mutate, pick_size
from .raw import as_bytes, mutate_bytes

STORED, DEFLATED, BZIP2, LZMA = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA


@dataclass(frozen=True)
class Member:
    """A member as it is written; what the directory says of it may be something else.

    Attributes:
      content: compressed, if `method` says so.
      size, checksum: of what it expands to.
      offset, packed_size: what the directory says; None for the truth.
    """

    name: bytes
    content: bytes
    size: int
    checksum: int
    method: int = STORED
    flags: int = 0
    offset: int | None = None
    packed_size: int | None = None
    extra: bytes = b""


def stored(name: str | bytes, content: bytes) -> Member:
    encoded = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    return Member(encoded, content, len(content), zlib.crc32(content))


def read_members(content: bytes) -> list[Member]:
    """The members of a valid archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [stored(info.filename, archive.read(info)) for info in archive.infolist()]


def write_members(members: list[Member], comment: bytes = b"") -> bytes:
    """An archive of `members`, as they are."""
    body, directory = bytearray(), bytearray()
    for m in members:
        packed = len(m.content) if m.packed_size is None else m.packed_size
        facts = struct.pack("<HHHHIII", m.flags, m.method, 0, 33, m.checksum, packed % 2**32, m.size % 2**32)
        names = struct.pack("<HH", len(m.name), len(m.extra))
        offset = len(body) if m.offset is None else m.offset % 2**32
        directory += b"PK\1\2" + struct.pack("<HH", 45, 45) + facts + names
        directory += struct.pack("<HHHII", 0, 0, 0, 0, offset) + m.name + m.extra
        body += b"PK\3\4" + struct.pack("<H", 45) + facts + names + m.name + m.extra + m.content
    end = struct.pack("<HHHHIIH", 0, 0, len(members), len(members), len(directory), len(body), len(comment))
    return bytes(body + directory + b"PK\5\6" + end + comment)


def zip_mutator(mutate_member: Mutate, which: str, filling: bytes) -> Mutate:
    """Mutations of an archive.

    Args:
      mutate_member: for a member whose name ends with `which`; others are changed as bytes.
      filling: what such a member is blown up with: it should be read without an end in sight.
    """

    def mutate_zip(rng: random.Random, content: bytes, other: bytes) -> tuple[str, bytes]:
        how = rng.random()
        if how < 0.1:
            return "bytes", mutate_bytes(rng, content, other)
        members = read_members(content)
        chosen = [i for i, member in enumerate(members) if member.name.decode().endswith(which)]
        at = rng.choice(chosen) if rng.random() < 0.85 and chosen else rng.randrange(len(members))
        if how < 0.65:
            mutate = mutate_member if at in chosen else as_bytes
            kind, changed = mutate(rng, members[at].content, rng.choice(members).content)
            members[at] = stored(members[at].name, changed)
            return f"member, {kind}", write_members(members)
        kind = rng.choice(tuple(_STRUCTURE))
        if kind == "bomb":
            members[at] = bomb(members[at].name, filling, rng.choice((16, 256, 256, 4000)))
        else:
            _STRUCTURE[kind](rng, members, at)
        return kind, write_members(members, b"PK\5\6" * rng.choice((0, 0, 0, 3)))

    return mutate_zip


@functools.lru_cache(maxsize=8)
def bomb(name: bytes, filling: bytes, megabytes: int) -> Member:
    """A member that expands to so many megabytes of `filling`."""
    first, _, again = filling.partition(b"|")
    block = again * (2**20 // len(again))
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = packer.compress(first) + packer.flush(zlib.Z_FULL_FLUSH)
    repeated = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = zlib.crc32(first)  # that of the largest ones is wrong: they are not to be read to their ends
    for _ in range(megabytes if megabytes <= 64 else 0):
        checksum = zlib.crc32(block, checksum)
    content = start + repeated * megabytes + packer.flush(zlib.Z_FINISH)
    return Member(name, content, len(first) + len(block) * megabytes, checksum, DEFLATED)


def _deflate(rng: random.Random, members: list[Member], at: int) -> None:
    """Compressed, which our readers may or may not take."""
    method = rng.choice((DEFLATED, DEFLATED, BZIP2, LZMA))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("x", members[at].content)
        size = archive.infolist()[0].compress_size
    packed = buffer.getvalue()[31 : 31 + size]
    members[at] = replace(members[at], content=packed, method=method, flags=2 if method == LZMA else 0)
    if rng.random() < 0.5:
        members[at] = replace(members[at], content=mutate_bytes(rng, packed))


def _twice(rng: random.Random, members: list[Member], at: int) -> None:
    content = rng.choice((b"", members[at].content, mutate_bytes(rng, members[at].content)))
    members.insert(rng.randint(0, len(members)), stored(members[at].name, content))


def _remove(rng: random.Random, members: list[Member], at: int) -> None:
    del members[at]


def _rename(rng: random.Random, members: list[Member], at: int) -> None:
    text = rng.choice(HOSTILE_TEXTS)
    own = members[at].name.decode()
    name = rng.choice((text, "../" * 5 + text, own + text, f"{text}/data.pkl", f"{text}.npy"))
    encoded = name.encode("utf-8", "surrogatepass")[:60_000]
    flags = rng.choice((0, 0x800))
    members[at] = replace(members[at], name=encoded, flags=flags)


def _flags(rng: random.Random, members: list[Member], at: int) -> None:
    """Encrypted, patched, strongly encrypted, with sizes that come later."""
    members[at] = replace(members[at], flags=rng.choice((1, 1, 1, 8, 0x20, 0x40, 0x2000, 0xFFFF)))


def _method(rng: random.Random, members: list[Member], at: int) -> None:
    members[at] = replace(members[at], method=rng.choice((1, 6, 8, 9, 12, 14, 93, 95, 97, 99, 0xFFFF)))


def _lie(rng: random.Random, members: list[Member], at: int) -> None:
    """Another size, checksum or place than the member has."""
    fields = {
        "size": pick_size(rng),
        "packed_size": pick_size(rng),
        "offset": pick_size(rng),
        "checksum": pick_size(rng) % 2**32,
        "extra": rng.choice(_EXTRAS),
    }
    for field in rng.sample(sorted(fields), rng.choice((1, 1, 2))):
        members[at] = replace(members[at], **{field: fields[field]})


def _share(rng: random.Random, members: list[Member], at: int) -> None:
    """Many entries of the directory for one place."""
    names = (b"%d" % i + members[at].name for i in range(rng.choice((1, 3000))))
    members += [replace(members[at], name=name, offset=0) for name in names]


# Zip64's sizes, too long, too short and empty; and a name in Unicode.
_EXTRAS = (b"\1\0\x10\0" + b"\xff" * 16, b"\1\0\xff\xff", b"x", b"\1\0\0\0", b"\x75\x70\5\0" + bytes(5))
_STRUCTURE = {
    "compressed": _deflate,
    "twice": _twice,
    "removed": _remove,
    "renamed": _rename,
    "flags": _flags,
    "method": _method,
    "lie": _lie,
    "shared": _share,
    "bomb": None,
}
