"""The rule tables read backwards: our parameters as the tensors that a file of a format has.

A transform gives views of our arrays that have, one after the other, the elements of the source in its order
(`jaxalign.conversion.transforms`). Reading writes into these views; here they are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .engine import Format, bindings
from .transforms import Shape, Transform, zeros


@dataclass(frozen=True)
class Source:
    """A tensor of a file, which is made of ours when it is asked for."""

    transform: Transform
    targets: tuple[Any, ...]

    @property
    def shape(self) -> Shape:
        return self.transform.source_shape([x.shape for x in self.targets])

    @property
    def size(self) -> int:
        return sum(x.size for x in self.targets)

    @property
    def dtype(self) -> Any:
        return self.targets[0].dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        views = self.transform.views([np.asarray(x, order="C") for x in self.targets])
        whole = np.concatenate(views).reshape(self.shape)
        return whole.astype(dtype or self.dtype, copy=False)


def source_tensors(format: Format, params: Mapping[str, Any]) -> tuple[dict[str, Source], list[str]]:
    """What a file of `format` has of `params`, by name; of several names of a tensor, the first.

    Args:
      params: arrays by the path of the parameter.

    Returns:
      The tensors, and the parameters for which the format has no place.
    """
    out: dict[str, Source] = {}
    placed: set[str] = set()
    shapes = {path: array.shape for path, array in params.items()}
    for rule in format.rules:
        if rule.added or not rule.targets:
            continue
        for numbers in bindings(rule, (), shapes):
            targets = [target.format(**numbers) for target in rule.targets]
            if not all(target in params for target in targets):
                continue  # the file's tensor is of more than the model has: nothing is placed
            if rule.transform is zeros and np.any(np.asarray(params[targets[0]])):
                continue
            placed.update(targets)
            if rule.source:
                name = rule.source.split("|")[0].format(**numbers)
                out[name] = Source(rule.transform, tuple(params[target] for target in targets))
    return out, sorted(params.keys() - placed)
