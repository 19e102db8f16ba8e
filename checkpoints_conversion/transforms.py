"""The named transforms of the rule tables: how a source tensor becomes one or several of ours.

PyTorch keeps a linear layer as (out, in) and a convolution as (out, in, height, width); Flax as (in, out) and
(height, width, in, out), attention with its heads apart: D width, H heads, h = D / H. Fused projections hold
query, key, value (or key, value) one below the other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Transform:
    """A transform by name.

    Attributes:
      source_shape: the source's shape, from the shapes of all targets; axes of length 1 are not compared.
      split: the source as views, one for each target, whose elements lie in the target's order (the number
        of axes may differ).
      may_be: other shapes that the source may have.
    """

    name: str
    source_shape: Callable[[list[Shape]], Shape]
    split: Callable[[np.ndarray, int], list[np.ndarray]]
    may_be: Callable[[list[Shape]], Shape] | None = None

    def fits(self, source: Shape, targets: list[Shape]) -> bool:
        accepted = [self.source_shape(targets), *([self.may_be(targets)] if self.may_be else [])]
        return any(_without_ones(source) == _without_ones(shape) for shape in accepted)


def _without_ones(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def _rows(x: np.ndarray, count: int) -> list[np.ndarray]:
    return np.split(x, count)


def _with_zero_row(x: np.ndarray, count: int) -> list[np.ndarray]:
    """Positions of the patches alone, the class token's being part of the token."""
    x = x.reshape(-1, x.shape[-1])
    return [np.concatenate([np.zeros((1, x.shape[-1]), x.dtype), x])]


value = Transform("value", lambda t: t[0], lambda x, n: [x])
flat = Transform("flat", lambda t: (math.prod(t[0]),), lambda x, n: [x])
linear = Transform("linear", lambda t: (t[0][1], t[0][0]), lambda x, n: [x.T])
to_heads = Transform("to_heads", lambda t: (t[0][1] * t[0][2], t[0][0]), lambda x, n: [x.T])
from_heads = Transform("from_heads", lambda t: (t[0][2], t[0][0] * t[0][1]), lambda x, n: [x.T])
conv = Transform(
    "conv", lambda t: (t[0][3], t[0][2], t[0][0], t[0][1]), lambda x, n: [x.transpose(2, 3, 1, 0)]
)
fused_heads = Transform(
    "fused_heads",
    lambda t: (len(t) * t[0][1] * t[0][2], t[0][0]),
    lambda x, n: [part.T for part in _rows(x, n)],
)
fused_bias = Transform("fused_bias", lambda t: (len(t) * math.prod(t[0]),), _rows)
query_value_bias = Transform(  # DINOv3's own files: a third for the keys that is masked, whatever it holds
    "query_value_bias", lambda t: (3 * math.prod(t[0]),), lambda x, n: _rows(x, 3)[::2]
)
patch_positions = Transform("patch_positions", lambda t: (t[0][0], t[0][1] - 1, t[0][2]), _with_zero_row)
must_be_zero = Transform("must_be_zero", lambda t: (), lambda x, n: [])
zeros = Transform("zeros", lambda t: (), lambda x, n: [])
