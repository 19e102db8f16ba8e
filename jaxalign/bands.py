"""What the top, the middle and the bottom of the spectrum carry: figures 3 and S8 of the IsoCLIP paper.

A band is `(k_top, k_bottom)` everywhere, the numbers of directions that it leaves out.
"""

from __future__ import annotations  # help() shows them as they are written here

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.brief import brief_repr
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import is_count, normalize
from jaxalign.indicators import SimilarityHistograms
from jaxalign.projectors import MODALITIES, Projectors, decompose, isoclip
from jaxalign.ranking.cosine_ranking import cosine_rows, rank_statistics
from jaxalign.ranking.relevance import relevance_from_labels
from jaxalign.ranking.retrieval import check_pair, mean_percent

Band = tuple[int, int]
_ROWS = 256  # queries whose similarities are counted at a time


@struct.dataclass
class BandAnalysis:
    """Intra-modal similarities and retrieval in one band.

    Attributes:
      band: `(k_top, k_bottom)`.
      mAP: in percent.
      histograms: cosines of the query-gallery pairs, without each query itself: `same` are the positive
        pairs, `different` the negative ones, their sum the global distribution.
      positive_mean, negative_mean: mean cosine of the pairs of each kind; NaN without any.
    """

    __repr__ = brief_repr

    band: Band = struct.field(pytree_node=False)
    mAP: float  # noqa: N815, the field's name
    histograms: SimilarityHistograms
    positive_mean: float
    negative_mean: float


def spectral_regions(r: int, width: int = 50) -> dict[str, Band]:
    """The "top", "middle" and "bottom" bands of `width` directions each, out of r (section 4).

    The middle lies symmetrically around the midpoint of the spectrum, one direction nearer to the top where r
    and `width` are not both odd or both even. Raises JaxalignError unless 1 <= width <= r.

    Examples:
      >>> import jaxalign as ja
      >>> ja.spectral_regions(512)
      {'top': (0, 462), 'middle': (231, 231), 'bottom': (462, 0)}
    """
    if not (is_count(width) and width <= r):
        raise JaxalignError(f"width is {width}; expected 1 to {r}, the number of singular directions")
    above = (r - width) // 2
    return {"top": (0, r - width), "middle": (above, r - width - above), "bottom": (r - width, 0)}


def grown_bands(r: int, width: int = 50, step: int = 50) -> dict[str, list[Band]]:
    """The middle band of `width` directions, grown by `step` at a time towards one end (figure S8).

    Returns:
      "top" and "bottom", lists of bands that start with the middle one and end with all of that side.

    Raises:
      JaxalignError: unless 1 <= width <= r and step >= 1.

    Examples:
      >>> import jaxalign as ja
      >>> ja.grown_bands(200, width=50, step=50)
      {'top': [(75, 75), (25, 75), (0, 75)], 'bottom': [(75, 75), (75, 25), (75, 0)]}
    """
    if not is_count(step):
        raise JaxalignError(f"step is {step}; expected 1 or more directions")
    above, below = spectral_regions(r, width)["middle"]
    remaining = lambda k: [*range(k, 0, -step), 0]
    return {
        "top": [(k, below) for k in remaining(above)],
        "bottom": [(above, k) for k in remaining(below)],
    }


def analyse_bands(
    projectors: Projectors,
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: Any,
    gallery_labels: Any,
    *,
    bands: Mapping[str, Band] | None = None,
    modality: str = "image",
    exclude_self: bool | ArrayLike = False,
    bins: int = 100,
) -> dict[str, BandAnalysis]:
    """Similarity distributions and mAP of one modality in some bands of the inter-modal operator (figure 3).

    Args:
      projectors: both heads.
      query, gallery: pre-projection features of one modality, `[q, d_in]` and `[g, d_in]`.
      query_labels, gallery_labels, exclude_self: as in `retrieval_metrics`.
      bands: `(k_top, k_bottom)` by name; by default "all" of the spectrum, and the "top", "middle" and
        "bottom" of `spectral_regions`, 50 wide or a tenth of the spectrum where that is less.
      modality: which head the features belong to, "image" or "text".
      bins: of the histograms, equal ones over [-1, 1].

    Returns:
      By name of the band.

    Raises:
      JaxalignError: as `retrieval_metrics` and `isoclip`, no band, or bins below 1.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> heads = ja.Projectors(ja.Projector(np.eye(4)), ja.Projector(np.diag([8.0, 4.0, 2.0, 1.0])))
      >>> x = np.random.default_rng(0).normal(size=(12, 4))
      >>> y = np.arange(12) % 3
      >>> found = ja.analyse_bands(heads, x, x, y, y, bands={"middle": (1, 1)}, exclude_self=True)
      >>> sorted(found)
      ['middle']
    """
    if modality not in MODALITIES:
        raise unknown_name("modality", modality, MODALITIES)
    if not is_count(bins):
        raise JaxalignError(f"bins is {bins}; expected 1 or more")
    if isinstance(query, Tracer) or isinstance(gallery, Tracer):
        raise JaxalignError(
            "features are traced, but their pairs are counted on the host; call it outside jit"
        )
    query, gallery = check_pair(query, gallery, keep_lengths=True)
    relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, exclude_self)
    spectrum = decompose(projectors)
    r = spectrum.s.shape[0]
    if bands is None:
        bands = {"all": (0, 0), **spectral_regions(r, max(1, min(50, r // 10)))}
    if not bands:
        raise JaxalignError("bands is empty; expected at least one (k_top, k_bottom) by name")
    found = {}
    for name, band in bands.items():
        head = getattr(isoclip(projectors, *band, spectrum), modality)
        embedded = head(query)
        items = embedded if gallery is query else head(gallery)
        ranks = rank_statistics(embedded, items, relevance)
        found[name] = BandAnalysis(
            (int(band[0]), int(band[1])),
            mean_percent(ranks, ranks.average_precision),
            *_similarities(embedded, items, relevance, bins),
        )
    return found


def _similarities(
    query: jax.Array, gallery: jax.Array, relevance: Any, bins: int
) -> tuple[SimilarityHistograms, float, float]:
    """Histograms and means of the cosines of positive and of negative pairs, exact counts."""
    query, gallery = normalize(query), normalize(gallery)
    queries, items = query.shape[0], gallery.shape[0]
    size = min(_ROWS, queries)
    counts, sums = np.zeros((2, bins), np.int64), np.zeros(2)
    for start in range(0, queries, size):
        first = min(start, queries - size)  # one shape, one compilation: the last block reaches back
        scores = np.asarray(cosine_rows(query, gallery, first, size=size))[start - first :]
        rows = np.arange(start, start + len(scores))
        same, ignored = jax.tree.map(np.asarray, relevance).rows(rows, items)
        kept = np.ones(scores.shape, bool) if ignored is None else ~ignored
        bin_of = np.clip((scores + 1) * (bins / 2), 0, bins - 1).astype(np.int64)
        for kind, pairs in enumerate((kept & ~same, kept & same)):
            counts[kind] += np.bincount(bin_of[pairs], minlength=bins)
            sums[kind] += scores[pairs].sum(dtype=np.float64)
    total = counts.sum(1)
    negative, positive = sums / np.where(total == 0, np.nan, total)
    edges = np.linspace(-1, 1, bins + 1)
    return SimilarityHistograms(edges, counts[1], counts[0]), float(positive), float(negative)
