"""Images: valid ones changed by their format's structure, absurd ones, and other files in their clothes."""

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence

from PIL import Image

from . import image_parts as parts
from .image_parts import Chunk, Entry
from .mutant import HOSTILE_TEXTS, Mutant, Part, pick_count, pick_size
from .raw import mutate_bytes

SUFFIXES = (".png", ".jpg", ".gif", ".bmp", ".tif", ".webp", ".ppm", ".jpeg", ".avif", ".jp2", ".tga", ".ico")
_LONGEST = 65_500  # pixels of a side; JPEG's limit is near


def mutate_image(rng: random.Random, files: Sequence[Part]) -> Mutant:
    """One of the valid files changed, or a file of our own, under its name or that of another format."""
    part, other = rng.choice(files), rng.choice(files)
    how = rng.random()
    if how < 0.08:
        kind, content = "elongated", elongated(rng)
    elif how < 0.16:
        kind, content = "disguise", disguise(rng)
    elif how < 0.4:
        kind, content = "bytes", mutate_bytes(rng, part.content, other.content)
    elif how < 0.5:
        kind, content = "header", _header_number(rng, part.content)
    else:
        kind, content = _by_structure(rng, part.content)
    name = part.name if rng.random() < 0.8 else f"image{rng.choice(SUFFIXES)}"
    return Mutant(kind, Part(name, content))


def elongated(rng: random.Random) -> bytes:
    """A sound image, long or large, of few bytes."""
    long, short = pick_count(rng, _LONGEST), rng.randint(1, 3)
    size = rng.choice(((long, short), (short, long), (pick_count(rng, 9000), pick_count(rng, 9000))))
    name = rng.choice(("PNG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG"))
    if name == "WEBP":
        size = min(size[0], 16_000), min(size[1], 16_000)
    modes = {"JPEG": ("L", "RGB"), "WEBP": ("RGB",), "GIF": ("L", "P", "1"), "PPM": ("1", "L")}
    mode = rng.choice(modes.get(name, ("1", "L", "RGB", "P")))
    if size[0] * size[1] > 10**7:
        name, mode = "PNG", "1"
    buffer = io.BytesIO()
    options = {"compression": "tiff_lzw"} if name == "TIFF" else {}
    Image.new(mode, size).save(buffer, name, **options)
    return buffer.getvalue()


def disguise(rng: random.Random) -> bytes:
    """What is no image of pixels: programs, documents, fragments of formats that other programs read."""
    return rng.choice(_DISGUISES)(rng)


_EPS = b"%%!PS-Adobe-3.0 EPSF-3.0\n%%%%BoundingBox: 0 0 %d %d\n%%%%EndComments\n%s\nshowpage\n%%%%EOF\n"
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + b"\x3e\0\3\0\xfe\xff\x09\0" + bytes(700)
_DISGUISES: tuple[Callable[[random.Random], bytes], ...] = (
    lambda rng: _EPS % (rng.choice((10, 10**9)), 10, rng.choice((b"{} loop", b"(executed) (w) file", b""))),
    lambda rng: b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 30, 200) + bytes(18) + _EPS % (10, 10, b"{} loop"),
    lambda rng: (
        b"\xd7\xcd\xc6\x9a\0\0"
        + struct.pack("<hhhhH", 0, 0, 100, 100, 72)
        + bytes(6)
        + b"\1\0\x09\0"
        + bytes(80)
    ),
    lambda rng: b"\x01\0\0\0" + bytes(36) + b" EMF" + bytes(80),
    lambda rng: _OLE,
    lambda rng: b"\x89HDF\r\n\x1a\n" + bytes(100),
    lambda rng: (
        rng.choice((b"GRIB\0\0\0\1", b"BUFR\0\0\0\4", b"\0\0\1\xb3" + b"\x10\x01\x00" * 9)) + bytes(100)
    ),
    lambda rng: b"SIMPLE  =                    T" + b" " * 50 + b"BITPIX  =" + b" " * 71 + b"END",
    lambda rng: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    lambda rng: b"%PDF-1.4\n" + rng.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass"),
    lambda rng: b"#define im_width %d\n#define im_height 4\nstatic char im_bits[] = {\n0x01" % pick_size(rng),
    lambda rng: (
        b'/* XPM */\nstatic char *x[] = {\n"%d 2 2 1",\n"a c #000000",\n"b c red",\n' % pick_size(rng)
        + b'"ab",\n' * 9
    ),
    lambda rng: (
        rng.choice((b"P5", b"P6", b"P4", b"Pf", b"P7", b"P1"))
        + b"\n%d %d\n255\n" % (pick_size(rng), pick_size(rng))
    ),
    lambda rng: b"P2\n" + b"# x\n" * pick_count(rng, 10**5) + b"9" * pick_count(rng, 10**5),
    lambda rng: (
        b"Image type: Greyscale\r\nImage size (x*y): 9*%d\r\n" % pick_size(rng)
        + bytes(500)
        + b"\x1a"
        + bytes(50)
    ),
    lambda rng: (
        b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, pick_size(rng) % 2**32, 9, 8, 3) + bytes(200)
    ),
    lambda rng: (
        b"\x59\xa6\x6a\x95"
        + struct.pack(">7I", pick_size(rng) % 2**32, 9, 8, 90, rng.randrange(4), 1, 9)
        + bytes(90)
    ),
    lambda rng: b"DanM" + struct.pack("<HH", pick_size(rng) % 2**16, 9) + bytes(50),
    lambda rng: bytes(pick_count(rng, 3000)),
    lambda rng: b"",
)


