"""open_clip's `CLIP` (OpenAI, OpenCLIP, RN50) and `CustomTextCLIP` on timm trunks (SigLIP, PE, EVA-02)."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
import timm.models.eva
import timm.models.vision_transformer
import torch
from safetensors.torch import save_file
from timm.layers.norm import LayerNorm
from timm.models import register_model
from torch import nn

from .base import Outputs, Size, Sizes, at_end, save_torch, seen

# Heads are 64 wide at both sizes: where a format does not say how many there are, that is what tells.
_TINY_TRUNK = {"img_size": 48, "patch_size": 16, "embed_dim": 192, "depth": 2, "num_heads": 3}
_TINY_TEXT = {"width": 128, "heads": 2, "layers": 2}
_TINY_VIT = {"image_size": 48, "patch_size": 16, "width": 192, "layers": 2, "head_width": 64}
_TINY_RESNET = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "patch_size": None}


@register_model
def vit_tiny_siglip(pretrained: bool = False, **options: Any) -> nn.Module:
    """The trunk of open_clip's SigLIP models with small sizes."""
    options = {**_TINY_TRUNK, "class_token": False, **options}
    return timm.models.vision_transformer._create_vision_transformer(
        "vit_base_patch16_siglip_224", pretrained=False, **options
    )


@register_model
def vit_so400m_patch14_siglip_tiny(pretrained: bool = False, **options: Any) -> nn.Module:
    """The trunk of open_clip's So400m/14: its name alone says that it has 16 heads."""
    shape = {"patch_size": 14, "img_size": 45, "num_heads": 16, "mlp_ratio": 3.7362}
    return vit_tiny_siglip(**{**shape, **options})


@register_model
def vit_so400m_patch16_siglip_tiny(pretrained: bool = False, **options: Any) -> nn.Module:
    """The trunk of open_clip's So400m/16: its name alone says that its gelu is the approximate one."""
    return vit_tiny_siglip(**{"num_heads": 16, "mlp_ratio": 3.7362, "act_layer": "gelu_tanh", **options})


@register_model
def vit_tiny_pe_core(pretrained: bool = False, **options: Any) -> nn.Module:
    """The trunk of open_clip's PE-Core models with small sizes."""
    options = {
        **_TINY_TRUNK,
        "attn_type": "rope",
        "use_pre_transformer_norm": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": (3, 3),
        "rope_grid_offset": 1.0,
        "rope_grid_indexing": "xy",
        "attn_pool_num_heads": 8,
        "attn_pool_mlp_ratio": 4.0,
        "norm_layer": partial(LayerNorm, eps=1e-5),
        **options,
    }
    return timm.models.eva._create_eva("vit_pe_core_base_patch16_224", pretrained=False, **options)


@register_model
def vit_tiny_eva02(pretrained: bool = False, **options: Any) -> nn.Module:
    """The trunk of open_clip's EVA02 models with small sizes."""
    options = {
        **_TINY_TRUNK,
        "qkv_fused": False,
        "mlp_ratio": 4 * 2 / 3,
        "swiglu_mlp": True,
        "scale_mlp": True,
        "scale_attn_inner": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": (16, 16),
        **options,
    }
    return timm.models.eva._create_eva("eva02_base_patch16_clip_224", pretrained=False, **options)


# by a part of timm's name, the first that fits
_TINY_TRUNKS = {
    "so400m_patch14_siglip": "vit_so400m_patch14_siglip_tiny",
    "so400m_patch16_siglip": "vit_so400m_patch16_siglip_tiny",
    "siglip": "vit_tiny_siglip",
    "pe": "vit_tiny_pe_core",
    "eva02": "vit_tiny_eva02",
}


