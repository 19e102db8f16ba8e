"""transformers' `CLIPModel`, `SiglipModel`, `Dinov2Model`, `Dinov2WithRegistersModel`, `DINOv3ViTModel`."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import nn

from .base import Outputs, Size, Sizes, save_torch, seen

_TINY_VISION = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
}
_TINY_TEXT = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2}
_BASE = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_SO400M = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
}
_TINY_SO400M = {  # heads of 72 as there, and an MLP whose width is no multiple of the tower's
    "hidden_size": 144,
    "intermediate_size": 538,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
# pixels, pixels of a patch, and sizes of both towers; So400m's last pixels fill no patch
_SIGLIP_SHAPES: dict[tuple[str, Size], tuple[int, int, dict[str, int]]] = {
    ("base", "full"): (224, 16, _BASE),
    ("large", "full"): (256, 16, _LARGE),
    ("so400m", "full"): (384, 14, _SO400M),
    ("base", "tiny"): (48, 16, _TINY_VISION),
    ("large", "tiny"): (64, 16, _TINY_VISION),
    ("so400m", "tiny"): (45, 14, _TINY_SO400M),
}
_CLIP_TEXT = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
}
# What the configurations on the hub say: those of OpenAI's models name ids that no text has, and
# transformers then pools at the highest id.
_OLD_IDS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
_IDS = {"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 1}


def clip_config(size: Size, *, large: int = 0, activation: str = "quick_gelu") -> Any:
    """CLIP B/16 (or L/14 for `large` pixels), or small sizes in its proportions."""
    vision = {"image_size": large, "patch_size": 14} if large else {"image_size": 224, "patch_size": 16}
    vision |= _LARGE if large else _BASE
    text = {**_BASE} if large else {**_CLIP_TEXT}
    projection = 768 if large else 512
    if size == "tiny":
        vision = {"image_size": 42 if large else 48, "patch_size": vision["patch_size"], **_TINY_VISION}
        text, projection = {**_TINY_TEXT}, 96
    return transformers.CLIPConfig(
        text_config={**text, **(_IDS if large else _OLD_IDS), "hidden_act": activation},
        vision_config={**vision, "hidden_act": activation},
        projection_dim=projection,
    )


def siglip_config(size: Size, vocabulary: int, shape: str = "base") -> Any:
    """SigLIP B/16, L/16 or So400m/14, or small sizes of its kind."""
    side, patch, tower = _SIGLIP_SHAPES[shape, size]
    text = tower if size == "full" else _TINY_TEXT
    return transformers.SiglipConfig(
        text_config={
            **text,
            "projection_size": tower["hidden_size"],
            "vocab_size": vocabulary,
            "max_position_embeddings": 64,
        },
        vision_config={**tower, "image_size": side, "patch_size": patch},
    )


def dinov2_config(size: Size, registers: bool) -> Any:
    options = _BASE | {"image_size": 518} if size == "full" else _TINY_VISION | {"image_size": 70}
    options = {key: value for key, value in options.items() if key != "intermediate_size"}
    options |= {"patch_size": 14, "mlp_ratio": 4}
    if registers:
        return transformers.Dinov2WithRegistersConfig(**options, num_register_tokens=4)
    return transformers.Dinov2Config(**options)


def dinov3_config(size: Size) -> Any:
    options = _LARGE | {"image_size": 224} if size == "full" else _TINY_VISION | {"image_size": 80}
    return transformers.DINOv3ViTConfig(**options, patch_size=16, num_register_tokens=4)


def make(config: Any) -> nn.Module:
    kinds = {
        transformers.CLIPConfig: transformers.CLIPModel,
        transformers.SiglipConfig: transformers.SiglipModel,
        transformers.Dinov2Config: transformers.Dinov2Model,
        transformers.Dinov2WithRegistersConfig: transformers.Dinov2WithRegistersModel,
        transformers.DINOv3ViTConfig: transformers.DINOv3ViTModel,
    }
    return kinds[type(config)](config)


def sizes(config: Any) -> Sizes:
    if hasattr(config, "text_config"):
        text = config.text_config
        return Sizes(config.vision_config.image_size, text.max_position_embeddings, text.vocab_size)
    return Sizes(config.image_size)


def see_clip_image(model: Any, x: torch.Tensor) -> Outputs:
    tower = model.vision_model
    with seen(tower.encoder.layers) as blocks, seen([tower.post_layernorm]) as pre:
        z = model.visual_projection(tower(pixel_values=x).pooler_output)
    return {"pre": pre[0], "embedding": z, "blocks": blocks}


def see_clip_text(model: Any, ids: torch.Tensor) -> Outputs:
    with seen(model.text_model.encoder.layers) as blocks:
        pre = model.text_model(input_ids=ids).pooler_output
    return {"pre": pre, "embedding": model.text_projection(pre), "blocks": blocks}


def see_siglip_image(model: Any, x: torch.Tensor) -> Outputs:
    tower = model.vision_model
    with seen(tower.encoder.layers) as blocks, seen([tower.head.layernorm], inputs=True) as pre:
        z = tower(pixel_values=x).pooler_output
    return {"pre": pre[0][:, 0], "embedding": z, "blocks": blocks}


def see_siglip_text(model: Any, ids: torch.Tensor) -> Outputs:
    tower = model.text_model
    with seen(tower.encoder.layers) as blocks, seen([tower.head], inputs=True) as pre:
        z = tower(input_ids=ids).pooler_output
    return {"pre": pre[0], "embedding": z, "blocks": blocks}


def see_dino(model: Any, x: torch.Tensor) -> Outputs:
    blocks_of = model.model.layer if hasattr(model, "model") else model.encoder.layer
    with seen(blocks_of) as blocks:
        pre = model(pixel_values=x).pooler_output
    return {"pre": pre, "embedding": pre, "blocks": blocks}


def scale(model: Any) -> tuple[torch.Tensor, Any]:
    return model.logit_scale.exp(), getattr(model, "logit_bias", 0.0)


def write_folder(preprocessing: dict[str, Any], form: str, model: Any, folder: Path) -> Path:
    """config.json, preprocessor_config.json and the weights as they lie on the hub.

    `form` is "safetensors", "bin" or "sharded".
    """
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    tensors = {hub_name(model, key): x.contiguous().clone() for key, x in model.state_dict().items()}
    if form == "bin":
        save_torch(tensors, folder / "pytorch_model.bin")
    elif form == "safetensors":
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        _write_shards(tensors, folder)
    return folder


def _write_shards(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    names = sorted(tensors)
    files = [f"model-0000{i + 1}-of-00003.safetensors" for i in range(3)]
    where = {name: files[i % 3] for i, name in enumerate(names)}
    for file in files:
        chosen = {name: tensors[name] for name in names if where[name] == file}
        save_file(chosen, folder / file, metadata={"format": "pt"})
    total = sum(x.numel() * x.element_size() for x in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def hub_name(model: Any, name: str) -> str:
    """The name on the hub of what transformers calls `name` in memory."""
    for pattern, replacement in _hub_names(type(model).__name__):
        name = re.sub(pattern, replacement, name)
    return name


@cache
def _hub_names(kind: str) -> tuple[tuple[str, str], ...]:
    if kind.startswith("Dinov2"):
        attention = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}
        attention["o_proj"] = "output.dense"
        return tuple((rf"attention\.{a}\.", f"attention.{b}.") for a, b in attention.items())
    return ((r"^model\.layer\.", "layer."),) if kind.startswith("DINOv3") else ()
