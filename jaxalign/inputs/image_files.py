"""Image files of others, read within a budget of memory.

A file is an image by what is in it, whatever its name: the decoders of `image_formats.FORMATS` are tried, and
what none of them knows is refused. The library and all commands read images through this module, so they
accept and refuse the same ones.
"""

import functools
import io
import os
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from jaxalign.errors import JaxalignError
from jaxalign.inputs.byte_budget import ByteBudget
from jaxalign.inputs.image_formats import accepted_formats
from jaxalign.local_files import open_regular

MAX_SIDE = 1 << 20  # pixels: what Pillow makes of longer sides takes minutes, whatever is left of it
FILE_LIMIT = 640 << 20  # bytes of a file, and of all files that threads read at a time
SLOW_FILE_LIMIT = 64 << 20  # bytes, of formats that Pillow decodes in Python
MOST_SCANS = 100  # of a JPEG; progressive ones have ten to twenty
SCAN_LIMIT = 1 << 32  # pixels of all scans of a JPEG, each of which goes over the whole image
READ_LIMIT = 1 << 21  # times that a file is read from: more than images need, and seconds of Python
MEMORY_LIMIT = 5 << 29  # bytes that an image takes until it is resized, and all images that threads decode

_FILES, _MEMORY = ByteBudget(FILE_LIMIT), ByteBudget(MEMORY_LIMIT)
_LOADING = threading.Lock()
_PILLOW_BLOCK = 64 << 20  # bytes: beyond 32 MiB, malloc of glibc hands them to the system
# Bytes of memory for each pixel until an image is RGB and resized, of the most demanding kind (measured).
_BYTES, _BYTES_OF = 15, {"WEBP": 24, "JPEG2000": 26, "AVIF": 20, "HEIF": 24}
_PNG = b"\x89PNG\r\n\x1a\n"
_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of a PNG that no pixel depends on
_METADATA_OF_TURNS = {b"eXIf", b"tEXt", b"zTXt", b"iTXt"}
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # of a JPEG
_START, _END, _SCAN, _ALONE = 0xD8, 0xD9, 0xDA, 0x01
_TURNS = {  # by the orientation of EXIF
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
# What Pillow's plugins raise for files that are damaged, cut off, absurd or of no known format: whatever they
# stumble over.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    RuntimeError,
)


@contextmanager
def opened_image(source: str | os.PathLike[str] | bytes, where: str) -> Iterator[Any]:
    """The decoded PIL image in a file, or in the bytes of one; of an animation the first frame.

    Until the block ends its memory counts: all threads together have at most `MEMORY_LIMIT` bytes of images
    at a time, and wait for each other. Metadata of a PNG that Pillow finds too large are skipped.

    Args:
      where: what messages call it.

    Raises:
      JaxalignError: no regular file, or one that is no image in an accepted format, damaged, too large
        (`check_size`, or Pillow's limit of pixels), or of a depth that is not read (`check_depth`).
    """
    with ExitStack() as held:
        held.enter_context(quiet_pillow)
        with naming_errors(where):
            image = _load(held.enter_context(_open(source, where)), where, held)
        yield image


@contextmanager
def loaded_image(image: Any, where: str) -> Iterator[None]:
    """Load a PIL image of the caller's. One that is opened and not yet loaded is held to the same rules as a
    file."""
    from PIL import ImageFile

    check_depth(image, where)
    with ExitStack() as held:
        held.enter_context(quiet_pillow)
        with naming_errors(where):
            if isinstance(image, ImageFile.ImageFile) and _is_pending(image):
                if image.format not in (*accepted_formats(), "MPO"):
                    raise JaxalignError(
                        f"{where} is an opened {image.format} file; expected {_list_formats()}, or an image"
                        " that is loaded already (image.load())"
                    )
                check_size(image, where)
                held.enter_context(_MEMORY.take(_memory(image)))
            with _LOADING:  # one image may be several times in a list, and loads itself at its first use
                image.load()
        yield


def _is_pending(image: Any) -> bool:
    """Whether an opened file is yet to be decoded. One that is counted already must not be counted again."""
    return getattr(image, "fp", None) is not None and getattr(image, "_im", None) is None


