"""Every original class, saved in each form on disk, loaded and compared: blocks, pre, embedding, logits."""

import functools
import itertools
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the originals' imports
    for module in ("torch", "open_clip", "timm", "transformers"):
        pytest.importorskip(module, reason="the originals need the extra `reference`")
    import open_clip
    import timm
    import torch
    from references import REFERENCES, Reference, Size

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

import jaxalign as ja
from jaxalign.conversion.configs.open_clip import read_open_clip
from jaxalign.models import ImageTower, ImageTowerConfig, ModifiedResNet, TextTower

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
TINY, FULL = 1e-5, 2e-5  # relative to the largest; twelve to twenty-four blocks round more than two
# no file says at which size these are used: their positions are rotary and fit any
ANY_SIZE = ("dinov3-original",)


def relative_error(ours, theirs, unit: float | None = None) -> float:
    """The largest difference in units of `unit`, by default of the largest value."""
    return float(np.abs(np.asarray(ours) - theirs).max() / (np.abs(theirs).max() if unit is None else unit))


@dataclass(frozen=True)
class Original:
    """What a reference gives on one input: all of it but the module, which is as large as the model."""

    reference: Reference
    pixels: np.ndarray
    ids: np.ndarray | None
    outputs: dict[str, Any]
    scale: tuple[float, float] | None

    @classmethod
    def of(cls, name: str, size: Size, folder: Path) -> tuple["Original", Path]:
        """It, and the path of the module in the reference's form on disk."""
        reference = REFERENCES[name]
        module = reference.build(size)
        pixels, ids = reference.inputs(size, n=3 if size == "tiny" else 1)
        outputs, scale = {"image": reference.image(module, pixels)}, None
        if ids is not None:
            outputs |= {"text": reference.text(module, ids), "logits": reference.logits(module, pixels, ids)}
            scale = tuple(map(float, reference.scale(module)))
        return cls(reference, pixels, ids, outputs, scale), reference.save(module, folder)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """`Original.of` at the tiny size, each reference once."""
    return functools.cache(lambda name: Original.of(name, "tiny", tmp_path_factory.mktemp(name)))


def load(name: str, original: Original, path: Path):
    model = ja.load(path)
    if name in ANY_SIZE and original.pixels.shape[1] != model.config.image.image_size:
        image = replace(model.config.image, image_size=original.pixels.shape[1])
        spec = replace(model.spec, towers=replace(model.config, image=image))
        model = ja.load(path, spec=spec)
    return model


def compare(name: str, original: Original, path: Path, tolerance: float) -> None:
    """A single pair's cosine is near zero at random weights: its logit is held to the scale, a cosine of 1.

    (Relative to its own value the originals' own rounding is 3e-5 there, by their float64.)
    """
    model = load(name, original, path)
    pixels, ids, outputs = original.pixels, original.ids, original.outputs
    with jax.default_matmul_precision("highest"):
        errors = {
            "image pre": (model.apply_image(model.params, pixels, projected=False), outputs["image"]["pre"]),
            "image": (model.apply_image(model.params, pixels), outputs["image"]["embedding"]),
        }
        if ids is not None:
            text, (scale, bias) = outputs["text"], original.scale
            errors |= {
                "text pre": (model.apply_text(model.params, ids, projected=False), text["pre"]),
                "text": (model.apply_text(model.params, ids), text["embedding"]),
                "logits": (logits(model, pixels, ids), outputs["logits"], scale if len(ids) == 1 else None),
                "scale": (np.exp(model.params["t"]), scale),
                "bias": (model.params["b"] if model.config.logit_bias else 0.0, bias, max(abs(bias), 1e-3)),
            }
    errors = {what: relative_error(*pair) for what, pair in errors.items()}
    print(f"{name}: largest relative error {max(errors.values()):.2g}", errors)  # seen with -s or -rP
    assert max(errors.values()) < tolerance, errors


