"""The two small models that ship inside the package."""

import dataclasses

from jaxalign.models import ImageTowerConfig, TextTowerConfig, TwoTowersConfig

from .model_spec import ModelSpec

_EMOJI_VOCABULARY = 7715

_TEXT = TextTowerConfig(
    vocabulary=_EMOJI_VOCABULARY,
    context=20,
    width=128,
    depth=2,
    heads=2,
    mlp_hidden=384,
    activation="quick_gelu",
    norm_epsilon=1e-5,
    causal=True,
    projection=64,
    projection_bias=False,
    end_token=3,
)

EMOJI_CLIP = ModelSpec(
    name="emoji-clip",
    source="embedded in the package; trained by tools/train_embedded.py",
    revision=None,
    licence="Apache-2.0",
    paper="CLIP, arXiv:2103.00020 (the shape; sizes and data are ours)",
    towers=TwoTowersConfig(
        ImageTowerConfig(
            image_size=48,
            patch_size=8,
            width=256,
            depth=3,
            heads=4,
            mlp_hidden=768,
            activation="quick_gelu",
            norm_epsilon=1e-5,
            pooling="cls",
            projection=64,
            patch_bias=False,
        ),
        _TEXT,
        logit_bias=False,
    ),
    resize="squash",
    interpolation="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    tokens="causal",
    start_token=2,
    pad_token=0,
)

EMOJI_SIGLIP = dataclasses.replace(
    EMOJI_CLIP,
    name="emoji-siglip",
    paper="SigLIP 2, arXiv:2502.14786 (the shape; sizes and data are ours)",
    towers=TwoTowersConfig(
        dataclasses.replace(
            EMOJI_CLIP.towers.image,
            depth=2,
            activation="gelu_tanh",
            norm_epsilon=1e-6,
            pooling="map",
            projection=None,
            patch_bias=True,
        ),
        dataclasses.replace(
            _TEXT,
            activation="gelu_tanh",
            norm_epsilon=1e-6,
            causal=False,
            projection=256,
            projection_bias=True,
        ),
        logit_bias=True,
    ),
    tokens="sticky",
    start_token=None,
)