def check_depth(image: Any, where: str) -> None:
    """Raise JaxalignError for a PIL image whose values do not fit into 8 bits: grey of 16 or 32, floats.

    The originals cut them off at 255, which makes almost everything white; where white is, the file does not
    say.
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise JaxalignError(
            f"{where} is grey with more than 8 bits (mode {image.mode}), most of which would become white;"
            " save it with 8 bits"
        )


def check_size(image: Any, where: str) -> None:
    """Raise JaxalignError for an opened image with a side longer than `MAX_SIDE`, or whose decoding takes
    more than `MEMORY_LIMIT`."""
    size = f"{where} is {image.width:,} x {image.height:,} pixels"
    if max(image.size) > MAX_SIDE:
        raise JaxalignError(f"{size}; expected at most {MAX_SIDE:,} on a side")
    if _memory(image) > MEMORY_LIMIT:
        most = MEMORY_LIMIT // _bytes_per_pixel(image)
        raise JaxalignError(f"{size}; expected at most {most:,} in a {image.format} file")


def upright(image: Any) -> Any:
    """The PIL image turned as the orientation in its EXIF or XMP says; damaged ones say nothing."""
    from PIL import Image

    try:
        turn = _TURNS.get(image.getexif().get(0x0112, 1))
    except _UNREADABLE:
        turn = None
    if turn is None:
        return image
    turned = image.transpose(Image.Transpose[turn])
    turned.info = {key: value for key, value in image.info.items() if key == "transparency"}
    return turned


def is_turned(source: str | os.PathLike[str] | bytes) -> bool:
    """Whether `upright` turns the image in a file, or in the bytes of one; False where there is none.

    Most formats tell without being decoded. It is True for a TIFF, too, that Pillow itself turns.
    """
    from PIL import Image

    where = "the file"
    try:
        with quiet_pillow, naming_errors(where), _open(source, where) as file, ExitStack() as held:
            image = Image.open(file, formats=accepted_formats())
            if image.format == "PNG":
                if not _METADATA_OF_TURNS & _png_chunks(file):
                    return False
                image = _load(file, where, held)
            return image.getexif().get(0x0112, 1) in _TURNS
    except JaxalignError:
        return False


@contextmanager
def naming_errors(where: str) -> Iterator[None]:
    """Turn what Pillow raises into a JaxalignError that says which image it is about."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except JaxalignError:
        raise
    except MemoryError as error:
        raise JaxalignError(f"there is not enough memory to read {where}") from error
    except UnidentifiedImageError as error:
        raise JaxalignError(
            f"{where} cannot be read as an image: cannot identify it as {_list_formats()}"
        ) from error
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = reason.removesuffix(", could be decompression bomb DOS attack.")
        raise JaxalignError(f"{where} cannot be read as an image: {reason}") from error


def _list_formats() -> str:
    return ", ".join(sorted(accepted_formats()))


class _BoundedReads:
    """Some of Pillow's plugins look for the end of a header byte by byte, for hours in a file of zeros, or
    read as much as a file claims to have, for which Python takes the memory first."""

    length: int
    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self._reads += 1
        if self._reads > READ_LIMIT:
            raise OSError(f"it is not decoded after {READ_LIMIT:,} reads")
        size = size if size is None else min(size, self.length)
        return super().read(size)  # pyright: ignore[reportAttributeAccessIssue]


class _File(_BoundedReads, io.BufferedReader):
    def __init__(self, raw: io.RawIOBase):
        super().__init__(raw)
        self.length = os.fstat(self.fileno()).st_size


class _Bytes(_BoundedReads, io.BytesIO):
    def __init__(self, content: bytes):
        super().__init__(content)
        self.length = len(content)


@contextmanager
def _open(source: str | os.PathLike[str] | bytes, where: str) -> Iterator[BinaryIO]:
    """The file, while its bytes count."""
    if isinstance(source, bytes):
        file = _Bytes(source)
    else:
        try:
            file = _File(cast(io.BufferedReader, open_regular(Path(source))).detach())
        except JaxalignError as error:
            reason = getattr(error.__cause__, "strerror", None) or error
            raise JaxalignError(f"{where} cannot be read: {reason}") from error
    with file:
        if not file.length:
            raise JaxalignError(f"{where} cannot be read as an image: it is empty")
        if file.length > FILE_LIMIT:
            raise JaxalignError(f"{where} has {file.length:,} bytes; expected at most {FILE_LIMIT:,}")
        with _FILES.take(file.length):
            yield file


