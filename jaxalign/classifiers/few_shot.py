"""Few-shot experiments: which examples are drawn, and accuracy over shots and seeds."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike

from jaxalign.classifiers.base import Classifier, check_class_labels, check_directions
from jaxalign.errors import JaxalignError
from jaxalign.features import as_features, is_count
from jaxalign.sharding import AXIS, check_mesh, copy_to_all, divide_rows, fetch, rows_each

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

    One compilation for each number of shots; the seeds of one are fitted and measured together.

    Args:
      fit: `prototype_classifier`, `lda_classifier`, `tip_adapter` and the like.
      features, labels: the pool that `sample_shots` draws from, `[n, d]` and `[n]`.
      test_features, test_labels: `[t, d]` and `[t]`.
      shots, seeds: what the two axes of the accuracy are.
      num_classes: c, by default the largest label of the pool plus one.
      mesh: devices whose axis `data` the test features are divided over; every device fits all classifiers.
        (Tip-X with `protocol="reference"` takes all test features at once, so on one device.)
      **options: of `fit`, such as `text_weights`.

    Raises:
      JaxalignError: as `sample_shots` and `fit`.
    """
    # `fit` may be a classifier to which lengths matter.
    pool = check_directions("features", features, keep_lengths=True)
    test = as_features("test_features", test_features, keep_lengths=True)
    classes = check_class_labels(labels, len(pool), num_classes)
    check_class_labels(test_labels, len(test), classes, all_occur=False)
    for name, value in options.items():
        if isinstance(value, np.ndarray | jax.Array) and value.ndim == 2:
            options[name] = check_directions(name, value)  # inside the compiled function it could not be
    static = tuple(sorted((k, v) for k, v in options.items() if _is_plain(v)))
    arrays = {k: v for k, v in options.items() if not _is_plain(v)}
    total, test_y = len(test), np.asarray(test_labels, np.int32)
    mesh = None if mesh is None or options.get("protocol") == "reference" else check_mesh(mesh)
    if mesh is not None:
        arrays = copy_to_all(arrays, mesh)
        each = rows_each(total, mesh)
        test, test_y = divide_rows(test, mesh, each=each), divide_rows(test_y, mesh, fill=-1, each=each)
    rows = []
    for count in shots:
        drawn = np.stack([sample_shots(labels, count, seed=seed, num_classes=classes) for seed in seeds])
        support = pool[drawn], np.repeat(np.arange(classes, dtype=np.int32), count)
        if mesh is not None:
            support = copy_to_all(support, mesh)
        correct = _count_correct(
            *support, test, test_y, arrays, fit=fit, classes=classes, static=static, mesh=mesh
        )
        rows.append(100 * fetch(correct) / total)
    return FewShotAccuracy(tuple(shots), tuple(seeds), np.stack(rows))


@partial(jax.jit, static_argnames=("fit", "classes", "static", "mesh"))
def _count_correct(
    support: jax.Array,
    labels: jax.Array,
    test: jax.Array,
    test_labels: jax.Array,
    arrays: dict[str, Any],
    *,
    fit: Callable[..., Classifier],
    classes: int,
    static: tuple[tuple[str, Any], ...],
    mesh: Mesh | None,
) -> jax.Array:
    """For each seed how many are right, `[seeds]`; over a mesh, what only fills up the test has no class."""

    def count(support: Any, labels: Any, arrays: Any, test: jax.Array, test_labels: jax.Array) -> jax.Array:
        def one_seed(features: jax.Array) -> jax.Array:
            classifier = fit(features, labels, num_classes=classes, **dict(static), **arrays)
            return jnp.sum(classifier.predict(test) == test_labels, dtype=jnp.int32)

        return jax.vmap(one_seed)(support)

    given = (support, labels, arrays, test, test_labels)
    if mesh is None:
        return count(*given)
    whole, divided = PartitionSpec(), PartitionSpec(AXIS)
    specs = (whole, whole, whole, divided, divided)
    summed = lambda *own: jax.lax.psum(count(*own), AXIS)
    return jax.shard_map(summed, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)(*given)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