def _header_number(rng: random.Random, content: bytes) -> bytes:
    """Another number somewhere in the header: dimensions, depths and offsets are there in most formats."""
    at, width = rng.randint(0, min(len(content), 80)), rng.choice((1, 2, 2, 4, 4))
    number = rng.choice((pick_size(rng), rng.randint(0, 40))) % 256**width
    return content[:at] + number.to_bytes(width, rng.choice(("little", "big"))) + content[at + width :]


def _by_structure(rng: random.Random, content: bytes) -> tuple[str, bytes]:
    if content.startswith(parts.PNG_MAGIC):
        return "png", parts.write_png(_change_chunks(rng, parts.read_png(content), _change_png))
    if content.startswith(b"\xff\xd8"):
        return "jpeg", parts.write_jpeg(_change_chunks(rng, parts.read_jpeg(content), _change_jpeg))
    if content.startswith(b"RIFF"):
        return "webp", parts.write_riff(_change_chunks(rng, parts.read_riff(content), _change_webp))
    if content.startswith(b"II*\0"):
        return "tiff", _change_tiff(rng, content)
    return "header", _header_number(rng, _header_number(rng, content))


def _change_chunks(rng: random.Random, chunks: list[Chunk], change: Callable) -> list[Chunk]:
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(chunks)) if chunks else 0
        match rng.randrange(8) if chunks else 7:
            case 0:
                del chunks[at]
            case 1:
                chunks.insert(rng.randint(0, len(chunks)), chunks[at])
            case 2:
                chunks[at:at] = [chunks[at]] * rng.choice((2, 1000))
            case 3:
                chunks[at] = Chunk(chunks[at].kind, chunks[at].content, pick_size(rng))
            case 4:
                chunks[at] = chunks[at].holding(mutate_bytes(rng, chunks[at].content))
            case _:
                change(rng, chunks, at)
    return chunks


def _blown_up(rng: random.Random) -> bytes:
    """A deflated bomb."""
    return zlib.compress(bytes(rng.choice((10**5, 2 * 10**6, 3 * 10**7))), 9)


