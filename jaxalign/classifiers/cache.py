"""Classifiers that keep the few-shot examples as a cache and weigh them by affinity: Tip-Adapter, CODER."""

from __future__ import annotations  # help() shows them as they are written here

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from jaxalign.brief import brief_repr
from jaxalign.classifiers.base import (
    Classifier,
    check_directions,
    check_examples,
    check_scalar,
    check_text,
    class_sums,
    product,
)
from jaxalign.classifiers.method import PUBLISHED, FewShotMethod, Grid, steps
from jaxalign.errors import JaxalignError
from jaxalign.features import normalize as unit_rows


class Related(NamedTuple):
    """A block of features against what was fitted."""

    text: Any  # zero-shot logits [n, c], or None
    affinity: jax.Array  # with each cached example, [n, m], 1 for its equal
    extra: Any = None


@struct.dataclass
class CacheClassifier(Classifier):
    """Tip-Adapter; with another `relate`, also the methods that differ in the affinity."""

    __repr__ = brief_repr

    keys: jax.Array  # [m, d], the examples, of unit length
    labels: jax.Array  # int32 [m]
    text_kernel: Any  # [d, c], or None: the cache alone
    logit_scale: jax.Array  # scalar, of the zero-shot part
    alpha: jax.Array  # scalar, weight of the cache
    beta: jax.Array  # scalar, sharpness of the affinities
    classes: int = struct.field(pytree_node=False)

    evidence_uses: ClassVar[tuple[str, ...]] = ("beta",)
    combine_uses: ClassVar[tuple[str, ...]] = ("alpha",)

    @property
    def width(self) -> int:
        return self.keys.shape[-1] if self.text_kernel is None else self.text_kernel.shape[0]

    def relate(self, x: jax.Array) -> Related:
        x = unit_rows(x)
        return Related(self.zero_shot(x), product(x, self.keys.T))

    def evidence(self, related: Related) -> Any:
        return class_sums(self.weights(related), self.labels, self.classes)

    def combine(self, related: Related, evidence: Any) -> jax.Array:
        return evidence if related.text is None else related.text + self.alpha * evidence

    def zero_shot(self, x: jax.Array) -> jax.Array | None:
        return None if self.text_kernel is None else self.logit_scale * product(x, self.text_kernel)

    def weights(self, related: Related) -> jax.Array:
        return jnp.exp(-self.beta * (1 - related.affinity))


@struct.dataclass(repr=False)  # the one that it inherits
class NeighborClassifier(CacheClassifier):
    """CODER: the affinity is that of similarities to a bank of texts, stretched to 0 to 1 per example."""

    text_bank: jax.Array  # [t, d], of unit length; keys are [m, t]

    @property
    def width(self) -> int:
        return self.text_bank.shape[1]

    def relate(self, x: jax.Array) -> Related:
        x = unit_rows(x)
        affinity = product(_neighbors(x, self.text_bank), self.keys.T)
        low = affinity.min(axis=1, keepdims=True)
        span = affinity.max(axis=1, keepdims=True) - low
        stretched = jnp.where(span == 0, 1, (affinity - low) / jnp.where(span == 0, 1, span))
        return Related(self.zero_shot(x), stretched)


def tip_adapter(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 5.5,
    logit_scale: ArrayLike = 100.0,
) -> CacheClassifier:
    """Tip-Adapter without training (Zhang et al., ECCV 2022): `100 f W^T + alpha exp(-beta (1 - f F^T)) L`.

    f is the feature to classify, F the few-shot features, W the class-name embeddings, all of unit length,
    and L the one-hot labels. The published code averages several augmented views of an example before it
    normalises: pass such averages as `features`.

    Args:
      features: `[n, d]`, any scale.
      labels: integers `[n]` from 0 on.
      num_classes: c, by default the largest label plus one; required where labels are traced.
      text_weights: `[c, d]`; without them, the logits are those of the cache alone and alpha has no effect.
      alpha: weight of the cache, 0 or more. Unlike in a mixture, the zero-shot part keeps its weight. The
        paper takes 1 and 5.5 for ImageNet and otherwise searches alpha and beta on validation images, in the
        code over 0.1 to 3 and to 7 or more, which `search_hyperparameters` does in one compilation.
      beta: sharpness of the affinities, 0 or more.
      logit_scale: of the zero-shot part.

    Raises:
      JaxalignError: features, labels or text weights that do not fit, features that are NaN, infinite or
        zero, one class only, a class without an example, or a number out of range.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.tip_adapter(features, [0, 0, 1, 1], text_weights=np.eye(2)).predict(np.array([[0.2, 0.8]]))
      Array([1], dtype=int32)
    """
    return CacheClassifier(
        **cache_fields(features, labels, num_classes, text_weights, alpha, beta, logit_scale)
    )


