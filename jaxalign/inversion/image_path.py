"""The way from pseudo-patches to an image embedding."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.models import ImageTower, ImageTowerConfig


@dataclass(frozen=True)
class ImagePath:
    """Pseudo-patches in place of the patch embedding's output, repeated to the number of patches by nearest
    neighbour in reading order; then positions and the class token as for an image. The last block computes
    only the class token, or what the attention pool takes. Equal ones share a compilation.
    """

    config: ImageTowerConfig
    dtype: Any
    count: int

    @property
    def shape(self) -> tuple[int, int]:
        """Of an example's pseudo-patches, [p, D]."""
        return self.count, self.config.width

    @property
    def live(self) -> int:
        """Tokens that a step computes for each example."""
        return self.config.num_patches + self.config.num_prefix

    @property
    def floats(self) -> int:
        """About how many numbers a step keeps for its gradient, for each example."""
        c = self.config
        hidden = (3 + 3 * c.gated_mlp) * c.mlp_hidden
        return c.depth * (self.live * (11 * c.width + hidden) + 3 * c.heads * self.live**2)

    def prepare(self, params: Any) -> Any:
        """Nothing but the parameters of the `ImageTower`: all tokens depend on the pseudo-patches."""
        return params

    def __call__(self, params: Any, tokens: jax.Array) -> jax.Array:
        """Embeddings [n, d] of images with patches `tokens` [n, p, D]."""
        count = self.config.num_patches
        # a product with one-hot rows: the transpose of a gather is a scatter, slow on CPU
        source = jax.nn.one_hot(np.arange(count) * self.count // count, self.count, dtype=tokens.dtype)
        patches = jnp.einsum("lp,npD->nlD", source, tokens, precision=jax.lax.Precision.HIGHEST)
        tower = ImageTower(self.config, self.dtype).bind({"params": params})
        return tower.encode(patches.astype(self.dtype))[0]
