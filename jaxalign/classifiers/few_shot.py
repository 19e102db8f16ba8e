"""Few-shot experiments: the methods by name, which examples are drawn, and accuracy over shots and seeds."""

from __future__ import annotations  # help() shows them as they are written here

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.classifiers.base import Classifier, check_class_labels, check_directions
from jaxalign.classifiers.cache import CODER, TIP_ADAPTER
from jaxalign.classifiers.lda import LDA
from jaxalign.classifiers.means import PROTOTYPE
from jaxalign.classifiers.method import DEFAULT, PUBLISHED, FewShotMethod, Grid
from jaxalign.classifiers.refinement import APE
from jaxalign.classifiers.signatures import TIP_X
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import as_features, is_count

FEW_SHOT: Mapping[str, FewShotMethod] = {
    method.name: method for method in (PROTOTYPE, LDA, TIP_ADAPTER, TIP_X, APE, CODER)
}
SHOTS = (1, 2, 4, 8, 16)
SEEDS = (1, 2, 3)


@struct.dataclass
class FewShotAccuracy:
    """Accuracy in percent `[shots, seeds]`; the papers' tables print `accuracy.mean(axis=1)`."""

    shots: tuple[int, ...] = struct.field(pytree_node=False)
    seeds: tuple[int, ...] = struct.field(pytree_node=False)
    accuracy: np.ndarray


def sample_shots(
    labels: ArrayLike, shots: int, *, seed: int = 1, num_classes: int | None = None
) -> np.ndarray:
    """Positions `[c * shots]` of `shots` examples of each class, class by class, drawn without replacement.

    The draw depends on the seed and the labels alone, and is nested: the examples for 2 shots are among those
    for 4. The papers draw with seeds 1, 2, 3 for 1, 2, 4, 8 and 16 shots (Reevaluating, section 4.3); which
    examples theirs are depends on the order of their files.

    Raises:
      JaxalignError: fewer than one shot, a class with fewer examples than shots, or labels that are not
        integers `[n]` from 0 on.

    Examples:
      >>> import jaxalign as ja
      >>> ja.sample_shots([0, 0, 0, 1, 1, 1], shots=2, seed=1).shape
      (4,)
    """
    array = np.asarray(labels)
    classes = check_class_labels(array, array.size, num_classes)
    if not is_count(shots):
        raise JaxalignError(f"shots is {shots}; expected 1 or more examples of each class")
    counts = np.bincount(array, minlength=classes)
    if counts.min() < shots:
        short = np.flatnonzero(counts < shots)
        raise JaxalignError(
            f"{short.size} of {classes} classes have fewer than {shots} examples"
            f" (first: class {short[0]} with {counts[short[0]]}); pass fewer shots or more examples"
        )
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(array == k))[:shots] for k in range(classes)])


def few_shot_accuracy(
    fit: Callable[..., Classifier],
    features: ArrayLike,
    labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    *,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = SEEDS,
    num_classes: int | None = None,
    mesh: Mesh | None = None,
    **options: Any,
) -> FewShotAccuracy:
    """Test accuracy of a method for every number of shots and seed: figure 6 and table 2 of Reevaluating.

    One compilation for each number of shots.

    Args:
      fit: `prototype_classifier`, `lda_classifier`, `tip_adapter` and the like.
      features, labels: the pool that `sample_shots` draws from, `[n, d]` and `[n]`.
      test_features, test_labels: `[t, d]` and `[t]`.
      shots, seeds: what the two axes of the accuracy are.
      num_classes: c, by default the largest label of the pool plus one.
      mesh: as for `Classifier.predict`. (Tip-X with `variant="reference"` takes all test features at once,
        so on one device.)
      **options: of `fit`, such as `text_weights`.

    Raises:
      JaxalignError: as `sample_shots` and `fit`.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> x, y = np.tile(np.eye(2), (4, 1)), np.tile([0, 1], 4)
      >>> found = ja.few_shot_accuracy(ja.prototype_classifier, x, y, x, y, shots=(1, 2))
      >>> found.accuracy
      array([[100., 100., 100.],
             [100., 100., 100.]])
    """
    # `fit` may be a classifier to which lengths matter.
    pool = check_directions("features", features, keep_lengths=True)
    test = as_features("test_features", test_features, keep_lengths=True)
    classes = check_class_labels(labels, len(pool), num_classes)
    check_class_labels(test_labels, len(test), classes, all_occur=False)
    for name, value in options.items():
        if isinstance(value, np.ndarray | jax.Array) and value.ndim == 2:
            options[name] = check_directions(name, value)  # inside the compiled function it could not be
    draw = lambda count, seed: pool[sample_shots(labels, count, seed=seed, num_classes=classes)]
    given = (fit, draw, test, np.asarray(test_labels), classes)
    return accuracy_of_draws(*given, shots=shots, seeds=seeds, options=options, mesh=mesh)


