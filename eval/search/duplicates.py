"""Images of a folder that are copies of each other: the same bytes, resized, saved anew, or cut a little."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .signatures import LENGTH, differences, vectors

# What is taken for a copy (docs/duplicates.md has what it finds, and what it takes for one wrongly).
NEAR, MOST = 0.8, 8  # cosine of vectors, and how many first images an image is compared with, nearest first
SAME = 1 / 3  # as `differences` counts
STRETCHED = 0.05  # of the ratio of sides, besides what is rounded to whole pixels
SMALLEST = 8  # pixels of the shorter side; what has less is as good as flat
_ROWS, _COLUMNS = 512, 16384


@dataclass(frozen=True, eq=False)
class Copies:
    """Which image each of n images is a copy of.

    Attributes:
      first: int `[n]`, the position of that image; its own for those that are a copy of none before them.
      similarity: float32 `[n]`, 1 less how much they differ.
    """

    first: np.ndarray
    similarity: np.ndarray


def find_copies(signatures: np.ndarray, sizes: np.ndarray, block: int = _ROWS) -> Copies:
    """Compare each image with those before it that are copies of none themselves, and take the most similar.

    So all images of a group are copies of its first one: a chain of images each of which is like the next
    makes several groups. Flat images and tiny ones are never copies. Memory grows with n, not with its square.

    Args:
      signatures: uint8 `[n, LENGTH]`, the best image first.
      sizes: int `[n, 2]`, width and height.
      block: images that are compared at a time; it changes no result.
    """
    found = Copies(np.arange(len(signatures)), np.ones(len(signatures), np.float32))
    vector, varied = vectors(signatures)
    short = sizes.min(1)
    shape = np.stack((np.log(sizes[:, 0] / sizes[:, 1]), STRETCHED + 1 / short))
    rows, firsts = np.flatnonzero(varied & (short >= SMALLEST)), np.empty(0, int)
    for start in range(0, len(rows), block):
        own = rows[start : start + block]
        earlier = _near(own, firsts, vector, shape)
        among = vector[own] @ vector[own].T
        new: list[int] = []  # positions within the block
        for i, row in enumerate(own):
            cosines, images = np.append(earlier[i][0], among[i, new]), np.append(earlier[i][1], own[new])
            images = _nearest(row, images, cosines, shape)[1]
            if len(images):
                sides = np.minimum(short[images], short[row])
                differ = differences(signatures[row], signatures[images], sides, SAME)
                best = int(differ.argmin())
                if differ[best] <= SAME:
                    found.first[row], found.similarity[row] = images[best], 1 - differ[best]
                    continue
            new.append(i)
        firsts = np.append(firsts, own[new])
    return found


def _near(
    rows: np.ndarray, images: np.ndarray, vector: np.ndarray, shape: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of `rows` cosines and positions of those among `images` that it may be a copy of."""
    found = [(np.empty(0, np.float32), np.empty(0, int))] * len(rows)
    for start in range(0, len(images), _COLUMNS):
        columns = images[start : start + _COLUMNS]
        cosines = vector[rows] @ vector[columns].T
        for i in np.flatnonzero(cosines.max(1) >= NEAR):
            more = _nearest(rows[i], columns, cosines[i], shape)
            found[i] = tuple(np.append(*pair) for pair in zip(found[i], more, strict=True))
    return found


def _nearest(
    row: int, images: np.ndarray, cosines: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and positions of the nearest `images` that have the shape of `row`, at most `MOST`."""
    at = np.flatnonzero(cosines >= NEAR)
    (ratio, slack), (own, most) = shape[:, images[at]], shape[:, row]
    at = at[np.abs(ratio - own) <= np.maximum(slack, most)]
    at = at[np.argsort(-cosines[at], kind="stable")[:MOST]]
    return cosines[at], images[at]
