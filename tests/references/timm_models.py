"""timm's DINOv2, DINOv2 with registers and DINOv3, as the hub has them."""

import copy
import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import interpolate

from .base import Outputs, Size, Sizes, seen

_TINY = {"embed_dim": 192, "depth": 2, "num_heads": 3}


def make(name: str, side: int, size: Size) -> nn.Module:
    """The timm model `name` pooled at the class token; `side` pixels where it is tiny."""
    options: dict[str, Any] = {"num_classes": 0, "global_pool": "token"}
    tiny = {**_TINY, "img_size": side} if size == "tiny" else {}
    model = timm.create_model(name, pretrained=False, **options, **tiny)
    model.reference_args = tiny
    return model


def sizes(side: int, full: int, size: Size) -> Sizes:
    return Sizes(side if size == "tiny" else full)


def see(model: Any, x: torch.Tensor) -> Outputs:
    with seen(model.blocks) as blocks:
        pre = model(x)
    return {"pre": pre, "embedding": pre, "blocks": blocks}


def see_resampled(model: Any, x: torch.Tensor) -> Outputs:
    """`see` at the size of `x`, its positions resampled in Meta's way where that is another size."""
    tokens, side = model.pos_embed, x.shape[-1] // 14
    kept = tokens.shape[1] % 2 == 0  # an even number: the class token's position and an odd square grid
    grid = round((tokens.shape[1] - kept) ** 0.5)
    if side == grid:
        return see(model, x)
    image = tokens[:, int(kept) :].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    if model.reg_token is None:
        image = interpolate(image, scale_factor=((side + 0.1) / grid,) * 2, mode="bicubic")
    else:
        image = interpolate(image, size=(side, side), mode="bicubic", antialias=True)
    other = copy.deepcopy(model)
    other.set_input_size(img_size=tuple(x.shape[-2:]))
    other.pos_embed = nn.Parameter(
        torch.cat([tokens[:, : int(kept)], image.permute(0, 2, 3, 1).flatten(1, 2)], 1)
    )
    return see(other, x)


def write_folder(name: str, tag: str, model: Any, folder: Path) -> Path:
    """config.json with timm's `pretrained_cfg`, and the weights."""
    default = timm.get_pretrained_cfg(f"{name}.{tag}")
    assert default is not None
    keys = ("input_size", "crop_pct", "crop_mode", "interpolation", "mean", "std", "license")
    preprocess = {key: getattr(default, key) for key in keys if getattr(default, key, None) is not None}
    if model.reference_args:
        side = model.reference_args["img_size"]
        preprocess["input_size"] = [3, side, side]
    content = {
        "architecture": name,
        "num_classes": 0,
        "num_features": model.num_features,
        "global_pool": "token",
        "model_args": model.reference_args,
        "pretrained_cfg": {"tag": tag, **preprocess},
    }
    (folder / "config.json").write_text(json.dumps(content))
    tensors = {key: x.contiguous() for key, x in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
