"""What a query finds, before and after a method."""

from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from jaxalign.eval.tasks.methods import Embed


@dataclass(frozen=True)
class Hit:
    """An image that was found.

    Attributes:
      row: of the gallery.
      score: cosine similarity to the query.
      is_new: whether the other ranking has it not among its first ones.
    """

    row: int
    score: float
    is_new: bool


@dataclass(frozen=True)
class BeforeAfter:
    """The first results of both rankings, the nearest first."""

    before: tuple[Hit, ...]
    after: tuple[Hit, ...]


def compare(
    query: ArrayLike,
    gallery: ArrayLike,
    before: Embed,
    after: Embed,
    *,
    first: int,
    leave_out: int | None = None,
) -> BeforeAfter:
    """Rank `gallery` by cosine similarity to `query`, under two embeddings.

    Args:
      query, gallery: pre-projection features `[d_image]` and `[n, d_image]`.
      before, after: give embeddings `[n, d]`.
      first: how many results; fewer where the gallery has fewer. Of equal ones the earlier row comes first.
      leave_out: row of the gallery that is the query itself.
    """
    scores = [similarities(query, gallery, embed) for embed in (before, after)]
    rows = []
    for score in scores:
        order = np.argsort(-score, kind="stable")
        rows.append([int(row) for row in order if row != leave_out][:first])
    hits = [
        tuple(Hit(row, float(score[row]), row not in other) for row in own)
        for own, other, score in zip(rows, reversed(rows), scores, strict=True)
    ]
    return BeforeAfter(*hits)


def similarities(query: ArrayLike, gallery: ArrayLike, embed: Embed) -> np.ndarray:
    """Cosines float32 `[n]`; 0 for an embedding of length 0."""
    g = np.asarray(embed(np.asarray(gallery, np.float32)))
    q = np.asarray(embed(np.asarray(query, np.float32)[None]))[0]
    lengths = np.linalg.norm(g, axis=1) * np.linalg.norm(q)
    return g @ q / np.where(lengths == 0, 1, lengths)
