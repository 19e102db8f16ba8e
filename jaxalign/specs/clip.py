"""Models of the softmax loss: OpenAI's CLIP, OpenCLIP's, SLIP, EVA-02 and the Perception Encoder."""

from dataclasses import replace

from jaxalign.models import ImageTowerConfig, ResNetConfig, TextTowerConfig, TwoTowersConfig

from .model_spec import ModelSpec

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

_BASE_16 = ImageTowerConfig(
    image_size=224,
    patch_size=16,
    width=768,
    depth=12,
    heads=12,
    mlp_hidden=3072,
    activation="quick_gelu",
    norm_epsilon=1e-5,
    pooling="cls",
    projection=512,
    patch_bias=False,
    pre_norm=True,
)
_BASE_32 = replace(_BASE_16, patch_size=32)
_LARGE_14 = replace(_BASE_16, patch_size=14, width=1024, depth=24, heads=16, mlp_hidden=4096, projection=768)
_TEXT = TextTowerConfig(
    vocabulary=49408,
    context=77,
    width=512,
    depth=12,
    heads=8,
    mlp_hidden=2048,
    activation="quick_gelu",
    norm_epsilon=1e-5,
    causal=True,
    projection=512,
    projection_bias=False,
    end_token=49407,
)
_TEXT_LARGE = replace(_TEXT, width=768, heads=12, mlp_hidden=3072, projection=768)
_EXACT = {"activation": "gelu"}

# OpenAI's weights are also at openaipublic.azureedge.net/clip/models, under the names in `aliases`.
_OPENAI_B16 = ModelSpec(
    name="clip-vit-base-patch16",
    source="openai/clip-vit-base-patch16",
    revision="57c216476eefef5ab752ec549e440a49ae4ae5f3",
    licence="MIT",
    paper="CLIP, arXiv:2103.00020",
    towers=TwoTowersConfig(_BASE_16, _TEXT),
    resize="shortest",
    interpolation="bicubic",
    mean=CLIP_MEAN,
    std=CLIP_STD,
    tokens="causal",
    start_token=49406,
    pad_token=0,
    band=(200, 50),
    text_band=(10, 50),
    vocabulary="clip-bpe",
    cleaning="clip",
    hub_ids=("openai/clip-vit-base-patch16", "timm/vit_base_patch16_clip_224.openai"),
    aliases=("ViT-B/16", "ViT-B-16", "ViT-B-16.pt"),
    formats=("OpenAI / open_clip CLIP", "transformers CLIPModel"),
)

_OPENAI = (
    replace(
        _OPENAI_B16,
        name="clip-vit-base-patch32",
        source="openai/clip-vit-base-patch32",
        revision="3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
        towers=TwoTowersConfig(_BASE_32, _TEXT),
        band=(150, 50),
        text_band=(20, 100),
        hub_ids=("openai/clip-vit-base-patch32", "timm/vit_base_patch32_clip_224.openai"),
        aliases=("ViT-B/32", "ViT-B-32", "ViT-B-32.pt"),
    ),
    _OPENAI_B16,
    replace(
        _OPENAI_B16,
        name="clip-vit-large-patch14",
        source="openai/clip-vit-large-patch14",
        revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
        towers=TwoTowersConfig(_LARGE_14, _TEXT_LARGE),
        band=(250, 200),
        text_band=(10, 300),
        hub_ids=("openai/clip-vit-large-patch14", "timm/vit_large_patch14_clip_224.openai"),
        aliases=("ViT-L/14", "ViT-L-14", "ViT-L-14.pt"),
    ),
    replace(
        _OPENAI_B16,
        name="clip-vit-large-patch14-336",
        source="openai/clip-vit-large-patch14-336",
        revision="ce19dc912ca5cd21c8a653c79e251e808ccabcd1",
        towers=TwoTowersConfig(replace(_LARGE_14, image_size=336), _TEXT_LARGE),
        band=None,
        text_band=None,
        hub_ids=("openai/clip-vit-large-patch14-336", "timm/vit_large_patch14_clip_336.openai"),
        aliases=("ViT-L/14@336px", "ViT-L-14-336", "ViT-L-14-336px.pt"),
    ),
    replace(
        _OPENAI_B16,
        name="clip-rn50",
        source="timm/resnet50_clip.openai",
        revision="ec3d92cf63a5f9d591f0d611b736895966c73076",
        towers=TwoTowersConfig(
            ResNetConfig(image_size=224, stage_depths=(3, 4, 6, 3), stem_width=64, heads=32, projection=1024),
            replace(_TEXT, projection=1024),
        ),
        band=None,
        text_band=None,
        hub_ids=("timm/resnet50_clip.openai",),
        aliases=("RN50", "RN50.pt"),
        formats=("OpenAI / open_clip CLIP with a ResNet",),
    ),
)

