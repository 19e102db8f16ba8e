"""Classifiers on frozen features, fitted in closed form: class-name texts, class means, Gaussians.

A method is a function that fits and returns a `Classifier`, a frozen pytree that is called on features.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError
from jaxalign.projectors import Projector
from jaxalign.ranking import as_features
from jaxalign.ranking import normalize as unit_rows


@struct.dataclass
class Classifier:
    """What every method returns: called on features `[n, d]`, it gives logits `[n, c]`."""

    def __call__(self, features: ArrayLike) -> jax.Array:
        raise NotImplementedError

    def predict(self, features: ArrayLike) -> jax.Array:
        """Class indices `[n]`, the largest logit; among equal logits the first class."""
        return jnp.argmax(self(features), axis=-1)


@struct.dataclass
class LinearClassifier(Classifier):
    """Features through an optional projector, to unit length where asked for, then `kernel` and `bias`."""

    kernel: jax.Array  # [d, c]
    bias: jax.Array | None = None  # [c]
    projector: Projector | None = None
    normalize: bool = struct.field(pytree_node=False, default=True)

    def __call__(self, features: ArrayLike) -> jax.Array:
        """Logits `[..., c]` of features `[..., d]`; raises JaxalignError on another width."""
        x = jnp.asarray(features, jnp.float32)
        if self.projector is not None:
            x = self.projector(x)
        if x.shape[-1:] != self.kernel.shape[:1]:
            raise JaxalignError(
                f"features of shape {x.shape} do not fit a classifier for width {self.kernel.shape[0]};"
                " pass features like those it was fitted on"
            )
        x = unit_rows(x) if self.normalize else x
        logits = jnp.matmul(x, self.kernel, precision=jax.lax.Precision.HIGHEST)
        return logits if self.bias is None else logits + self.bias


def zero_shot_classifier(text_weights: ArrayLike) -> LinearClassifier:
    """Cosine with class-name embeddings `[c, d]`, of any scale; logits in [-1, 1]."""
    return LinearClassifier(unit_rows(as_features("text_weights", text_weights)).T)


def prototype_classifier(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: float = 0.5,
    normalize: bool = True,
) -> LinearClassifier:
    """Cosine with the class means of few-shot features (Reevaluating, section 4.3).

    Args:
      features: `[n, d]`.
      labels: integers `[n]` from 0 on.
      num_classes: c, by default the largest label plus one; required where labels are traced.
      text_weights: class-name embeddings `[c, d]`: logits become
        `alpha * prototype + (1 - alpha) * zero-shot`.
      alpha: the few-shot part in that mixture.
      normalize: whether every feature is scaled to length one before the mean. Pass False for features
        projected after their normalisation, which the published code does not normalise again.

    Raises:
      JaxalignError: features, labels or text weights that do not fit, or a class without an example (where
        traced, such a class has logit 0).
    """
    features = as_features("features", features)
    means = _class_means(unit_rows(features) if normalize else features, labels, num_classes)
    return LinearClassifier(_mix(unit_rows(means), text_weights, alpha).T)


def ncm_classifier(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: float = 0.5,
    projector: Projector | None = None,
) -> LinearClassifier:
    """Nearest class mean (IsoCLIP, table 3): cosine with the means of features that are not normalised.

    Arguments as in `prototype_classifier`, and:
      projector: for pre-projection features: their means, and later the features to classify, go through it
        before the cosine. `isoclip(...).image` gives the paper's IsoCLIP row, the model's own the CLIP row.
    """
    means = _class_means(as_features("features", features), labels, num_classes)
    means = means if projector is None else projector(means)
    return LinearClassifier(_mix(unit_rows(means), text_weights, alpha).T, projector=projector)


def lda_classifier(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: float = 0.5,
    normalize: bool = True,
) -> LinearClassifier:
    """Gaussians of equal priors and one covariance (Reevaluating, section 4.3; "GDA" in the code it is from).

    With class means mu, n examples, and C the covariance of the examples about their class means,
    `P = d pinv((n - 1) C + trace(C) I)`, logits `x P mu^T + log(1 / c) - diag(mu P mu^T) / 2`. With text
    weights: `alpha * LDA + (1 - alpha) * zero-shot`, the latter a cosine.

    At one example a class C is 0, so is P, and all logits are equal: accuracy is chance, as the paper prints
    it, and text weights alone decide where they are given.

    Arguments as in `prototype_classifier`; with `normalize`, the features to classify are normalised too.
    """
    features = as_features("features", features)
    features = unit_rows(features) if normalize else features
    means = _class_means(features, labels, num_classes)
    weights, bias = _discriminant(features, jnp.asarray(labels), means)
    if text_weights is None:
        return LinearClassifier(weights, bias, normalize=normalize)
    kernel = alpha * weights + (1 - alpha) * unit_rows(_check_text(text_weights, *means.shape)).T
    return LinearClassifier(kernel, alpha * bias, normalize=normalize)


def _class_means(features: jax.Array, labels: ArrayLike, num_classes: int | None) -> jax.Array:
    """`[c, d]`; zeros for a class without examples, which can only be when labels are traced."""
    classes = check_class_labels(labels, features.shape[0], num_classes)
    return _means(features, jnp.asarray(labels), classes)


@partial(jax.jit, static_argnums=2)
def _means(features: jax.Array, labels: jax.Array, classes: int) -> jax.Array:
    member = jax.nn.one_hot(labels, classes, dtype=features.dtype)
    total = jnp.matmul(member.T, features, precision=jax.lax.Precision.HIGHEST)
    return total / jnp.maximum(member.sum(0), 1)[:, None]


@jax.jit
def _discriminant(features: jax.Array, labels: jax.Array, means: jax.Array) -> tuple[jax.Array, jax.Array]:
    """LDA's weights `[d, c]` and bias `[c]`."""
    n, d = features.shape
    with jax.default_matmul_precision("highest"):
        centred = features - means[labels]
        scatter = centred.T @ centred  # (n - 1) C
        trace = jnp.trace(scatter) / max(n - 1, 1)
        # With a positive trace the matrix is well-conditioned (below n), and pinv is the inverse. Without
        # one, up to the rounding of the means, pinv(0) = 0.
        spread = trace > 1e-12 * jnp.mean(jnp.sum(features**2, axis=1))
        safe = jnp.where(spread, trace, 1)
        weights = jnp.linalg.solve(scatter / safe + jnp.eye(d), means.T) * jnp.where(spread, d / safe, 0)
    return weights, -jnp.log(len(means)) - jnp.sum(means * weights.T, axis=1) / 2


