"""How images are scored by a query of several terms, images and texts, and which come first.

A term's cosine with an image is that of their embeddings: by the method for a term that is an image, by the
model's original projectors for a text, since what improves similarities within a modality does nothing for
those between two (appendix H of IsoCLIP's paper). The score of an image is the mean of its cosines, weighted
and with the signs of the terms. Cosines with texts lie closer together than those with images, which alone
would decide: where a query has both, the cosines with each term are first made standard scores over all
images that can be found, with a mean of 0 and a standard deviation of 1.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from jaxalign.eval.tasks.own_methods import Embed

_EQUAL = 1e-6  # deviation of cosines in float32 that are all the same


@dataclass(frozen=True, eq=False)
class Term:
    """What a query asks for, or with a weight below 0, for the contrary.

    Attributes:
      weight: finite, not 0.
      pre: pre-projection features `[d_image]` or `[d_text]`.
      is_text: which of the two.
    """

    weight: float
    pre: np.ndarray
    is_text: bool = False


@dataclass(frozen=True)
class Hit:
    """An image that was found: its row of the gallery, and its score as `score_images` gives it."""

    row: int
    score: float


@dataclass(frozen=True)
class Embeds:
    """Functions from pre-projection features `[n, d_in]` to embeddings `[n, d]`.

    Attributes:
      image: by the method; it is for similarities of images with images.
      shared_image, text: by the original projectors.
    """

    image: Embed
    shared_image: Embed
    text: Embed


def score_images(
    terms: Sequence[Term], gallery: ArrayLike, embeds: Embeds, leave_out: Collection[int] = ()
) -> np.ndarray:
    """The score of each image of `gallery`, pre-projection features `[n, d_image]`: float32 `[n]`.

    Args:
      leave_out: rows that are not found, and do not count for standard scores.
    """
    gallery, weights = np.asarray(gallery, np.float32), np.array([term.weight for term in terms])
    counted = np.setdiff1d(np.arange(len(gallery)), list(leave_out))
    cosines = np.zeros((len(terms), len(gallery)))
    for is_text in {term.is_text for term in terms}:
        own = [i for i, term in enumerate(terms) if term.is_text == is_text]
        pre = np.stack([terms[i].pre for i in own]).astype(np.float32)
        if is_text:
            queries, images = _unit(embeds.text(pre)), _unit(embeds.shared_image(gallery))
        else:  # at once, which compiles one program
            queries, images = np.split(_unit(embeds.image(np.concatenate([pre, gallery]))), [len(own)])
        cosines[own] = queries @ images.T
    if len({term.is_text for term in terms}) > 1 and len(counted):
        spread = cosines[:, counted].std(axis=1, keepdims=True)
        cosines = (cosines - cosines[:, counted].mean(axis=1, keepdims=True)) / np.where(
            spread > _EQUAL, spread, 1
        )
    return (weights @ cosines / np.abs(weights).sum()).astype(np.float32)


def rank(
    scores: np.ndarray, *, first: int, leave_out: Collection[int] = (), at_least: float | None = None
) -> tuple[Hit, ...]:
    """The `first` images of the highest scores; of equal ones the earlier row comes first.

    Args:
      leave_out: rows that are not found.
      at_least: the lowest score that is.
    """
    order = [int(row) for row in np.argsort(-scores, kind="stable") if row not in leave_out][:first]
    return tuple(Hit(row, float(scores[row])) for row in order if at_least is None or scores[row] >= at_least)


def _unit(embeddings: ArrayLike) -> np.ndarray:
    """Rows of length 1; those of length 0 stay."""
    values = np.asarray(embeddings)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths == 0, 1, lengths)
