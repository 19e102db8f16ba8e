"""DINOv2 and DINOv3: image towers alone, the baselines without any language.

DINOv2 has learned positions for 37 x 37 patches, 518 pixels. At 224 pixels its sources resample them in three
ways that differ by several percent, so each size and source has a record of its own.
"""

from dataclasses import replace

from jaxalign.models import ImageTowerConfig, TwoTowersConfig

from .clip import IMAGENET_MEAN, IMAGENET_STD
from .model_spec import ModelSpec

_V2 = ImageTowerConfig(
    image_size=518,
    patch_size=14,
    width=768,
    depth=12,
    heads=12,
    mlp_hidden=3072,
    activation="gelu",
    norm_epsilon=1e-6,
    pooling="cls",
    projection=None,
    layer_scale=True,
)
_V2_REGISTERS = replace(_V2, registers=4)
_V3 = replace(
    _V2,
    image_size=224,
    patch_size=16,
    width=1024,
    depth=24,
    heads=16,
    mlp_hidden=4096,
    norm_epsilon=1e-5,
    registers=4,
    learned_positions=False,
    rope="dinov3",
)
_FILES = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14"


def _at_224(image: ImageTowerConfig) -> TwoTowersConfig:
    return TwoTowersConfig(replace(image, image_size=224), text=None)


_DINOV2 = ModelSpec(
    name="dinov2-base",
    source="facebook/dinov2-base",
    revision="f9e44c814b77203eaa57a6bdbbd535f21ede1415",
    licence="Apache-2.0",
    paper="DINOv2, arXiv:2304.07193",
    towers=_at_224(_V2),
    resize="shortest",
    interpolation="bicubic",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    tokens=None,
    start_token=None,
    pad_token=None,
    resize_size=256,
    pipeline="transformers",
    vocabulary=None,
    hub_ids=("facebook/dinov2-base",),
    position_resampling="bicubic",
    formats=("transformers Dinov2Model",),
)
_REGISTERS = {"paper": "Vision Transformers Need Registers, arXiv:2309.16588"}
_FULL = {"resize_size": None, "pipeline": "timm", "position_resampling": None}

_SECOND = (
    _DINOV2,
    replace(
        _DINOV2,
        name="dinov2-base-518",
        source="timm/vit_base_patch14_dinov2.lvd142m",
        revision="4685c99dabffe5affac90bd99dbffd25801ae58d",
        towers=TwoTowersConfig(_V2, text=None),
        hub_ids=("timm/vit_base_patch14_dinov2.lvd142m",),
        formats=("DINOv2 timm",),
        **_FULL,
    ),
    replace(
        _DINOV2,
        name="dinov2-base-meta",
        source=f"{_FILES}/dinov2_vitb14_pretrain.pth",
        revision=None,
        pipeline="timm",
        hub_ids=(),
        aliases=("dinov2_vitb14", "dinov2_vitb14_pretrain.pth"),
        position_resampling="bicubic_offset",
        formats=("DINOv2 original",),
    ),
    replace(
        _DINOV2,
        name="dinov2-with-registers-base",
        source="facebook/dinov2-with-registers-base",
        revision="a1d738ccfa7ae170945f210395d99dde8adb1805",
        towers=_at_224(_V2_REGISTERS),
        hub_ids=("facebook/dinov2-with-registers-base",),
        position_resampling="bicubic_antialias",
        **_REGISTERS,
    ),
    replace(
        _DINOV2,
        name="dinov2-with-registers-base-518",
        source="timm/vit_base_patch14_reg4_dinov2.lvd142m",
        revision=None,
        towers=TwoTowersConfig(_V2_REGISTERS, text=None),
        hub_ids=("timm/vit_base_patch14_reg4_dinov2.lvd142m",),
        formats=("DINOv2 with registers, timm",),
        **(_FULL | _REGISTERS),
    ),
    replace(
        _DINOV2,
        name="dinov2-with-registers-base-meta",
        source=f"{_FILES}/dinov2_vitb14_reg4_pretrain.pth",
        revision=None,
        towers=_at_224(_V2_REGISTERS),
        pipeline="timm",
        hub_ids=(),
        aliases=("dinov2_vitb14_reg", "dinov2_vitb14_reg4_pretrain.pth"),
        formats=("DINOv2 original",),
        position_resampling="bicubic_antialias",
        **_REGISTERS,
    ),
)

_DINOV3 = replace(
    _DINOV2,
    name="dinov3-large-patch16",
    source="facebook/dinov3-vitl16-pretrain-lvd1689m",
    revision="ea8dc2863c51be0a264bab82070e3e8836b02d51",
    licence="LicenseRef-DINOv3",
    paper="DINOv3, arXiv:2508.10104",
    towers=TwoTowersConfig(_V3, text=None),
    resize="squash",
    interpolation="bilinear",
    resize_size=None,
    pipeline="transformers_float",
    hub_ids=("facebook/dinov3-vitl16-pretrain-lvd1689m",),
    aliases=("dinov3_vitl16", "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth"),
    formats=("DINOv3 original", "transformers DINOv3ViTModel"),
    position_resampling=None,
)
_THIRD = (
    _DINOV3,
    replace(
        _DINOV3,
        name="dinov3-large-patch16-256",
        source="timm/vit_large_patch16_dinov3.lvd1689m",
        revision="30c1109559f65dea34316b0d4842d35c5771fe11",
        towers=TwoTowersConfig(replace(_V3, image_size=256), text=None),
        resize="shortest",
        interpolation="bicubic",
        pipeline="timm",
        hub_ids=("timm/vit_large_patch16_dinov3.lvd1689m", "timm/vit_large_patch16_dinov3_qkvb.lvd1689m"),
        formats=("DINOv3 timm", "DINOv3 timm with q and v biases"),
        aliases=(),
    ),
)

SPECS = (*_SECOND, *_THIRD)
