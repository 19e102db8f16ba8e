"""Pictures as data URIs."""

import base64
import io

import numpy as np
from PIL import Image


def data_uri(picture: np.ndarray) -> str:
    """`picture` uint8 `[h, w, 3]` as a lossy WebP of good quality: a scene of 48 pixels takes about 1 KiB."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=85, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
