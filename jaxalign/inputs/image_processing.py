"""Images to the float arrays that an image tower takes, as the original implementations do it."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.inputs.image_files import loaded_image, naming_errors, opened_image, quiet_pillow
from jaxalign.inputs.resampling import resize_floats, resize_part, resize_tensorflow

Pipeline = Literal["open_clip", "timm", "transformers", "transformers_float", "big_vision"]

_STRIP = 1 << 22  # pixels that are blended with white at a time
_OVERSHOOT = 0.1  # beyond [0, 1], of images that were resized as floats
_WHOLE = 0.02  # of a grey value, by which single precision misses a whole one


@dataclass(frozen=True)
class ImageProcessor:
    """Resize, crop, RGB, scale to [0, 1] and normalise, in the order and with the rounding of the original.

    The EXIF orientation is not applied: open_clip's, timm's and big_vision's transforms and the processors of
    transformers take the pixels as they are stored. (What opens files for the pipelines of transformers,
    `load_image`, does turn them.) `image_files.upright` turns an image before it comes here.

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

    def __post_init__(self) -> None:
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
        batch; several on threads, in the order they came. Files are read as `image_files` says.

        Args:
          start: position of the first image in the caller's list, for the messages.

        Returns:
          float32 `[n, size, size, 3]`.

        Raises:
          JaxalignError: naming the first image (its path or position) that is missing, damaged or none, or
            grey with more than 8 bits.
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
        # Pillow decodes and resizes without the interpreter's lock.
        with quiet_pillow, ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(fill, range(len(images))):  # in order: the first bad image is the one named
                pass
        return pixels

    def check_preprocessed(self, images: np.ndarray) -> None:
        """Raise JaxalignError for floats `[n, h, w, 3]` that look like images before the preprocessing.

        That is: all in [0, 1] or, as after a resize, a little beyond, and not what this normalisation makes
        of whole grey values; or outside of what it can give, as values up to 255 are. What cannot be told
        apart passes: zeros, which are black images in [0, 1] and the mean of normalised ones, and a single
        grey value that is possible as either. Normalised images that are that flat and not made of whole grey
        values (computed, or kept in 16 bits) count as unprocessed.
        """
        mean, std = np.array(self.mean), np.array(self.std)
        low, high = float((-mean / std).min()), float(((1 - mean) / std).max())
        least, most = float(images.min()), float(images.max())
        if 0 <= low <= high <= 1:  # normalised images are no others
            wrong = False
        elif -_OVERSHOOT <= least <= most <= 1 + _OVERSHOOT:
            greys = (images.astype(np.float32) * std + mean) * 255
            wrong = (least, most) != (0, 0) and np.abs(greys - greys.round()).max() > _WHOLE
        else:
            wrong = most > (high if least >= 0 else 10 * high) or least < 10 * low
        if wrong:
            raise JaxalignError(
                f"images have values from {least:.4g} to {most:.4g} and look unprocessed; normalised"
                f" ones go from {low:.4g} to {high:.4g}. Give uint8 of 0 to 255, of floats in 0 to 1"
                " (255 * images).round().astype('uint8')"
            )

    def _is_resized(self, images: np.ndarray) -> bool:
        """Whether `images` are as large as wanted, where every resize is the identity; checks the dtype."""
        if images.shape[1:] != (self.size, self.size, 3):
            return False
        _check_uint8(images, "images")
        return self.resize_size in (None, self.size)

    def _square(self, image: Any, index: int) -> np.ndarray:
        """One image as float32 [size, size, 3] in [0, 1]."""
        from PIL import Image

        where = f"image {index}"
        if isinstance(image, str | os.PathLike):
            where += f" ({os.fspath(image)})"
            with opened_image(image, where) as opened, naming_errors(where):
                return self._resized(opened)
        if not isinstance(image, Image.Image):
            image = Image.fromarray(_image_array(image, where))
        with loaded_image(image, where), naming_errors(where):
            return self._resized(image)

    def _resized(self, image: Any) -> np.ndarray:
        """The opened image as float32 [size, size, 3] in [0, 1]."""
        if self.pipeline == "big_vision":
            pixels = resize_tensorflow(np.asarray(_drop_alpha(image)), self.size)
        elif self.pipeline == "transformers_float":
            return resize_floats(_blend_with_white(image), self.size, self.interpolation)
        elif self.pipeline == "open_clip":
            pixels = np.asarray(_drop_alpha(self._resize(image)))
        else:
            to_rgb = _blend_with_white if self.pipeline == "transformers" else _drop_alpha
            pixels = np.asarray(self._resize(to_rgb(image)))
        return pixels.astype(np.float32) / 255

    def _resize(self, image: Any) -> Any:
        """Resized and cropped by Pillow, in the mode that the image has."""
        width, height = image.size
        if self.resize == "squash":
            size = (self.size, self.size)
            return resize_part(image, size, (0, 0, *size), self.interpolation)
        side = self.resize_size or self.size
        if width <= height:
            width, height = side, int(side * height / width)
        else:
            width, height = int(side * width / height), side
        halve = int if self.pipeline == "transformers" else round  # as they round, half to even
        left, top = halve((width - self.size) / 2), halve((height - self.size) / 2)
        box = (left, top, left + self.size, top + self.size)
        return resize_part(image, (width, height), box, self.interpolation)


def _drop_alpha(image: Any) -> Any:
    """RGB, whatever the image says about transparency."""
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.copy()
        del image.info["transparency"]  # Pillow would drop it with a warning; the colours are the same
    return _to_rgb(image)


def _blend_with_white(image: Any) -> Any:
    """RGB, with white where the image is transparent, as transformers does since version 5."""
    from PIL import Image

    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return _to_rgb(image)
    blended = Image.new("RGB", image.size)
    rows = max(_STRIP // image.width, 1)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        white = Image.new("RGBA", strip.size, (255, 255, 255, 255))
        blended.paste(Image.alpha_composite(white, strip).convert("RGB"), (0, top))
    return blended


def _to_rgb(image: Any) -> Any:
    """Not copied where it is RGB already: a large image takes hundreds of megabytes."""
    return image if image.mode == "RGB" else image.convert("RGB")


def _image_array(image: Any, where: str) -> np.ndarray:
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
            f"{where} is an array of {array.dtype}; expected uint8 (of floats in 0 to 1:"
            " (255 * image).round().astype('uint8')), or one float array [n, h, w, 3] that is preprocessed"
            " already"
        )
