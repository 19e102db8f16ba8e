"""Whether one method beats another on the same queries: Fisher's randomization test."""

from __future__ import annotations  # help() shows them as they are written here

import numpy as np
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError
from jaxalign.features import is_count

_BLOCK = 4 << 20  # signs that are drawn at a time
_ROUNDING = 1e-12  # of the sum of all differences: sums in another order are equal


def randomization_test(
    scores: ArrayLike, baseline: ArrayLike, *, permutations: int = 10_000, seed: int = 0
) -> float:
    """Two-sided p of the mean difference between two methods, paired over queries.

    If the methods were alike, each query could as well have its two scores exchanged. p is the share of such
    exchanges, each query's at even odds, whose mean difference is as far from 0 as the one found. Where
    there are at most `permutations` ways to exchange the scores that differ, all are counted and p is exact;
    otherwise so many are drawn, and the one found counts among them: p is at least 1 / (permutations + 1),
    where ranx, whose `fisher` test this is otherwise, may say 0.

    Smucker, Allan and Carterette, "A Comparison of Statistical Significance Tests for Information Retrieval
    Evaluation", CIKM 2007; Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010.

    Args:
      scores, baseline: of each query `[q]`, as in `per_query` of `retrieval_metrics`; numbers or booleans. A
        query in which either is NaN is left out.
      permutations: how many exchanges are drawn, at most 10^9.
      seed: of the draws: the same one gives the same p everywhere.

    Returns:
      A float in (0, 1]; 1 where no query differs. Runs on the host: not for use under `jit`.

    Raises:
      JaxalignError: other shapes than `[q]` twice, infinite scores, no query with both, or counts out of
        range.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> better = np.arange(20.0) + 1
      >>> ja.randomization_test(better, np.arange(20.0)) < 0.001
      True
    """
    difference = paired_differences(scores, baseline)
    if not is_count(permutations) or permutations > 10**9:
        raise JaxalignError(f"permutations is {permutations!r}; expected 1 to 1,000,000,000")
    if not is_count(seed + 1 if isinstance(seed, int) else seed):
        raise JaxalignError(f"seed is {seed!r}; expected an integer of 0 or more")
    difference = difference[difference != 0]
    total = difference.sum()
    least = abs(total) - _ROUNDING * np.abs(difference).sum()
    as_far = lambda exchanged: int((np.abs(total - 2 * (exchanged @ difference)) >= least).sum())
    if len(difference) < int(permutations).bit_length():
        ways = np.arange(2 ** len(difference))[:, None] >> np.arange(len(difference)) & 1
        return as_far(ways.astype(np.float64)) / len(ways)
    generator, found = np.random.default_rng(seed), 1
    size = max(1, _BLOCK // len(difference))
    for start in range(0, permutations, size):
        count = min(size, permutations - start)
        found += as_far(_draw(generator, count, len(difference)))
    return found / (permutations + 1)


def paired_differences(scores: ArrayLike, baseline: ArrayLike) -> np.ndarray:
    """`scores - baseline` float64 `[k]` of the queries that have both.

    Raises:
      JaxalignError: other shapes than `[q]` twice, infinite scores, or no query with both.
    """
    mine, other = np.asarray(scores, np.float64), np.asarray(baseline, np.float64)
    if mine.ndim != 1 or mine.shape != other.shape:
        raise JaxalignError(
            f"scores have shape {mine.shape}, those of the baseline {other.shape}; expected one number for"
            " each query, of the same queries"
        )
    if np.isinf(mine).any() or np.isinf(other).any():
        raise JaxalignError("scores are infinite; expected finite numbers, or NaN for a query without one")
    difference = mine - other
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        raise JaxalignError(f"none of the {len(mine)} queries has a score under both methods")
    return difference


def _draw(generator: np.random.Generator, rows: int, width: int) -> np.ndarray:
    """0 or 1 at even odds, float64 `[rows, width]`."""
    bits = np.frombuffer(generator.bytes((rows * width + 7) // 8), np.uint8)
    return np.unpackbits(bits, count=rows * width).reshape(rows, width).astype(np.float64)
