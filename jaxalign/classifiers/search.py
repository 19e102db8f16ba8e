"""The hyper-parameters of a classifier, searched on validation features by one compiled grid."""

from __future__ import annotations  # help() shows them as they are written here

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike

from jaxalign.brief import brief_repr
from jaxalign.classifiers.base import Classifier, check_class_labels, check_scalar, check_width
from jaxalign.classifiers.cache import CacheClassifier
from jaxalign.classifiers.method import Grid
from jaxalign.classifiers.refinement import RefinedClassifier, check_channels
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import as_features, is_count
from jaxalign.sharding import AXIS, check_mesh, copy_to_all, divide_rows, fetch, rows_each

_AFFINITIES_PER_BLOCK = 1 << 22  # 16 MiB
_SIMPLEST_FIRST = ("alpha", "gamma", "beta", "channels")
_NO_CLASS = -1

Values = dict[str, jax.Array]


@struct.dataclass
class HyperparameterSearch:
    """Validation accuracy over a grid, and the classifier with the best values.

    `accuracy`, in percent, has one axis for each entry of `axes`, in that order. Among equal accuracies
    `best` is decided by the `ties` of `search_hyperparameters`.
    """

    __repr__ = brief_repr

    axes: dict[str, np.ndarray]
    accuracy: np.ndarray
    best: dict[str, float]
    classifier: Classifier


def search_hyperparameters(
    classifier: Classifier,
    features: ArrayLike,
    labels: ArrayLike,
    *,
    ties: Sequence[str] = _SIMPLEST_FIRST,
    block_size: int | None = None,
    mesh: Mesh | None = None,
    **axes: Iterable[float],
) -> HyperparameterSearch:
    """Accuracy on validation features for every combination of values, in one compiled program.

    What a hyper-parameter does not change is computed once: affinities for all alpha, beta and gamma, the
    sums over the cache for all alpha. Validation features are taken in blocks, so memory does not grow with
    their number.

    Args:
      classifier: fitted. Its hyper-parameters that are not searched keep their values.
      features: validation features `[n, d]`, as the classifier is called on.
      labels: integers `[n]`, classes of the classifier (not all need occur).
      ties: among equal accuracies the smallest value of the first of these is best, then of the second; of
        `channels` the most. What is searched has to be among them. The published codes, which keep the first
        of equal ones, decide by the order of their loops: beta, alpha in Tip-Adapter and CODER, alpha, beta,
        gamma in Tip-X, beta, alpha, gamma in APE.
      block_size: features taken at a time; the accuracies do not depend on it. (Tip-X with
        `variant="reference"` takes all at once.)
      mesh: devices whose axis `data` the features are divided over; not for what takes all at once.
      **axes: values of each hyper-parameter to search, such as `alpha=np.linspace(0.1, 3, 20)`: `alpha` for
        every classifier with text weights, `beta` for Tip-Adapter, CODER, Tip-X and APE, `gamma` for the
        latter two, `channels` for APE.

    Raises:
      JaxalignError: a hyper-parameter that this classifier has not, no axis or an empty one, a value out of
        range, or features and labels that do not fit.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> cache = ja.tip_adapter(features, [0, 0, 1, 1], text_weights=np.eye(2))
      >>> found = ja.search_hyperparameters(cache, features, [0, 0, 1, 1], alpha=[0.2, 0.5], beta=[1.0, 5.5])
      >>> found.best
      {'alpha': 0.2, 'beta': 1.0}
    """
    checked = _check_axes(classifier, axes)
    if undecided := [name for name in checked if name not in ties]:
        raise JaxalignError(f"ties are {tuple(ties)}; expected {', '.join(undecided)} among them, too")
    x = as_features("features", features, keep_lengths=classifier.uses_lengths)
    x = check_width(x, classifier)
    classes = jax.eval_shape(classifier, x[:1]).shape[-1]
    check_class_labels(labels, len(x), classes, all_occur=False)
    y = np.asarray(labels, np.int32)
    stages = [classifier.relate_uses, classifier.evidence_uses, classifier.combine_uses]
    names = [[name for name in stage if name in checked] for stage in stages]
    grids = [_product({name: checked[name] for name in stage}) for stage in names]
    size = _block_size(classifier, len(x), block_size)
    if mesh is None or classifier.is_transductive:
        correct = np.asarray(_count_correct(classifier, x, y, *grids, size=size), np.int64)
    else:
        correct = _count_over_mesh(classifier, x, y, grids, size, check_mesh(mesh))

    order = [name for stage in names for name in stage]
    correct = correct.reshape([len(checked[name]) for name in order])
    correct = correct.transpose([order.index(name) for name in checked])
    best = _best(checked, correct, ties)
    return HyperparameterSearch(
        axes=checked,
        accuracy=100 * correct / len(x),
        best=best,
        classifier=classifier.replace(**{k: jnp.float32(v) for k, v in best.items()}),  # pyright: ignore[reportAttributeAccessIssue]
    )


def search_grid(
    classifier: Classifier, features: ArrayLike, labels: ArrayLike, grid: Grid, *, mesh: Mesh | None = None
) -> HyperparameterSearch:
    """`search_hyperparameters` over the values of a `Grid`, as often as it says."""
    given = {"ties": grid.ties, "mesh": mesh}
    search = lambda axes: search_hyperparameters(classifier, features, labels, **given, **axes)
    found = search(grid.axes)
    for _ in range(grid.rounds - 1):
        found = search(grid.around(found.best))
    return found


