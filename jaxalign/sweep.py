"""Choosing the band (IsoCLIP) or the rank (PCA<-): by labelled retrieval, or from the spectrum alone."""

import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.projectors import Projectors, Spectrum, decompose, isoclip
from jaxalign.ranking import Relevance, as_features, rank_statistics
from jaxalign.retrieval import check_pair, mean_percent, relevance_from_labels
from jaxalign.subspace import principal_subspace

_MODALITIES = ("image", "text")


@struct.dataclass
class BandSweep:
    """mAP in percent `[a, b]` over `k_top` `[a]` and `k_bottom` `[b]`; NaN where the band would be empty.

    `best` is the `(k_top, k_bottom)` of the highest mAP: among equals, the one that removes fewest
    directions, then the smaller `k_top`.
    """

    k_top: np.ndarray
    k_bottom: np.ndarray
    mAP: np.ndarray  # noqa: N815, the field's name
    best: tuple[int, int] = struct.field(pytree_node=False)


@struct.dataclass
class RankSweep:
    """mAP in percent `[a]` over `ranks` `[a]`; NaN where the texts span fewer directions.

    `best` is the rank of the highest mAP: among equals the largest, which removes fewest directions.
    """

    ranks: np.ndarray
    mAP: np.ndarray  # noqa: N815, the field's name
    best: int = struct.field(pytree_node=False)


