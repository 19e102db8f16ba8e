"""Every field of transformers' `config.json`, changed: as the class built from it, or refused by name."""

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the originals' imports
    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason="the originals need the extra `reference`")
    import torch
    import transformers
    from references.base import randomise
    from references.transformers_models import hub_name
    from safetensors.torch import save_file

from config_battery import TOLERANCE, Outputs, difference, judge, variants

import jaxalign as ja
from jaxalign.conversion.configs import huggingface_fields

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
TOWER = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
TOKENS = np.array(
    [[3, 5, 49, 7, 40, 1], [45, 2, 9, 49, 9, 4]], np.int32
)  # 2: where the old end token is pooled
PIXELS = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
CLIP = {
    "model_type": "clip",
    "projection_dim": 8,
    "text_config": {
        **TOWER,
        "intermediate_size": 20,
        "vocab_size": 50,
        "max_position_embeddings": 6,
        "eos_token_id": 49,
        "bos_token_id": 48,
    },
    "vision_config": {**TOWER, "intermediate_size": 24, "image_size": 16, "patch_size": 8},
}
SIGLIP = copy.deepcopy(CLIP) | {"model_type": "siglip"}
del SIGLIP["projection_dim"]
DINO = {**TOWER, "image_size": 16, "patch_size": 8}
CONFIGS = {
    "clip": CLIP,
    "siglip": SIGLIP,
    "dinov2": {**DINO, "model_type": "dinov2", "mlp_ratio": 2},
    "dinov2_with_registers": {**DINO, "model_type": "dinov2_with_registers", "mlp_ratio": 2},
    "dinov3_vit": {**DINO, "model_type": "dinov3_vit", "intermediate_size": 20, "num_register_tokens": 2},
}
TABLES = {
    "clip": {
        "": huggingface_fields.CLIP,
        "text_config": huggingface_fields.CLIP_TEXT,
        "vision_config": huggingface_fields.CLIP_VISION,
    },
    "siglip": {
        "": huggingface_fields.SIGLIP,
        "text_config": huggingface_fields.SIGLIP_TEXT,
        "vision_config": huggingface_fields.SIGLIP_VISION,
    },
    "dinov2": {"": huggingface_fields.DINOV2},
    "dinov2_with_registers": {"": huggingface_fields.DINOV2_WITH_REGISTERS},
    "dinov3_vit": {"": huggingface_fields.DINOV3},
}
# Values that mean something, where another of the same type would not.
TELLING = {
    "hidden_act": ["gelu", "gelu_pytorch_tanh", "gelu_new", "quick_gelu", "relu", "silu", "tanh", "gelu_10"],
    "layer_norm_eps": [1e-3, 0.1],
    "eos_token_id": [2, 7, 40, 48, 99, [49]],
    "num_attention_heads": [1, 4, 3, 0],
    "mlp_ratio": [4, 2.0, 0],
    "dtype": ["float16"],
    "torch_dtype": ["bfloat16"],
    "architectures": [["X"]],
    "text_config_dict": [{}, {**CLIP["text_config"], "hidden_act": "gelu"}],
    "vision_config_dict": [{}, {**CLIP["vision_config"], "layer_norm_eps": 0.1}],
    "image_size": [24, [16, 16], [16, 24]],
    "id2label": [{"0": "a"}],
}


def load(folder: Path, known: dict[Any, Outputs]) -> Outputs:
    """What our model gives; those of the same weights with the same towers are computed once."""
    model = ja.load(folder)
    if model.config not in known:
        with jax.disable_jit():  # compiling takes longer
            outputs = [np.asarray(model.apply_image(model.params, PIXELS))]
            if model.config.text is not None:
                outputs.append(np.asarray(model.apply_text(model.params, TOKENS)))
        known[model.config] = tuple(outputs)
    return known[model.config]


def write(folder: Path, config: Any, name: str = "config.json") -> None:
    (folder / name).write_text(json.dumps(config))


ORIGINALS = {
    "clip": (transformers.CLIPModel, transformers.CLIPConfig),
    "siglip": (transformers.SiglipModel, transformers.SiglipConfig),
    "dinov2": (transformers.Dinov2Model, transformers.Dinov2Config),
    "dinov2_with_registers": (transformers.Dinov2WithRegistersModel, transformers.Dinov2WithRegistersConfig),
    "dinov3_vit": (transformers.DINOv3ViTModel, transformers.DINOv3ViTConfig),
}


def see(model: Any, kind: str) -> Outputs:
    """What transformers gives for PIXELS and TOKENS."""
    pixels = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        if kind.startswith("dino"):
            return (model(pixel_values=pixels).pooler_output.numpy(),)
        image = model.get_image_features(pixel_values=pixels)
        text = model.get_text_features(input_ids=torch.from_numpy(TOKENS).long())
        return tuple(getattr(x, "pooler_output", x).numpy() for x in (image, text))


@pytest.mark.parametrize("kind", CONFIGS)
def test_configurations_of_transformers(kind, tmp_path):
    model_class, config_class = ORIGINALS[kind]
    config = CONFIGS[kind]
    model = model_class(config_class(**config)).eval()
    randomise(model, 0)
    tensors = {hub_name(model, k): x.contiguous().clone() for k, x in model.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    weights = model.state_dict()
    write(tmp_path, config)
    if kind.startswith("dino"):  # whose images may have another size than the configuration says
        write(
            tmp_path,
            {"size": {"height": 16, "width": 16}, "do_center_crop": False},
            "preprocessor_config.json",
        )
    known: dict[Any, Outputs] = {}
    assert difference(load(tmp_path, known), see(model, kind)) < TOLERANCE

    def original(values: Any) -> Outputs:
        other = model_class(config_class.from_dict(copy.deepcopy(values))).eval()
        other.load_state_dict(weights)
        return see(other, kind)

    def is_valid(values: Any) -> bool:
        try:
            return bool(config_class.from_dict(copy.deepcopy(values)))
        except Exception:
            return False

    defaults = config_class().to_dict()
    of_part = lambda part: defaults[part] if part else defaults
    tried = set() if kind == "clip" else set(huggingface_fields.BOOKKEEPING)
    wrong = []
    for field, other in variants(config, TABLES[kind], of_part, TELLING, is_valid, tried):
        write(tmp_path, other)
        wrong.append(judge(field, lambda: load(tmp_path, known), lambda other=other: original(other)))
    assert [problem for problem in wrong if problem] == []


def test_every_field_of_the_classes_is_in_a_table():
    """Of the installed version; older ones are in the tables by hand."""
    from transformers.generation.configuration_utils import GenerationConfig

    generation = set(GenerationConfig._get_default_generation_params())
    for kind, (_, config_class) in ORIGINALS.items():
        values = config_class().to_dict()
        for part, table in TABLES[kind].items():
            names = set(values[part] if part else values)
            assert names | generation <= set(table), (kind, part)
