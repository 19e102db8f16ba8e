"""The pictures of a split that can be read: what a measurement sees of it."""

from dataclasses import dataclass, replace

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.eval.datasets import Examples
from jaxalign.eval.protocols import Result

from .workspace import Workspace


@dataclass(frozen=True, eq=False)
class Readable:
    """A split without the pictures that were left out, n of them.

    Attributes:
      examples: those that can be read.
      pre: float32 `[n, d_image]`, their pre-projection features.
      rows: int `[n]`, ascending: their positions in the whole split.
      left_out: ids of the others; there are some only where the workspace allows that.
    """

    examples: Examples
    pre: np.ndarray
    rows: np.ndarray
    left_out: tuple[str, ...]

    @property
    def origin(self) -> str:
        """Data set and split, for people."""
        return f"{self.examples.dataset}/{self.examples.split}"


def read_pictures(workspace: Workspace, model: DualEncoder, examples: Examples) -> Readable:
    """The readable pictures of a split with their features, which are computed where the store lacks them.

    Raises:
      JaxalignError: as `jaxalign.eval.features.image_features`.
    """
    found = workspace.images(model, examples)
    shown = examples.select(found.rows) if found.left_out else examples
    return Readable(shown, found.values, found.rows, found.left_out)


def naming_left_out(result: Result, *parts: Readable | None) -> Result:
    """`result`, with the names of what was left out of the parts that it is about."""
    lost = {part.origin: part.left_out for part in parts if part is not None and part.left_out}
    return replace(result, left_out=lost)