def accuracy_of_draws(
    fit: Callable[..., Classifier],
    draw: Callable[[int, int], jax.Array],
    test: jax.Array,
    test_labels: np.ndarray,
    num_classes: int,
    *,
    shots: Sequence[int],
    seeds: Sequence[int],
    options: Mapping[str, Any],
    tune: Callable[[Classifier, int], Classifier] = lambda classifier, shots: classifier,
    mesh: Mesh | None = None,
    progress: Callable[[int], Any] = lambda count: None,
) -> FewShotAccuracy:
    """The loop of all few-shot experiments, on input that was checked.

    Args:
      fit, shots, seeds, options, mesh: as for `few_shot_accuracy`.
      draw: gives, for a number of shots and a seed, features `[c * shots, d]`, class by class.
      test, test_labels: float32 `[t, d]` and int `[t]`.
      tune: gives the classifier to measure, of the fitted one and its number of shots.
      progress: called with 1 after each draw.
    """
    static = tuple(sorted((k, v) for k, v in options.items() if _is_plain(v)))
    arrays = {k: v for k, v in options.items() if not _is_plain(v)}
    accuracy = np.zeros((len(shots), len(seeds)))
    for (i, count), (j, seed) in itertools.product(enumerate(shots), enumerate(seeds)):
        labels = np.repeat(np.arange(num_classes, dtype=np.int32), count)
        support = draw(count, seed)
        fitted = _fit(support, labels, arrays, fit=fit, num_classes=num_classes, static=static)
        classifier = tune(fitted, count)
        predicted = _predict(classifier, test) if mesh is None else classifier.predict(test, mesh=mesh)
        accuracy[i, j] = 100 * float((np.asarray(predicted) == test_labels).mean())
        progress(1)
    return FewShotAccuracy(tuple(shots), tuple(seeds), accuracy)


@partial(jax.jit, static_argnames=("fit", "num_classes", "static"))
def _fit(
    support: jax.Array,
    labels: jax.Array,
    arrays: dict[str, Any],
    *,
    fit: Callable[..., Classifier],
    num_classes: int,
    static: tuple[tuple[str, Any], ...],
) -> Classifier:
    return fit(support, labels, num_classes=num_classes, **dict(static), **arrays)


@jax.jit
def _predict(classifier: Classifier, features: jax.Array) -> jax.Array:
    return classifier.predict(features)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def find_grid(name: str, classifier: str, dataset: str = "") -> Grid:
    """The values of hyper-parameters that a few-shot method is tuned over.

    Args:
      name: "default", "published", or "published:NAME" for the published values of another data set than
        `dataset`.
      classifier: of `FEW_SHOT`.
      dataset: that is classified. Of "tip-adapter" and "ape" the published values depend on it.

    Raises:
      JaxalignError: an unknown name, a method without published values, or none for the data set.
    """
    method = FEW_SHOT[classifier]
    if name == DEFAULT:
        return method.grid
    kind, _, other = name.partition(":")
    if kind != PUBLISHED:
        raise unknown_name("grid", name, (DEFAULT, PUBLISHED), f"{PUBLISHED}:NAME is that for a data set")
    known = {own for method in FEW_SHOT.values() for own in method.published if own}
    if other and other not in known:
        raise unknown_name("data set with a published grid", other, known)
    if not method.published:
        # Those whose grids depend on the data set first.
        tuned = sorted((m for m in FEW_SHOT.values() if m.published), key=lambda m: "" in m.published)
        raise JaxalignError(
            f"{classifier} has no published grid; expected {', '.join(m.name for m in tuned)}, or the grid"
            f" {DEFAULT}"
        )
    if "" in method.published:
        return method.published[""]
    own = other or dataset.removesuffix("@tfds")
    if own not in method.published:
        raise JaxalignError(
            f"the published grid of {classifier} depends on the data set, and there is none for"
            f" {own or 'this one'}; say whose to take, {PUBLISHED}:NAME with one of"
            f" {', '.join(method.published)}"
        )
    return method.published[own]
