"""How far two models are apart: what a conversion is checked with."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.weights.tensors import flatten


@dataclass(frozen=True)
class Comparison:
    """Largest absolute differences.

    Attributes:
      tensors: number of parameters compared.
      parameter: difference of any two weights, and the name of the tensor where it is.
      image, text: difference of unit-length embeddings of random inputs; 0 for texts where there is no tower.
    """

    tensors: int
    parameter: tuple[float, str]
    image: float
    text: float

    def __str__(self) -> str:
        largest, name = self.parameter
        return (
            f"{self.tensors} tensors, largest difference {largest:.2g} ({name});"
            f" embeddings {self.image:.2g} (image), {self.text:.2g} (text)"
        )


def compare(one: DualEncoder, other: DualEncoder, *, examples: int = 4, seed: int = 0) -> Comparison:
    """Compare weights, and embeddings of `examples` random inputs; raises for models of other sizes."""
    a, b = flatten(one.params), flatten(other.params)
    if {k: v.shape for k, v in a.items()} != {k: v.shape for k, v in b.items()}:
        raise JaxalignError(
            f"{one.name} and {other.name} have other tensors; expected two forms of one model"
        )
    differences = {k: float(jnp.abs(a[k] - b[k]).max()) for k in a}
    worst = max(differences, key=differences.__getitem__)
    rng = np.random.default_rng(seed)
    image, text = one.config.image, one.config.text
    pixels = rng.uniform(-1, 1, (examples, image.image_size, image.image_size, 3)).astype(np.float32)
    texts = 0.0
    if text is not None:
        tokens = rng.integers(0, text.vocabulary, (examples, text.context)).astype(np.int32)
        if text.end_token is not None:
            tokens[:, -1] = text.end_token
        texts = _distance(one.apply_text(one.params, tokens), other.apply_text(other.params, tokens))
    return Comparison(
        len(a),
        (differences[worst], worst),
        _distance(one.apply_image(one.params, pixels), other.apply_image(other.params, pixels)),
        texts,
    )


def _distance(x: jax.Array, y: jax.Array) -> float:
    x, y = (z / jnp.linalg.norm(z, axis=-1, keepdims=True) for z in (x, y))
    return float(jnp.abs(x - y).max())
