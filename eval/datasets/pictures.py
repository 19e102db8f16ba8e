"""Pictures that are read and decoded when they are asked for."""

import functools
import io
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
from PIL import Image

from jaxalign.errors import JaxalignError

Box = tuple[float, float, float, float]
# What Pillow raises for files that are damaged, cut off, of no known format, or absurdly large.
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, OverflowError)


class Pictures:
    """A sequence of n pictures of any size, of which none is in memory.

    `pictures[i]` is the picture as a PIL image, decoded, in the file's own mode (grey, palette, CMYK), so
    that what takes it can resize and convert it in its own order; a slice or an array of positions gives the
    `Pictures` there. Threads may read at the same time.

    Attributes:
      ids: their names, unique in the data set.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        ids: Sequence[str],
        origin: str,
        boxes: Sequence[Box] = (),
        rows: np.ndarray | None = None,
    ):
        """
        Args:
          read: gives the bytes of the file of a picture; is called from threads. Raises JaxalignError where
            the data cannot be read.
          ids: of all pictures.
          origin: what they belong to, for messages.
          boxes: the part of each that is meant, in pixels; empty for whole pictures.
          rows: of the pictures that are taken, and in which order; by default all of them.
        """
        self._read, self._all_ids, self._origin, self._boxes = read, ids, origin, boxes
        self._rows = np.arange(len(ids)) if rows is None else rows

    @functools.cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._all_ids[row] for row in self._rows.tolist())

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int | np.integer, /) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray, /) -> "Pictures": ...
    def __getitem__(self, index, /):
        """A picture, or the pictures at several positions.

        Raises:
          JaxalignError: naming the picture that cannot be decoded.
        """
        if not isinstance(index, int | np.integer):
            rows = self._rows[index if isinstance(index, slice) else np.asarray(index)]
            return Pictures(self._read, self._all_ids, self._origin, self._boxes, rows)
        row = int(self._rows[index])
        picture = decode(self._read(row), f"{self._all_ids[row]} of {self._origin}")
        return crop(picture, self._boxes[row]) if self._boxes else picture

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[index] for index in range(len(self)))

    def read_bytes(self, index: int) -> bytes:
        """The picture's file as it is stored."""
        return self._read(int(self._rows[index]))

    @staticmethod
    def concatenate(parts: Sequence["Pictures"]) -> "Pictures":
        """All pictures of `parts`, one part after the other."""
        starts = np.cumsum([0, *(len(part) for part in parts)])

        def read(row: int) -> bytes:
            part = int(np.searchsorted(starts, row, side="right")) - 1
            return parts[part].read_bytes(row - int(starts[part]))

        boxes = [box for part in parts for box in part.boxes]
        if boxes and len(boxes) != starts[-1]:
            raise JaxalignError("pictures with boxes and pictures without cannot be put together")
        origin = "+".join(dict.fromkeys(part._origin for part in parts))
        return Pictures(read, tuple(name for part in parts for name in part.ids), origin, boxes)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Left, top, right, bottom of what is shown of each picture; empty for whole pictures."""
        return tuple(self._boxes[row] for row in self._rows.tolist()) if self._boxes else ()


def decode(data: bytes, where: str) -> Image.Image:
    """The picture in an image file; the first frame of an animated one.

    Raises:
      JaxalignError: `where` cannot be read as a picture, and why.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            return picture
    except (*_UNREADABLE, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = "it is empty" if not data else reason.split(" <_io")[0]
        raise JaxalignError(f"{where} cannot be read as a picture: {reason}") from error


def crop(picture: Image.Image, box: Box) -> Image.Image:
    """What is in the box, to the nearest pixel, as revisitop crops its queries."""
    left, top, right, bottom = (round(side) for side in box)
    return picture.crop((left, top, right, bottom))
