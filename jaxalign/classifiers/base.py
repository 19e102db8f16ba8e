"""What a classifier is, and the checks that all of them share."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike

from jaxalign.brief import brief_repr
from jaxalign.errors import JaxalignError
from jaxalign.features import as_features, as_rows, is_count
from jaxalign.features import normalize as unit_rows
from jaxalign.projectors import Projector
from jaxalign.sharding import AXIS, check_mesh, copy_to_all, divide_rows, fetch, rows_each

_ROWS_AT_A_TIME = 2048
_FEWEST_COLUMNS = 8  # for which XLA's kernels for CPUs do not go by the number of rows
_MATMUL_CLASSES = 256  # on a CPU, a product with one-hot labels beats a segment sum up to about here


@struct.dataclass
class Classifier:
    """What every method returns: called on features `[n, d]`, it gives logits `[n, c]`.

    A frozen pytree: its arrays, hyper-parameters among them, can be traced, mapped and replaced
    (`classifier.replace(alpha=0.3)`). The logits come in three steps, so that a search over hyper-parameters
    repeats only what one of them changes: `relate` features to what was fitted, turn that into `evidence` of
    the few-shot examples, `combine` it with the class-name texts.

    Features of zeros have no direction: their cosine with everything is 0.
    """

    relate_uses: ClassVar[tuple[str, ...]] = ()
    evidence_uses: ClassVar[tuple[str, ...]] = ()
    combine_uses: ClassVar[tuple[str, ...]] = ()

    def relate(self, x: jax.Array) -> Any:
        """What the logits of float32 features `[n, d]` are made of, of leading length n."""
        raise NotImplementedError

    def evidence(self, related: Any) -> Any:
        raise NotImplementedError

    def combine(self, related: Any, evidence: Any) -> jax.Array:
        raise NotImplementedError

    @property
    def width(self) -> int:
        """d, of the features to classify."""
        raise NotImplementedError

    @property
    def uses_lengths(self) -> bool:
        """Whether the logits of an example depend on more than the direction of its features."""
        return False

    def logits(self, x: jax.Array) -> jax.Array:
        related = self.relate(x)
        return self.combine(related, self.evidence(related))

    def __call__(self, features: ArrayLike) -> jax.Array:
        """Logits `[..., c]` of features `[..., d]`; raises JaxalignError on another width."""
        x = check_width(features, self)
        rows = x.reshape(-1, x.shape[-1])
        logits = in_blocks(self.logits, rows)
        return logits.reshape(*x.shape[:-1], logits.shape[-1])

    @property
    def is_transductive(self) -> bool:
        """Whether the logits of an example depend on what else is in the call."""
        return False

    def predict(self, features: ArrayLike, *, mesh: Mesh | None = None) -> jax.Array:
        """Class indices `[n]`, the largest logit; among equal logits the first class.

        With `mesh` the features, concrete ones, are divided over its axis `data`; the classes are the same.
        """
        if mesh is None or self.is_transductive:
            return jnp.argmax(self(features), axis=-1)
        mesh, x = check_mesh(mesh), np.asarray(check_width(features, self))
        found = _predict_over_mesh(
            copy_to_all(self, mesh), divide_rows(x, mesh, each=rows_each(len(x), mesh)), mesh=mesh
        )
        return jnp.asarray(fetch(found)[: len(x)])


@partial(jax.jit, static_argnames="mesh")
def _predict_over_mesh(classifier: Classifier, features: jax.Array, *, mesh: Mesh) -> jax.Array:
    """Classes of all features, `[n]`, on every device."""

    def own(classifier: Classifier, features: jax.Array) -> jax.Array:
        return jax.lax.all_gather(classifier.predict(features), AXIS, tiled=True)

    whole, divided = PartitionSpec(), PartitionSpec(AXIS)
    over = jax.shard_map(own, mesh=mesh, in_specs=(whole, divided), out_specs=whole, check_vma=False)
    return over(classifier, features)


@struct.dataclass
class LinearClassifier(Classifier):
    """Features through an optional projector, to unit length where asked for, then `kernel` and `bias`.

    With `text_kernel`, logits are `alpha (x kernel + bias) + (1 - alpha) x text_kernel`.
    """

    __repr__ = brief_repr

    kernel: jax.Array  # [d, c]
    bias: jax.Array | None = None  # [c]
    projector: Projector | None = None
    text_kernel: Any = None  # [d, c] or None
    alpha: Any = None  # scalar, given with text_kernel
    normalize: bool = struct.field(pytree_node=False, default=True)

    combine_uses: ClassVar[tuple[str, ...]] = ("alpha",)

    @property
    def width(self) -> int:
        return (self.kernel if self.projector is None else self.projector.kernel).shape[0]

    @property
    def uses_lengths(self) -> bool:
        return not self.normalize or self.projector is not None

    def relate(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        x = self._prepare(x)
        few_shot = product(x, self.kernel)
        few_shot = few_shot if self.bias is None else few_shot + self.bias
        return few_shot, None if self.text_kernel is None else product(x, self.text_kernel)

    def evidence(self, related: Any) -> jax.Array:
        return related[0]

    def combine(self, related: Any, evidence: jax.Array) -> jax.Array:
        return evidence if related[1] is None else self.alpha * evidence + (1 - self.alpha) * related[1]

    def logits(self, x: jax.Array) -> jax.Array:
        """In one product: the two kernels are mixed, not the logits."""
        kernel, bias = self.kernel, self.bias
        if self.text_kernel is not None:
            kernel = self.alpha * kernel + (1 - self.alpha) * self.text_kernel
            bias = None if bias is None else self.alpha * bias
        logits = product(self._prepare(x), kernel)
        return logits if bias is None else logits + bias

    def _prepare(self, x: jax.Array) -> jax.Array:
        x = x if self.projector is None else self.projector(x)
        return unit_rows(x) if self.normalize else x


def product(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a [n, d] @ b [d, c]`; the same to the bit for every n, if that is two or more."""
    columns = b.shape[1]
    if columns < _FEWEST_COLUMNS:
        b = jnp.pad(b, ((0, 0), (0, _FEWEST_COLUMNS - columns)))
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)[:, :columns]


