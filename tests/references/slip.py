"""SLIP's `CLIP` class: a timm vision transformer without head, OpenAI's text tower, two projections.

Its repository is no package, so this is a small replica of the class (arXiv:2112.12750): the same names of
parameters, the same order of operations.
"""

from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from .base import Outputs, Size, Sizes, at_end, save_torch, seen


class QuickGelu(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A residual block over [l, n, D] with PyTorch's own attention."""

    def __init__(self, width: int, heads: int, mask: torch.Tensor):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        layers = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGelu())]
        self.mlp = nn.Sequential(OrderedDict([*layers, ("c_proj", nn.Linear(4 * width, width))]))
        self.ln_2 = nn.LayerNorm(width)
        self.mask = mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=self.mask)[0]
        return x + self.mlp(self.ln_2(x))


class Slip(nn.Module):
    def __init__(self, trunk: dict[str, Any], width: int, heads: int, layers: int, projection: int):
        super().__init__()
        self.visual = timm.create_model("vit_base_patch16_224", num_classes=0, **trunk)
        mask = torch.full((77, 77), float("-inf")).triu_(1)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(Block(width, heads, mask) for _ in range(layers)))
        self.token_embedding = nn.Embedding(49408, width)
        self.positional_embedding = nn.Parameter(torch.empty(77, width))
        self.ln_final = nn.LayerNorm(width)
        features = self.visual.num_features
        self.image_projection = nn.Parameter(torch.empty(features, projection))
        self.text_projection = nn.Parameter(torch.empty(width, projection))
        self.logit_scale = nn.Parameter(torch.ones([]))
        hidden = [("layer1", nn.Linear(features, 64)), ("bn1", nn.BatchNorm1d(64))]
        self.image_mlp = nn.Sequential(OrderedDict(hidden))  # of the self-supervised loss alone


def make(size: Size) -> nn.Module:
    if size == "full":
        return Slip({}, 512, 8, 12, 512)
    return Slip({"img_size": 48, "embed_dim": 192, "depth": 2, "num_heads": 3}, 128, 2, 2, 96)


def sizes(size: Size) -> Sizes:
    return Sizes(224 if size == "full" else 48, 77, 49408)


def see_image(model: Any, x: torch.Tensor) -> Outputs:
    with seen(model.visual.blocks) as blocks:
        pre = model.visual(x)
    return {"pre": pre, "embedding": pre @ model.image_projection, "blocks": blocks}


def see_text(model: Any, ids: torch.Tensor) -> Outputs:
    x = model.token_embedding(ids) + model.positional_embedding
    with seen(model.transformer.resblocks) as blocks:
        x = model.transformer.resblocks(x.transpose(0, 1)).transpose(0, 1)
    pre = at_end(model.ln_final(x), ids)
    blocks = [block.transpose(0, 1) for block in blocks]
    return {"pre": pre, "embedding": pre @ model.text_projection, "blocks": blocks}


def scale(model: Any) -> tuple[torch.Tensor, Any]:
    return model.logit_scale.exp(), 0.0


def write(model: Any, folder: Path) -> Path:
    """The training checkpoint: names prefixed by data parallelism, and the arguments of the run."""
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    arguments = Namespace(model="SLIP_VITB16", lr=3e-3, output_dir="./", resume="")
    content = {"epoch": 99, "state_dict": state, "best_acc1": 0.4, "args": arguments}
    return save_torch(content, folder / "slip_base_100ep.pt")
