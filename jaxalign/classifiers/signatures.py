"""Tip-X: a cache whose affinities also go by the texts, through each image's class distribution."""

from __future__ import annotations  # help() shows them as they are written here

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from jaxalign.classifiers.base import check_scalar, check_width, class_sums, product
from jaxalign.classifiers.cache import CacheClassifier, Related, cache_fields
from jaxalign.classifiers.method import PUBLISHED, FewShotMethod, Grid, steps
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import normalize as unit_rows

_VARIANTS = ("paper", "reference")


@struct.dataclass(repr=False)  # the one that it inherits
class SignatureClassifier(CacheClassifier):
    """Tip-X."""

    log_signatures: jax.Array  # [m, c], of the cached examples
    counts: jax.Array  # [c], examples of each class
    lowest_cosine: jax.Array  # between two cached examples
    largest_divergence: jax.Array  # between two cached examples
    gamma: jax.Array  # scalar, weight of the divergences
    temperature: jax.Array  # scalar
    variant: str = struct.field(pytree_node=False)

    combine_uses: ClassVar[tuple[str, ...]] = ("alpha", "gamma")

    @property
    def is_transductive(self) -> bool:
        return self.variant == "reference"

    def __call__(self, features: ArrayLike) -> jax.Array:
        """Logits `[..., c]`; with `variant="reference"` they depend on all the features in the call."""
        if self.variant == "paper":
            return super().__call__(features)
        x = check_width(features, self)
        logits = self.logits(x.reshape(-1, x.shape[-1]))
        return logits.reshape(*x.shape[:-1], logits.shape[-1])

    def relate(self, x: jax.Array) -> Related:
        x = unit_rows(x)
        cosine = product(x, self.keys.T)
        text = product(x, self.text_kernel)
        divergence = _divergences(jax.nn.log_softmax(text / self.temperature), self.log_signatures)
        if self.variant == "reference":
            # As published: the divergences are given the range of the cosines, then their sign is changed.
            low, high = divergence.min(), divergence.max()
            scale = (cosine.max() - cosine.min()) / jnp.where(high == low, 1, high - low)
            divergence = cosine.min() + (divergence - low) * scale
        sums = class_sums(divergence, self.labels, self.classes)
        return Related(self.logit_scale * text, cosine, sums)

    def evidence(self, related: Related) -> tuple[jax.Array, jax.Array]:
        affinities = super().evidence(related)
        if self.variant == "reference":
            return affinities, -related.extra
        lowest = jnp.exp(-self.beta * (1 - self.lowest_cosine))
        largest = jnp.where(self.largest_divergence == 0, 1, self.largest_divergence)
        return affinities, self.counts - related.extra * (1 - lowest) / largest

    def combine(self, related: Related, evidence: tuple[jax.Array, jax.Array]) -> jax.Array:
        return related.text + self.alpha * evidence[0] + self.gamma * evidence[1]


def tip_x(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 5.5,
    gamma: ArrayLike = 0.5,
    temperature: ArrayLike = 0.5,
    logit_scale: ArrayLike = 100.0,
    variant: str = "paper",
) -> SignatureClassifier:
    """Tip-X (Udandarao et al., "SuS-X", ICCV 2023): `100 f W^T + alpha A L + gamma psi(-M) L`.

    `A = exp(-beta (1 - f F^T))` as in Tip-Adapter. An image's signature is `softmax(f W^T / temperature)`,
    and M is the Kullback-Leibler divergence of the signature of f from that of each cached example. psi is
    the affine map that gives -M the range of A. Here that range is taken among the cached examples:
    divergence 0 becomes 1, and their largest divergence their smallest affinity. So the logits of an image do
    not depend on what it is classified with.

    Arguments and errors as in `tip_adapter`, and:
      text_weights: `[c, d]`, required.
      gamma: weight of the divergences, 0 or more; the published code searches it up to 30.
      temperature: of the signatures, positive.
      variant: "reference" for the published code, where M is given the range of the cosines f F^T, both
        over all features of one call, and then its sign is changed: logits change with the batch, and
        classification is transductive. (That code takes the cosines' range from the validation images
        also for the test images, and drops the last n mod 100 images; both are left out.)

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.tip_x(features, [0, 0, 1, 1], text_weights=np.eye(2)).predict(np.array([[0.2, 0.8]]))
      Array([1], dtype=int32)
    """
    if variant not in _VARIANTS:
        raise unknown_name("variant", variant, _VARIANTS)
    fields = cache_fields(features, labels, num_classes, text_weights, alpha, beta, logit_scale)
    keys, text_kernel = fields["keys"], fields["text_kernel"]
    temperature = check_scalar("temperature", temperature, 1e-6)
    if text_kernel is None:
        raise JaxalignError("text_weights is None; Tip-X compares images by their texts, pass [c, d]")
    log_signatures = jax.nn.log_softmax(product(keys, text_kernel) / temperature)
    ones = jnp.ones((1, keys.shape[0]), keys.dtype)
    return SignatureClassifier(
        **fields,
        log_signatures=log_signatures,
        counts=class_sums(ones, fields["labels"], fields["classes"])[0],
        lowest_cosine=product(keys, keys.T).min(),
        largest_divergence=_divergences(log_signatures, log_signatures).max(),
        gamma=check_scalar("gamma", gamma, 0),
        temperature=temperature,
        variant=variant,
    )


# tipx.py of https://github.com/vishaal27/SuS-X
_PUBLISHED = {"alpha": steps(0.1, 50, 20), "beta": steps(1, 50, 200), "gamma": steps(0.1, 30, 50)}
TIP_X = FewShotMethod(
    "tip-x",
    tip_x,
    Grid(
        {"alpha": np.linspace(0.1, 5, 8), "beta": np.linspace(0.1, 12, 8), "gamma": np.linspace(0.1, 30, 10)}
    ),
    needs_text=True,
    reference={"variant": "reference"},
    published={"": Grid(_PUBLISHED, ("alpha", "beta", "gamma"), name=PUBLISHED)},
)


def _divergences(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """KL(p_i || q_j), `[n, m]`, of log distributions `[n, c]` and `[m, c]`; rounding below 0 is cut off."""
    p = jnp.exp(log_p)
    # Centred, the terms are as small as the divergences, and so is their rounding.
    centre = log_q.mean(axis=0)
    own = jnp.sum(p * (log_p - centre), axis=1, keepdims=True)
    return jnp.maximum(own - product(p, (log_q - centre).T), 0)
