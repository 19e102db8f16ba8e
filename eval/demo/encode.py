"""Features of all images and texts under one model, before and after the projector."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import jax
import numpy as np

import jaxalign as ja
from jaxalign.eval.features.embed import BATCH


@dataclass(frozen=True, eq=False)
class Features:
    """Float32 `pre` [n, D], the pre-projection features, and `embeddings` [n, d], not normalised."""

    pre: np.ndarray
    embeddings: np.ndarray


class Encoder:
    """A model that gives both features in one pass: traced together, the two outputs share it.

    The embeddings are the tower's own: those that a head makes of `pre` differ in the last digit of a float.
    """

    def __init__(self, model: ja.DualEncoder):
        self.model = model
        self._images = jax.jit(
            lambda p, x: tuple(model.apply_image(p, x, projected=z) for z in (False, True))
        )
        self._texts = jax.jit(lambda p, x: tuple(model.apply_text(p, x, projected=z) for z in (False, True)))

    def images(self, images: np.ndarray, advance: Callable[[int], None] = lambda count: None) -> Features:
        """Features of uint8 `images` [n, h, w, 3]; `advance` is told of each batch that is done."""
        model = self.model
        return _encode(lambda rows: self._images(model.params, model.image_processor(rows)), images, advance)

    def texts(self, texts: Sequence[str]) -> Features:
        """Features of `texts`."""
        tokens = self.model.require_tokenizer()(texts)
        return _encode(lambda rows: self._texts(self.model.params, rows), tokens, lambda count: None)


def _encode(
    both: Callable[[np.ndarray], Iterable[jax.Array]], inputs: np.ndarray, advance: Callable[[int], None]
) -> Features:
    parts: list[list[np.ndarray]] = [[], []]
    for start in range(0, len(inputs), BATCH):
        rows = inputs[start : start + BATCH]
        # one compiled shape
        padded = np.concatenate([rows, np.repeat(rows[:1], BATCH - len(rows), axis=0)])
        for part, output in zip(parts, both(padded), strict=True):
            part.append(np.asarray(output, np.float32)[: len(rows)])
        advance(len(rows))
    return Features(*(np.concatenate(part) for part in parts))
