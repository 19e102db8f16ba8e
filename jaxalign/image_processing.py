"""Pictures to the float arrays that an image tower takes, as the original implementations do it."""

import os
import struct
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.resampling import resize_floats, resize_tensorflow

Pipeline = Literal["open_clip", "timm", "transformers", "transformers_float", "big_vision"]

# what Pillow raises for files that are damaged, cut off, of no known format, or absurdly large
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    OverflowError,
    MemoryError,
)
_LOADING = threading.Lock()


@dataclass(frozen=True)
class ImageProcessor:
    """Resize, crop, RGB, scale to [0, 1] and normalise, in the order and with the rounding of the original.

    As in all of them, the EXIF orientation is not applied.

    Attributes:
      size: side of the square output in pixels.
      resize: `squash` both sides to `size`, or the `shortest` side to `resize_size` and then a centre crop.
      interpolation: of the resize.
      mean, std: for each channel, of values in [0, 1].
      resize_size: in pixels, at least `size`; None for `size`.
      pipeline: whose conventions.
        `open_clip` (also OpenAI's, SLIP's and PE's own): Pillow resizes, then RGB. Palettes and transparency
        are resized as such, and the alpha channel is dropped.
        `timm` (also DINOv2's own, torchvision's data sets): RGB first, alpha dropped.
        `transformers`: RGB first, transparent parts become white; an odd margin of the crop is rounded down.
        `transformers_float` (transformers' DINOv3): so too, and floats are resized instead of bytes.
        `big_vision`: RGB first, TensorFlow's bilinear resize of four pixels without antialiasing.
    """

    size: int
    resize: Literal["squash", "shortest"] = "squash"
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    resize_size: int | None = None
    pipeline: Pipeline = "open_clip"

    def __post_init__(self):
        if self.pipeline not in get_args(Pipeline):
            raise JaxalignError(
                f"pipeline is {self.pipeline!r}; expected one of {', '.join(get_args(Pipeline))}"
            )
        if self.resize_size is not None and (self.resize == "squash" or self.resize_size < self.size):
            raise JaxalignError(
                f"resize_size is {self.resize_size} with resize {self.resize!r} and size {self.size};"
                " expected None, or with 'shortest' a number of pixels from size on"
            )
        if self.pipeline in ("transformers_float", "big_vision") and self.resize == "shortest":
            raise JaxalignError(f"resize is 'shortest'; {self.pipeline} knows 'squash' alone")
        if self.pipeline == "big_vision" and self.interpolation != "bilinear":
            raise JaxalignError(f"interpolation is {self.interpolation!r}; big_vision knows 'bilinear' alone")

    def __call__(self, images: Sequence[Any] | np.ndarray, *, start: int = 0) -> np.ndarray:
        """Preprocess PIL images, paths or uint8 arrays `[h, w, 3]` (also `[h, w]`, `[h, w, 4]`), or one such
        batch; several on threads, in the order they came.

        Args:
          start: position of the first image in the caller's list, for the messages.

        Returns:
          float32 `[n, size, size, 3]`.

        Raises:
          JaxalignError: naming the first picture (its path or position) that is missing, damaged or none.
        """
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        if isinstance(images, np.ndarray) and self._is_resized(images):
            return (images.astype(np.float32) / 255 - mean) / std
        pixels = np.empty((len(images), self.size, self.size, 3), np.float32)

        def fill(i: int) -> None:
            pixels[i] = self._square(images[i], start + i)
            pixels[i] -= mean
            pixels[i] /= std

        workers = min(len(images), os.cpu_count() or 1)
        if workers < 2:
            for i in range(len(images)):
                fill(i)
            return pixels
        with ThreadPoolExecutor(workers) as pool:  # Pillow decodes and resizes without the interpreter's lock
            for _ in pool.map(fill, range(len(images))):  # in order: the first bad picture is the one named
                pass
        return pixels

    def _is_resized(self, images: np.ndarray) -> bool:
        """Whether `images` are as large as wanted, where every resize is the identity; checks the dtype."""
        if images.shape[1:] != (self.size, self.size, 3):
            return False
        _check_uint8(images, "images")
        return self.resize_size in (None, self.size)

    def _square(self, image: Any, index: int) -> np.ndarray:
        """One picture as float32 [size, size, 3] in [0, 1]."""
        from PIL import Image

        where = f"image {index}"
        try:
            if isinstance(image, str | os.PathLike):
                where += f" ({os.fspath(image)})"
                with Image.open(Path(image)) as opened:
                    return self._resized(opened)
            if not isinstance(image, Image.Image):
                image = Image.fromarray(_picture_array(image, where))
            with _LOADING:  # one picture may be several times in a list, and loads itself at its first use
                image.load()
            return self._resized(image)
        except FileNotFoundError:
            raise JaxalignError(f"{where}: no such file") from None
        except JaxalignError:
            raise
        except (*_UNREADABLE, Image.DecompressionBombError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise JaxalignError(f"{where} cannot be read as a picture: {reason}") from error

    def _resized(self, image: Any) -> np.ndarray:
        """The opened picture as float32 [size, size, 3] in [0, 1]."""
        if self.pipeline == "big_vision":
            picture = resize_tensorflow(np.asarray(_drop_alpha(image)), self.size)
        elif self.pipeline == "transformers_float":
            floats = np.asarray(_blend_with_white(image), np.float32) / 255
            return resize_floats(floats, self.size, self.interpolation)
        elif self.pipeline == "open_clip":
            picture = np.asarray(_drop_alpha(self._resize(image)))
        else:
            to_rgb = _blend_with_white if self.pipeline == "transformers" else _drop_alpha
            picture = np.asarray(self._resize(to_rgb(image)))
        return picture.astype(np.float32) / 255

    def _resize(self, image: Any) -> Any:
        """Resized and cropped by Pillow, in the mode that the picture has."""
        from PIL import Image

        resample = Image.Resampling[self.interpolation.upper()]
        width, height = image.size
        if self.resize == "squash":
            return image.resize((self.size, self.size), resample)
        side = self.resize_size or self.size
        if width <= height:
            width, height = side, int(side * height / width)
        else:
            width, height = int(side * width / height), side
        image = image.resize((width, height), resample)
        halve = int if self.pipeline == "transformers" else round  # as they round, half to even
        left, top = halve((width - self.size) / 2), halve((height - self.size) / 2)
        return image.crop((left, top, left + self.size, top + self.size))


def _drop_alpha(image: Any) -> Any:
    """RGB, whatever the picture says about transparency."""
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.copy()
        del image.info["transparency"]  # Pillow would drop it with a warning; the colours are the same
    return image.convert("RGB")


def _blend_with_white(image: Any) -> Any:
    """RGB, with white where the picture is transparent, as transformers does since version 5."""
    from PIL import Image

    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


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
