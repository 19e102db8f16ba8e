"""Tiny valid checkpoints of every format, as the files of a folder."""

import io
import json
import pickle
import struct
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from conftest import tiny_model
from oracles_conversion import (
    TINY_CLIP_CONFIG,
    random_parameters,
    source_tensors,
    tiny,
    write_npz,
    write_torch_zip,
)
from safetensors.numpy import save

import jaxalign as ja
from jaxalign.conversion.formats import FORMATS

from . import pickle_opcodes as opcodes

Files = dict[str, bytes]
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 48,
    "patch_size": 16,
}
PREPROCESSOR = {
    "do_resize": True,
    "size": {"shortest_edge": 48},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 48, "width": 48},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
    "do_convert_rgb": True,
}
_SQUASHED = {k: v for k, v in PREPROCESSOR.items() if k not in ("do_center_crop", "crop_size")}
_TEXT = {**TINY_CLIP_CONFIG["text_config"], "num_attention_heads": 1}
_SIGLIP_CONFIG = {
    "model_type": "siglip",
    "text_config": {k: v for k, v in _TEXT.items() if k != "eos_token_id"} | {"projection_size": 128},
    "vision_config": {**SIZES, "intermediate_size": 40},
}
_OPEN_CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 12,
        "quick_gelu": False,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 128, "patch_size": 16, "mlp_ratio": 0.3125},
        "text_cfg": {
            "context_length": 10,
            "vocab_size": 50,
            "width": 64,
            "heads": 1,
            "layers": 3,
            "mlp_ratio": 0.4375,
        },
    },
    "preprocess_cfg": {
        "mean": [0.48, 0.46, 0.41],
        "std": [0.27, 0.26, 0.28],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
_TIMM_CONFIG = {
    "architecture": "vit_base_patch14_dinov2",
    "pretrained_cfg": {
        "input_size": [3, 42, 42],
        "crop_pct": 1.0,
        "crop_mode": "center",
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    },
}


def tensors_of(model: str, table: str) -> dict[str, np.ndarray]:
    """The tensors of a tiny `model`, as the format `table` names them."""
    tables = {t.name: t for t in FORMATS}
    tensors = source_tensors(tables[table], random_parameters(tiny(model).towers))
    return {name: np.array(x, order="C") for name, x in tensors.items()}


def as_json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


def _folder(model: str, table: str, config: dict, **files: object) -> Files:
    extra = {f"{name}.json": as_json(value) for name, value in files.items()}
    return {"model.safetensors": save(tensors_of(model, table)), "config.json": as_json(config)} | extra


@cache
def huggingface(family: str) -> Files:
    """A folder of transformers, with its preprocessing."""
    if family == "clip":
        files = {"preprocessor_config": PREPROCESSOR}
        return _folder("clip-vit-base-patch16", "transformers CLIPModel", TINY_CLIP_CONFIG, **files)
    if family == "clip, transformers 5":
        processor = {"processor_class": "CLIPProcessor", "image_processor": PREPROCESSOR}
        files = {"processor_config": processor}
        return _folder("clip-vit-base-patch16", "transformers CLIPModel", TINY_CLIP_CONFIG, **files)
    squashed = {"preprocessor_config": _SQUASHED | {"size": {"height": 48, "width": 48}}}
    if family == "siglip":
        return _folder("siglip-base-patch16-224", "transformers SiglipModel", _SIGLIP_CONFIG, **squashed)
    if family == "dinov2":
        config = SIZES | {"model_type": "dinov2", "mlp_ratio": 0.3125, "image_size": 42, "patch_size": 14}
        files = {"preprocessor_config": PREPROCESSOR | {"crop_size": {"height": 42, "width": 42}}}
        return _folder("dinov2-base-518", "transformers Dinov2Model", config, **files)
    config = SIZES | {"model_type": "dinov3_vit", "intermediate_size": 40, "num_register_tokens": 4}
    return _folder("dinov3-large-patch16", "transformers DINOv3ViTModel", config, **squashed)


@cache
def open_clip() -> Files:
    tensors = tensors_of("clip-vit-base-patch16", "OpenAI / open_clip CLIP")
    return {
        "open_clip_model.safetensors": save(tensors),
        "open_clip_config.json": as_json(_OPEN_CLIP_CONFIG),
    }


@cache
def timm() -> Files:
    return _folder("dinov2-base-518", "DINOv2 timm", _TIMM_CONFIG)


@cache
def sharded() -> Files:
    """A folder of transformers in two files and an index."""
    files = dict(huggingface("clip"))
    tensors = tensors_of("clip-vit-base-patch16", "transformers CLIPModel")
    del files["model.safetensors"]
    parts = {"a.safetensors": sorted(tensors)[::2], "b.safetensors": sorted(tensors)[1::2]}
    for name, own in parts.items():
        files[name] = save({key: tensors[key] for key in own})
    index = {"metadata": {}, "weight_map": {key: name for name, own in parts.items() for key in own}}
    return files | {"model.safetensors.index.json": as_json(index)}


@cache
def ours() -> Files:
    """A folder that `jaxalign.save` wrote."""
    with tempfile.TemporaryDirectory() as folder:
        ja.save(tiny_model("emoji-clip"), Path(folder, "model"))
        return {path.name: path.read_bytes() for path in Path(folder, "model").iterdir()}


SOME = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "bias": np.arange(4, dtype=np.float16),
    "scale": np.array(2, np.float32),
    "steps": np.arange(3, dtype=np.int64),
    "empty": np.zeros((0, 2), np.float32),
}
"""Tensors of all sorts, few and small: for readers that look at no names."""


@cache
def some_safetensors() -> Files:
    return {"model.safetensors": save(SOME)}


@cache
def some_npz() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        return {"model.npz": write_npz(Path(folder, "m.npz"), SOME).read_bytes()}


@cache
def some_torch() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        return {"model.pt": write_torch_zip(Path(folder, "m.pt"), SOME).read_bytes()}


@cache
def some_legacy_torch() -> Files:
    """As `torch.save` wrote before version 1.6: five pickles, then the numbers."""
    program, keys = io.BytesIO(b"\x80\x02}("), []
    program.seek(0, io.SEEK_END)
    for key, (name, x) in enumerate(SOME.items()):
        kind = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}[x.dtype.name]
        numbers = lambda sizes: opcodes.tuple_of(*map(opcodes.integer, sizes))
        storage = opcodes.tuple_of(
            *(
                opcodes.text("storage"),
                opcodes.name(f"torch {kind}"),
                opcodes.text(str(key)),
                opcodes.text("cpu"),
            ),
            *(opcodes.integer(x.size), b"N"),
        )
        strides = numbers(s // x.itemsize for s in x.strides)
        window = (storage + b"Q", opcodes.integer(0), numbers(x.shape), strides, b"\x89")
        hooks = opcodes.name("collections OrderedDict") + b")R"
        tensor = opcodes.name("torch._utils _rebuild_tensor_v2") + opcodes.tuple_of(*window, hooks) + b"R"
        program.write(opcodes.text(name) + tensor)
        keys.append(str(key))
    pickles = (
        0x1950A86A20F9469CFC6C,
        1001,
        {"little_endian": True, "protocol_version": 1001, "type_sizes": {}},
    )
    head = b"".join(pickle.dumps(x, 2) for x in pickles) + program.getvalue() + b"u." + pickle.dumps(keys, 2)
    body = b"".join(struct.pack("<Q", x.size) + x.tobytes() for x in SOME.values())
    return {"model.bin": head + body}