def check_class_labels(labels: Any, count: int, num_classes: int | None) -> int:
    """The number of classes; raises unless integer labels `[count]` lie in it and every class occurs."""
    traced = isinstance(labels, Tracer)
    array = labels if traced else np.asarray(labels)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise JaxalignError(
            f"labels are {array.dtype} of shape {array.shape};"
            f" expected one class index per feature, integers ({count},)"
        )
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
    absent = np.setdiff1d(np.arange(classes), array)
    if absent.size:
        raise JaxalignError(
            f"{absent.size} of {classes} classes have no example (first: {', '.join(map(str, absent[:5]))});"
            " pass examples of each, or renumber the labels from 0 on"
        )
    return classes


def _check_text(text_weights: ArrayLike, c: int, d: int) -> jax.Array:
    text = as_features("text_weights", text_weights)
    if text.shape != (c, d):
        raise JaxalignError(
            f"text_weights have shape {text.shape}; expected {(c, d)},"
            " one embedding per class, as wide as the features"
        )
    return text


def _mix(prototypes: jax.Array, text_weights: ArrayLike | None, alpha: float) -> jax.Array:
    if text_weights is None:
        return prototypes
    return alpha * prototypes + (1 - alpha) * unit_rows(_check_text(text_weights, *prototypes.shape))
