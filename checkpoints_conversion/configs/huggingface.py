"""transformers' `config.json`, and what lies beside it.

Their files name only what differs from the defaults of their classes, which stand here as well.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaxalign.conversion.facts import Facts
from jaxalign.errors import JaxalignError, unknown_name

from . import huggingface_fields as tables
from .fields import Table, check_fields
from .huggingface_images import read_preprocessing
from .huggingface_tokens import with_tokens
from .json_object import JsonObject, read_json

ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, hidden_act, layer_norm_eps
CLIP_TEXT = (512, 2048, 12, 8, "quick_gelu", 1e-5)
CLIP_VISION = (768, 3072, 12, 12, "quick_gelu", 1e-5)
SIGLIP = (768, 3072, 12, 12, "gelu_pytorch_tanh", 1e-6)
DINOV2 = (768, None, 12, 12, "gelu", 1e-6)
DINOV3 = (384, 1536, 12, 6, "gelu", 1e-5)
LEGACY_END = 2  # of configurations from before the end token was known: the largest id is pooled


def read_huggingface(folder: Path) -> Facts:
    """The facts in `folder`.

    Raises:
      JaxalignError: files that are damaged, of another kind of model, or that say what cannot be or is not
        supported.
    """
    config = read_json(folder / "config.json")
    kinds: dict[str, Callable[[JsonObject], Facts]] = {
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
    if facts.text:
        facts = with_tokens(facts, folder, kind)
    found = read_preprocessing(folder, kind)
    if found is None:
        return facts
    if kind.startswith("dino"):  # the configuration's size is that of the position grid, or of no account
        image = {**facts.image, "image_size": found.side}
        return replace(facts, image=image, spec={**facts.spec, **found.spec})
    if found.side != facts.image["image_size"]:
        raise JaxalignError(
            f"{found.where}: images become {found.side} pixels wide, but image_size in {config.where} is"
            f" {facts.image['image_size']}; expected the same"
        )
    return replace(facts, spec={**facts.spec, **found.spec})


def _transformer(config: JsonObject, defaults: tuple) -> dict[str, Any]:
    width, hidden, depth, heads, activation, epsilon = defaults
    width = config.integer("hidden_size", width)
    if hidden is None:
        hidden = int(width * config.number("mlp_ratio", 4, least=0))
    else:
        hidden = config.integer("intermediate_size", hidden)
    return {
        "width": width,
        "mlp_hidden": hidden,
        "depth": config.integer("num_hidden_layers", depth),
        "heads": config.integer("num_attention_heads", heads),
        "activation": config.choice("hidden_act", ACTIVATIONS, ACTIVATIONS[activation]),
        "norm_epsilon": config.number("layer_norm_eps", epsilon, least=0, most=1),
    }


def _part(config: JsonObject, name: str, table: Table) -> JsonObject:
    """`text_config` or `vision_config`; where there is an older `..._dict` as well, it takes the whole place,
    as in transformers."""
    part, older = config.object(name), config.object(f"{name}_dict")
    check_fields(part, table)
    check_fields(older, table)
    return part if config.values.get(f"{name}_dict") is None else older


def _clip(config: JsonObject) -> Facts:
    check_fields(config, tables.CLIP)
    text = _part(config, "text_config", tables.CLIP_TEXT)
    vision = _part(config, "vision_config", tables.CLIP_VISION)
    projection = config.integer("projection_dim", 512)
    end, start = text.integer("eos_token_id", 49407), text.integer("bos_token_id", 49406)
    vocabulary = text.integer("vocab_size", 49408)
    if end != LEGACY_END and not 0 <= end < vocabulary:
        raise JaxalignError(f"{text.where}: eos_token_id is {end}; expected an id below {vocabulary}")
    pooled = {"pooling": "argmax"} if end == LEGACY_END else {"pooling": "end", "end_token": end}
    image_facts = _transformer(vision, CLIP_VISION) | {
        "image_size": vision.side("image_size", 224),
        "patch_size": vision.side("patch_size", 32),
        "projection": projection,
    }
    text_facts = _transformer(text, CLIP_TEXT) | {
        "vocabulary": vocabulary,
        "context": text.integer("max_position_embeddings", 77),
        "projection": projection,
        **pooled,
    }
    return Facts(image_facts, text_facts, {} if end == LEGACY_END else {"start_token": start})


def _siglip(config: JsonObject) -> Facts:
    check_fields(config, tables.SIGLIP)
    text = _part(config, "text_config", tables.SIGLIP_TEXT)
    vision = _part(config, "vision_config", tables.SIGLIP_VISION)
    image_facts = _transformer(vision, SIGLIP) | {
        "image_size": vision.side("image_size", 224),
        "patch_size": vision.side("patch_size", 16),
        "pool_heads": None,  # as many as in the blocks
    }
    text_facts = _transformer(text, SIGLIP) | {
        "vocabulary": text.integer("vocab_size", 32000),
        "context": text.integer("max_position_embeddings", 64),
    }
    text_facts["projection"] = text.integer("projection_size", text_facts["width"])
    return Facts(image_facts, text_facts)


def _dinov2(config: JsonObject, table: Table = tables.DINOV2) -> Facts:
    check_fields(config, table)
    facts = _transformer(config, DINOV2) | {
        "image_size": config.side("image_size", 224),
        "patch_size": config.side("patch_size", 14),
        "registers": 0,
    }
    return Facts(facts)


def _dinov2_with_registers(config: JsonObject) -> Facts:
    facts = dict(_dinov2(config, tables.DINOV2_WITH_REGISTERS).image)
    return Facts(
        facts
        | {
            "patch_size": config.side("patch_size", 16),  # their default, though no such file has 16
            "registers": config.integer("num_register_tokens", 4),
        }
    )


def _dinov3(config: JsonObject) -> Facts:
    check_fields(config, tables.DINOV3)
    facts = _transformer(config, DINOV3) | {
        "image_size": config.side("image_size", 224),
        "patch_size": config.side("patch_size", 16),
        "registers": config.integer("num_register_tokens", 0),
    }
    return Facts(facts)
