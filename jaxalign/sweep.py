"""Choosing the band (IsoCLIP) or the rank (PCA<-) by labelled retrieval."""

from __future__ import annotations  # help() shows them as they are written here

import operator
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.band_precision import Coordinates, band_average_precision, list_positives
from jaxalign.brief import brief_repr
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import as_floats, is_count
from jaxalign.projectors import MODALITIES, Projector, Projectors, decompose, directions
from jaxalign.ranking.cosine_ranking import rank_statistics
from jaxalign.ranking.relevance import Positions, Relevance
from jaxalign.ranking.retrieval import check_pair, relevance_from_labels
from jaxalign.sharding import check_mesh
from jaxalign.subspace import spanned_subspace

_MOST_COUNTED = 128  # positives of a query; beyond, sorting its gallery is cheaper than counting for each


@struct.dataclass
class BandSweep:
    """mAP in percent `[a, b]` over `k_top` `[a]` and `k_bottom` `[b]`; NaN where the band would be empty.

    `best` is the `(k_top, k_bottom)` of the highest mAP: among equals, the one that removes fewest
    directions, then the smaller `k_top`.
    """

    __repr__ = brief_repr

    k_top: np.ndarray
    k_bottom: np.ndarray
    mAP: np.ndarray  # noqa: N815, the field's name
    best: tuple[int, int] = struct.field(pytree_node=False)

    def _repr_html_(self) -> str:
        """The table of the bands for notebooks, the best one in bold."""
        cell = lambda i, j: f"<b>{self.mAP[i, j]:.2f}</b>" if (i, j) == best else f"{self.mAP[i, j]:.2f}"
        best = (list(self.k_top).index(self.best[0]), list(self.k_bottom).index(self.best[1]))
        head = "".join(f"<th>{k}</th>" for k in self.k_bottom)
        rows = (
            f"<tr><th>{k}</th>{''.join(f'<td>{cell(i, j)}</td>' for j in range(len(self.k_bottom)))}</tr>"
            for i, k in enumerate(self.k_top)
        )
        return f"<table><tr><th>k_top / k_bottom</th>{head}</tr>{''.join(rows)}</table>"


