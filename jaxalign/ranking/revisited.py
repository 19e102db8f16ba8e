"""Revisited Oxford and Paris: three difficulties, junk, and their own average precision.

Radenovic et al., "Revisiting Oxford and Paris: Large-Scale Image Retrieval Benchmarking", CVPR 2018; the
numbers are those of its public evaluation code, which IsoCLIP and Reevaluating use.
"""

from __future__ import annotations  # help() shows them as they are written here

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError
from jaxalign.ranking.cosine_ranking import rank_statistics_of_each
from jaxalign.ranking.rank_order import RankStatistics
from jaxalign.ranking.relevance import Relevance, relevance_from_table
from jaxalign.ranking.retrieval import FIRST, check_pair

_LISTS = ("easy", "hard", "junk")
# Positives and ignored items of each setting (section 3.2 of the benchmark).
SETTINGS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "easy": (("easy",), ("junk", "hard")),
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
}
_DEPTHS = (1, 5, 10)


def revisited_metrics(
    query: ArrayLike,
    gallery: ArrayLike,
    ground_truth: Sequence[Mapping[str, Any]],
    *,
    block_size: int | None = None,
    dtype: Any = jnp.float32,
    mesh: Mesh | None = None,
    per_query: bool = False,
) -> dict[str, Any]:
    """mAP and mean P@1, 5, 10 of ROxford or RParis, in its easy, medium and hard settings, by cosine.

    Args:
      query: features `[q, d]` of the queries, cropped to their boxes before they were embedded.
      gallery: features `[g, d]`; with distractors (R1M), these after the data set's own images, in float16
        or bfloat16 if need be, which are used as they are, in blocks.
      ground_truth: one mapping per query with `easy`, `hard` and `junk`, sequences of gallery positions, as
        in the list `gnd` of the published `gnd_*.pkl`; other entries, such as the box, are not looked at.
      block_size, dtype, mesh, per_query: as in `retrieval_metrics`.

    Returns:
      For each setting, in percent and over the queries with positives in it, `mAP_easy`, with precision
      between two positives interpolated linearly (trapezoids under the precision-recall curve), `mP@1_easy`,
      `mP@5_easy`, `mP@10_easy`, and the count `queries_without_positives_easy`; likewise `medium` and `hard`.
      P@k divides by k, or by the rank of the last positive where that is smaller, as the public code does.
      NaN in a setting in which no query has positives. Ties are those of `jaxalign.ranking.rank_order`.

      With `per_query` also a mapping of that name: `mAP_easy` and so on, float32 `[q]` in percent, NaN for a
      query without positives; and `first_results`, int32 `[q, min(10, g)]`, each query's nearest items in the
      whole gallery, junk included.

    Raises:
      JaxalignError: as `retrieval_metrics`; or ground truth of another length, without one of the three
        lists, with positions out of range, or with a position in two lists.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> gallery = np.array([[1, 0.1], [0.5, 0.5], [0.1, 1]])
      >>> truth = [{"easy": [0], "hard": [1], "junk": [2]}]
      >>> found = ja.revisited_metrics(np.array([[1.0, 0.0]]), gallery, truth)
      >>> found["mAP_medium"]
      100.0
    """
    query, gallery = check_pair(query, gallery, streamed=True, mesh=mesh)
    lists = _check_ground_truth(ground_truth, query.shape[0], gallery.shape[0])
    relevances = [
        relevance_from_table(query, gallery, _joined(lists, positives), False, _joined(lists, ignored))
        for positives, ignored in SETTINGS.values()
    ]
    if per_query:
        nothing = np.full((query.shape[0], 1), gallery.shape[0], np.int32)
        relevances.append(Relevance(table=nothing))  # the whole gallery in its order
    depths = tuple(min(k, gallery.shape[0]) for k in _DEPTHS)
    ranked = rank_statistics_of_each(
        query,
        gallery,
        relevances,
        depths=depths,
        trapezoidal=True,
        first=min(FIRST, gallery.shape[0]) if per_query else 0,
        block_size=block_size,
        dtype=dtype,
        mesh=mesh,
    )
    metrics: dict[str, Any] = {}
    each: dict[str, np.ndarray] = {}
    for name, of in zip(SETTINGS, ranked, strict=False):
        ranks = RankStatistics(*map(np.asarray, of))
        metrics |= _percentages(name, ranks)
        each[f"mAP_{name}"] = 100 * ranks.average_precision.astype(np.float32)
    if not per_query:
        return metrics
    return metrics | {"per_query": each | {"first_results": np.asarray(ranked[-1].first)}}


def _percentages(name: str, ranks: RankStatistics) -> dict[str, float | int]:
    some = ranks.positives > 0
    mean = lambda values: 100 * float(values[some].mean(dtype=np.float64)) if some.any() else float("nan")
    metrics: dict[str, float | int] = {f"mAP_{name}": mean(ranks.average_precision)}
    for i, k in enumerate(_DEPTHS):
        metrics[f"mP@{k}_{name}"] = mean(ranks.hits[:, i] / np.clip(ranks.last_rank, 1, k))
    return metrics | {f"queries_without_positives_{name}": int(np.sum(~some))}


def _joined(lists: list[dict[str, np.ndarray]], names: tuple[str, ...]) -> list[np.ndarray]:
    return [np.concatenate([of_query[name] for name in names]) for of_query in lists]


def _check_ground_truth(
    ground_truth: Sequence[Mapping[str, Any]], queries: int, items: int
) -> list[dict[str, np.ndarray]]:
    if not isinstance(ground_truth, Sequence | np.ndarray):
        raise JaxalignError(
            f"ground_truth is a {type(ground_truth).__name__}; expected a list with one mapping per query,"
            " such as the entry 'gnd' of gnd_*.pkl"
        )
    if len(ground_truth) != queries:
        raise JaxalignError(
            f"ground_truth has {len(ground_truth)} entries; expected one per query, {queries}"
        )
    return [_check_entry(f"ground_truth[{i}]", entry, items) for i, entry in enumerate(ground_truth)]


def _check_entry(name: str, entry: Mapping[str, Any], items: int) -> dict[str, np.ndarray]:
    missing = [key for key in _LISTS if key not in entry]
    if missing:
        raise JaxalignError(
            f"{name} has no {' and no '.join(missing)}; expected easy, hard and junk, the lists of the"
            " revisited gnd_*.pkl (the original Oxford and Paris have ok and junk)"
        )
    lists = {}
    for key in _LISTS:
        positions = np.asarray(entry[key])
        if positions.size and (positions.ndim != 1 or positions.dtype.kind not in "iu"):
            raise JaxalignError(
                f"{name}[{key!r}] is {positions.dtype} of shape {positions.shape};"
                " expected gallery positions, integers [m]"
            )
        lists[key] = np.unique(positions.astype(np.int64))
    every, counts = np.unique(np.concatenate([*lists.values()]), return_counts=True)
    if every.size and (every[0] < 0 or every[-1] >= items):
        raise JaxalignError(
            f"{name} has positions from {every[0]} to {every[-1]};"
            f" expected 0 to {items - 1}, positions in the gallery"
        )
    if (counts > 1).any():
        raise JaxalignError(
            f"{name} has position {every[counts > 1][0]} in two of easy, hard and junk; expected it in one"
        )
    return lists