def _load(file: BinaryIO, where: str, held: ExitStack) -> Any:
    """The decoded image; `held` keeps its part of the budget."""
    _free_at_once()
    try:
        return _decode(file, where, held)
    except JaxalignError:
        raise
    except (OSError, ValueError, SyntaxError):  # of texts or a profile that Pillow finds too large or broken
        pixels = _without_metadata(file)
        if pixels is None:
            raise
        return _decode(pixels, where, held)


def _decode(file: BinaryIO, where: str, held: ExitStack) -> Any:
    from PIL import Image

    image = Image.open(file, formats=accepted_formats())
    check_depth(image, where)
    check_size(image, where)
    _check_speed(image, file, where)
    if image.format in ("JPEG", "MPO"):
        _check_scans(image, file, where)
    with ExitStack() as attempt:
        attempt.enter_context(_MEMORY.take(_memory(image)))
        image.load()
        held.enter_context(attempt.pop_all())
    return image


@functools.cache
def _free_at_once() -> None:
    """Have Pillow keep large images in blocks that the system takes back: those of 16 MiB, its own size, stay
    with the thread that had them, and every thread would end up with the memory of its largest image."""
    from PIL import Image

    Image.core.set_block_size(max(Image.core.get_block_size(), _PILLOW_BLOCK))


def _check_speed(image: Any, file: BinaryIO, where: str) -> None:
    """Raise for a large file that Pillow decodes byte by byte in Python."""
    from PIL import Image

    if not any(tile[0] in Image.DECODERS for tile in image.tile):
        return
    place = file.tell()
    length = file.seek(0, io.SEEK_END)
    file.seek(place)
    if length > SLOW_FILE_LIMIT:
        raise JaxalignError(
            f"{where} has {length:,} bytes of a kind of {image.format} that is slow to decode; expected at"
            f" most {SLOW_FILE_LIMIT:,}: save it as PNG"
        )


def _check_scans(image: Any, file: BinaryIO, where: str) -> None:
    """Raise for a JPEG that is painted over far more often than any program writes it."""
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    most = min(MOST_SCANS, SCAN_LIMIT // (image.width * image.height))
    if content.count(bytes((0xFF, _SCAN))) > most and (scans := _count_scans(content)) > most:
        raise JaxalignError(f"{where} has {scans:,} scans; expected at most {most} in a JPEG of its size")


def _count_scans(content: bytes) -> int:
    """Of the first image in a JPEG file."""
    scans, at = 0, 0
    while (found := _MARKER.search(content, at)) and (kind := content[found.start() + 1]) != _END:
        scans, at = scans + (kind == _SCAN), found.end()
        if kind not in (_START, _ALONE):  # which have no content
            at += max(int.from_bytes(content[at : at + 2], "big"), 2)
    return scans


def _memory(image: Any) -> int:
    """Bytes that an opened image takes until it is RGB and resized."""
    return image.width * image.height * _bytes_per_pixel(image)


def _bytes_per_pixel(image: Any) -> int:
    return _BYTES_OF.get(image.format, _BYTES)


def _without_metadata(file: BinaryIO) -> BinaryIO | None:
    """A PNG without its texts and colour profile; None for what is no PNG or has none."""
    file.seek(0)
    if file.read(8) != _PNG:
        return None
    kept, skipped = [_PNG], False
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in _METADATA:
            skipped = True
            file.seek(length + 4, io.SEEK_CUR)
        else:
            kept.append(head + file.read(length + 4))
    return _Bytes(b"".join(kept)) if skipped else None


def _png_chunks(file: BinaryIO) -> set[bytes]:
    """The kinds of chunks that a PNG has, texts and profile included."""
    found: set[bytes] = set()
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        found.add(kind)
        file.seek(length + 4, io.SEEK_CUR)
    return found


class _QuietPillow:
    """No warnings of Pillow while images are read, about metadata or a size that it would still accept.

    `warnings.catch_warnings` is not made for threads that come and go: here the first one that enters sets
    the filter, and the last one that leaves takes it away.
    """

    def __init__(self):
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.|pillow_heif")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._filters.__exit__(None, None, None)


quiet_pillow: _QuietPillow = _QuietPillow()
