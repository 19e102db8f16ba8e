"""The two resizes that Pillow does not have: TensorFlow's, and one of floats."""

import numpy as np


def resize_tensorflow(picture: np.ndarray, size: int) -> np.ndarray:
    """`tf.image.resize(method="bilinear", antialias=False)` and the cast back, which cuts off the fraction.

    big_vision's `resize(224)`: each output pixel mixes four input pixels, however much the picture shrinks.

    Args:
      picture: uint8 `[h, w, c]`.
      size: of both sides of the result, in pixels.

    Returns:
      uint8 `[size, size, c]`.
    """
    if picture.shape[:2] == (size, size):
        return picture
    top, bottom, down = _neighbours(picture.shape[0], size)
    left, right, across = _neighbours(picture.shape[1], size)
    across, down = across[:, None], down[:, None, None]
    rows = []
    for row in (top, bottom):
        lines = picture[row].astype(np.float32)
        first, second = lines[:, left], lines[:, right]
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


def resize_floats(picture: np.ndarray, size: int, interpolation: str) -> np.ndarray:
    """Antialiased, without rounding to whole grey values: what torch does to a tensor of floats.

    Args:
      picture: float32 `[h, w, c]`.
      size: of both sides of the result, in pixels.
      interpolation: `bilinear` or `bicubic`.

    Returns:
      float32 `[size, size, c]`.
    """
    from PIL import Image

    resample = Image.Resampling[interpolation.upper()]
    channels = [Image.fromarray(np.ascontiguousarray(c)) for c in np.moveaxis(picture, 2, 0)]
    return np.stack([np.asarray(c.resize((size, size), resample)) for c in channels], axis=2)
