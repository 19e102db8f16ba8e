"""Queries that are in the gallery: the positions of each, int `[q, m]`, filled up with -1."""

import numpy as np
from jax.typing import ArrayLike

from jaxalign.eval.datasets.examples import padded


def exclusion(own: np.ndarray) -> bool | np.ndarray:
    """What `exclude_self` of `ja.retrieval_metrics` takes for `own`; False where no query is there."""
    if (own < 0).all():
        return False
    return own[:, 0] if own.shape[1] == 1 and (own >= 0).all() else own


def positions(exclude_self: bool | ArrayLike, queries: int) -> np.ndarray:
    """The inverse: `[q, m]`, of whatever `exclude_self` is."""
    if isinstance(exclude_self, bool):
        return np.arange(queries)[:, None] if exclude_self else np.full((queries, 1), -1)
    return np.asarray(exclude_self).reshape(queries, -1)


def renumber(own: np.ndarray, queries: np.ndarray, items: np.ndarray) -> np.ndarray:
    """`own` among the queries at `queries` int `[k]` and the items at `items`, ascending int `[l]`."""
    chosen = own[queries]
    at = np.searchsorted(items, chosen)
    kept = (chosen >= 0) & (np.append(items, -1)[at] == chosen)
    return padded([row[there] for row, there in zip(at, kept, strict=True)])


def count(own: np.ndarray) -> int:
    """How many queries are in the gallery."""
    return int((own >= 0).any(axis=1).sum())
