"""Every kind of image tower with small sizes and all parameters at random."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.models import ImageTowerConfig, ResNetConfig, image_tower
from jaxalign.specs import find_spec

KINDS = {
    "clip": "ViT-B/16",
    "siglip": "google/siglip-base-patch16-224",
    "pe": "PE-Core-B-16",
    "eva02": "EVA02-B-16",
    "dinov2": "dinov2-with-registers-base-518",
    "dinov3": "dinov3-large-patch16",
    "resnet": "RN50",
}
VITS = [kind for kind in KINDS if kind != "resnet"]


def tiny_config(kind: str) -> ImageTowerConfig | ResNetConfig:
    """The known model's options with sizes that are all different; 3 x 3 patches of 4 pixels."""
    image = find_spec(KINDS[kind]).towers.image
    if isinstance(image, ResNetConfig):
        return replace(image, image_size=32, stage_depths=(1, 2, 1, 1), stem_width=4, heads=4, projection=12)
    return replace(
        image,
        image_size=12,
        patch_size=4,
        width=32,
        depth=2,
        heads=2,
        mlp_hidden=40,
        projection=image.projection and 12,
        pool_heads=image.pool_heads and 4,
    )


def random_tower(config: ImageTowerConfig | ResNetConfig, seed: int = 0) -> dict:
    """Parameters as in training, but none that is zero or one: norms, biases and tokens are drawn too."""
    pixels = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)
    shapes = jax.eval_shape(image_tower(config).init, jax.random.key(0), pixels)["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/").rsplit("/", 1)[-1]
        noise = rng.normal(size=leaf.shape)
        if name in ("scale", "gamma", "var"):
            return jnp.asarray(1 + 0.2 * np.tanh(noise), jnp.float32)
        scale = leaf.size**-0.5 * leaf.shape[-1] ** 0.5 if name == "kernel" else 0.3
        return jnp.asarray(scale * noise, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)
