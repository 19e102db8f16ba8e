"""Every field of open_clip's and timm's configurations, changed: as they have it, or refused by name."""

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
    for module in ("torch", "open_clip", "timm"):
        pytest.importorskip(module, reason="the originals need the extra `reference`")
    import open_clip
    import timm
    import torch
    from open_clip.model import CLIP
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
    from references.base import randomise
    from safetensors.torch import save_file

from config_battery import TOLERANCE, Outputs, difference, judge, variants
from PIL import Image

import jaxalign as ja
from jaxalign.conversion.configs import open_clip_fields
from jaxalign.conversion.configs import timm as timm_fields
from jaxalign.conversion.configs.open_clip import read_open_clip
from jaxalign.conversion.configs.timm import read_timm
from jaxalign.conversion.facts import Facts
from jaxalign.inputs.image_processing import ImageProcessor

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
TOKENS = np.array([[3, 5, 49, 7, 40, 1], [45, 2, 9, 49, 9, 4]], np.int32)  # 2: open_clip's own eos_id
PIXELS = np.random.default_rng(0).normal(size=(2, 28, 28, 3)).astype(np.float32)
IMAGE = Image.fromarray(np.random.default_rng(1).integers(0, 255, (43, 61, 3), np.uint8))
OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 28, "layers": 1, "width": 16, "patch_size": 14, "head_width": 8},
        "text_cfg": {"context_length": 6, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {},
}
TABLES = {
    "": open_clip_fields.FILE,
    "model_cfg": open_clip_fields.MODEL,
    "model_cfg.vision_cfg": open_clip_fields.VISION,
    "model_cfg.text_cfg": open_clip_fields.TEXT,
}
TELLING = {
    "pool_type": ["tok", "avg", "none", "argmax", "eos", "first", "last"],
    "eos_id": [49, 7],
    "layers": [2, [1, 1, 1, 1]],
    "act_kwargs": [{"approximate": "tanh"}, {"approximate": "none"}, {"inplace": True}],
    "norm_kwargs": [{"eps": 0.1}, {"elementwise_affine": False}, {}],
    "pos_embed_type": ["sin_cos_2d"],
    "block_type": ["default", "custom"],
    "proj_type": ["none"],
    "head_width": [16, 4, 0],
    "heads": [1, 4, 3],
    "timm_model_name": ["vit_base_patch16_siglip_224"],
    "timm_pool": ["map"],
    "timm_proj": ["none"],
    "hf_model_name": ["roberta-base"],
    "hf_tokenizer_name": [None, "", "roberta-base"],
    "tokenizer_kwargs": [{}, {"clean": "whitespace"}, {"strip_sep_token": True}, {"clean": "x"}],
    "custom_text": [True],
    "multimodal_cfg": [{"width": 8}],
    "init_logit_bias": [],  # another tensor
    "nonscalar_logit_scale": [],
    "cast_dtype": [],
    "vision_cfg": [],
    "text_cfg": [],
}


def write(folder: Path, config: Any, name: str) -> None:
    (folder / name).write_text(json.dumps(config))


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


def see(model: Any) -> Outputs:
    pixels = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy())
    with torch.inference_mode():
        if not hasattr(model, "encode_text"):
            return (model(pixels).numpy(),)
        found = model.encode_image(pixels), model.encode_text(torch.from_numpy(TOKENS).long())
    return tuple((x[0] if isinstance(x, tuple) else x).numpy() for x in found)


def test_configurations_of_open_clip(tmp_path):
    def build(config: Any) -> Any:
        options = {k: v for k, v in config["model_cfg"].items() if k != "custom_text"}
        return CLIP(**copy.deepcopy(options)).eval()

    model = build(OPEN_CLIP)
    randomise(model, 0)
    weights = model.state_dict()
    save_file({k: x.contiguous() for k, x in weights.items()}, tmp_path / "open_clip_model.safetensors")

    def original(config: Any) -> Outputs:
        other = build(config)
        other.load_state_dict(weights)
        return see(other)

    def is_valid(config: Any) -> bool:
        try:
            return bool(build(config))
        except Exception:
            return False

    write(tmp_path, OPEN_CLIP, "open_clip_config.json")
    known: dict[Any, Outputs] = {}
    assert difference(load(tmp_path, known), see(model)) < TOLERANCE
    defaults = {
        "model_cfg.vision_cfg": vars(open_clip.CLIPVisionCfg()),
        "model_cfg.text_cfg": vars(open_clip.CLIPTextCfg()),
    }
    of_part = lambda part: defaults.get(part, {"quick_gelu": False, "output_dict": False})
    wrong = []
    for field, other in variants(OPEN_CLIP, TABLES, of_part, TELLING, is_valid, set()):
        write(tmp_path, other, "open_clip_config.json")
        wrong.append(judge(field, lambda: load(tmp_path, known), lambda other=other: original(other)))
    both = copy.deepcopy(OPEN_CLIP)
    both["model_cfg"]["vision_cfg"] |= {"pool_type": "avg", "final_ln_after_pool": True}
    for pool_type in ("last", "first", "argmax", "eos"):
        both["model_cfg"]["text_cfg"] |= {"no_causal_mask": True, "pool_type": pool_type, "eos_id": 49}
        write(tmp_path, both, "open_clip_config.json")
        wrong.append(judge(pool_type, lambda: load(tmp_path, known), lambda other=both: original(other)))
    assert [problem for problem in wrong if problem] == []


