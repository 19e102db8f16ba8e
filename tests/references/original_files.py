"""The original files of PE, EVA-02, DINOv2 and DINOv3, written from the modules of open_clip and timm.

Those libraries read the originals by renaming; the tables here are the way back, and the tests check that
the libraries' own readers accept what they make.
"""

import re
from pathlib import Path
from typing import Any

import torch

from .base import save_torch

Tensors = dict[str, torch.Tensor]


def renamed(tensors: Tensors, table: dict[str, str]) -> Tensors:
    """`tensors` with every pattern of `table` replaced in their names, one after the other."""
    result = {}
    for name, tensor in tensors.items():
        for pattern, replacement in table.items():
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return result


def write_pe(model: Any, folder: Path) -> Path:
    """facebook's `PE-Core-B16-224.pt`: CLIP's names, text at the root, a pool of PyTorch's own attention."""
    table = {
        r"^text\.": "",
        r"^visual\.trunk\.": "visual.",
        r"^(visual\.)patch_embed\.proj\.": r"\1conv1.",
        r"^(visual\.)cls_token": r"\1class_embedding",
        r"^(visual\.)pos_embed": r"\1positional_embedding",
        r"^(visual\.)norm_pre\.": r"\1ln_pre.",
        r"^(visual\.)norm\.": r"\1ln_post.",
        r"^(visual\.)blocks\.": r"\1transformer.resblocks.",
        r"(visual\.transformer.*)norm(\d)": r"\1ln_\2",
        r"(visual\.transformer.*)attn\.qkv\.": r"\1attn.in_proj_",
        r"(visual\.transformer.*)attn\.proj\.": r"\1attn.out_proj.",
        r"(visual.*)mlp\.fc1": r"\1mlp.c_fc",
        r"(visual.*)mlp\.fc2": r"\1mlp.c_proj",
        r"attn_pool\.latent": "attn_pool.probe",
        r"attn_pool\.norm": "attn_pool.layernorm",
        r"attn_pool\.proj": "attn_pool.attn.out_proj",
    }
    tensors = renamed(model.state_dict(), table)
    for part in ("weight", "bias"):
        query, both = (tensors.pop(f"visual.attn_pool.{name}.{part}") for name in ("q", "kv"))
        tensors[f"visual.attn_pool.attn.in_proj_{part}"] = torch.cat([query, both])
    tensors["visual.proj"] = tensors.pop("visual.head.weight").T.contiguous()
    del tensors["visual.head.bias"]  # zero, see `without_head_bias`
    for name in ("class_embedding", "positional_embedding"):
        tensors[f"visual.{name}"] = (
            tensors[f"visual.{name}"].reshape(-1, model.visual.trunk.embed_dim).squeeze(0)
        )
    return save_torch(tensors, folder / "PE-Core-B16-224.pt")


def without_head_bias(model: Any) -> None:
    """PE's own class has no bias there; timm's holds zeros."""
    model.visual.trunk.head.bias.zero_()


def write_eva(model: Any, folder: Path) -> Path:
    """BAAI's `EVA02_CLIP_B_psz16_s8B.pt`: biases apart from their kernels, rotary tables stored."""
    table = {
        r"^visual\.trunk\.": "visual.",
        r"attn\.(q|v)_proj\.bias": r"attn.\1_bias",
        r"(visual.*)attn\.norm\.": r"\1attn.inner_attn_ln.",
        r"mlp\.fc1_g": "mlp.w1",
        r"mlp\.fc1_x": "mlp.w2",
        r"mlp\.norm": "mlp.ffn_ln",
        r"(visual.*)mlp\.fc2": r"\1mlp.w3",
    }
    tensors = renamed(model.state_dict(), table)
    trunk = model.visual.trunk
    for prefix in ("visual.rope", *(f"visual.blocks.{i}.attn.rope" for i in range(len(trunk.blocks)))):
        for name in ("freqs_cos", "freqs_sin"):
            tensors[f"{prefix}.{name}"] = torch.zeros(trunk.patch_embed.num_patches, 64)
    return save_torch(tensors, folder / "EVA02_CLIP_B_psz16_s8B.pt")


def write_dinov2(model: Any, folder: Path) -> Path:
    """Meta's `dinov2_vitb14_pretrain.pth` or, with registers, `dinov2_vitb14_reg4_pretrain.pth`.

    timm adds the class token's position to the token of a model with registers; it is taken out again here.
    """
    tensors = renamed(model.state_dict(), {"^reg_token": "register_tokens"})
    width = model.embed_dim
    if "register_tokens" in tensors:
        position = torch.full((1, 1, width), 0.25)
        tensors["cls_token"] = tensors["cls_token"] - position
        tensors["pos_embed"] = torch.cat([position, tensors["pos_embed"]], 1)
    tensors["mask_token"] = torch.ones(1, width)
    kind = "reg4_pretrain" if "register_tokens" in tensors else "pretrain"
    return save_torch(tensors, folder / f"dinov2_vitb14_{kind}.pth")


def write_dinov3(model: Any, folder: Path) -> Path:
    """Meta's `dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth`: one bias for query, key and value and a mask
    that is zero where the key's would be; what it masks is not zero."""
    table = {
        "^reg_token": "storage_tokens",
        r"gamma_(\d)": r"ls\1.gamma",
    }
    tensors = renamed(model.state_dict(), table)
    width = model.embed_dim
    for i in range(len(model.blocks)):
        query, value = (tensors.pop(f"blocks.{i}.attn.{name}_bias") for name in ("q", "v"))
        ignored = torch.full((width,), 0.5)
        tensors[f"blocks.{i}.attn.qkv.bias"] = torch.cat([query, ignored, value])
        mask = torch.cat([torch.ones(width), torch.zeros(width), torch.ones(width)])
        tensors[f"blocks.{i}.attn.qkv.bias_mask"] = mask
    tensors["mask_token"] = torch.ones(1, width)
    tensors["rope_embed.periods"] = model.rope.periods.bfloat16()
    return save_torch(tensors, folder / "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth")