def logits(model, pixels, ids) -> np.ndarray:
    image, text = (
        z / np.linalg.norm(z, axis=1, keepdims=True)
        for z in map(
            np.asarray, (model.apply_image(model.params, pixels), model.apply_text(model.params, ids))
        )
    )
    bias = np.asarray(model.params["b"]) if model.config.logit_bias else 0.0
    return image @ text.T * np.exp(np.asarray(model.params["t"])) + bias


@pytest.mark.parametrize("name", REFERENCES)
def test_tiny(name, tiny):
    compare(name, *tiny(name), TINY)


@pytest.mark.slow
@pytest.mark.parametrize("name", REFERENCES)
def test_full_size(name, tmp_path):
    compare(name, *Original.of(name, "full", tmp_path), FULL)


def blocks(module, params, x) -> list[np.ndarray]:
    """What every block of a tower gives, in order."""
    _, state = module.apply({"params": params}, x, capture_intermediates=True, mutable=["intermediates"])
    flat = jax.tree_util.tree_flatten_with_path(state["intermediates"])[0]
    found = {}
    for path, leaf in flat:
        parts = jax.tree_util.keystr(path, simple=True, separator="/").split("/")
        for part, following in itertools.pairwise(parts):
            if part.startswith(("encoderblock_", "layer")) and following == "__call__":
                found.setdefault(part, leaf)  # keys and values come after it
    order = lambda name: [int(n) for n in name.replace("layer", "").replace("encoderblock_", "").split("_")]
    return [np.asarray(found[name]) for name in sorted(found, key=order)]


@pytest.mark.parametrize("name", [n for n in REFERENCES if "archive" in n or "open_clip" in n or "timm" in n])
def test_blocks(name, tiny):
    """Where two models differ first: the last block of a tower may give its pooled position alone."""
    original, path = tiny(name)
    model = load(name, original, path)
    pixels, ids, outputs = original.pixels, original.ids, original.outputs
    config = model.config
    kind = ImageTower if isinstance(config.image, ImageTowerConfig) else ModifiedResNet
    towers = [(kind(config.image), model.params["img"], pixels, outputs["image"]["blocks"])]
    if ids is not None:
        towers.append((TextTower(config.text), model.params["txt"], ids, outputs["text"]["blocks"]))
    for tower, params, x, expected in towers:
        with jax.default_matmul_precision("highest"):
            found = blocks(tower, params, x)
        found = _last_of_each_stage(found, config.image) if kind is ModifiedResNet and x is pixels else found
        assert len(found) == len(expected)
        for ours, theirs in zip(found, expected, strict=True):
            if ours.shape != theirs.shape:  # only the pooled position
                theirs = theirs[:, -1:] if ours.shape[1] == 1 and x is ids else theirs[:, : ours.shape[1]]
            assert relative_error(ours, theirs) < TINY


def _last_of_each_stage(found, config):
    ends = np.cumsum(config.stage_depths) - 1
    return [found[i] for i in ends]


def timm_trunks() -> list[str]:
    """The image towers of every SigLIP of open_clip, by timm's name."""
    configs = map(open_clip.get_model_config, open_clip.list_models())
    names = {config["vision_cfg"].get("timm_model_name", "") for config in configs}
    return sorted(name for name in names if "siglip" in name)


@pytest.mark.parametrize("name", timm_trunks())
def test_what_the_name_of_a_timm_trunk_fixes(name, tmp_path):
    """Heads and activation: no tensor and no configuration shows them, a wrong guess is silent."""
    with torch.device("meta"):
        trunk = timm.create_model(name, depth=1)
    vision = {"timm_model_name": name, "image_size": trunk.patch_embed.img_size[0]}
    config = {"model_cfg": {"embed_dim": trunk.embed_dim, "vision_cfg": vision, "text_cfg": {}}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    facts = read_open_clip(tmp_path).image
    assert facts.get("heads", trunk.embed_dim // 64) == trunk.blocks[0].attn.num_heads
    assert facts.get("heads", trunk.embed_dim // 64) == trunk.attn_pool.num_heads
    kind = {"GELU": "gelu", "GELUTanh": "gelu_tanh"}[type(trunk.blocks[0].mlp.act).__name__]
    assert facts.get("activation", "gelu") == kind