def processed(facts: Facts, size: int) -> Outputs:
    """IMAGE as our preprocessing of `facts` has it."""
    names = {"resize", "interpolation", "mean", "std", "resize_size", "pipeline"}
    options = {name: value for name, value in facts.spec.items() if name in names}
    if options.get("resize_size") == size:
        options["resize_size"] = None
    return (ImageProcessor(size, **options)([IMAGE])[0],)


def test_preprocessing_of_open_clip(tmp_path):
    base = copy.deepcopy(OPEN_CLIP) | {
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "interpolation": "bilinear"}
    }

    def ours() -> Outputs:
        return processed(read_open_clip(tmp_path), 28)

    def original(config: Any) -> Outputs:
        merged = merge_preprocess_dict(PreprocessCfg(), config["preprocess_cfg"]) | {"size": 28}
        pixels = image_transform_v2(PreprocessCfg(**merged), is_train=False)(IMAGE)
        return (pixels.numpy().transpose(1, 2, 0),)

    telling = {
        "interpolation": ["bicubic", "random", "nearest", None],
        "resize_mode": ["squash", "shortest", "longest", None],
        "mean": [[0.5, 0.4, 0.3], 0.5, None, [0.5], [float("nan")] * 3],
        "std": [[0.5, 0.4, 0.3], 0.5, None, [0.0, 1.0, 1.0], [1e400, 1.0, 1.0], ["a", 1, 1]],
        "mode": ["RGB", "L"],
        "size": [224],
    }
    wrong = []
    table = {"preprocess_cfg": open_clip_fields.PREPROCESSING}
    for field, other in variants(base, table, lambda part: {}, telling, lambda _: True, set()):
        write(tmp_path, other, "open_clip_config.json")
        wrong.append(judge(field, ours, lambda other=other: original(other)))
    assert [problem for problem in wrong if problem] == []


@pytest.mark.parametrize("name", ["vit_base_patch14_dinov2", "vit_small_patch16_dinov3"])
def test_configurations_of_timm(name, tmp_path):
    side = 28 if "v2" in name else 32
    arguments = {"embed_dim": 16, "num_heads": 2, "depth": 1, "img_size": side, "global_pool": "token"}
    pretrained = {
        "input_size": [3, side, side],
        "fixed_input_size": "v2" in name,
        "crop_pct": 0.875,
        "crop_mode": "center",
        "interpolation": "bilinear",
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
    }
    config = {"architecture": name, "num_classes": 0, "pretrained_cfg": pretrained, "model_args": arguments}
    model = timm.create_model(name, num_classes=0, **arguments).eval()
    randomise(model, 0)
    weights = model.state_dict()
    save_file({k: x.contiguous() for k, x in weights.items()}, tmp_path / "model.safetensors")

    def original(pixels: bool) -> Outputs:
        other = timm.create_model(f"local-dir:{tmp_path}", pretrained=False).eval()
        if not pixels:
            other.load_state_dict(weights)
            x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
            with torch.inference_mode():
                return (other(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy(),)
        data = timm.data.resolve_model_data_config(other)
        return (timm.data.create_transform(**data, is_training=False)(IMAGE).numpy().transpose(1, 2, 0),)

    def ours(pixels: bool) -> Outputs:
        facts = read_timm(tmp_path)
        if pixels:
            return processed(facts, facts.image["image_size"])
        loaded = ja.load(tmp_path)
        if loaded.config not in known:
            x = np.random.default_rng(0).normal(size=(2, side, side, 3)).astype(np.float32)
            with jax.disable_jit():
                known[loaded.config] = (np.asarray(loaded.apply_image(loaded.params, x)),)
        return known[loaded.config]

    known: dict[Any, Outputs] = {}
    tables = {
        "": timm_fields.FILE,
        "pretrained_cfg": timm_fields.PRETRAINED,
        "model_args": timm_fields.ARGUMENTS,
    }
    telling = {
        "architecture": ["vit_base_patch16_224", "vit_base_patch14_dinov3", "x"],
        "input_size": [[3, side, side + 14], [1, side, side], side, "x", None],
        "img_size": [side, [side, side], side + 14],
        "num_heads": [1, 4, 3],
        "embed_dim": [32],
        "crop_pct": [1.0, 0.5, 0, -1, float("inf")],
        "crop_mode": ["squash", "border", "center"],
        "interpolation": ["bicubic", "nearest"],
        "mean": [[0.5, 0.4, 0.3], None, [float("nan")] * 3],
        "std": [[0.5, 0.4, 0.3], None, [0, 1, 1]],
        "global_pool": ["token", "avg"] if "v2" in name else ["token"],
        "state_dict": [{}],
        "pretrained_cfg": [],
        "model_args": [],
    }
    wrong = []
    for field, other in variants(config, tables, lambda part: {}, telling, lambda _: False, set()):
        write(tmp_path, other, "config.json")
        for pixels in (False, True):
            wrong.append(judge(field, lambda p=pixels: ours(p), lambda p=pixels: original(p)))
    assert [problem for problem in wrong if problem] == []
