"""How much two images differ, told from small copies of them: no model is asked.

A copy that was resized, saved anew or made a little brighter differs nowhere. One whose edges were cut
differs nowhere either, once it is laid over the other as it was cut. The same scene with another object, or
a moment later, differs somewhere: so it is the place that differs most which decides, not the mean.

What was made of an image is remembered by the digest of its file: nothing is decoded twice.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.file_contents import Remembered
from jaxalign.eval.datasets.images import FolderImages
from jaxalign.eval.thumbnails import thumbnail

SIDE, CHROMA = 48, 6  # pixels of the grey copy and of the two of colour
LENGTH = SIDE * SIDE + 2 * CHROMA * CHROMA  # bytes of a signature
FREQUENCIES = 8  # of the cosine transform, in each direction, that the vector of an image has
# Grey values. An image whose own vary less, a slope from side to side aside, is as good as flat and like any
# other such; one with more contrast is not allowed more of a difference.
FLAT, FULL = 4.0, 45.0
# Differences of colour that count as 1: anywhere, and of all, as a part of what colour there is. A photo
# without its colours is no copy; below `PALE` there are none.
CHROMA_SCALE, COLOUR_SCALE, PALE = 90.0, 1.8, 6.0
GAIN = 1.5  # times more contrast that the same image may have
CUT = 0.03  # of a side, that may be missing at each end; 2 % and what is rounded
_CELL, _BORDER, _STEPS = 4, 2, 3
_BATCH = 4096
_FRAME = slice(_BORDER, SIDE - _BORDER)
_CELLS = (SIDE - 2 * _BORDER) // _CELL
_ACROSS = ((np.arange(SIDE) - (SIDE - 1) / 2) / (SIDE / 2)).astype(np.float32)  # from -1 to 1
_DOWN = _ACROSS[:, None]
# Another way to make signatures needs another name.
_MADE = Remembered(
    "signatures_1", ("digest TEXT PRIMARY KEY", "width INTEGER", "height INTEGER", "signature BLOB")
)
_THREADS, _BLOCK = 8, 512  # images after which what was made is kept

Known = tuple[int, int, bytes]  # width and height of the image upright, and its signature


def signature(image: Any) -> bytes:
    """What is kept of a PIL image to compare it: `LENGTH` bytes, of the image upright, on white where it is
    transparent."""
    small = Image.fromarray(thumbnail(image, 4 * SIDE)).convert("YCbCr")
    small = small.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    colours = small.resize((CHROMA, CHROMA), Image.Resampling.BOX)
    grey, *chroma = (plane.tobytes() for plane in (small.getchannel(0), *colours.split()[1:]))
    return b"".join((grey, *chroma))


def vectors(signatures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors whose cosine is high for images that may be the same, and rarely for others.

    They are low frequencies of the grey copy, each weighted by how high it is, since what all photos have in
    common, light from above, is in the lowest.

    Args:
      signatures: uint8 `[n, LENGTH]`.

    Returns:
      float32 `[n, FREQUENCIES ** 2]`, 0 for flat images, and bool `[n]`, which are not.
    """
    k, i = np.arange(FREQUENCIES)[:, None], np.arange(SIDE)
    cosines = np.cos(np.pi * (i + 0.5) * k / SIDE).astype(np.float32)
    cosines[0] /= np.sqrt(2)
    weights = np.hypot(k, k.T).astype(np.float32)
    found = np.empty((len(signatures), FREQUENCIES**2), np.float32)
    varied = np.empty(len(signatures), bool)
    for start in range(0, len(signatures), _BATCH):
        rows = slice(start, start + _BATCH)
        chosen = signatures[rows]
        grey = _level(_grey(chosen, np.zeros(len(chosen), int)))
        varied[rows] = grey.std((1, 2)) >= FLAT
        found[rows] = (cosines @ grey @ cosines.T * weights).reshape(len(grey), -1)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    varied &= lengths[:, 0] > 0
    return np.where(varied[:, None], found / np.maximum(lengths, 1e-6), 0), varied


def differences(one: np.ndarray, others: np.ndarray, sides: np.ndarray, enough: float) -> np.ndarray:
    """How much others differ from an image where they differ most: 0 is nowhere, 1 as much as anything.

    Those that differ more than `enough` are laid over it as if either had been cut at its edges.

    Args:
      one: uint8 `[LENGTH]`.
      others: uint8 `[n, LENGTH]`.
      sides: int `[n]`, the shortest side of each pair in pixels: more than a small image has is not compared.

    Returns:
      float32 `[n]`.
    """
    blur = np.rint((SIDE / sides) ** 2).astype(int)
    same = np.broadcast_to(one, others.shape)
    found = _differ(same, others, blur)
    far = np.flatnonzero(found > enough)
    if len(far):
        a, b = same[far], others[far]
        pairs = np.concatenate((a, b)), np.concatenate((b, a)), np.tile(blur[far], 2)
        found[far] = np.minimum(found[far], _differ(*pairs, cut=True).reshape(2, -1).min(0))
    return found


def _grey(signatures: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """float32 `[n, SIDE, SIDE]`, smoothed once, so that it can be resampled, and `blur` `[n]` times more."""
    grey = signatures[:, : SIDE * SIDE].reshape(-1, SIDE, SIDE).astype(np.float32)
    for times in range(1 + blur.max(initial=0)):
        rows = blur >= times
        wide = np.pad(grey[rows], ((0, 0), (1, 1), (1, 1)), mode="edge")
        wide = wide[:, :-2] + 2 * wide[:, 1:-1] + wide[:, 2:]
        grey[rows] = (wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]) / 16
    return grey


