"""An image and a text tower and the scale (and bias) of their loss, as big_vision's `two_towers`."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError

from .image_tower import ImageTower, ImageTowerConfig
from .text_tower import TextTower, TextTowerConfig


@dataclass(frozen=True)
class TwoTowersConfig:
    """Both towers; `logit_bias` is True for the sigmoid loss (SigLIP)."""

    image: ImageTowerConfig
    text: TextTowerConfig
    logit_bias: bool

    def __post_init__(self):
        if self.image.embedding_width != self.text.projection:
            raise JaxalignError(
                f"the image tower ends in width {self.image.embedding_width}, the text tower in"
                f" {self.text.projection}; expected one shared width"
            )


class TwoTowers(nn.Module):
    """Parameters: `img`, `txt` (the towers), `t` (log of the logit scale), for SigLIP `b` (logit bias)."""

    config: TwoTowersConfig
    dtype: Any = None

    def setup(self):
        self.img = ImageTower(self.config.image, self.dtype)
        self.txt = TextTower(self.config.text, self.dtype)
        self.t = self.param("t", nn.initializers.constant(jnp.log(10.0)), (1,))
        if self.config.logit_bias:
            self.b = self.param("b", nn.initializers.constant(-10.0), (1,))

    def __call__(
        self, pixels: jax.Array, tokens: jax.Array
    ) -> tuple[jax.Array, jax.Array, dict[str, jax.Array]]:
        """Embeddings of both modalities, [n, d] and [m, d], not normalised, and `{"t", "b"}`."""
        zimg, _ = self.img(pixels)
        ztxt, _ = self.txt(tokens)
        out = {"t": jnp.exp(self.t)}
        return zimg, ztxt, out | {"b": self.b} if self.config.logit_bias else out
