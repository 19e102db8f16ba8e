"""SigLIP and SigLIP 2, from each of the three sources of their weights.

The weights are the same, the code around them is not:
big_vision and transformers have the tanh approximation of gelu in both towers; open_clip has the exact one in
the image tower and its head, and for SigLIP in the text tower too. Resizing and text cleaning differ as well.
"""

from dataclasses import replace
from typing import Any

from jaxalign.models import ImageTowerConfig, TextTowerConfig, TwoTowersConfig

from .clip import HALF
from .model_spec import ModelSpec

_PAPER_1, _PAPER_2 = "SigLIP, arXiv:2303.15343", "SigLIP 2, arXiv:2502.14786"
_VOCABULARY_1, _VOCABULARY_2 = 32_000, 256_000
_END = 1
_BAND_2 = (350, 50)


def _towers(
    image_size: int, patch_size: int, width: int, depth: int, heads: int, mlp_hidden: int
) -> TwoTowersConfig:
    """Both towers of a SigLIP, which share their sizes; activations as in big_vision and transformers."""
    sizes: dict[str, Any] = {"width": width, "depth": depth, "heads": heads, "mlp_hidden": mlp_hidden}
    shared: dict[str, Any] = {"activation": "gelu_tanh", "norm_epsilon": 1e-6}
    image = ImageTowerConfig(
        image_size=image_size, patch_size=patch_size, pooling="map", projection=None, **sizes, **shared
    )
    text = TextTowerConfig(
        vocabulary=_VOCABULARY_1,
        context=64,
        causal=False,
        projection=width,
        projection_bias=True,
        end_token=_END,
        **sizes,
        **shared,
    )
    return TwoTowersConfig(image, text, logit_bias=True)


_BASE_224 = _towers(224, 16, 768, 12, 12, 3072)
_LARGE_256 = _towers(256, 16, 1024, 24, 16, 4096)
_SO400M_384 = _towers(384, 14, 1152, 27, 16, 4304)


def _second(towers: TwoTowersConfig) -> TwoTowersConfig:
    """SigLIP 2's towers are SigLIP's with Gemma's vocabulary."""
    assert towers.text is not None
    return replace(towers, text=replace(towers.text, vocabulary=_VOCABULARY_2))


def _exact(towers: TwoTowersConfig, text: bool) -> TwoTowersConfig:
    """open_clip's activations: exact in the image tower, and with `text` in the text tower."""
    assert towers.text is not None
    exact = replace(towers, image=replace(towers.image, activation="gelu"))
    return replace(exact, text=replace(towers.text, activation="gelu")) if text else exact


_SIGLIP = ModelSpec(
    name="siglip-base-patch16-224",
    source="google/siglip-base-patch16-224",
    revision="7fd15f0689c79d79e38b1c2e2e2370a7bf2761ed",
    licence="Apache-2.0",
    paper=_PAPER_1,
    towers=_BASE_224,
    resize="squash",
    interpolation="bicubic",
    mean=HALF,
    std=HALF,
    tokens="sticky",
    start_token=None,
    pad_token=1,
    pipeline="transformers",
    vocabulary="sentencepiece",
    cleaning="siglip",
    hub_ids=("google/siglip-base-patch16-224",),
    formats=("transformers SiglipModel",),
)
_SIGLIP_2 = replace(
    _SIGLIP,
    name="siglip2-base-patch16-224",
    source="google/siglip2-base-patch16-224",
    revision="75de2d55ec2d0b4efc50b3e9ad70dba96a7b2fa2",
    paper=_PAPER_2,
    towers=_second(_BASE_224),
    interpolation="bilinear",
    pad_token=0,
    band=_BAND_2,
    cleaning="lower",
    hub_ids=("google/siglip2-base-patch16-224",),
)
_OPEN_CLIP = {
    "interpolation": "bicubic",
    "pipeline": "open_clip",
    "cleaning": "canonicalize",
    "formats": ("open_clip SigLIP (timm)",),
}
_BIG_VISION = {
    "revision": None,
    "interpolation": "bilinear",
    "pipeline": "big_vision",
    "cleaning": "lower_ascii",
    "hub_ids": (),
    "formats": ("big_vision two_towers",),
}
_WEIGHTS = "https://storage.googleapis.com/big_vision"

_FIRST = (
    _SIGLIP,
    replace(
        _SIGLIP,
        name="siglip-large-patch16-256",
        source="google/siglip-large-patch16-256",
        revision="d0da9f876e7d66b4e250cd2450c3ba2ce735e447",
        towers=_LARGE_256,
        hub_ids=("google/siglip-large-patch16-256",),
    ),
    replace(
        _SIGLIP,
        name="siglip-so400m-patch14-384",
        source="google/siglip-so400m-patch14-384",
        revision="9fdffc58afc957d1a03a25b10dba0329ab15c2a3",
        towers=_SO400M_384,
        hub_ids=("google/siglip-so400m-patch14-384",),
    ),
    replace(
        _SIGLIP,
        name="siglip-base-patch16-224-open-clip",
        source="timm/ViT-B-16-SigLIP",
        revision="41f575766f40e752fdd1383e9565b7f02388c1c4",
        towers=_exact(_BASE_224, text=True),
        hub_ids=("timm/ViT-B-16-SigLIP",),
        aliases=("ViT-B-16-SigLIP",),
        **_OPEN_CLIP,
    ),
    replace(
        _SIGLIP,
        name="siglip-base-patch16-224-big-vision",
        source=f"{_WEIGHTS}/siglip/webli_en_b16_224_63724782.npz",
        aliases=("webli_en_b16_224_63724782.npz",),
        **_BIG_VISION,
    ),
)
_SECOND = (
    _SIGLIP_2,
    replace(
        _SIGLIP_2,
        name="siglip2-large-patch16-256",
        source="google/siglip2-large-patch16-256",
        revision="787800c8990e6f058423089178e718139608408c",
        towers=_second(_LARGE_256),
        band=None,
        hub_ids=("google/siglip2-large-patch16-256",),
    ),
    replace(
        _SIGLIP_2,
        name="siglip2-so400m-patch14-384",
        source="google/siglip2-so400m-patch14-384",
        revision="e8e487298228002f3d8a82e0cd5c8ea9c567f57f",
        towers=_second(_SO400M_384),
        band=None,
        hub_ids=("google/siglip2-so400m-patch14-384",),
    ),
    replace(
        _SIGLIP_2,
        name="siglip2-base-patch16-224-open-clip",
        source="timm/ViT-B-16-SigLIP2",
        revision="eee10eff6dd8cabae2d7f379d4e8cfcd352030aa",
        towers=_exact(_second(_BASE_224), text=False),
        hub_ids=("timm/ViT-B-16-SigLIP2",),
        aliases=("ViT-B-16-SigLIP2",),
        **_OPEN_CLIP,
    ),
    replace(
        _SIGLIP_2,
        name="siglip2-base-patch16-224-big-vision",
        source=f"{_WEIGHTS}/siglip2/siglip2_b16_224.npz",
        aliases=("siglip2_b16_224.npz",),
        **_BIG_VISION,
    ),
)

SPECS = (*_FIRST, *_SECOND)