def _change_png(rng: random.Random, chunks: list[Chunk], at: int) -> None:
    by_kind = {chunk.kind: i for i, chunk in enumerate(chunks)}
    header, data = by_kind.get(b"IHDR"), by_kind.get(b"IDAT")
    how = rng.randrange(4)
    if how == 0 and header is not None and len(chunks[header].content) == 13:
        numbers = list(struct.unpack(">IIBBBBB", chunks[header].content))
        which = rng.randrange(7)
        numbers[which] = pick_size(rng) % 2**32 if which < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[header] = Chunk(b"IHDR", struct.pack(">IIBBBBB", *numbers))
    elif how == 1 and data is not None:
        pixels = _expanded(chunks[data].content)
        again = rng.choice((mutate_bytes(rng, pixels), pixels[: len(pixels) // 2], pixels * 50))
        chunks[data] = Chunk(b"IDAT", rng.choice((zlib.compress(again), _blown_up(rng))))
    else:
        chunks.insert(rng.randint(0, len(chunks)), _png_extra(rng))


def _expanded(content: bytes) -> bytes:
    try:
        return zlib.decompress(content)
    except zlib.error:  # changed before
        return b""


def _png_extra(rng: random.Random) -> Chunk:
    """A chunk beside the pixels: texts, profiles, animation, transparency, or of no known kind."""
    word = rng.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")
    noise = bytes(rng.randrange(256) for _ in range(rng.choice((0, 1, 2, 3, 4, 9, 26, 32, 256, 768, 1000))))
    kinds = (
        b"tRNS",
        b"PLTE",
        b"gAMA",
        b"cHRM",
        b"pHYs",
        b"sRGB",
        b"sBIT",
        b"tIME",
        b"bKGD",
        b"hIST",
        b"acTL",
        b"fcTL",
    )
    return rng.choice(
        (
            lambda: Chunk(rng.choice(kinds), noise),
            lambda: Chunk(
                rng.choice((b"fdAT", b"acTL", b"IEND", b"IHDR", b"oFFs", b"CgBI", b"\0\0\0\0", b"abcd")),
                noise,
            ),
            lambda: Chunk(b"tEXt", word + b"\0" + word * rng.choice((1, 1000))),
            lambda: Chunk(b"zTXt", b"a\0\0" + rng.choice((_blown_up(rng), noise))),
            lambda: Chunk(b"iTXt", b"a\0\1\0en\0a\0" + rng.choice((_blown_up(rng), noise))),
            lambda: Chunk(b"iCCP", b"a\0\0" + rng.choice((_blown_up(rng), noise))),
            lambda: Chunk(b"eXIf", _exif(rng)),
        )
    )()


def _exif(rng: random.Random) -> bytes:
    """A TIFF's directory with entries that point anywhere, itself included."""
    tags = (0x112, 0x8769, 0x8825, 0xA005, 0x14A, 0x927C, 0x100, pick_size(rng))
    entries = [
        Entry(rng.choice(tags), rng.randrange(14), pick_size(rng), rng.choice((8, 8, pick_size(rng))))
        for _ in range(rng.choice((1, 2, 8, 500)))
    ]
    return parts.write_tiff(b"II*\0\0\0\0\0", entries, rng.choice((0, 8, pick_size(rng))))


def _change_jpeg(rng: random.Random, chunks: list[Chunk], at: int) -> None:
    frames = [i for i, chunk in enumerate(chunks) if chunk.kind in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2")]
    if frames and rng.random() < 0.5:
        content = bytearray(chunks[frames[0]].content)
        if rng.random() < 0.5 and len(content) >= 5:
            content[1:5] = struct.pack(">HH", *(rng.choice((1, 9, 30_000, 65_500, 65_535, 0)) for _ in "hw"))
        elif content:
            content[rng.randrange(len(content))] = rng.choice((0, 1, 2, 3, 4, 0x11, 0x22, 0x41, 0xFF, 12))
        kind = rng.choice((chunks[frames[0]].kind, b"\xff\xc2", b"\xff\xc3", b"\xff\xc9"))
        chunks[frames[0]] = Chunk(kind, bytes(content))
        return
    word = rng.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")[:60_000]
    segment = rng.choice(
        (
            lambda: Chunk(b"\xff\xe1", (b"Exif\0\0" + _exif(rng))[:65_000]),
            lambda: Chunk(b"\xff\xe2", b"ICC_PROFILE\0" + bytes([rng.randrange(4), rng.randrange(4)]) + word),
            lambda: Chunk(b"\xff\xe2", (b"MPF\0" + _exif(rng))[:65_000]),
            lambda: Chunk(b"\xff\xee", b"Adobe" + bytes([0, 100, 0, 0, 0, 0, rng.randrange(4)])),
            lambda: Chunk(b"\xff\xed", b"Photoshop 3.0\0" + b"8BIM\4\4" + word),
            lambda: Chunk(b"\xff\xdd", struct.pack(">H", pick_size(rng) % 2**16)),
            lambda: Chunk(
                rng.choice((b"\xff\xfe", b"\xff\xe0", b"\xff\xc4", b"\xff\xdb", b"\xff\xcc")), word
            ),
        )
    )()
    chunks.insert(at, segment)


def _change_webp(rng: random.Random, chunks: list[Chunk], at: int) -> None:
    inner = parts.write_riff(chunks[at : at + 1])[12:]
    canvas = struct.pack("<I", pick_size(rng) % 2**24)[:3] + struct.pack("<I", pick_size(rng) % 2**24)[:3]
    extended = Chunk(b"VP8X", bytes([rng.randrange(256), 0, 0, 0]) + canvas)
    frame = Chunk(b"ANMF", bytes(6) + canvas + bytes(4) + inner)
    extra = rng.choice(
        (extended, Chunk(b"ANIM", bytes(6)), frame, Chunk(b"EXIF", _exif(rng)), Chunk(b"ALPH", bytes(9)))
    )
    chunks.insert(0 if extra is extended else at, extra)


_TAGS = (
    256,
    257,
    258,
    259,
    262,
    266,
    273,
    277,
    278,
    279,
    284,
    292,
    317,
    320,
    322,
    323,
    324,
    325,
    330,
    338,
    339,
    347,
    530,
    34675,
)


def _change_tiff(rng: random.Random, content: bytes) -> bytes:
    entries, at = parts.read_tiff(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        number = rng.choice(
            (pick_size(rng), rng.randint(0, 9), rng.choice((1, 2, 5, 6, 7, 8, 32773, 32946, 34925, 50001)))
        )
        i = rng.randrange(len(entries))
        tag, kind, count, value = entries[i].tag, entries[i].kind, entries[i].count, entries[i].value
        changed = rng.choice(
            (
                Entry(tag, kind, count, number),
                Entry(tag, kind, number, value),
                Entry(tag, rng.randrange(20), count, value),
            )
        )
        if rng.random() < 0.3:
            entries.append(
                Entry(rng.choice(_TAGS), rng.choice((3, 4)), rng.choice((1, 1, 3, number)), number)
            )
        else:
            entries[i] = changed
    return parts.write_tiff(
        content, entries, rng.choice((0, 0, at, len(content) + len(content) % 2, pick_size(rng)))
    )
