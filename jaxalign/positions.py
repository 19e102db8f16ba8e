"""Learned positions of one patch grid brought to another, as each source of DINOv2 and CLIP does it.

The three ways differ by several percent of the positions, so there is no default.
"""

from typing import Literal, get_args

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name

Resampling = Literal["bicubic", "bicubic_antialias", "bicubic_offset"]


def resample_positions(
    positions: np.ndarray, side: int, method: Resampling, *, prefix: int = 1
) -> np.ndarray:
    """Positions for a grid of `side` x `side` patches.

    - "bicubic_antialias": timm, open_clip, DINOv2 with registers in transformers and in Meta's code
    - "bicubic": DINOv2 in transformers; cubic weights with a = -0.75 at four source positions
    - "bicubic_offset": DINOv2 in Meta's code, the same with source coordinates scaled by (side + 0.1) / grid

    Args:
      positions: `[1, prefix + g * g, D]`, in reading order after the `prefix` rows, which are kept.

    Returns:
      `[1, prefix + side * side, D]` in the dtype of `positions`; computed in float64.

    Raises:
      JaxalignError: an unknown method, or a number of rows that is no square grid.
    """
    if method not in get_args(Resampling):
        raise unknown_name("resampling", method, get_args(Resampling))
    kept, grid = positions[:, :prefix], positions[:, prefix:]
    source = round(grid.shape[1] ** 0.5)
    if source * source != grid.shape[1] or not source:
        raise JaxalignError(
            f"{positions.shape[1]} positions are not {prefix} and a square grid; expected {prefix} + g * g"
        )
    if source == side:
        return positions
    weights = _weights(source, side, method)
    grid = grid[0].astype(np.float64).reshape(source, source, -1)
    grid = np.einsum("ip,jq,pqd->ijd", weights, weights, grid, optimize=True)
    return np.concatenate([kept, grid.reshape(1, side * side, -1).astype(positions.dtype)], 1)


def _weights(source: int, side: int, method: Resampling) -> np.ndarray:
    """The weight of each source row in each new one, [side, source]; edges are repeated, or left out with
    antialiasing."""
    scale = source / (side + 0.1) if method == "bicubic_offset" else source / side
    centre = (np.arange(side) + 0.5) * scale
    if method == "bicubic_antialias":
        width = max(scale, 1.0)  # the filter widens when it shrinks
        distance = (np.arange(source) + 0.5 - centre[:, None]) / width
        weights = _cubic(distance, -0.5)
        return weights / weights.sum(1, keepdims=True)
    weights = np.zeros((side, source))
    first = np.floor(centre - 0.5).astype(int)
    for tap in range(-1, 3):
        rows = np.clip(first + tap, 0, source - 1)
        np.add.at(weights, (np.arange(side), rows), _cubic(centre - 0.5 - (first + tap), -0.75))
    return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel, zero from a distance of 2 on."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
