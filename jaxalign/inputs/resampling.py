"""Resizing as the originals do it: Pillow's without what is cropped away, TensorFlow's, and of floats."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

LARGEST = 1 << 24  # pixels between the two passes of a resize; above that only what is kept is computed

_STRIP = 1 << 20  # pixels that become floats at a time
_PRECISION = 22  # bits after the point of Pillow's weights
_BLOCK = 1 << 16  # steps that are added up at a time

Box = tuple[int, int, int, int]


def resize_part(image: Any, size: tuple[int, int], box: Box, interpolation: str) -> Any:
    """`image.resize(size, interpolation).crop(box)` to the bit, in memory that is bounded by what is kept.

    An image of 30,000 x 1 pixels whose shorter side becomes 224 would be 6,720,000 pixels long before the
    crop. Pillow resizes one side after the other, with whole grey values between, and no pixel of the result
    depends on another one; so of very long images only the pixels that are kept are computed, with Pillow's
    weights.

    Args:
      image: PIL image of 8 bits a channel, or of mode `F`.
      size: width and height that the whole image would have.
      box: left, top, right and bottom of what is kept of it.
      interpolation: `bilinear` or `bicubic`; of palettes and single bits Pillow takes the nearest pixel.
    """
    from PIL import Image

    if size[0] * max(size[1], image.height) <= LARGEST or image.size == size:
        return image.resize(size, Image.Resampling[interpolation.upper()]).crop(box)
    if image.mode in ("1", "P"):
        return _nearest(image, size, box)
    if image.mode in ("LA", "RGBA"):
        weighted = image.convert({"LA": "La", "RGBA": "RGBa"}[image.mode])
        return resize_part(weighted, size, box, interpolation).convert(image.mode)
    across = _Pass(image.width, size[0], box[0], box[2], interpolation)
    down = _Pass(image.height, size[1], box[1], box[3], interpolation)
    bands = [_resize_band(band, across, down) for band in image.split()]
    if len(bands) == 1:
        return bands[0]
    kept = image.crop((0, 0, *bands[0].size))  # with its palette
    kept.paste(Image.merge(image.mode, bands))
    return kept


@dataclass(frozen=True)
class _Pass:
    """Pixels `first` to `last` of a side that is resized from `length` to `resized` pixels."""

    length: int
    resized: int
    first: int
    last: int
    interpolation: str

    @property
    def is_whole(self) -> bool:
        return (self.first, self.last) == (0, self.resized)

    @property
    def needed(self) -> tuple[int, int]:
        """The pixels of the source, from and up to, that they are made of."""
        return self._window(self.first)[1], self._window(self.last - 1)[2]

    def weights(self, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
        """Of each pixel from `first + start` on, up to `first + stop`: the first pixel of its source, counted
        from the first one that is needed, and the weights float64 of that and the following ones."""
        origin = self.needed[0]
        scale = max(self.length / self.resized, 1.0)
        for pixel in range(self.first + start, min(self.first + stop, self.last)):
            centre, begin, end = self._window(pixel)
            weights = _FILTERS[self.interpolation](
                np.abs((np.arange(begin, end) - centre + 0.5) * (1 / scale))
            )
            yield begin - origin, weights / np.cumsum(weights)[-1]  # added up one by one, as Pillow does

    def _window(self, pixel: int) -> tuple[float, int, int]:
        """Its centre in the source, and the pixels there, from and up to, that it is made of."""
        scale = self.length / self.resized
        centre, reach = (pixel + 0.5) * scale, _REACH[self.interpolation] * max(scale, 1.0)
        return centre, max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), self.length)


def _bicubic(x: np.ndarray) -> np.ndarray:
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _bilinear(x: np.ndarray) -> np.ndarray:
    return np.where(x < 1, 1 - x, 0.0)


_FILTERS = {"bicubic": _bicubic, "bilinear": _bilinear}
_REACH = {"bicubic": 2.0, "bilinear": 1.0}  # pixels to each side that a filter takes


def _resize_band(band: Any, across: _Pass, down: _Pass) -> Any:
    """One channel, as many columns at a time as are no more than `LARGEST` pixels between the passes."""
    from PIL import Image

    (left, right), (top, bottom) = across.needed, down.needed
    if (right - left, bottom - top) != band.size:
        band = band.crop((left, top, right, bottom))
    count = across.last - across.first
    if _height_first(across, down):
        return _resize_width(_resize_height(band, down), across, 0, count)
    kept = Image.new(band.mode, (count, down.last - down.first))
    step = max(LARGEST // band.height, 1)
    for start in range(0, count, step):
        strip = _resize_width(band, across, start, min(start + step, count))
        kept.paste(_resize_height(strip, down), (start, 0))
    return kept


def _resize_width(band: Any, across: _Pass, start: int, stop: int) -> Any:
    from PIL import Image

    if across.is_whole and stop - start == across.resized:
        return band.resize((across.resized, band.height), Image.Resampling[across.interpolation.upper()])
    columns = np.ascontiguousarray(np.asarray(band).T)
    return Image.fromarray(np.ascontiguousarray(_weigh(columns, across, start, stop).T))


def _resize_height(band: Any, down: _Pass) -> Any:
    from PIL import Image

    if down.is_whole:
        return band.resize((band.width, down.resized), Image.Resampling[down.interpolation.upper()])
    return Image.fromarray(_weigh(np.asarray(band), down, 0, down.last - down.first))


def _height_first(across: _Pass, down: _Pass) -> bool:
    """Whether Pillow resizes the columns before the rows, which it does since version 13 where the height
    shrinks by more than twice what the width does."""
    shrinks = down.length - down.resized
    return shrinks > max(2 * (across.length - across.resized), 0) and _knows_height_first()


@functools.cache
def _knows_height_first() -> bool:
    from PIL import Image

    tall = Image.fromarray(np.sin(np.arange(8 * 64, dtype=np.float32)).reshape(64, 8))
    return tall.resize((4, 4)).tobytes() == tall.resize((8, 4)).resize((4, 4)).tobytes()


def _weigh(lines: np.ndarray, along: _Pass, start: int, stop: int) -> np.ndarray:
    """Weighted sums `[pixels, n]` of `lines` uint8 or float32 `[length, n]`, rounded as Pillow does."""
    sums = []
    for begin, weights in along.weights(start, stop):
        if lines.dtype == np.uint8:
            weights = (weights * (1 << _PRECISION) + np.copysign(0.5, weights)).astype(np.int64)
        total = np.zeros(lines.shape[1], weights.dtype)
        for line, weight in zip(lines[begin:], weights, strict=False):
            total += line * weight
        if lines.dtype == np.uint8:
            total = np.clip((total + (1 << (_PRECISION - 1))) >> _PRECISION, 0, 255)
        sums.append(total.astype(lines.dtype))
    return np.stack(sums)


def _nearest(image: Any, size: tuple[int, int], box: Box) -> Any:
    """The same for modes of which Pillow takes the nearest pixel."""
    if image.mode == "1":
        image = image.convert("L")
    columns = _nearest_pixels(image.width, size[0], box[0], box[2])
    rows = _nearest_pixels(image.height, size[1], box[1], box[3])
    part = image.crop((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
    kept = image.crop((0, 0, len(columns), len(rows)))  # with its palette
    kept.frombytes(np.asarray(part)[rows - rows[0]][:, columns - columns[0]].tobytes())
    return kept


def _nearest_pixels(length: int, resized: int, first: int, last: int) -> np.ndarray:
    """Of pixels `first` to `last` of a side that is resized, those of the source. Pillow adds up the steps
    from one to the next, and their rounding errors with them."""
    step = length / resized
    place = 0.5 * step
    for start in range(0, first, _BLOCK):
        place = np.add.accumulate(np.r_[place, np.full(min(_BLOCK, first - start), step)])[-1]
    return np.add.accumulate(np.r_[place, np.full(last - first - 1, step)]).astype(np.int64)


def resize_tensorflow(image: np.ndarray, size: int) -> np.ndarray:
    """`tf.image.resize(method="bilinear", antialias=False)` and the cast back, which cuts off the fraction.

    big_vision's `resize(224)`: each output pixel mixes four input pixels, however much the image shrinks.

    Args:
      image: uint8 `[h, w, c]`.
      size: of both sides of the result, in pixels.

    Returns:
      uint8 `[size, size, c]`.
    """
    if image.shape[:2] == (size, size):
        return image
    top, bottom, down = _neighbours(image.shape[0], size)
    left, right, across = _neighbours(image.shape[1], size)
    across, down = across[:, None], down[:, None, None]
    rows = []
    for row in (top, bottom):
        first, second = (image[row[:, None], column].astype(np.float32) for column in (left, right))
        rows.append(first + (second - first) * across)
    return np.clip(rows[0] + (rows[1] - rows[0]) * down, 0, 255).astype(np.uint8)


def _neighbours(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each output pixel, the input pixels before and after its centre and the weight of the second."""
    one_half = np.float32(0.5)
    scale = np.float32(length) / np.float32(size)
    centre = (np.arange(size, dtype=np.float32) + one_half) * scale - one_half
    before = np.floor(centre)
    return (
        np.maximum(before, 0).astype(np.int64),
        np.minimum(np.ceil(centre), length - 1).astype(np.int64),
        centre - before,
    )


def resize_floats(image: Any, size: int, interpolation: str) -> np.ndarray:
    """Antialiased, without rounding to whole grey values: what torch does to a tensor of floats.

    Args:
      image: PIL image of mode `RGB`.
      size: of both sides of the result, in pixels.
      interpolation: `bilinear` or `bicubic`.

    Returns:
      float32 `[size, size, 3]`, of values in [0, 1].
    """

    box, channels = (0, 0, size, size), []
    for band in range(3):
        resized = resize_part(_to_floats(image.getchannel(band)), (size, size), box, interpolation)
        channels.append(np.asarray(resized))
    return np.stack(channels, axis=2)


def _to_floats(band: Any) -> Any:
    """A PIL image of mode `F` with values in [0, 1], made some rows at a time: it may be large."""
    from PIL import Image

    floats = Image.new("F", band.size)
    rows = max(_STRIP // band.width, 1)
    for top in range(0, band.height, rows):
        strip = band.crop((0, top, band.width, min(top + rows, band.height)))
        floats.paste(Image.fromarray(np.asarray(strip, np.float32) / 255), (0, top))
    return floats
