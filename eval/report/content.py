"""What a report shows beside the numbers of `metrics.json`: arrays for charts, pictures for examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from jaxalign.indicators import SimilarityHistograms
from jaxalign.sweep import BandSweep


@dataclass(frozen=True)
class Shown:
    """One picture of an example: uint8 `[h, w, 3]`, its name, and what it shares with the query."""

    name: str
    picture: np.ndarray
    shares: Literal["emoji", "group", "label", "nothing"] = "nothing"


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
class InversionTrace:
    """What an inversion has reached after how many steps.

    Attributes:
      losses: `[steps]`, mean loss before each step.
      kept: int `[k]`, the step counts at which the mAP was measured.
      precision: `[k]`, that mAP in percent.
      baseline: mAP in percent of the same queries as they are.
    """

    losses: np.ndarray
    kept: np.ndarray
    precision: np.ndarray
    baseline: float

    def as_json(self) -> dict[str, Any]:
        """The mean loss at the end, and mAP by step."""
        curve = zip(self.kept.tolist(), self.precision.tolist(), strict=True)
        return {"loss": float(self.losses[-1]), "mAP_by_step": {str(step): value for step, value in curve}}


@dataclass(frozen=True)
class ModelArrays:
    """The arrays of one model; what is absent is left out of the report.

    Attributes:
      singular_values: `[r]`, of the inter-modal operator.
      image_sweep, text_sweep: the band searches.
      histograms: of same-class and different-class pairs, by title of the method.
      inversions: by name, `OTI` for images and `OVI` for texts.
      examples: queries with their results before and after.
    """

    singular_values: np.ndarray | None = None
    image_sweep: BandSweep | None = None
    text_sweep: BandSweep | None = None
    histograms: Mapping[str, SimilarityHistograms] = field(default_factory=dict)
    inversions: Mapping[str, InversionTrace] = field(default_factory=dict)
    examples: Sequence[Example] = ()
