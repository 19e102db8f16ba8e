"""Small copies of images, as they are shown."""

from typing import Any

import numpy as np
from PIL import Image

from jaxalign.inputs.image_files import upright

ON_PAGE = 288  # pixels of an image on a page, at most: 5 to 25 KiB


def thumbnail(image: Any, side: int) -> np.ndarray:
    """uint8 `[h, w, 3]`, upright, at most `side` pixels, white where the image is transparent."""
    small = upright(image).convert("RGBA")
    small.thumbnail((side, side))
    white = Image.new("RGBA", small.size, "white")
    return np.asarray(Image.alpha_composite(white, small).convert("RGB"))