def _level(grey: np.ndarray) -> np.ndarray:
    """Without the mean and the slopes from side to side."""
    grey = grey - grey.mean((1, 2), keepdims=True)
    for along in (_ACROSS, _DOWN):
        flat = np.broadcast_to(along, (SIDE, SIDE))
        grey = grey - (grey * flat).mean((1, 2), keepdims=True) / (flat**2).mean() * flat
    return grey


def _differ(a: np.ndarray, b: np.ndarray, blur: np.ndarray, *, cut: bool = False) -> np.ndarray:
    """Of signatures `[n, LENGTH]`, both blurred; light and contrast of `a` are made those of `b`, and `a`
    is cut as fits `b` best."""
    x, y = _grey(a, blur), _grey(b, blur)
    least = np.minimum(_level(x).std((1, 2)), _level(y).std((1, 2))).clip(1e-6, FULL)
    if cut:
        x = _laid_over(x, y)
    u, v = (z - z.mean((1, 2), keepdims=True) for z in (x, y))
    gain = (u * v).sum((1, 2)) / np.maximum((u * u).sum((1, 2)), 1e-6)
    rest = (v - gain[:, None, None] * u)[:, _FRAME, _FRAME]
    cells = (rest**2).reshape(-1, _CELLS, _CELL, _CELLS, _CELL).mean((2, 4))
    c, d = (z[:, SIDE * SIDE :].astype(np.float32) - 128 for z in (a, b))
    chroma = d - gain[:, None] * c
    amount, colourful = (np.sqrt((z**2).mean(-1)) for z in (chroma, np.stack((c, d))))
    faded = amount / np.maximum(colourful.max(0), PALE) / COLOUR_SCALE
    worst = np.maximum(np.sqrt(cells.max((1, 2))) / least, np.abs(chroma).max(1) / CHROMA_SCALE)
    worst = np.maximum(worst, faded)
    return np.where((gain > 1 / GAIN) & (gain < GAIN), worst, np.inf).astype(np.float32)


def _laid_over(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a` shifted and stretched in both directions to fit `b` best, by Gauss's and Newton's method.

    The ends of a side move by at most `CUT` of it, so that no other scene can be made to fit.
    """
    n = len(a)
    ends = np.zeros((n, 2, 2), np.float32)  # by direction (across, down): where left and right end
    laid = a
    for _ in range(_STEPS):
        down, across = np.gradient(laid, axis=(1, 2))
        terms = (np.ones_like(laid), laid, across, across * _ACROSS, down, down * _DOWN)
        design = np.stack(terms, -1).reshape(n, SIDE * SIDE, len(terms))
        turned = design.transpose(0, 2, 1)
        normal = turned @ design + np.eye(len(terms), dtype=np.float32)  # which is never singular
        best = np.linalg.solve(normal, turned @ b.reshape(n, -1, 1))[..., 0]
        gain = np.where(np.abs(best[:, 1]) < 0.1, 1, best[:, 1])
        shift, stretch = (best[:, 2:] / gain[:, None]).reshape(n, 2, 2).transpose(2, 0, 1)
        moved = ends + np.stack((shift - stretch, shift + stretch), -1)
        ends = moved.clip(-CUT * SIDE, CUT * SIDE)
        across, down = (_resampling(ends[:, i]) for i in (0, 1))
        laid = down @ a @ across.transpose(0, 2, 1)
    return laid


def _resampling(ends: np.ndarray) -> np.ndarray:
    """Matrices `[n, SIDE, SIDE]` that interpolate between pixels by cubic convolution (Keys 1981), where the
    ends of a side `[n, 2]` are moved by so many pixels."""
    left, right = ends[:, :1], ends[:, 1:]
    places = np.arange(SIDE) + (left + right) / 2 + (right - left) / 2 * _ACROSS
    before = np.floor(places).astype(int)
    t = (places - before).astype(np.float32)
    weights = (
        (-t + 2 * t**2 - t**3) / 2,
        (2 - 5 * t**2 + 3 * t**3) / 2,
        (t + 4 * t**2 - 3 * t**3) / 2,
        (t**3 - t**2) / 2,
    )
    matrices = np.zeros((*places.shape, SIDE), np.float32)
    row, pixel = np.indices(places.shape)
    for i, weight in enumerate(weights):
        np.add.at(matrices, (row, pixel, (before + i - 1).clip(0, SIDE - 1)), weight)
    return matrices


def read_signatures(
    images: FolderImages, digests: Sequence[str], progress: Callable[[int], None]
) -> list[Known | None]:
    """What each image is like; only those are read that are new. None for those that cannot be read.

    Args:
      images: upright.
      digests: of their files.
      progress: is told how many images are done since the last call.
    """
    known = _MADE.recall(digests)
    found = [_as_known(known.get(digest)) for digest in digests]
    new = [row for row, one in enumerate(found) if one is None]
    progress(len(found) - len(new))
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(new), _BLOCK):
            rows = new[start : start + _BLOCK]
            made: dict[str, Known] = {}
            for row, one in zip(rows, pool.map(lambda row: _read(images, row), rows), strict=True):
                progress(1)
                if one is not None:
                    made[digests[row]] = found[row] = one
            _MADE.keep([(digest, *one) for digest, one in made.items()])
    return found


def _read(images: FolderImages, row: int) -> Known | None:
    try:
        with images.opened(row) as image:
            return image.width, image.height, signature(image)
    except JaxalignError:
        return None


def _as_known(row: tuple | None) -> Known | None:
    """A row of the memory, where it is one of ours."""
    width, height, made = row or (0, 0, b"")
    sizes = all(isinstance(side, int) and side > 0 for side in (width, height))
    return (width, height, made) if sizes and isinstance(made, bytes) and len(made) == LENGTH else None