@struct.dataclass
class RankSweep:
    """mAP in percent `[a]` over `ranks` `[a]`; NaN where the texts span fewer directions.

    `best` is the rank of the highest mAP: among equals the largest, which removes fewest directions.
    """

    __repr__ = brief_repr

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
    mesh: Mesh | None = None,
) -> BandSweep:
    """Retrieval mAP of IsoCLIP for every band of a grid (supplement, section G), compiled once for all.

    Args:
      projectors: both heads.
      query, gallery: pre-projection features of one modality, `[q, d_in]` and `[g, d_in]`.
      query_labels, gallery_labels, exclude_self, block_size, mesh: as in `retrieval_metrics`.
      k_top, k_bottom: the grid's axes, numbers of directions.
      modality: which head the features belong to, "image" or "text".

    Raises:
      JaxalignError: as `retrieval_metrics` and `isoclip`, or a grid without one valid band.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> heads = ja.Projectors(ja.Projector(np.eye(4)), ja.Projector(np.diag([8.0, 4.0, 2.0, 1.0])))
      >>> x = np.random.default_rng(0).normal(size=(12, 4))
      >>> y = np.arange(12) % 3
      >>> found = ja.sweep_bands(heads, x, x, y, y, k_top=[0, 1], k_bottom=[0, 1, 2], exclude_self=True)
      >>> found.mAP.shape
      (2, 3)
    """
    if modality not in MODALITIES:
        raise unknown_name("modality", modality, MODALITIES)
    tops, bottoms = _check_axis("k_top", k_top), _check_axis("k_bottom", k_bottom)
    query, gallery = check_pair(query, gallery, keep_lengths=True)
    relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, exclude_self)
    coordinates = _band_coordinates(projectors, query, gallery, modality)
    r = coordinates.directions.shape[0]
    if min(tops) + min(bottoms) >= r:
        raise JaxalignError(
            f"every band of the grid is empty: k_top from {min(tops)} and k_bottom from {min(bottoms)}"
            f" leave none of the {r} singular directions; pass smaller values"
        )
    scores = _mean_ap(coordinates, relevance, tops, bottoms, block_size, mesh)
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
    mean: ArrayLike | None = None,
    exclude_self: bool | ArrayLike = False,
    block_size: int | None = None,
    mesh: Mesh | None = None,
) -> RankSweep:
    """Retrieval mAP of PCA<- for every rank; one decomposition, and one compilation, for all of them.

    Args:
      text_embeddings: `[n, d]`; `center` and `normalize` as in `principal_subspace`.
      mean: `[d]`, that of the image embeddings, for the mean adjustment of eq. 12; none by default.
      query, gallery: embeddings of one modality, `[q, d]` and `[g, d]`.
      query_labels, gallery_labels, exclude_self, block_size, mesh: as in `retrieval_metrics`.
      ranks: how many principal directions to keep.

    Raises:
      JaxalignError: as `retrieval_metrics` and `principal_subspace`, or no rank that the texts span.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> texts, x = np.split(np.random.default_rng(0).normal(size=(24, 8)), 2)
      >>> y = np.arange(12) % 3
      >>> ja.sweep_ranks(texts, x, x, y, y, ranks=[2, 4], exclude_self=True).mAP.shape
      (2,)
    """
    axis = _check_axis("ranks", ranks)
    query, gallery = check_pair(query, gallery, keep_lengths=mean is not None)
    relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, exclude_self)
    subspace = spanned_subspace(text_embeddings, center=center, normalize=normalize)
    spanned = subspace.basis.shape[1]
    within = [rank for rank in axis if 1 <= rank <= spanned]
    if not within:
        raise JaxalignError(
            f"ranks go from {min(axis)} to {max(axis)}, but the texts span {spanned} directions;"
            f" expected ranks from 1 to {spanned}"
        )
    coordinates = _rank_coordinates(subspace.basis, query, gallery, mean)
    bottoms = [spanned - rank for rank in within]
    found = _mean_ap(coordinates, relevance, [0], bottoms, block_size, mesh)[0]
    scores = np.full(len(axis), np.nan)
    scores[[i for i, rank in enumerate(axis) if rank in within]] = found
    best = axis[_best(scores, [(-rank, 0) for rank in axis])]
    return RankSweep(ranks=np.array(axis), mAP=scores, best=best)


def _band_coordinates(
    projectors: Projectors, query: jax.Array, gallery: jax.Array, modality: str
) -> Coordinates:
    basis, embedded = directions(projectors, decompose(projectors), modality)
    head = getattr(projectors, modality)
    to_basis = Projector(basis) if head.bias is None else Projector(basis[:-1], basis[-1])

    def coordinates(x: jax.Array) -> jax.Array:
        return _largest_is_one(to_basis(x), axis=-1)  # cosines do not depend on the scale

    return Coordinates(
        query=coordinates(query),
        gallery=coordinates(gallery),
        directions=_largest_is_one(embedded, axis=None),
        offset=jnp.zeros(embedded.shape[1], embedded.dtype),
    )


def _rank_coordinates(
    basis: jax.Array, query: jax.Array, gallery: jax.Array, mean: ArrayLike | None
) -> Coordinates:
    to_basis = Projector(basis)
    if mean is None:
        coordinates = lambda x: _largest_is_one(to_basis(x), axis=-1)
        return Coordinates(coordinates(query), coordinates(gallery), basis.T, jnp.zeros(basis.shape[0]))
    mean = as_floats("mean", mean).astype(jnp.float32)
    if mean.shape != basis.shape[:1]:
        raise JaxalignError(
            f"mean has shape {mean.shape}; expected {basis.shape[:1]}, the width of the embeddings"
        )
    # mean + Q L Q^T (x - mean) is Q L Q^T x + Q (1 - L) Q^T mean.
    return Coordinates(to_basis(query - mean), to_basis(gallery - mean), basis.T, mean)


