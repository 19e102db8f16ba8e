"""The first results of some queries, for a look at what a method finds."""

import numpy as np
from jax.typing import ArrayLike

from jaxalign.eval.tasks import own

DEPTH, QUERIES = 10, 400
_ROWS = 64  # queries scored at a time


def first_results(
    query: ArrayLike,
    gallery: ArrayLike,
    exclude_self: bool | ArrayLike = False,
    *,
    queries: int = QUERIES,
    depth: int = DEPTH,
) -> dict[str, np.ndarray]:
    """The nearest items by cosine of at most `queries` evenly spaced queries, the same for every method.

    Args:
      query, gallery: embeddings `[q, d]` and `[g, d]`, any scale.
      exclude_self: whether query i is gallery item i, which is left out; or the position of each query in
        the gallery, int `[q]`, or of each one's copies, `[q, m]`, filled up with -1.

    Returns:
      `shown_queries` int32 `[m]`, their positions, and `first_results` int32 `[m, depth]`, positions in the
      gallery, the nearest first and the earlier one of equals; fewer columns where the gallery is smaller.
    """
    query, gallery = (np.asarray(x, np.float32) for x in (query, gallery))
    rows = np.linspace(0, len(query) - 1, min(queries, len(query))).round().astype(np.int32)
    left_out = own.positions(exclude_self, len(query))
    depth = min(depth, len(gallery) - int((left_out >= 0).sum(1).max(initial=0)))
    # The query's own length does not change the order.
    lengths = np.maximum(np.linalg.norm(gallery, axis=1), np.finfo(np.float32).tiny)
    found = np.zeros((len(rows), depth), np.int32)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        scores = query[block] @ gallery.T / lengths
        at, copy = np.nonzero(left_out[block] >= 0)
        scores[at, left_out[block[at], copy]] = -np.inf
        for i, row in enumerate(scores):
            # Whatever is as near as the last one takes part: the earlier ones of equals come first.
            last = np.partition(row, len(row) - depth)[len(row) - depth] if depth else np.inf
            near = np.flatnonzero(row >= last)
            found[start + i] = near[np.argsort(-row[near], kind="stable")[:depth]]
    return {"shown_queries": rows, "first_results": found}