_DATACOMP_B16 = replace(
    _OPENAI_B16,
    name="clip-vit-base-patch16-datacomp",
    source="laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
    revision="d110532e8d4ff91c574ee60a342323f28468b287",
    paper="DataComp, arXiv:2304.14108",
    towers=TwoTowersConfig(replace(_BASE_16, **_EXACT), replace(_TEXT, **_EXACT)),
    band=(100, 100),
    text_band=(2, 150),
    inversion_patches=1,
    hub_ids=("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",),
    aliases=("ViT-B/16-open",),
)

_OPEN_CLIP = (
    replace(
        _DATACOMP_B16,
        name="clip-vit-base-patch32-datacomp",
        source="laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        revision="f0e2ffa09cbadab3db6a261ec1ec56407ce42912",
        towers=TwoTowersConfig(replace(_BASE_32, **_EXACT), replace(_TEXT, **_EXACT)),
        band=(50, 50),
        text_band=None,
        inversion_patches=4,
        hub_ids=("laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",),
        aliases=("ViT-B/32-open",),
    ),
    _DATACOMP_B16,
)

_PE_CORE = replace(
    _OPENAI_B16,
    name="pe-core-base-patch16",
    source="timm/PE-Core-B-16",
    revision="0038414f37721c5eafc1a5e0da802d291c909de3",
    licence="Apache-2.0",
    paper="Perception Encoder, arXiv:2504.13181",
    towers=TwoTowersConfig(
        replace(
            _BASE_16, **_EXACT, pooling="map", class_token=True, rope="pe", pool_heads=8, projection=1024
        ),
        replace(
            _TEXT, **_EXACT, context=32, width=1024, depth=24, heads=16, mlp_hidden=4096, projection=1024
        ),
    ),
    resize="squash",
    interpolation="bilinear",
    mean=HALF,
    std=HALF,
    band=(300, 50),
    text_band=None,
    hub_ids=("timm/PE-Core-B-16", "facebook/PE-Core-B16-224"),
    aliases=("PE-Core-B-16", "PE-Core-B16-224", "PE-Core-B16-224.pt"),
    formats=("open_clip PE (timm)", "PE original"),
)

_EVA02 = replace(
    _OPENAI_B16,
    name="eva02-clip-base-patch16",
    source="timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
    revision=None,
    paper="EVA-CLIP, arXiv:2303.15389",
    towers=TwoTowersConfig(
        replace(
            _BASE_16,
            activation="silu",
            norm_epsilon=1e-6,
            mlp_hidden=2048,
            patch_bias=True,
            pre_norm=False,
            projection_bias=True,
            rope="eva02",
            rope_reference=16,
            gated_mlp=True,
            sub_norm=True,
        ),
        replace(_TEXT, **_EXACT),
    ),
    band=(150, 0),
    text_band=None,
    hub_ids=("timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",),
    aliases=("EVA02-B-16", "EVA02-CLIP-B-16", "EVA02_CLIP_B_psz16_s8B.pt"),
    formats=("open_clip EVA02 (timm)", "EVA02-CLIP original"),
)

_SLIP = replace(
    _OPENAI_B16,
    name="slip-vit-base-patch16",
    source="https://dl.fbaipublicfiles.com/slip/slip_base_100ep.pt",
    revision=None,
    paper="SLIP, arXiv:2112.12750",
    towers=TwoTowersConfig(
        replace(_BASE_16, **_EXACT, norm_epsilon=1e-6, patch_bias=True, pre_norm=False), _TEXT
    ),
    interpolation="bilinear",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    band=None,
    text_band=None,
    hub_ids=(),
    aliases=("SLIP_VITB16", "slip_base_100ep.pt", "slip_base_50ep.pt", "slip_base_25ep.pt"),
    formats=("SLIP original",),
)

SPECS = (*_OPENAI, *_OPEN_CLIP, _PE_CORE, _EVA02, _SLIP)
