"""A few-shot method as a record: how it is fitted, what it takes, and the hyper-parameters that are tried."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxalign.classifiers.base import Classifier

DEFAULT, PUBLISHED = "default", "published"


@dataclass(frozen=True, eq=False)
class Grid:
    """Values to choose from on validation features.

    Attributes:
      axes: values by hyper-parameter, ascending.
      ties: among equal accuracies the smallest value of the first of these is chosen, then of the second.
      rounds: how often it is searched: each time after the first as many values from half the best one to
        one and a half of it.
      name: "default", "published", or "published:NAME" where the published values are those for a data set.
    """

    axes: Mapping[str, np.ndarray]
    ties: tuple[str, ...] = ("alpha", "gamma", "beta")
    rounds: int = 1
    name: str = DEFAULT

    def around(self, best: Mapping[str, float]) -> Mapping[str, np.ndarray]:
        """The axes of the next round."""
        return {name: steps(best[name] / 2, 1.5 * best[name], len(axis)) for name, axis in self.axes.items()}


def steps(low: float, high: float, count: int) -> np.ndarray:
    """`count` values from `low` on, `high` not among them, as all of the published codes have it."""
    return np.arange(count) * (high - low) / count + low


@dataclass(frozen=True, eq=False)
class FewShotMethod:
    """What there is to know of a few-shot method; `FEW_SHOT` has all of them by name.

    Attributes:
      name: on the command line and in runs.
      fit: gives the classifier of features, labels, `num_classes`, `text_weights` and options.
      grid: values that we try.
      needs_text: whether it does nothing without class-name embeddings.
      keeps_lengths: whether it has the option `normalize`; the others always compare directions.
      takes_bank: whether it has the option `text_bank`.
      reference: options by which it does what the published code does.
      published: the grids of the published code by data set; one of an empty name is for all of them.
      published_options: of `fit`, too, by data set, for embeddings `published_width` wide.
    """

    name: str
    fit: Callable[..., Classifier]
    grid: Grid
    needs_text: bool = False
    keeps_lengths: bool = False
    takes_bank: bool = False
    reference: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Grid] = field(default_factory=dict)
    published_options: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    published_width: int | None = None