def _count_over_mesh(
    classifier: Any, x: jax.Array, y: np.ndarray, grids: list[Values], size: int, mesh: Mesh
) -> np.ndarray:
    """`_count_correct` with the features on several devices; what only fills them up has no class."""
    each = rows_each(len(x), mesh)
    rows = divide_rows(x, mesh, each=each), divide_rows(y, mesh, fill=_NO_CLASS, each=each)
    given = copy_to_all((classifier, *grids), mesh)
    size = min(size, rows[0].shape[0] // mesh.shape[AXIS])
    return fetch(_summed(*rows, *given, size=size, mesh=mesh)).astype(np.int64)


@partial(jax.jit, static_argnames=("size", "mesh"))
def _summed(x: jax.Array, y: jax.Array, *given: Any, size: int, mesh: Mesh) -> jax.Array:
    def count(x: jax.Array, y: jax.Array, classifier: Any, *grids: Values) -> jax.Array:
        return jax.lax.psum(_count_correct(classifier, x, y, *grids, size=size), AXIS)

    whole, divided = PartitionSpec(), PartitionSpec(AXIS)
    specs = (divided, divided, *(whole,) * len(given))
    return jax.shard_map(count, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=False)(x, y, *given)


@partial(jax.jit, static_argnames="size")
def _count_correct(
    classifier: Any,
    x: jax.Array,
    y: jax.Array,
    relate: Values,
    evidence: Values,
    combine: Values,
    *,
    size: int,
) -> jax.Array:
    """How many are right, int32 `[relate, evidence, combine]`."""
    n = x.shape[0]

    def block(start: jax.Array) -> jax.Array:
        index = start + jnp.arange(size, dtype=jnp.int32)
        rows, valid = jnp.minimum(index, n - 1), index < n  # the last block repeats the last row, uncounted
        own, features = y[rows], x[rows]
        valid &= own != _NO_CLASS

        def related(values: Values) -> jax.Array:
            first = classifier.replace(**values)
            kept = first.relate(features)

            def gathered(values: Values) -> jax.Array:
                second = first.replace(**values)
                found = second.evidence(kept)

                def counted(values: Values) -> jax.Array:
                    logits = second.replace(**values).combine(kept, found)
                    return jnp.sum(_is_first(logits, own) & valid, dtype=jnp.int32)

                return _over(counted, combine)

            return _over(gathered, evidence)

        return _over(related, relate)

    return jax.lax.map(block, jnp.arange(0, n, size, dtype=jnp.int32)).sum(0)


def _over(function: Callable[[Values], jax.Array], grid: Values) -> jax.Array:
    return jax.lax.map(function, grid) if grid else function({})[None]


def _is_first(logits: jax.Array, own: jax.Array) -> jax.Array:
    """Whether `argmax` would give `own`: XLA is several times faster at comparing than at argmax."""
    score = jnp.take_along_axis(logits, own[:, None], axis=1)
    before = jnp.arange(logits.shape[1], dtype=own.dtype) < own[:, None]
    return ~jnp.any((logits > score) | ((logits == score) & before), axis=1)


def _product(axes: dict[str, np.ndarray]) -> Values:
    cells = np.array(list(itertools.product(*axes.values())), np.float32)
    return {name: jnp.asarray(cells[:, i]) for i, name in enumerate(axes)}


def _best(axes: dict[str, np.ndarray], correct: np.ndarray, ties: Sequence[str]) -> dict[str, float]:
    def simplicity(cell: np.ndarray) -> list[float]:
        values = {name: float(axis[i]) for (name, axis), i in zip(axes.items(), cell, strict=True)}
        return [-values[k] if k == "channels" else values[k] for k in ties if k in values]

    cell = min(np.argwhere(correct == correct.max()), key=simplicity)
    return {name: float(axis[i]) for (name, axis), i in zip(axes.items(), cell, strict=True)}


def _check_axes(classifier: Classifier, axes: dict[str, Iterable[float]]) -> dict[str, np.ndarray]:
    known = (*classifier.relate_uses, *classifier.evidence_uses, *classifier.combine_uses)
    if getattr(classifier, "text_kernel", None) is None:
        known = tuple(name for name in known if name != "alpha")  # there is nothing to weigh against
    if not axes or not known:
        raise JaxalignError(
            f"{len(axes)} hyper-parameters to search; this classifier has {', '.join(known) or 'none'}"
            " (alpha is one where it was fitted with text_weights)"
        )
    checked = {}
    for name, values in axes.items():
        if name not in known:
            raise unknown_name("hyper-parameter", name, known)
        axis = np.asarray(values if hasattr(values, "__array__") else list(values), np.float64)
        if axis.ndim != 1 or not axis.size:
            raise JaxalignError(f"{name} has shape {axis.shape}; expected one or more values, one axis")
        for value in axis:
            if name == "channels" and isinstance(classifier, RefinedClassifier):
                check_channels(value, classifier.width)
            else:
                mixes = name == "alpha" and not classifier.evidence_uses
                check_scalar(name, value, 0, 1 if mixes else None)
        checked[name] = axis
    return checked


def _block_size(classifier: Classifier, n: int, block_size: int | None) -> int:
    if getattr(classifier, "variant", "paper") == "reference":
        return n
    if block_size is None:
        columns = len(classifier.keys) if isinstance(classifier, CacheClassifier) else classifier.width
        return min(n, max(16, _AFFINITIES_PER_BLOCK // columns))
    if not is_count(block_size):
        raise JaxalignError(f"block_size is {block_size}; expected a positive number of features, or None")
    return min(n, max(block_size, 2))  # one alone is rounded otherwise
