"""How transformers prepares images: `preprocessor_config.json`, since version 5 `processor_config.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.specs.clip import CLIP_MEAN, CLIP_STD, HALF, IMAGENET_MEAN, IMAGENET_STD
from jaxalign.weights.hub import PREPROCESSOR, PROCESSOR

from . import huggingface_fields as tables
from .fields import check_fields
from .json_object import JsonObject, read_json

RESAMPLE = {2: "bilinear", 3: "bicubic"}
_SQUARE = {"height": 224, "width": 224}
_ALL: Mapping[str, Any] = {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
_CROPPED: Mapping[str, Any] = {
    **_ALL,
    "resample": 3,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "crop_size": _SQUARE,
    "do_center_crop": True,
}
_SQUASHED: Mapping[str, Any] = {
    **_ALL,
    "resample": 3,
    "image_mean": HALF,
    "image_std": HALF,
    "size": _SQUARE,
    "default_to_square": True,
    "crop_size": None,
    "do_center_crop": False,
}
# What the classes have where their file says nothing; null is no default, and switches off.
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "CLIPImageProcessor": _CROPPED,
    "BitImageProcessor": _CROPPED,
    "SiglipImageProcessor": _SQUASHED | {"default_to_square": False},
    "ViTImageProcessor": _SQUASHED | {"resample": 2},
    "DINOv3ViTImageProcessor": _SQUASHED
    | {"resample": 2, "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
}
CLASSES = {  # of a model whose file names none
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "dinov2": "BitImageProcessor",
    "dinov2_with_registers": "BitImageProcessor",
    "dinov3_vit": "DINOv3ViTImageProcessor",
}


@dataclass(frozen=True)
class Preprocessing:
    """Fields of `ModelSpec`, the side of the square image that they end in, and the file that says so."""

    spec: Mapping[str, Any]
    side: int
    where: str


def read_preprocessing(folder: Path, kind: str) -> Preprocessing | None:
    """What the files in `folder` say for a model of `kind`, a `model_type`; None where there are none.

    As in transformers, `image_processor` of `processor_config.json` comes first.

    Raises:
      JaxalignError: a damaged file, or one that says what is not supported.
    """
    config = _find(folder)
    if config is None:
        return None
    check_fields(config, tables.PREPROCESSOR)
    stated = config.text("image_processor_type", None) or config.text("feature_extractor_type", None)
    name = (stated or CLASSES[kind]).removesuffix("Fast").removesuffix("Pil")
    name = name.replace("FeatureExtractor", "ImageProcessor")
    if name not in DEFAULTS:
        raise unknown_name("image_processor_type", name, DEFAULTS, hint=f"(in {config.where})")
    where = config.where + (f": as image_processor_type is {name}" if stated else "")
    config = JsonObject({**DEFAULTS[name], **config.values}, where)
    layout, side = _layout(config)
    floats = name == "DINOv3ViTImageProcessor"
    if floats and layout["resize"] != "squash":
        raise JaxalignError(f"{config.where}: do_center_crop is true; expected false for a {name}")
    spec = {
        **layout,
        **_scale(config),
        "interpolation": config.choice("resample", RESAMPLE, "bilinear"),
        "pipeline": "transformers_float" if floats else "transformers",
    }
    return Preprocessing(spec, side, config.where)


def _find(folder: Path) -> JsonObject | None:
    if (folder / PROCESSOR).exists():
        processor = read_json(folder / PROCESSOR)
        if processor.values.get("image_processor") is not None:
            check_fields(processor, tables.PROCESSOR)
            return processor.object("image_processor")
    return read_json(folder / PREPROCESSOR) if (folder / PREPROCESSOR).exists() else None


def _layout(config: JsonObject) -> tuple[dict[str, Any], int]:
    """`resize` and `resize_size`, and the side of the result."""
    size = _size(config, "size", config.flag("default_to_square", False))
    if config.flag("do_center_crop", False):
        crop = _square(config, "crop_size", _size(config, "crop_size", True))
        if "shortest_edge" in size:
            shortest = size["shortest_edge"]
            if shortest < crop:
                raise JaxalignError(
                    f"{config.where}: size has shortest_edge {shortest}, less than the crop_size {crop};"
                    " expected at least so much"
                )
            return {"resize": "shortest", "resize_size": shortest}, crop
        if _square(config, "size", size) != crop:
            raise JaxalignError(
                f"{config.where}: size is {dict(size)!r:.60} with the crop_size {crop}; expected"
                " shortest_edge, or the size of the crop"
            )
        return {"resize": "squash", "resize_size": None}, crop
    if "shortest_edge" in size:
        raise JaxalignError(
            f"{config.where}: do_center_crop is false with shortest_edge in size, which leaves images as"
            " oblong as they are; expected true, or height and width"
        )
    return {"resize": "squash", "resize_size": None}, _square(config, "size", size)


def _size(config: JsonObject, name: str, to_square: bool) -> Mapping[str, int]:
    """A size as an object, which older files have as a number, or as a list of height and width."""
    value = config.values.get(name)
    if type(value) is int:
        value = {"height": value, "width": value} if to_square else {"shortest_edge": value}
    elif isinstance(value, list) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    if isinstance(value, dict):
        value = {key: x for key, x in value.items() if x is not None}
        if set(value) in ({"shortest_edge"}, {"height", "width"}):
            facts = JsonObject(value, f"{config.where}: {name}")
            return {key: facts.integer(key) for key in value}
    raise JaxalignError(
        f"{config.where}: {name} is {config.values.get(name)!r:.60}; expected shortest_edge alone, or height"
        " and width"
    )


def _square(config: JsonObject, name: str, size: Mapping[str, int]) -> int:
    sides = set(size.values())
    if len(sides) != 1 or "shortest_edge" in size:
        raise JaxalignError(
            f"{config.where}: {name} is {dict(size)!r:.60}; expected a height and an equal width"
        )
    return sides.pop()


def _scale(config: JsonObject) -> dict[str, Any]:
    """`mean` and `std` of pixels that were divided by 255, whatever the file multiplies them with."""
    factor = config.number("rescale_factor", least=1e-9) if config.flag("do_rescale", False) else 1.0
    unit = 1.0 if abs(255 * factor - 1) < 1e-9 else 255 * factor
    is_normalised = config.flag("do_normalize", False)
    mean = config.channels("image_mean") if is_normalised else (0.0,) * 3
    std = config.channels("image_std", least=1e-6) if is_normalised else (1.0,) * 3
    return {"mean": tuple(x / unit for x in mean), "std": tuple(x / unit for x in std)}
