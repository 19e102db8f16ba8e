"""Rotary positions of the image towers that have them: EVA-02, the Perception Encoder and DINOv3.

Each rotates the queries and keys of patch tokens by angles that grow with the patch's row and column; a head
of width h has h / 4 frequencies for either. Class and register tokens stay as they are. The tables are no
parameters: some original files carry them, ours are computed in float32, operation by operation as in timm.

DINOv3: Meta's own files hold the periods rounded to bfloat16, while timm and transformers make them anew in
float32, and so is it here; sines differ by up to 6e-3 between the two.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

RopeKind = Literal["eva02", "pe", "dinov3"]
Rotation = tuple[jax.Array, jax.Array]  # sines and cosines, each [l, h] or [n, l, h]


def rotation_table(
    kind: RopeKind, side: int, head_width: int, *, reference: int | None = None, prefix: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Sines and cosines for `prefix` unrotated tokens and then `side` x `side` patches in reading order.

    Angles of the patch in row i and column j, with k = 0 .. h/4 - 1:

    - eva02: `i s 10000^(-4k/h)`, then the same of j; s = reference / side, so that finer grids span the
      same range
    - pe: `(j + 1) s 10000^(-4k/h)`, then the same of i: column first, counted from 1
    - dinov3: `2 pi y 100^(-4k/h)` with y = 2 (i + 0.5) / side - 1, then the same of j

    For eva02 and pe each angle serves two neighbouring channels, (0, 1), (2, 3), ...; for dinov3 channels c
    and c + h/2.

    Args:
      side: patches along each side.
      head_width: h, a multiple of 4.
      reference: patches along a side in pretraining (eva02, pe); `side` by default.

    Returns:
      Two arrays float32 `[prefix + side * side, head_width]`.
    """
    bands = head_width // 4
    exponent = np.arange(bands, dtype=np.float32) / np.float32(bands)
    if kind == "dinov3":
        position = 2 * ((np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)) - 1
        period = np.float32(100) ** exponent
        angle = np.float32(2 * np.pi) * position[:, None] / period  # [side, h / 4]
    else:
        position = np.arange(side, dtype=np.float32) + np.float32(kind == "pe")
        position = position / np.float32(side) * np.float32(reference or side)
        angle = position[:, None] * (1 / np.float32(10000) ** exponent)
    shape = (side, side, bands)
    rows = np.broadcast_to(angle[:, None], shape)
    columns = np.broadcast_to(angle[None], shape)
    both = [columns, rows] if kind == "pe" else [rows, columns]
    angles = np.concatenate(both, -1).reshape(side * side, 2 * bands)
    angles = np.tile(angles, 2) if rotates_halves(kind) else np.repeat(angles, 2, axis=1)
    padding = ((prefix, 0), (0, 0))  # angle 0: sine 0, cosine 1
    angles = np.pad(angles, padding)
    return np.sin(angles), np.cos(angles)


def rotates_halves(kind: RopeKind) -> bool:
    """Whether channel c turns with channel c + h/2, rather than with its neighbour."""
    return kind == "dinov3"


def rotate(x: jax.Array, rotation: Rotation, kind: RopeKind) -> jax.Array:
    """Turn queries or keys `x` [n, l, H, h] by the angles of `rotation` ([l, h] or [n, l, h])."""
    sin, cos = (table[..., None, :] for table in rotation)
    y = x.astype(jnp.float32)
    if rotates_halves(kind):
        first, second = jnp.split(y, 2, -1)
        turned = jnp.concatenate([-second, first], -1)
    else:
        turned = jnp.stack([-y[..., 1::2], y[..., ::2]], -1).reshape(y.shape)
    return (y * cos + turned * sin).astype(x.dtype)
