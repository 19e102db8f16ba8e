"""Classifiers that are one direction per class: class-name texts, or the mean of examples."""

from __future__ import annotations  # help() shows them as they are written here

import jax
import numpy as np
from jax.typing import ArrayLike

from jaxalign.classifiers.base import (
    LinearClassifier,
    check_directions,
    check_examples,
    check_scalar,
    check_text,
    class_means,
)
from jaxalign.classifiers.method import FewShotMethod, Grid
from jaxalign.errors import JaxalignError
from jaxalign.features import as_rows
from jaxalign.features import normalize as unit_rows
from jaxalign.projectors import Projector


def ensemble_text_weights(text_embeddings: ArrayLike) -> jax.Array:
    """Class weights `[c, d]` from embeddings `[c, t, d]` of t prompt templates per class name.

    Each embedding is scaled to unit length, the mean over the templates is taken, and that is scaled to unit
    length again: the prompt ensemble of CLIP (Radford et al., 2021, section 3.1.4), which the few-shot
    literature uses for its zero-shot part.

    Raises:
      JaxalignError: another number of axes, an empty one, or embeddings that are NaN, infinite or zero.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> templates = np.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.1], [0.1, 1.0]]])
      >>> ja.ensemble_text_weights(templates).shape
      (2, 2)
    """
    embeddings = as_rows("text_embeddings", text_embeddings)
    if embeddings.ndim != 3 or 0 in embeddings.shape:
        raise JaxalignError(
            f"text_embeddings have shape {embeddings.shape}; expected [c, t, d], classes, templates, width"
        )
    rows = check_directions("text_embeddings", embeddings.reshape(-1, embeddings.shape[-1]))
    return unit_rows(unit_rows(rows).reshape(embeddings.shape).mean(axis=1))


def zero_shot_classifier(text_weights: ArrayLike) -> LinearClassifier:
    """Cosine with class-name embeddings `[c, d]`, of any scale; logits in [-1, 1].

    Embeddings of several templates per class go through `ensemble_text_weights` first.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> texts = np.eye(2)  # one for each class
      >>> ja.zero_shot_classifier(texts).predict(np.array([[0.1, 0.9]]))
      Array([1], dtype=int32)
    """
    return LinearClassifier(unit_rows(check_directions("text_weights", text_weights)).T)


def prototype_classifier(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    normalize: bool = True,
) -> LinearClassifier:
    """Cosine with the class means of few-shot features (Reevaluating, section 4.3).

    Args:
      features: `[n, d]`.
      labels: integers `[n]` from 0 on.
      num_classes: c, by default the largest label plus one; required where labels are traced.
      text_weights: class-name embeddings `[c, d]`: logits become
        `alpha * prototype + (1 - alpha) * zero-shot`.
      alpha: the few-shot part in that mixture, 0 to 1.
      normalize: whether every feature is scaled to length one before the mean. Pass False for features
        projected after their normalisation, which the published code does not normalise again.

    Raises:
      JaxalignError: features, labels or text weights that do not fit, features that are NaN, infinite or
        zero, one class only, or a class without an example (where traced, such a class has logit 0).

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.prototype_classifier(features, [0, 0, 1, 1]).predict(np.array([[0.2, 0.8]]))
      Array([1], dtype=int32)
    """
    x, y, classes = check_examples(features, labels, num_classes, keep_lengths=not normalize)
    means = class_means(unit_rows(x) if normalize else x, y, classes)
    return _cosine_classifier(means, text_weights, alpha)


PROTOTYPE = FewShotMethod(
    "prototype", prototype_classifier, Grid({"alpha": np.linspace(0, 1, 21)}), keeps_lengths=True
)


def ncm_classifier(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    projector: Projector | None = None,
) -> LinearClassifier:
    """Nearest class mean (IsoCLIP, table 3): cosine with the means of features that are not normalised.

    Arguments as in `prototype_classifier`, and:
      projector: for pre-projection features: their means, and later the features to classify, go through it
        before the cosine. `isoclip(...).image` gives the paper's IsoCLIP row. The published code's CLIP row
        takes the means of projected embeddings: pass those, without a projector. The model's own affine
        projector on pre-projection features gives the same.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.ncm_classifier(features, [0, 0, 1, 1]).predict(np.array([[0.2, 0.8]]))
      Array([1], dtype=int32)
    """
    x, y, classes = check_examples(features, labels, num_classes, keep_lengths=True)
    means = class_means(x, y, classes)
    return _cosine_classifier(means, text_weights, alpha, projector)


def _cosine_classifier(
    means: jax.Array, text_weights: ArrayLike | None, alpha: ArrayLike, projector: Projector | None = None
) -> LinearClassifier:
    means = unit_rows(means if projector is None else projector(means))
    if text_weights is None:
        return LinearClassifier(means.T, projector=projector)
    return LinearClassifier(
        means.T,
        projector=projector,
        text_kernel=check_text(text_weights, *means.shape).T,
        alpha=check_scalar("alpha", alpha, 0, 1),
    )
