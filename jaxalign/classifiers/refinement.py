"""APE: a cache on the channels that tell the classes apart, its examples weighed by their difficulty."""

from __future__ import annotations  # help() shows them as they are written here

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.classifiers.base import check_scalar, product
from jaxalign.classifiers.cache import CacheClassifier, Related, cache_fields
from jaxalign.classifiers.method import PUBLISHED, FewShotMethod, Grid, steps
from jaxalign.errors import JaxalignError
from jaxalign.features import normalize as unit_rows

_EPSILON = 1e-6  # of the published code


@struct.dataclass(repr=False)  # the one that it inherits
class RefinedClassifier(CacheClassifier):
    """APE."""

    channel_rank: jax.Array  # whole numbers [d], 0 for the channel that tells classes apart best
    channels: jax.Array  # scalar, how many of them are kept
    gamma: jax.Array  # scalar

    relate_uses: ClassVar[tuple[str, ...]] = ("channels",)
    evidence_uses: ClassVar[tuple[str, ...]] = ("beta", "gamma")

    def relate(self, x: jax.Array) -> Related:
        x = unit_rows(x)
        # A mask, not a selection, so that the number of channels can be traced: the products are the same.
        kept = (self.channel_rank < self.channels).astype(x.dtype)
        keys, text = unit_rows(self.keys * kept), unit_rows(self.text_kernel.T * kept)
        predicted = jax.nn.softmax(product(keys, text.T), axis=1)
        own = jnp.take_along_axis(predicted, self.labels[:, None], axis=1)[:, 0]
        difficulty = jnp.log2((1 + _EPSILON) / (own + _EPSILON))
        return Related(self.zero_shot(x), product(unit_rows(x * kept), keys.T), difficulty)

    def weights(self, related: Related) -> jax.Array:
        return super().weights(related) * jnp.exp(self.gamma * related.extra)


def ape(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 5.5,
    gamma: ArrayLike = 0.1,
    channels: ArrayLike | None = None,
    similarity_weight: ArrayLike = 0.7,
    logit_scale: ArrayLike = 100.0,
) -> RefinedClassifier:
    """APE without training (Zhu et al., ICCV 2023): `100 f W^T + alpha exp(-beta (1 - f' F'^T)) diag(R) L`.

    A prime means that only the `channels` of the highest criterion are kept, and the rest scaled to unit
    length again. The criterion of a channel is `-w S + (1 - w) V`: S the mean product of two examples of
    different classes in that channel (class-name embeddings count as an example each), V the variance of the
    class-name embeddings. `R = exp(gamma KL)`, with KL the divergence, in bits, of an example's label from
    `softmax(F' W'^T)`: examples that their text does not explain count more.

    Arguments and errors as in `tip_adapter`, and:
      text_weights: `[c, d]`, required.
      gamma: 0 or more; the published code searches it up to 1.5.
      channels: how many are kept, 1 to d; by default d / 2, as the published code does for ImageNet (500 of
        1,024). With d, and gamma 0, this is Tip-Adapter. Can be traced.
      similarity_weight: w, 0 to 1; the published code takes 0.7 for ImageNet, 0.5 to 0.9 elsewhere.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.ape(features, [0, 0, 1, 1], text_weights=np.eye(2), channels=2).predict(np.array([[0.2, 0.8]]))
      Array([1], dtype=int32)
    """
    fields = cache_fields(features, labels, num_classes, text_weights, alpha, beta, logit_scale)
    if fields["text_kernel"] is None:
        raise JaxalignError("text_weights is None; APE chooses channels by the texts, pass [c, d]")
    d = fields["keys"].shape[1]
    criterion = _criterion(
        fields["keys"],
        fields["text_kernel"].T,
        fields["labels"],
        check_scalar("similarity_weight", similarity_weight, 0, 1),
    )
    order = jnp.argsort(-criterion, stable=True)
    rank = jnp.zeros_like(criterion).at[order].set(jnp.arange(d, dtype=criterion.dtype))
    kept = check_channels(max(d // 2, 1) if channels is None else channels, d)
    return RefinedClassifier(
        **fields, channel_rank=rank, channels=kept, gamma=check_scalar("gamma", gamma, 0)
    )


# configs/*.yaml of https://github.com/yangyangyang127/APE: ends of beta, alpha and gamma, and steps of gamma;
# for the embeddings of ResNet-50 also `training_free_feat_num` and `w_training_free[0]`.
_PUBLISHED = {
    "caltech101": (7, 7, 1, 20, 800, 0.5),
    "dtd": (7, 7, 1, 20, 400, 0.5),
    "food101": (7, 7, 1, 20, 700, 0.3),
    "flowers102": (7, 7, 1, 20, 700, 0.4),
    "pets": (7, 7, 1, 20, 800, 0.7),
    "eurosat": (30, 5, 1.5, 20, 700, 0.9),
    "aircraft": (20, 10, 1, 20, 800, 0.1),
    "imagenet": (7, 7, 0.5, 5, 500, 0.7),
    "cars": (10, 7, 1, 20, 500, 0.6),
    "sun397": (10, 7, 1, 20, 800, 0.7),
    "ucf101": (10, 7, 1.5, 20, 700, 0.3),
}
APE = FewShotMethod(
    "ape",
    ape,
    Grid({"alpha": np.linspace(0.1, 3, 10), "beta": np.linspace(1, 12, 10), "gamma": np.linspace(0, 1.5, 4)}),
    needs_text=True,
    published={
        name: Grid(
            {"alpha": steps(0.1, alpha, 20), "beta": steps(0.1, beta, 200), "gamma": steps(0, gamma, count)},
            ("beta", "alpha", "gamma"),
            name=f"{PUBLISHED}:{name}",
        )
        for name, (beta, alpha, gamma, count, *_) in _PUBLISHED.items()
    },
    published_options={
        name: {"channels": kept, "similarity_weight": weight}
        for name, (*_, kept, weight) in _PUBLISHED.items()
    },
    published_width=1024,
)


def check_channels(channels: ArrayLike, d: int) -> jax.Array:
    kept = check_scalar("channels", channels, 1, d)
    if not isinstance(kept, Tracer) and kept != jnp.round(kept):
        raise JaxalignError(f"channels is {float(kept):g}; expected a whole number of channels, 1 to {d}")
    return kept


def _criterion(keys: jax.Array, text: jax.Array, labels: jax.Array, weight: jax.Array) -> jax.Array:
    """`[d]`; all pairs of different classes at once: the square of the sum less those of the class sums."""
    sums = text + jax.ops.segment_sum(keys, labels, len(text))
    counts = 1 + jax.ops.segment_sum(jnp.ones(len(keys), keys.dtype), labels, len(text))
    pairs = counts.sum() ** 2 - jnp.sum(counts**2)
    # Sums of products of centred sums: squares of the whole sum would drown the differences in rounding.
    others = sums.sum(0) - sums
    similarity = jnp.sum(sums * others, axis=0) / pairs
    return (1 - weight) * jnp.var(text, axis=0, ddof=1) - weight * similarity
