"""Captions that find the other captions of their picture (IsoCLIP, tables 2 and S5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError
from jaxalign.eval.tasks.runs import Result
from jaxalign.ranking.retrieval import other_captions

from .image_retrieval import retrieval


@dataclass(frozen=True, eq=False)
class Captions:
    """All captions of a split, one after the other.

    Attributes:
      texts: n of them.
      ids: of the captions: the picture's and a number.
      pictures: int `[n]`, which picture each is of.
      queries: int `[q]`, the position of each picture's first caption.
    """

    texts: tuple[str, ...]
    ids: tuple[str, ...]
    pictures: np.ndarray
    queries: np.ndarray


def collect_captions(captions: Sequence[Sequence[str]], ids: Sequence[str]) -> Captions:
    """The captions of each picture; pictures with the very same ones, as an emoji in each style, count once.

    Raises:
      JaxalignError: no captions.
    """
    seen: set[tuple[str, ...]] = set()
    texts: list[str] = []
    names: list[str] = []
    pictures: list[int] = []
    queries: list[int] = []
    for picture, own in zip(ids, captions, strict=True):
        if not own or tuple(own) in seen:
            continue
        seen.add(tuple(own))
        pictures += [len(queries)] * len(own)
        queries.append(len(texts))
        texts += own
        names += [f"{picture}#{i}" for i in range(len(own))]
    if not texts:
        raise JaxalignError(
            "the data set has no captions; expected one with captions, see `jaxalign datasets`"
        )
    return Captions(tuple(texts), tuple(names), np.array(pictures, np.int32), np.array(queries, np.int32))


def text_retrieval(
    query: ArrayLike,
    gallery: ArrayLike,
    captions: Captions,
    *,
    protocol: str = "paper",
    mesh: Mesh | None = None,
) -> Result:
    """The first caption of each picture against all captions, itself left out; in the published code, against
    all but the first ones.

    Args:
      query: embeddings `[q, d]` of the captions at `captions.queries`: rows of `gallery`, or their
        inversions.
      gallery: embeddings `[n, d]` of all captions.
      protocol: "paper" or "reference", as in `ja.text_retrieval_metrics`.
      mesh: as in `retrieval`.

    Returns:
      As `retrieval`. A picture with one caption is a query without positives.
    """
    labels, first = captions.pictures, captions.queries
    exclude: Any = first
    if protocol == "reference":
        others, exclude = other_captions(len(labels), first), False
        gallery, labels = np.asarray(gallery)[others], labels[others]
    own = captions.pictures[first]
    return retrieval(query, gallery, own, labels, exclude_self=exclude, protocol=protocol, mesh=mesh)
