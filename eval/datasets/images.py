"""Images that are read and decoded when they are asked for; those of a folder are known by what they are."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, overload

import numpy as np
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.inputs.image_files import FILE_LIMIT, opened_image, upright
from jaxalign.local_files import read_limited

from .file_contents import Content, is_as_it_was, read_content, read_contents
from .image_tree import ImageFile

Box = tuple[float, float, float, float]
UPRIGHT = "-upright"  # ends the identity of an image that its orientation turns
_CHANGED = "has changed since its folder was read; run the same command again"


class Images:
    """A sequence of n images of any size, of which none is in memory.

    `images[i]` is the image as a PIL image, decoded, in the file's own mode (grey, palette, CMYK), so
    that what takes it can resize and convert it in its own order; a slice or an array of positions gives the
    `Images` there. Threads may read at the same time.

    Attributes:
      ids: their names, unique in the data set.
    """

    def __init__(
        self,
        read: Callable[[int], bytes | Path],
        ids: Sequence[str],
        origin: str,
        boxes: Sequence[Box] = (),
        upright: bool = False,
    ):
        """
        Args:
          read: gives the file of an image, or its bytes; is called from threads. Raises JaxalignError where
            the data cannot be read.
          ids: of all images.
          origin: what they belong to, for messages.
          boxes: the part of each that is meant, in pixels; empty for whole images.
          upright: whether images are turned as their EXIF orientation says, which no model's own
            preprocessing does.
        """
        self._read, self._all_ids, self._origin, self._boxes = read, ids, origin, boxes
        self._upright = upright
        self._rows = np.arange(len(ids))  # of the images that are taken, in order

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._all_ids[row] for row in self._rows.tolist())

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int | np.integer, /) -> Image.Image: ...
    @overload
    def __getitem__(self, index: slice | Sequence[int] | np.ndarray, /) -> Self: ...
    def __getitem__(self, index, /):
        """An image, or the images at several positions; raises JaxalignError, naming the image that cannot be
        decoded."""
        if not isinstance(index, int | np.integer):
            chosen = copy.copy(self)
            chosen._rows = self._rows[index if isinstance(index, slice) else np.asarray(index)]
            return chosen
        with self.opened(int(index)) as image:
            return image

    @contextmanager
    def opened(self, index: int) -> Iterator[Image.Image]:
        """The same image, which counts towards the memory of all threads until the block ends."""
        row = int(self._rows[index])
        with opened_image(self._read(row), f"{self._all_ids[row]} of {self._origin}") as image:
            if self._upright:
                image = upright(image)
            yield crop(image, self._boxes[row]) if self._boxes else image

    def __iter__(self) -> Iterator[Image.Image]:
        return (self[index] for index in range(len(self)))

    def read_bytes(self, index: int) -> bytes:
        """The image's file as it is stored."""
        source = self.source(index)
        return source if isinstance(source, bytes) else read_limited(source, FILE_LIMIT)

    def source(self, index: int) -> bytes | Path:
        """The image's file, or its bytes."""
        return self._read(int(self._rows[index]))

    @staticmethod
    def concatenate(parts: Sequence["Images"]) -> "Images":
        """All images of `parts`, one part after the other."""
        starts = np.cumsum([0, *(len(part) for part in parts)])

        def read(row: int) -> bytes | Path:
            part = int(np.searchsorted(starts, row, side="right")) - 1
            return parts[part].source(row - int(starts[part]))

        boxes = [box for part in parts for box in part.boxes]
        if boxes and len(boxes) != starts[-1]:
            raise JaxalignError("images with boxes and images without cannot be put together")
        origin = "+".join(dict.fromkeys(part._origin for part in parts))
        return Images(read, tuple(name for part in parts for name in part.ids), origin, boxes)

    @property
    def boxes(self) -> tuple[Box, ...]:
        """Left, top, right, bottom of what is shown of each image; empty for whole images."""
        return tuple(self._boxes[row] for row in self._rows.tolist()) if self._boxes else ()


def crop(image: Image.Image, box: Box) -> Image.Image:
    """What is in the box, to the nearest pixel, as revisitop crops its queries."""
    left, top, right, bottom = (round(side) for side in box)
    return image.crop((left, top, right, bottom))


class FileChangedError(JaxalignError):
    """An image file is no longer the one that its folder had."""


class FolderImages(Images):
    """Images of which each has an identity that it takes along wherever its file goes.

    An image whose file has become another one since raises `FileChangedError` when it is read.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        origin: str,
        *,
        upright: bool = False,
        contents: Sequence[Content] | None = None,
    ):
        """
        Args:
          files: of the images.
          origin, upright: as for `Images`.
          contents: of the files, where they are known.
        """
        self._files = files
        self._contents = read_contents(files) if contents is None else contents
        read = lambda row: self._files[row].path
        super().__init__(read, [file.name for file in files], origin, upright=upright)

    @property
    def contents(self) -> tuple[str, ...]:
        """What each image is: equal for those that look alike to the last bit. Empty for what cannot be read.

        A photo that is turned by its orientation is another image than the same one as it is stored.
        """
        chosen = [self._contents[row] for row in self._rows.tolist()]
        return tuple(f"{of.digest}{UPRIGHT}" if self._upright and of.turned else of.digest for of in chosen)

    @contextmanager
    def opened(self, index: int) -> Iterator[Image.Image]:
        row = int(self._rows[index])
        try:
            with super().opened(index) as image:
                if self._has_changed(row):
                    raise FileChangedError(f"{self._all_ids[row]} of {self._origin} {_CHANGED}")
                yield image
        except FileChangedError:
            raise
        except JaxalignError as error:
            if self._has_changed(row):
                raise FileChangedError(f"{error}; it {_CHANGED}") from error
            raise

    def _has_changed(self, row: int) -> bool:
        """Whether what was just read may be another image than the one that is known."""
        file, digest = self._files[row], self._contents[row].digest
        return digest != "" and not is_as_it_was(file) and read_content(file)[0].digest != digest

    @staticmethod
    def concatenate(parts: "Sequence[FolderImages]") -> "FolderImages":
        chosen = [(part, row) for part in parts for row in part._rows.tolist()]
        return FolderImages(
            [part._files[row] for part, row in chosen],
            "+".join(dict.fromkeys(part._origin for part in parts)),
            contents=[part._contents[row] for part, row in chosen],
        )