# configs/*.yaml of https://github.com/gaopengcuhk/Tip-Adapter: `search_scale`, ends of beta and alpha.
_ENDS = {
    "caltech101": (12, 5),
    "dtd": (13, 13),
    "eurosat": (12, 10),
    "aircraft": (30, 30),
    "food101": (10, 10),
    "imagenet": (7, 3),
    "flowers102": (50, 50),
    "pets": (7, 3),
    "cars": (20, 10),
    "sun397": (12, 10),
    "ucf101": (7, 3),
}
TIP_ADAPTER = FewShotMethod(
    "tip-adapter",
    tip_adapter,
    Grid({"alpha": np.linspace(0.1, 3, 20), "beta": np.linspace(0.1, 7, 20)}),
    published={
        name: Grid(
            {"alpha": steps(0.1, alpha, 20), "beta": steps(0.1, beta, 200)},
            ("beta", "alpha"),
            name=f"{PUBLISHED}:{name}",
        )
        for name, (beta, alpha) in _ENDS.items()
    },
)


def coder(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    text_bank: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 5.5,
    logit_scale: ArrayLike = 100.0,
) -> NeighborClassifier:
    """CODER (Yi et al., CVPR 2024): an image as its cosines to a bank of texts, then as Tip-Adapter.

    With T the bank, an image f becomes the unit vector along `f T^T`. The products of two such vectors are
    stretched, for each image to classify, so that the farthest example has affinity 0 and the nearest 1
    (when all are equally near, they all have 1). The paper's bank holds class names, attributes and analogous
    classes written by a language model.

    Arguments and errors as in `tip_adapter`, and:
      text_bank: embeddings `[t, d]` of any texts, any scale; by default `text_weights`, a small bank.
      beta: the published code searches it up to 200.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.coder(features, [0, 0, 1, 1], text_weights=np.eye(2)).predict(np.array([[0.2, 0.8]]))
      Array([1], dtype=int32)
    """
    fields = cache_fields(features, labels, num_classes, text_weights, alpha, beta, logit_scale)
    text_bank = text_weights if text_bank is None else text_bank
    if text_bank is None:
        raise JaxalignError(
            "text_bank and text_weights are None; CODER compares images by texts, pass [t, d]"
        )
    bank = unit_rows(check_directions("text_bank", text_bank))
    d = fields["keys"].shape[1]
    if bank.shape[1] != d:
        raise JaxalignError(
            f"text_bank is {bank.shape[1]} wide, the features {d}; expected embeddings of one model"
        )
    fields["keys"] = _neighbors(fields["keys"], bank)
    return NeighborClassifier(**fields, text_bank=bank)


# classify_few_shot.py of https://github.com/YCaigogogo/CVPR24-CODER
_CODER = {"alpha": steps(0.1, 20, 50), "beta": steps(0.1, 200, 500)}
CODER = FewShotMethod(
    "coder",
    coder,
    Grid({"alpha": np.linspace(0.1, 5, 12), "beta": np.linspace(1, 200, 16)}),
    needs_text=True,
    takes_bank=True,
    published={"": Grid(_CODER, ("beta", "alpha"), rounds=3, name=PUBLISHED)},
)


def cache_fields(
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int | None,
    text_weights: ArrayLike | None,
    alpha: ArrayLike,
    beta: ArrayLike,
    logit_scale: ArrayLike,
) -> dict[str, Any]:
    """What every cache keeps, checked."""
    x, y, classes = check_examples(features, labels, num_classes)
    return {
        "keys": unit_rows(x),
        "labels": y,
        "text_kernel": None if text_weights is None else check_text(text_weights, classes, x.shape[1]).T,
        "logit_scale": check_scalar("logit_scale", logit_scale, 0),
        "alpha": check_scalar("alpha", alpha, 0),
        "beta": check_scalar("beta", beta, 0),
        "classes": classes,
    }


def _neighbors(x: jax.Array, bank: jax.Array) -> jax.Array:
    return unit_rows(product(x, bank.T))
