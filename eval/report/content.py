"""What a report shows beside the numbers of `metrics.json`: arrays for charts, pictures for examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from jaxalign.indicators import SimilarityHistograms
from jaxalign.sweep import BandSweep


@dataclass(frozen=True)
class Shown:
    """One picture of an example: uint8 `[h, w, 3]`, its name, and what it shares with the query."""

    name: str
    picture: np.ndarray
    shares: Literal["emoji", "group", "nothing"] = "nothing"


@dataclass(frozen=True)
class Example:
    """A query with its first results under two methods.

    Attributes:
      reason: why this query is shown, for example "gains the most".
      results: by title of the method, best result first.
    """

    query: Shown
    reason: str
    results: Mapping[str, Sequence[Shown]]


@dataclass(frozen=True)
class ModelArrays:
    """The arrays of one model; what is absent is left out of the report.

    Attributes:
      singular_values: `[r]`, of the inter-modal operator.
      image_sweep, text_sweep: the band searches.
      histograms: of same-class and different-class pairs, by title of the method.
      losses: `[steps]`, mean loss of the inversion at each step.
      examples: queries with their results before and after.
    """

    singular_values: np.ndarray | None = None
    image_sweep: BandSweep | None = None
    text_sweep: BandSweep | None = None
    histograms: Mapping[str, SimilarityHistograms] = field(default_factory=dict)
    losses: np.ndarray | None = None
    examples: Sequence[Example] = ()
