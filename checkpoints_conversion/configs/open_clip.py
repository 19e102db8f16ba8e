"""open_clip's `open_clip_config.json`."""

import re
from pathlib import Path
from typing import Any

from jaxalign.conversion.facts import Facts
from jaxalign.errors import JaxalignError
from jaxalign.inputs.clip_bpe import ClipBpe
from jaxalign.specs.clip import CLIP_MEAN, CLIP_STD
from jaxalign.weights.hub import OPEN_CLIP_CONFIG

from . import open_clip_fields as tables
from .fields import check_fields
from .huggingface_tokens import clip_tokens, read_tokens
from .json_object import JsonObject, read_json

HEAD_WIDTH, DEFAULT_EPSILON = 64, 1e-5  # open_clip's defaults
# What the name of a timm trunk fixes and neither a shape nor the configuration shows, where that is not as in
# the known models: heads 64 wide and the exact gelu. All rows that fit count.
_TIMM_TRUNKS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"vit_(so400m|giantopt)_patch\d+_siglip_.*", {"heads": 16}),
    (r"vit_(so400m|giantopt)_patch16_siglip_.*", {"activation": "gelu_tanh"}),
    (r"vit_base_patch32_siglip_256|vit_large_patch16_siglip_512", {"activation": "gelu_tanh"}),
)
CLEANINGS = {"lower": "mended_lower", "whitespace": "mended", "canonicalize": "canonicalize"}


def read_open_clip(folder: Path) -> Facts:
    """The facts in `folder`.

    Raises:
      JaxalignError: a file that is damaged or says what cannot be or is not supported, or a model of another
        kind.
    """
    config = read_json(folder / OPEN_CLIP_CONFIG)
    model, preprocessing = config.object("model_cfg"), config.object("preprocess_cfg")
    vision, text = model.object("vision_cfg"), model.object("text_cfg")
    for part, table in (
        (config, tables.FILE),
        (model, tables.MODEL),
        (vision, tables.VISION),
        (text, tables.TEXT),
        (text.object("tokenizer_kwargs"), tables.TOKENIZER),
        (preprocessing, tables.PREPROCESSING),
    ):
        check_fields(part, table)
    quick = model.flag("quick_gelu", False)
    projection = model.integer("embed_dim")
    image_facts = (
        _timm(vision) if vision.text("timm_model_name", None) else _vision(vision, quick, projection)
    )
    text_facts = _text(text, quick) | {"projection": projection}
    return _with_tokens(Facts(image_facts, text_facts, _preprocessing(preprocessing)), text, folder)


def _timm(vision: JsonObject) -> dict[str, Any]:
    """What the name of a timm model fixes, where it is not as in the known model, and the image size."""
    name, facts = vision.text("timm_model_name"), {}
    pool = vision.text("timm_pool", "avg")
    if name.startswith("eva02_") and pool != "token":  # elsewhere the tensors show it
        raise JaxalignError(f"{vision.where}: timm_pool is {pool!r:.60}; expected 'token' with {name}")
    for pattern, fixed in _TIMM_TRUNKS:
        if re.fullmatch(pattern, name):
            facts |= fixed
    if vision.values.get("image_size") is not None:
        facts["image_size"] = vision.side("image_size", 224)
    return facts


def _vision(vision: JsonObject, quick: bool, projection: int) -> dict[str, Any]:
    width, head_width = vision.integer("width", 768), max(vision.integer("head_width", HEAD_WIDTH), 1)
    facts = {"image_size": vision.side("image_size", 224), "projection": projection}
    if isinstance(vision.values.get("layers"), list):  # a ResNet, whose other sizes are in its shapes
        return facts | {"heads": max(width * 32 // head_width, 1)}
    pooling = vision.choice("pool_type", {"tok": "cls", "avg": "avg"}, "cls")
    return facts | {
        "patch_size": vision.side("patch_size", 16),
        "width": width,
        "depth": vision.integer("layers", 12),
        "heads": max(width // head_width, 1),
        "mlp_hidden": int(width * vision.number("mlp_ratio", 4.0)),
        "norm_epsilon": _epsilon(vision),
        "activation": _activation(vision, quick),
        "pooling": pooling,
        "class_token": True if pooling == "avg" else None,
        # a LayerNorm of the one pooled token is the same before and after pooling
        "norm_after_pool": pooling == "avg" and vision.flag("final_ln_after_pool", False),
    }


def _text(text: JsonObject, quick: bool) -> dict[str, Any]:
    width = text.integer("width", 512)
    poolings = {"argmax": "argmax", "eos": "end", "first": "first", "last": "last"}
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
        "pooling": text.choice("pool_type", poolings, "argmax"),
    }
    if facts["pooling"] == "end":
        facts["end_token"] = text.integer("eos_id", 2)
    return facts


def _activation(tower: JsonObject, quick: bool) -> str:
    options = tower.object("act_kwargs")
    check_fields(options, {} if quick else tables.ACTIVATION)
    kind = options.choice("approximate", {"none": "gelu", "tanh": "gelu_tanh"}, "gelu")
    return "quick_gelu" if quick else kind


def _epsilon(tower: JsonObject) -> float:
    options = tower.object("norm_kwargs")
    check_fields(options, tables.NORM)
    return options.number("eps", DEFAULT_EPSILON, most=1)


def _with_tokens(facts: Facts, text: JsonObject, folder: Path) -> Facts:
    """CLIP's own tokens, unless the configuration names a tokenizer of transformers.

    A tower that is too small for CLIP's vocabulary has another one, which the folder may hold.
    """
    name, options = text.text("hf_tokenizer_name", None), text.object("tokenizer_kwargs")
    size = facts.text["vocabulary"]
    if not name and size >= len(ClipBpe()):
        cleaning = options.choice("clean", {**CLEANINGS, "lower": "clip"}, "clip")
        return facts.with_tokens(clip_tokens("CLIP's vocabulary"), cleaning)
    tokens = read_tokens(folder, size, None)
    if tokens is not None:
        default = CLEANINGS["whitespace"] if name else None
        cleaning = options.choice("clean", CLEANINGS, default)
        return facts.with_tokens(tokens, "clip" if isinstance(tokens.vocabulary, ClipBpe) else cleaning)
    if name and re.fullmatch(r"timm/ViT-.*SigLIP.*", name):  # the known models', whose files are elsewhere
        return facts
    return facts.without_tokens()


def _preprocessing(config: JsonObject) -> dict[str, Any]:
    """Fields of `ModelSpec`; what the file does not say is as open_clip has it."""
    kinds = {"bicubic": "bicubic", "random": "bicubic", "bilinear": "bilinear"}
    return {
        "resize": config.choice("resize_mode", {"shortest": "shortest", "squash": "squash"}, "shortest"),
        "resize_size": None,
        "interpolation": config.choice("interpolation", kinds, "bicubic"),
        "mean": config.channels("mean", CLIP_MEAN),
        "std": config.channels("std", CLIP_STD, least=1e-6),
        "pipeline": "open_clip",
    }
