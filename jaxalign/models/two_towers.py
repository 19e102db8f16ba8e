"""An image and a text tower and the scale (and bias) of their loss, as big_vision's `two_towers`."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError

from .image_tower import ImageTower, ImageTowerConfig
from .resnet import ModifiedResNet, ResNetConfig
from .text_tower import TextTower, TextTowerConfig


@dataclass(frozen=True)
class TwoTowersConfig:
    """Both towers; `text` is None for an image-only model (DINO), `logit_bias` True for the sigmoid loss
    (SigLIP)."""

    image: ImageTowerConfig | ResNetConfig
    text: TextTowerConfig | None
    logit_bias: bool = False

    def __post_init__(self) -> None:
        if self.text is None:
            if self.logit_bias:
                raise JaxalignError("an image tower alone has no logit_bias; expected false")
        elif self.image.embedding_width != self.text.projection:
            raise JaxalignError(
                f"the image tower ends in width {self.image.embedding_width}, the text tower in"
                f" {self.text.projection}; expected one shared width"
            )


def image_tower(config: ImageTowerConfig | ResNetConfig, dtype: Any = None) -> ImageTower | ModifiedResNet:
    """The module that `config` describes; its parameters are the subtree `img`."""
    kind = ModifiedResNet if isinstance(config, ResNetConfig) else ImageTower
    return kind(config, dtype)  # pyright: ignore[reportArgumentType]


class TwoTowers(nn.Module):
    """Parameters: `img`, `txt` (the towers), `t` (log of the logit scale), for SigLIP `b` (logit bias);
    for an image-only model `img` alone."""

    config: TwoTowersConfig
    dtype: Any = None

    def setup(self) -> None:
        self.img = image_tower(self.config.image, self.dtype)
        if self.config.text is None:
            return
        self.txt = TextTower(self.config.text, self.dtype)
        self.t = self.param("t", nn.initializers.constant(jnp.log(10.0)), (1,))
        if self.config.logit_bias:
            self.b = self.param("b", nn.initializers.constant(-10.0), (1,))

    def __call__(
        self, pixels: jax.Array, tokens: jax.Array | None
    ) -> tuple[jax.Array, jax.Array | None, dict[str, jax.Array]]:
        """Embeddings of both modalities, [n, d] and [m, d], not normalised, and `{"t", "b"}`.

        An image-only model takes None for `tokens` and gives None for the texts.
        """
        zimg, _ = self.img(pixels)
        if self.config.text is None:
            return zimg, None, {}
        if tokens is None:
            raise JaxalignError("tokens is None; expected int32 [m, context] for the text tower")
        ztxt, _ = self.txt(tokens)
        out = {"t": jnp.exp(self.t)}
        return zimg, ztxt, out | {"b": self.b} if self.config.logit_bias else out