def _largest_is_one(x: jax.Array, axis: int | None) -> jax.Array:
    largest = jnp.max(jnp.abs(x), axis=axis, keepdims=True)
    return x / jnp.where(largest == 0, 1, largest)


def _mean_ap(
    coordinates: Coordinates,
    relevance: Relevance,
    tops: list[int],
    bottoms: list[int],
    block_size: int | None,
    mesh: Mesh | None,
) -> np.ndarray:
    """mAP in percent `[a, b]`, NaN where the band is empty."""
    if block_size is not None and not is_count(block_size):
        raise JaxalignError(f"block_size is {block_size}; expected a positive number of queries, or None")
    mesh = None if mesh is None else check_mesh(mesh)
    count = _count_positives(relevance)
    if not count.any():
        raise JaxalignError(
            f"none of the {count.size} queries has a positive in the gallery;"
            " check that query and gallery labels name the same classes"
        )
    k_top, k_bottom = np.array(tops), np.array(bottoms)
    total = np.zeros((len(tops), len(bottoms)))
    most = (
        _MOST_COUNTED if relevance.ignored is None else 0
    )  # counting knows of no more than the query itself
    few = np.flatnonzero((count > 0) & (count <= most))
    many = np.flatnonzero(count > most)
    if few.size:
        some, theirs = _queries(coordinates, relevance, few)
        found = band_average_precision(some, list_positives(theirs), k_top, k_bottom, block_size, mesh)
        total += found.sum(2, dtype=np.float64)
    r = coordinates.directions.shape[0]
    empty = k_top[:, None] + k_bottom >= r
    if many.size:
        some, theirs = _queries(coordinates, relevance, many)
        for i, j in np.argwhere(~empty):
            query, gallery = _embed(some, tops[i], r - bottoms[j])
            ranks = rank_statistics(query, gallery, theirs, block_size=block_size, mesh=mesh)
            total[i, j] += np.sum(ranks.average_precision, dtype=np.float64)
    return np.where(empty, np.nan, 100 * total / (few.size + many.size))


def _count_positives(relevance: Relevance) -> np.ndarray:
    """How many positives each query has, int `[q]`."""
    codes, gallery_codes = np.asarray(relevance.query_codes), np.asarray(relevance.gallery_codes)
    if relevance.ignored is not None:
        positions = Positions(relevance, len(gallery_codes))
        return np.array([len(positions.of(query)[0]) for query in range(len(codes))])
    count = np.bincount(gallery_codes, minlength=codes.max() + 1)[codes]
    if relevance.self_index is None:
        return count
    itself = np.asarray(relevance.self_index)
    return count - ((itself >= 0) & (gallery_codes[itself] == codes))


def _queries(
    coordinates: Coordinates, relevance: Relevance, rows: np.ndarray
) -> tuple[Coordinates, Relevance]:
    """The same problem for some of the queries."""
    of = lambda field: None if field is None else np.asarray(field)[rows]
    return (
        coordinates._replace(query=coordinates.query[rows]),
        relevance._replace(
            query_codes=of(relevance.query_codes),
            self_index=of(relevance.self_index),
            ignored=of(relevance.ignored),
        ),
    )


@jax.jit
def _embed(x: Coordinates, start: ArrayLike, stop: ArrayLike) -> tuple[jax.Array, jax.Array]:
    place = jnp.arange(x.directions.shape[0])
    inside = (place >= start) & (place < stop)
    product = lambda c: jnp.matmul(c * inside, x.directions, precision=jax.lax.Precision.HIGHEST)
    return x.offset + product(x.query), x.offset + product(x.gallery)


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
