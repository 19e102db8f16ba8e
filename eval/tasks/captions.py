"""The captions of a split, one after the other: its texts, or features of some that were given."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import Examples

from .workspace import choose_task


@dataclass(frozen=True, eq=False)
class Captions:
    """All captions of a split, one after the other.

    Attributes:
      texts: n of them.
      ids: of the captions: the image's and a number.
      images: int `[n]`, which image each is of.
      queries: int `[q]`, the position of each image's first caption.
    """

    texts: tuple[str, ...]
    ids: tuple[str, ...]
    images: np.ndarray
    queries: np.ndarray


def collect_captions(captions: Sequence[Sequence[str]], ids: Sequence[str]) -> Captions:
    """The captions of each image; images with the very same ones, as an emoji in each style, count once.

    Raises:
      JaxalignError: no captions.
    """
    seen: set[tuple[str, ...]] = set()
    texts: list[str] = []
    names: list[str] = []
    images: list[int] = []
    queries: list[int] = []
    for image, own in zip(ids, captions, strict=True):
        if not own or tuple(own) in seen:
            continue
        seen.add(tuple(own))
        images += [len(queries)] * len(own)
        queries.append(len(texts))
        texts += own
        names += [f"{image}#{i}" for i in range(len(own))]
    if not texts:
        raise JaxalignError(
            "the data set has no captions; expected one with captions, see `jaxalign datasets`"
        )
    return Captions(tuple(texts), tuple(names), np.array(images, np.int32), np.array(queries, np.int32))


def given_captions(examples: Examples) -> Captions:
    """The rows of features as captions, those with one label as the captions of one image.

    Raises:
      JaxalignError: rows without a label.
    """
    labels = examples.labels[choose_task(examples, "")]
    if (labels < 0).any():
        raise JaxalignError(
            f"{int((labels < 0).sum()):,} texts of {examples.origin} have no label, which says what image"
            " each is of; expected one for each"
        )
    _, first, images = np.unique(labels, return_index=True, return_inverse=True)
    return Captions((), examples.ids, images.astype(np.int32), np.sort(first).astype(np.int32))
