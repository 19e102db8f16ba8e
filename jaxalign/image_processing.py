"""Pictures to the float arrays that an image tower takes, as the original implementations do it."""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxalign.errors import JaxalignError

# what Pillow raises for files that are damaged, cut off, of no known format, or absurdly large
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, OverflowError)


@dataclass(frozen=True)
class ImageProcessor:
    """Resize, crop, RGB, scale to [0, 1], normalise; in open_clip's order.

    RGB comes after the resize: for palette and transparent pictures the other order gives other pixels. As
    there, the EXIF orientation is not applied.

    Attributes:
      size: side of the square output in pixels.
      resize: `squash` both sides to `size`, or the `shortest` side and then a centre crop.
      mean, std: for each channel, of values in [0, 1].
    """

    size: int
    resize: Literal["squash", "shortest"] = "squash"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __call__(self, images: Sequence[Any] | np.ndarray, *, start: int = 0) -> np.ndarray:
        """Preprocess PIL images, paths or uint8 arrays `[h, w, 3]` (also `[h, w]`, `[h, w, 4]`), or one such
        batch.

        Args:
          start: position of the first image in the caller's list, for the messages.

        Returns:
          float32 `[n, size, size, 3]`.

        Raises:
          JaxalignError: naming the picture (its path or position) that is missing, damaged or no picture.
        """
        if isinstance(images, np.ndarray) and images.shape[1:] == (self.size, self.size, 3):
            pixels = images  # as large as wanted, where every resize is the identity
            _check_uint8(pixels, "images")
        else:
            pixels = np.empty((len(images), self.size, self.size, 3), np.uint8)
            for i, image in enumerate(images):
                pixels[i] = self._square(image, start + i)
        return (pixels.astype(np.float32) / 255 - np.array(self.mean, np.float32)) / np.array(
            self.std, np.float32
        )

    def _square(self, image: Any, index: int) -> np.ndarray:
        """One picture as uint8 [size, size, 3]."""
        from PIL import Image

        where = f"image {index}"
        try:
            if isinstance(image, str | os.PathLike):
                where += f" ({os.fspath(image)})"
                with Image.open(Path(image)) as opened:
                    return np.asarray(self._resize(opened).convert("RGB"))
            if not isinstance(image, Image.Image):
                image = Image.fromarray(_picture_array(image, where))
            return np.asarray(self._resize(image).convert("RGB"))
        except FileNotFoundError:
            raise JaxalignError(f"{where}: no such file") from None
        except JaxalignError:
            raise
        except (*_UNREADABLE, Image.DecompressionBombError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise JaxalignError(f"{where} cannot be read as a picture: {reason}") from error

    def _resize(self, image: Any) -> Any:
        from PIL import Image

        resample = Image.Resampling[self.interpolation.upper()]
        width, height = image.size
        if self.resize == "squash":
            return image.resize((self.size, self.size), resample)
        if width <= height:
            width, height = self.size, int(self.size * height / width)
        else:
            width, height = int(self.size * width / height), self.size
        image = image.resize((width, height), resample)
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))


def _picture_array(image: Any, where: str) -> np.ndarray:
    if not hasattr(image, "__array__"):
        raise JaxalignError(
            f"{where} is a {type(image).__name__}; expected a PIL image, a path or a uint8 array [h, w, 3]"
        )
    array = np.asarray(image)
    _check_uint8(array, where)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise JaxalignError(f"{where} is an array of shape {array.shape}; expected [h, w, 3]")
    return array


def _check_uint8(array: np.ndarray, where: str) -> None:
    if array.dtype != np.uint8:
        raise JaxalignError(
            f"{where} is an array of {array.dtype}; expected uint8, or one float array [n, h, w, 3] that is"
            " preprocessed already"
        )
