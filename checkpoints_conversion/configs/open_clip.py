"""open_clip's `open_clip_config.json`."""

import re
from pathlib import Path
from typing import Any

from checkpoints_conversion.facts import Facts
from jaxalign.errors import JaxalignError
from jaxalign.hub import OPEN_CLIP_CONFIG

from .json_facts import JsonFacts, read_json

_HEAD_WIDTH = 64  # open_clip's default
# What the name of a timm trunk fixes and neither a shape nor the configuration shows, where that is not as in
# the known models: heads 64 wide and the exact gelu. All rows that fit count.
_TIMM_TRUNKS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"vit_(so400m|giantopt)_patch\d+_siglip_.*", {"heads": 16}),
    (r"vit_(so400m|giantopt)_patch16_siglip_.*", {"activation": "gelu_tanh"}),
    (r"vit_base_patch32_siglip_256|vit_large_patch16_siglip_512", {"activation": "gelu_tanh"}),
)


def read_open_clip(folder: Path) -> Facts:
    """The facts in `folder`.

    Raises:
      JaxalignError: a file that is damaged or says what cannot be, or a model of another kind.
    """
    config = read_json(folder / OPEN_CLIP_CONFIG)
    model = config.object("model_cfg")
    vision, text = model.object("vision_cfg"), model.object("text_cfg")
    if text.text("hf_model_name", None):
        raise JaxalignError(f"{text.where}: hf_model_name; expected open_clip's own text tower")
    quick = model.flag("quick_gelu", False)
    projection = model.integer("embed_dim")
    image_facts = (
        _timm(vision) if vision.text("timm_model_name", None) else _vision(vision, quick, projection)
    )
    text_facts = _text(text, quick) | {"projection": projection}
    return Facts(image_facts, text_facts, _preprocessing(config.object("preprocess_cfg")))


def _timm(vision: JsonFacts) -> dict[str, Any]:
    """What the name of a timm model fixes, where it is not as in the known model, and the image size."""
    name, facts = vision.text("timm_model_name"), {}
    for pattern, fixed in _TIMM_TRUNKS:
        if re.fullmatch(pattern, name):
            facts |= fixed
    if vision.values.get("image_size") is not None:
        facts["image_size"] = vision.integer("image_size")
    return facts


def _vision(vision: JsonFacts, quick: bool, projection: int) -> dict[str, Any]:
    if isinstance(vision.values.get("layers"), list):
        return {"projection": projection}  # a ResNet, whose sizes are in its shapes
    width = vision.integer("width", 768)
    return {
        "image_size": vision.integer("image_size", 224),
        "patch_size": vision.integer("patch_size", 16),
        "width": width,
        "depth": vision.integer("layers", 12),
        "heads": max(width // max(vision.integer("head_width", _HEAD_WIDTH), 1), 1),
        "mlp_hidden": int(width * vision.number("mlp_ratio", 4.0)),
        "norm_epsilon": _epsilon(vision),
        "activation": _activation(vision, quick),
        "projection": projection,
    }


def _text(text: JsonFacts, quick: bool) -> dict[str, Any]:
    width = text.integer("width", 512)
    facts = {
        "context": text.integer("context_length", 77),
        "vocabulary": text.integer("vocab_size", 49408),
        "width": width,
        "depth": text.integer("layers", 12),
        "heads": text.integer("heads", 8),
        "mlp_hidden": int(width * text.number("mlp_ratio", 4.0)),
        "norm_epsilon": _epsilon(text),
        "activation": _activation(text, quick),
        "causal": not text.flag("no_causal_mask", False),
    }
    if text.values.get("eos_id") is not None and text.text("pool_type", "argmax") == "eos":
        facts["end_token"] = text.integer("eos_id")
    return facts


def _activation(tower: JsonFacts, quick: bool) -> str:
    kind = tower.object("act_kwargs").text("approximate", "none")
    return "quick_gelu" if quick else "gelu_tanh" if kind == "tanh" else "gelu"


def _epsilon(tower: JsonFacts) -> float:
    return tower.object("norm_kwargs").number("eps", 1e-5)


def _preprocessing(config: JsonFacts) -> dict[str, Any]:
    """Fields of `ModelSpec`: open_clip's defaults where there is any configuration, or nothing."""
    if not config.values:
        return {}
    facts = {
        "resize": config.choice("resize_mode", {"shortest": "shortest", "squash": "squash"}, "shortest"),
        "interpolation": config.choice(
            "interpolation", {"bicubic": "bicubic", "bilinear": "bilinear"}, "bicubic"
        ),
    }
    for name in ("mean", "std"):
        if config.values.get(name) is not None:
            facts[name] = config.channels(name)
    return facts
