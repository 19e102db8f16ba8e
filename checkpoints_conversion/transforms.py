"""The named transforms of the rule tables: where a source tensor lies in ours.

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
      views: of the targets, C-contiguous arrays; stacked along their first axes they have their elements in
        the order of the source, which is written into them (`jaxalign.weights.stored.fill`).
    """

    name: str
    source_shape: Callable[[list[Shape]], Shape]
    views: Callable[[list[np.ndarray]], list[np.ndarray]]

    def fits(self, source: Shape, targets: list[Shape]) -> bool:
        return _without_ones(source) == _without_ones(self.source_shape(targets))


def _without_ones(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)


def _flat(targets: list[np.ndarray]) -> list[np.ndarray]:
    return [x.reshape(-1) for x in targets]


def _rows_of_heads(targets: list[np.ndarray]) -> list[np.ndarray]:
    """[D, H, h] as (H h, D)."""
    return [x.reshape(x.shape[0], -1).T for x in targets]


def _rows_by_turns(targets: list[np.ndarray]) -> list[np.ndarray]:
    """The first row of each, then the second of each, and so on."""
    return [x[i].reshape(-1) for i in range(len(targets[0])) for x in targets]


def _without_key(targets: list[np.ndarray]) -> list[np.ndarray]:
    query, value = _flat(targets)
    return [query, np.empty_like(query), value]


value = Transform("value", lambda t: t[0], _flat)
rows = Transform("rows", lambda t: t[0][1:], _flat)  # ours has one axis more, of length 1, before them
scalar = Transform("scalar", lambda t: (), _flat)  # ours is of shape (1,)
flat = Transform("flat", lambda t: (math.prod(t[0]),), _flat)
stacked = Transform("stacked", lambda t: (len(t), *t[0]), _flat)  # a target for each block
linear = Transform("linear", lambda t: (t[0][1], t[0][0]), lambda t: [t[0].T])
to_heads = Transform("to_heads", lambda t: (t[0][1] * t[0][2], t[0][0]), _rows_of_heads)
from_heads = Transform(
    "from_heads", lambda t: (t[0][2], t[0][0] * t[0][1]), lambda t: [t[0].reshape(-1, t[0].shape[2]).T]
)
conv = Transform(
    "conv", lambda t: (t[0][3], t[0][2], t[0][0], t[0][1]), lambda t: [t[0].transpose(3, 2, 0, 1)]
)
rows_of_heads = Transform("rows_of_heads", lambda t: (t[0][0] * t[0][1], t[0][2]), _flat)  # (in, out)
fused_heads = Transform("fused_heads", lambda t: (len(t) * t[0][1] * t[0][2], t[0][0]), _rows_of_heads)
fused_bias = Transform("fused_bias", lambda t: (len(t) * math.prod(t[0]),), _flat)
fused_columns = Transform(  # (in, out), query, key and value beside each other
    "fused_columns", lambda t: (t[0][0], len(t) * t[0][1] * t[0][2]), _rows_by_turns
)
query_value_bias = Transform(  # DINOv3's own files: a third for the keys that is masked, whatever it holds
    "query_value_bias", lambda t: (3 * math.prod(t[0]),), _without_key
)
patch_positions = Transform(  # without the class token's, which is part of the token: ours is zero
    "patch_positions", lambda t: (t[0][0], t[0][1] - 1, t[0][2]), lambda t: [t[0][0, 1:].reshape(-1)]
)
must_be_zero = Transform("must_be_zero", lambda t: (), lambda t: [])
zeros = Transform("zeros", lambda t: (), lambda t: [])