def sweep_bands(
    projectors: Projectors,
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: Any,
    gallery_labels: Any,
    *,
    k_top: Iterable[int],
    k_bottom: Iterable[int],
    modality: str = "image",
    exclude_self: bool | ArrayLike = False,
    block_size: int | None = None,
) -> BandSweep:
    """Retrieval mAP of IsoCLIP for every band of a grid (supplement, section G), compiled once for all.

    Args:
      projectors: both heads.
      query, gallery: pre-projection features of one modality, `[q, d_in]` and `[g, d_in]`.
      query_labels, gallery_labels, exclude_self, block_size: as in `retrieval_metrics`.
      k_top, k_bottom: the grid's axes, numbers of directions.
      modality: which head the features belong to, "image" or "text".

    Raises:
      JaxalignError: as `retrieval_metrics` and `isoclip`, or a grid without one valid band.
    """
    if modality not in _MODALITIES:
        raise unknown_name("modality", modality, _MODALITIES)
    tops, bottoms = _check_axis("k_top", k_top), _check_axis("k_bottom", k_bottom)
    query, gallery = check_pair(query, gallery)
    relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, exclude_self)
    spectrum = decompose(projectors)
    r = spectrum.s.shape[0]
    scores = np.full((len(tops), len(bottoms)), np.nan)
    for (i, top), (j, bottom) in ((a, b) for a in enumerate(tops) for b in enumerate(bottoms)):
        if top + bottom < r:
            project = lambda x, k=(top, bottom): _project_band(projectors, spectrum, x, *k, modality)
            scores[i, j] = _mean_ap(project, query, gallery, relevance, block_size)
    if np.isnan(scores).all():
        raise JaxalignError(
            f"every band of the grid is empty: k_top from {min(tops)} and k_bottom from {min(bottoms)}"
            f" leave none of the {r} singular directions; pass smaller values"
        )
    removed = [(top + bottom, top) for top in tops for bottom in bottoms]
    at = _best(scores.ravel(), removed)
    best = (tops[at // len(bottoms)], bottoms[at % len(bottoms)])
    return BandSweep(k_top=np.array(tops), k_bottom=np.array(bottoms), mAP=scores, best=best)


def sweep_ranks(
    text_embeddings: ArrayLike,
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: Any,
    gallery_labels: Any,
    *,
    ranks: Iterable[int],
    center: bool = True,
    normalize: bool = False,
    exclude_self: bool | ArrayLike = False,
    block_size: int | None = None,
) -> RankSweep:
    """Retrieval mAP of PCA<- for every rank; one decomposition, and one compilation, for all of them.

    Args:
      text_embeddings: `[n, d]`; `center` and `normalize` as in `principal_subspace`.
      query, gallery: embeddings of one modality, `[q, d]` and `[g, d]`.
      query_labels, gallery_labels, exclude_self, block_size: as in `retrieval_metrics`.
      ranks: how many principal directions to keep.

    Raises:
      JaxalignError: as `retrieval_metrics` and `principal_subspace`, or no rank that the texts span.
    """
    axis = _check_axis("ranks", ranks)
    query, gallery = check_pair(query, gallery)
    relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, exclude_self)
    texts = as_features("text_embeddings", text_embeddings)
    spanned = min(texts.shape[0] - center, texts.shape[1])
    subspace = principal_subspace(texts, spanned, center=center, normalize=normalize)
    scores = np.full(len(axis), np.nan)
    for i, rank in enumerate(axis):
        if 1 <= rank <= spanned:
            project = lambda x, k=rank: _project_rank(subspace.basis, x, k)
            scores[i] = _mean_ap(project, query, gallery, relevance, block_size)
    if np.isnan(scores).all():
        raise JaxalignError(
            f"ranks go from {min(axis)} to {max(axis)}, but the texts span {spanned} directions;"
            f" expected ranks from 1 to {spanned}"
        )
    best = axis[_best(scores, [(-rank, 0) for rank in axis])]
    return RankSweep(ranks=np.array(axis), mAP=scores, best=best)


def select_band(spectrum: Spectrum, *, tolerance: float = 0.1) -> tuple[int, int]:
    """A band `(k_top, k_bottom)` from the singular values alone, without labels or features.

    The paper keeps "the relatively flat central region" of the spectrum and finds its ends by retrieval on a
    labelled set. Here the ends are where the spectrum leaves its own centre: a straight line is fitted to the
    logarithms of the central third of the singular values, and the band grows from there, on each side, for
    as long as the singular values are within `tolerance` (relative) of the line. A spectrum that is flat, or
    falls evenly, is kept whole: it has no ends that differ from its centre. Since the central third always
    stays, the band is never empty. Singular values that are zero up to rounding are removed with the bottom.

    The rule knows nothing of the modality, whereas the paper's bands for text remove fewer top directions
    than those for images: prefer `sweep_bands` where labels are at hand.

    Args:
      spectrum: `decompose(projectors)`, concrete.
      tolerance: positive; how far from the line still counts as isotropic, 0.1 being 10 percent.

    Returns:
      Python integers, so not for use under `jit`.

    Raises:
      JaxalignError: a tolerance that is not positive, or singular values that are traced or all zero.
    """
    if isinstance(spectrum.s, Tracer):
        raise JaxalignError("select_band returns integers, but the spectrum is traced; call it outside jit")
    if not tolerance > 0:
        raise JaxalignError(f"tolerance is {tolerance}; expected a positive number, such as 0.1")
    s = np.asarray(spectrum.s, np.float64)
    zero = s[0] * len(s) * np.finfo(np.float32).eps
    r = int(np.sum(s > zero))
    if r == 0:
        raise JaxalignError("all singular values are zero; expected the spectrum of trained projectors")
    log = np.log(s[:r])
    start, stop = r // 3, r - r // 3
    index = np.arange(r)
    centre = slice(start, stop)
    slope, level = np.polyfit(index[centre], log[centre], 1) if stop - start > 1 else (0.0, log[start])
    isotropic = np.abs(log - (slope * index + level)) <= np.log1p(tolerance)
    before, after = np.flatnonzero(~isotropic[:start]), np.flatnonzero(~isotropic[stop:])
    k_top = int(before[-1]) + 1 if before.size else 0
    end = stop + int(after[0]) if after.size else r
    return k_top, len(s) - end


@jax.jit
def _project_rank(basis: jax.Array, x: jax.Array, rank: ArrayLike) -> jax.Array:
    """Coordinates in the first `rank` directions: the same cosines as those of the projected embeddings."""
    coordinates = jnp.matmul(x, basis, precision=jax.lax.Precision.HIGHEST)
    return coordinates * (jnp.arange(basis.shape[1]) < rank)


def _project(
    projectors: Projectors,
    spectrum: Spectrum,
    x: jax.Array,
    k_top: ArrayLike,
    k_bottom: ArrayLike,
    modality: str,
) -> jax.Array:
    return getattr(isoclip(projectors, k_top, k_bottom, spectrum), modality)(x)


_project_band = jax.jit(_project, static_argnums=5)


def _mean_ap(
    project: Any, query: jax.Array, gallery: jax.Array, relevance: Relevance, block_size: int | None
) -> float:
    projected = project(query)
    other = projected if gallery is query else project(gallery)
    ranks = rank_statistics(projected, other, relevance, block_size=block_size)
    return mean_percent(ranks, ranks.average_precision)


def _check_axis(name: str, values: Iterable[int]) -> list[int]:
    try:
        axis = [operator.index(value) for value in values]
    except TypeError:
        raise JaxalignError(f"{name} is {values!r}; expected a sequence of integers") from None
    if not axis or min(axis) < 0:
        raise JaxalignError(f"{name} is {axis}; expected one or more integers, none of them negative")
    return axis


def _best(scores: np.ndarray, removed: list[tuple[int, int]]) -> int:
    """Position of the highest score, and of the least removed among equals."""
    candidates = np.flatnonzero(scores == np.nanmax(scores))
    return int(min(candidates, key=lambda at: removed[at]))
