"""Which training examples a few-shot experiment draws: ours, or those of the published code."""

import random

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.classifiers import check_class_labels
from jaxalign.errors import JaxalignError, unknown_name

SHOTS, SEEDS = (1, 2, 4, 8, 16), (1, 2, 3)
OURS, PUBLISHED = DRAWS = ("ours", "published")


def draw_examples(
    labels: ArrayLike, shots: int, seed: int, num_classes: int, draws: str = OURS
) -> np.ndarray:
    """Positions int `[c * shots]` of `shots` examples of each class, class by class.

    "ours" are those of `ja.sample_shots`. "published" are those of the few-shot code of Reevaluating, for
    labels in the order of its split files: one generator of a seed draws 1, 2, 4, 8 and 16 examples one after
    the other, so that draws are not nested, class by class as they first occur. A class with fewer examples
    is drawn from with replacement.

    Raises:
      JaxalignError: as `ja.sample_shots`; another name, or a number of shots that is not drawn there.
    """
    if draws == OURS:
        return ja.sample_shots(labels, shots, seed=seed, num_classes=num_classes)
    if draws != PUBLISHED:
        raise unknown_name("draws", draws, DRAWS)
    if shots not in SHOTS:
        raise JaxalignError(f"the published code draws {', '.join(map(str, SHOTS))} shots; got {shots}")
    array = np.asarray(labels)
    check_class_labels(array, array.size, num_classes)
    classes = {int(label): np.flatnonzero(array == label).tolist() for label in dict.fromkeys(array.tolist())}
    rng = random.Random(seed)
    for count in SHOTS[: SHOTS.index(shots) + 1]:
        drawn = {label: _draw(rng, own, count) for label, own in classes.items()}
    return np.concatenate([drawn[label] for label in range(num_classes)])


def _draw(rng: random.Random, own: list[int], count: int) -> list[int]:
    return rng.sample(own, count) if len(own) >= count else rng.choices(own, k=count)