def in_blocks(function: Callable[[jax.Array], jax.Array], rows: jax.Array) -> jax.Array:
    """`function(rows)`, some rows at a time where there are many, for the sake of memory."""
    if rows.shape[0] <= _ROWS_AT_A_TIME:
        return function(rows)
    return jax.lax.map(lambda row: function(row[None])[0], rows, batch_size=_ROWS_AT_A_TIME)


def class_sums(weights: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """`[n, c]`: for each row of `weights [n, m]` the sums over the columns of each class."""
    if classes <= _MATMUL_CLASSES:
        return product(weights, jax.nn.one_hot(labels, classes, dtype=weights.dtype))
    return jax.ops.segment_sum(weights.T, labels, classes).T


def class_means(features: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    """`[c, d]`; zeros for a class without examples, which can only be when labels are traced."""
    total = jax.ops.segment_sum(features, labels, classes)
    count = jax.ops.segment_sum(jnp.ones(features.shape[0], features.dtype), labels, classes)
    return total / jnp.maximum(count, 1)[:, None]


def check_examples(
    features: ArrayLike, labels: ArrayLike, num_classes: int | None, *, keep_lengths: bool = False
) -> tuple[jax.Array, jax.Array, int]:
    """Few-shot features as float32 `[n, d]`, int32 labels `[n]`, and the number of classes."""
    x = check_directions("features", features, keep_lengths=keep_lengths)
    classes = check_class_labels(labels, x.shape[0], num_classes)
    if classes < 2:
        raise JaxalignError(f"there is {classes} class; expected two or more to tell apart")
    return x, jnp.asarray(labels, jnp.int32), classes


def check_directions(name: str, features: ArrayLike, *, keep_lengths: bool = False) -> jax.Array:
    """`as_features`, and no row of zeros: nothing can be learned from what has no direction."""
    x = as_features(name, features, keep_lengths=keep_lengths)
    if not isinstance(x, Tracer):
        zero = np.flatnonzero(~np.asarray(x).any(axis=1))
        if zero.size:
            raise JaxalignError(
                f"{name} has {zero.size} of {x.shape[0]} rows of zeros"
                f" (first: {', '.join(map(str, zero[:5]))}); leave those out or compute them again"
            )
    return x


def check_width(features: ArrayLike, classifier: Classifier) -> jax.Array:
    """Features `[..., d]` as float32, as wide as those that the classifier was fitted on."""
    x = as_rows("features", features, keep_lengths=classifier.uses_lengths).astype(jnp.float32)
    if x.shape[-1:] != (classifier.width,):
        raise JaxalignError(
            f"features of shape {x.shape} do not fit a classifier for width {classifier.width};"
            " pass features like those it was fitted on"
        )
    return x


def check_class_labels(labels: Any, count: int, num_classes: int | None, *, all_occur: bool = True) -> int:
    """The number of classes; raises unless integer labels `[count]` lie in it, and each class occurs."""
    traced = isinstance(labels, Tracer)
    array = labels if traced else np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iu" or not count:
        raise JaxalignError(
            f"labels are {array.dtype} of shape {array.shape};"
            f" expected one class index per feature, integers ({count or 'n'},)"
        )
    if num_classes is not None and not is_count(num_classes):
        raise JaxalignError(f"num_classes is {num_classes!r:.60}; expected a whole number of 1 or more")
    if traced:
        if num_classes is None:
            raise JaxalignError("labels are traced, so their number of classes is unknown; pass num_classes")
        return num_classes
    classes = int(array.max()) + 1 if num_classes is None else num_classes
    if array.min() < 0 or array.max() >= classes:
        raise JaxalignError(
            f"labels go from {array.min()} to {array.max()};"
            f" expected 0 to {classes - 1} for {classes} classes"
        )
    present = np.unique(array)
    if all_occur and present.size < classes:
        # The first ones that are absent: a label may be larger than memory has room for classes.
        absent = np.setdiff1d(np.arange(min(classes, present.size + 5)), present)[:5]
        raise JaxalignError(
            f"{classes - present.size} of {classes} classes have no example"
            f" (first: {', '.join(map(str, absent))});"
            " pass examples of each, or renumber the labels from 0 on"
        )
    return classes


def check_text(text_weights: ArrayLike, c: int, d: int) -> jax.Array:
    """Class-name embeddings as float32 `[c, d]`, of unit length."""
    text = check_directions("text_weights", text_weights)
    if text.shape != (c, d):
        raise JaxalignError(
            f"text_weights have shape {text.shape}; expected {(c, d)},"
            " one embedding per class, as wide as the features"
        )
    return unit_rows(text)


def check_scalar(name: str, value: Any, low: float, high: float | None = None) -> jax.Array:
    """`value` as a float32 scalar within bounds; traced values are not checked."""
    if isinstance(value, Tracer):
        return value.astype(jnp.float32)
    expected = f"a number from {low:g}" + (" on" if high is None else f" to {high:g}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise JaxalignError(f"{name} is {value!r}; expected {expected}") from None
    if not low <= number <= (np.inf if high is None else high) or number == np.inf:
        raise JaxalignError(f"{name} is {number:g}; expected {expected}")
    return jnp.float32(number)