def model_config(name: str, size: Size) -> dict[str, Any]:
    """open_clip's configuration `name`, or the same with small sizes."""
    config = open_clip.get_model_config(name)
    if size == "full":
        return config
    vision, text = config["vision_cfg"], {**config["text_cfg"], **_TINY_TEXT}
    if "timm_model_name" in vision:
        kind = next(kind for kind in _TINY_TRUNKS if kind in vision["timm_model_name"])
        side = 45 if "patch14" in kind else 48
        vision = {**vision, "timm_model_name": _TINY_TRUNKS[kind], "image_size": side}
    else:
        vision = dict(_TINY_VIT if isinstance(vision["layers"], int) else _TINY_RESNET)
        vision = {key: value for key, value in vision.items() if value is not None}
    embed_dim = 192 if config.get("init_logit_bias") else 96  # SigLIP's is the trunk's width
    if text["vocab_size"] > 49408:
        text = {**text, "vocab_size": 500}  # 256,000 rows are a large file for a small model
    return {**config, "embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": text}


def make(name: str, size: Size) -> nn.Module:
    config = model_config(name, size)
    options = {key: value for key, value in config.items() if key != "custom_text"}
    model = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(**options)
    model.reference_config = config
    return model


def sizes(name: str, size: Size) -> Sizes:
    config = model_config(name, size)
    text = config["text_cfg"]
    return Sizes(
        config["vision_cfg"]["image_size"], text.get("context_length", 77), text.get("vocab_size", 49408)
    )


def see_vit(model: Any, x: torch.Tensor) -> Outputs:
    with seen(model.visual.transformer.resblocks) as blocks, seen([model.visual.ln_post]) as normed:
        z = model.encode_image(x)
    return {"pre": normed[0][:, 0], "embedding": z, "blocks": blocks}


def see_resnet(model: Any, x: torch.Tensor) -> Outputs:
    """The pool hands its last projection to a function: what goes in is seen by an identity in its place."""
    visual, pool = model.visual, model.visual.attnpool
    with seen([visual.layer1, visual.layer2, visual.layer3, visual.layer4]) as stages:
        z = model.encode_image(x)
    projection, width = pool.c_proj, pool.c_proj.in_features
    pool.c_proj = nn.Linear(width, width)
    pool.c_proj.weight.data.copy_(torch.eye(width))
    pool.c_proj.bias.data.zero_()
    pre = pool(stages[-1])
    pool.c_proj = projection
    return {"pre": pre, "embedding": z, "blocks": [stage.permute(0, 2, 3, 1) for stage in stages]}


def see_trunk(model: Any, x: torch.Tensor) -> Outputs:
    """PE and EVA-02: a linear head ends the trunk."""
    trunk = model.visual.trunk
    with seen(trunk.blocks) as blocks, seen([trunk.head], inputs=True) as pre:
        z = model.encode_image(x)
    return {"pre": pre[0], "embedding": z, "blocks": blocks}


def see_siglip(model: Any, x: torch.Tensor) -> Outputs:
    """The pre-projection feature is what the residual MLP of the pool is given."""
    trunk = model.visual.trunk
    with seen(trunk.blocks) as blocks, seen([trunk.attn_pool.norm], inputs=True) as pre:
        z = model.encode_image(x)
    return {"pre": pre[0][:, 0], "embedding": z, "blocks": blocks}


def see_text(model: Any, ids: torch.Tensor) -> Outputs:
    tower = getattr(model, "text", model)
    with seen(tower.transformer.resblocks) as blocks, seen([tower.ln_final]) as normed:
        z = model.encode_text(ids)
    last = getattr(tower, "pool_type", None) == "last"
    return {"pre": normed[0][:, -1] if last else at_end(normed[0], ids), "embedding": z, "blocks": blocks}


def scale(model: Any) -> tuple[torch.Tensor, Any]:
    return model.logit_scale.exp(), 0.0 if model.logit_bias is None else model.logit_bias


def write_folder(name: str, tag: str, binary: bool, model: Any, folder: Path) -> Path:
    """As open_clip's `push_to_hf_hub` writes it, with the preprocessing of `tag`."""
    preprocess = open_clip.get_pretrained_cfg(name, tag)
    keys = ("mean", "std", "interpolation", "resize_mode")
    chosen = {key: preprocess[key] for key in keys if key in preprocess}
    content = {"model_cfg": model.reference_config, "preprocess_cfg": chosen}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    tensors = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    if binary:
        save_torch(tensors, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(tensors, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    return folder
