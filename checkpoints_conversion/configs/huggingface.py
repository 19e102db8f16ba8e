"""transformers' `config.json` and `preprocessor_config.json`.

Their files name only what differs from the defaults of their classes, which stand here as well.
"""

from pathlib import Path
from typing import Any

from checkpoints_conversion.facts import Facts
from jaxalign.errors import unknown_name

from .json_facts import JsonFacts, read_json

ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, hidden_act, layer_norm_eps
CLIP_TEXT = (512, 2048, 12, 8, "quick_gelu", 1e-5)
CLIP_VISION = (768, 3072, 12, 12, "quick_gelu", 1e-5)
SIGLIP = (768, 3072, 12, 12, "gelu_pytorch_tanh", 1e-6)
DINOV2 = (768, None, 12, 12, "gelu", 1e-6)
DINOV3 = (384, 1536, 12, 6, "gelu", 1e-5)
RESAMPLE = {2: "bilinear", 3: "bicubic"}
_LEGACY_END = 2  # configurations written before the end token was known; the pooled id is then the largest


def read_huggingface(folder: Path) -> Facts:
    """The facts in `folder`.

    Raises:
      JaxalignError: files that are damaged, of another kind of model, or that say what cannot be.
    """
    config = read_json(folder / "config.json")
    kinds = {
        "clip": _clip,
        "siglip": _siglip,
        "dinov2": _dinov2,
        "dinov2_with_registers": _dinov2_with_registers,
        "dinov3_vit": _dinov3,
    }
    kind = config.text("model_type")
    if kind not in kinds:
        raise unknown_name("model_type", kind, kinds, hint=f"(in {config.where})")
    facts = kinds[kind](config)
    preprocessor = folder / "preprocessor_config.json"
    if not preprocessor.exists():
        return facts
    spec, size = _preprocessing(read_json(preprocessor))
    image = dict(facts.image)
    if kind.startswith("dino") and size is not None:
        image["image_size"] = size  # the configuration's is that of the position grid, or of no account
    return Facts(image, facts.text, {**facts.spec, **spec})


def _transformer(config: JsonFacts, defaults: tuple) -> dict[str, Any]:
    width, hidden, depth, heads, activation, epsilon = defaults
    width = config.integer("hidden_size", width)
    if hidden is None:
        hidden = round(width * config.number("mlp_ratio", 4))
    return {
        "width": width,
        "mlp_hidden": config.integer("intermediate_size", hidden),
        "depth": config.integer("num_hidden_layers", depth),
        "heads": config.integer("num_attention_heads", heads),
        "activation": config.choice("hidden_act", ACTIVATIONS, ACTIVATIONS[activation]),
        "norm_epsilon": config.number("layer_norm_eps", epsilon),
    }


def _part(config: JsonFacts, name: str) -> JsonFacts:
    """`text_config` or `vision_config`; an older `..._dict` beside it wins, as in transformers."""
    part, older = config.object(name), config.object(f"{name}_dict")
    return JsonFacts(dict(part.values) | dict(older.values), part.where)


def _clip(config: JsonFacts) -> Facts:
    text, vision = _part(config, "text_config"), _part(config, "vision_config")
    projection = config.integer("projection_dim", 512)
    vocabulary = text.integer("vocab_size", 49408)
    end = text.integer("eos_token_id", 49407)
    image_facts = _transformer(vision, CLIP_VISION) | {
        "image_size": vision.integer("image_size", 224),
        "patch_size": vision.integer("patch_size", 32),
        "projection": projection,
    }
    text_facts = _transformer(text, CLIP_TEXT) | {
        "vocabulary": vocabulary,
        "context": text.integer("max_position_embeddings", 77),
        "projection": projection,
        "end_token": vocabulary - 1 if end == _LEGACY_END else end,
    }
    return Facts(image_facts, text_facts)


def _siglip(config: JsonFacts) -> Facts:
    text, vision = _part(config, "text_config"), _part(config, "vision_config")
    image_facts = _transformer(vision, SIGLIP)
    image_facts |= {
        "image_size": vision.integer("image_size", 224),
        "patch_size": vision.integer("patch_size", 16),
        "pool_heads": None,  # as many as in the blocks
    }
    text_facts = _transformer(text, SIGLIP) | {
        "vocabulary": text.integer("vocab_size", 32000),
        "context": text.integer("max_position_embeddings", 64),
    }
    text_facts["projection"] = text.integer("projection_size", text_facts["width"])
    return Facts(image_facts, text_facts)


def _dinov2(config: JsonFacts) -> Facts:
    if config.flag("use_swiglu_ffn", False):
        raise unknown_name("use_swiglu_ffn", "true", ["false"], hint=f"(in {config.where})")
    facts = _transformer(config, DINOV2) | {
        "image_size": config.integer("image_size", 224),
        "patch_size": config.integer("patch_size", 14),
        "registers": 0,
    }
    return Facts(facts)


def _dinov2_with_registers(config: JsonFacts) -> Facts:
    facts = _dinov2(config)
    return Facts(
        dict(facts.image)
        | {
            "patch_size": config.integer("patch_size", 16),  # their default, though no such file has 16
            "registers": config.integer("num_register_tokens", 4),
        }
    )


def _dinov3(config: JsonFacts) -> Facts:
    for flag, value in (("use_gated_mlp", False), ("key_bias", False)):
        if config.flag(flag, value) != value:
            raise unknown_name(flag, str(not value).lower(), ["false"], hint=f"(in {config.where})")
    facts = _transformer(config, DINOV3) | {
        "image_size": config.integer("image_size", 224),
        "patch_size": config.integer("patch_size", 16),
        "registers": config.integer("num_register_tokens", 0),
    }
    return Facts(facts)


def _preprocessing(config: JsonFacts) -> tuple[dict[str, Any], int | None]:
    """Fields of `ModelSpec`, and the side of the result where it is said."""
    spec: dict[str, Any] = {}
    if config.values.get("image_mean") is not None:
        spec["mean"] = config.channels("image_mean")
    if config.values.get("image_std") is not None:
        spec["std"] = config.channels("image_std")
    if config.values.get("resample") is not None:
        spec["interpolation"] = config.choice("resample", RESAMPLE)
    size, crop = _side(config, "size"), None
    if config.flag("do_center_crop", "crop_size" in config.values):
        crop = _side(config, "crop_size")
        spec["resize"], spec["resize_size"] = "shortest", size
    elif "height" in _as_mapping(config, "size"):
        spec["resize"], spec["resize_size"] = "squash", None
    return spec, crop or size


def _as_mapping(config: JsonFacts, name: str) -> dict[str, Any]:
    """A size as an object: older files have a number."""
    if isinstance(config.values.get(name), int):
        return {"shortest_edge": config.integer(name)}
    return dict(config.object(name).values)


def _side(config: JsonFacts, name: str) -> int | None:
    size = JsonFacts(_as_mapping(config, name), f"{config.where}: {name}")
    if "shortest_edge" in size.values:
        return size.integer("shortest_edge")
    return size.integer("height") if "height" in size.values else None
