"""timm's `config.json` on the hub: `architecture` and `pretrained_cfg`. Here for DINOv2 and DINOv3."""

import math
import re
from pathlib import Path
from typing import Any

from jaxalign.conversion.facts import Facts
from jaxalign.errors import JaxalignError
from jaxalign.specs.clip import IMAGENET_MEAN, IMAGENET_STD

from .fields import Table, check_fields, only, used, used_or_null, without_effect
from .json_object import JsonObject, read_json

ARCHITECTURES = r"vit_\w+_patch14(_reg4)?_dinov2|vit_\w+_patch16_dinov3(_qkvb)?"
_OF_CLASSES = without_effect(
    "of a classifier, which these models have not",
    "classifier",
    "label_descriptions",
    "label_names",
    "label_offset",
    "labels",
    "num_classes",
)
FILE: Table = {
    **_OF_CLASSES,
    **used("architecture", "pretrained_cfg"),
    **used_or_null("model_args"),
    **without_effect("the tensors show it", "num_features"),
    **without_effect("the feature is the class token, as in DINO's papers", "global_pool"),
}
PRETRAINED: Table = {
    **_OF_CLASSES,
    **used_or_null("crop_mode", "crop_pct", "input_size", "interpolation", "mean", "std"),
    **without_effect("for other sizes than that of input_size", "fixed_input_size", "min_input_size"),
    **without_effect("for tests at another size", "test_crop_pct", "test_input_size", "test_pool_size"),
    **without_effect("of other architectures", "first_conv", "pool_size"),
    **without_effect(
        "says where the weights come from",
        "architecture",
        "custom_load",
        "description",
        "file",
        "hf_hub_filename",
        "hf_hub_id",
        "license",
        "notes",
        "origin_url",
        "paper_ids",
        "paper_name",
        "source",
        "tag",
        "url",
    ),
    **only(None, fields=("state_dict",)),
}
ARGUMENTS: Table = {
    **_OF_CLASSES,
    **used_or_null("img_size"),
    **used("embed_dim", "num_heads"),
    **only("token", fields=("global_pool",)),
    **only(3, None, fields=("in_chans",)),
    **without_effect("the tensors show it", "depth", "init_values", "mlp_ratio", "patch_size", "reg_tokens"),
    **without_effect("images have the one size", "dynamic_img_pad", "dynamic_img_size", "strict_img_size"),
    **without_effect(
        "of training",
        "attn_drop_rate",
        "drop_path_rate",
        "drop_rate",
        "patch_drop_rate",
        "pos_drop_rate",
        "proj_drop_rate",
    ),
}


def read_timm(folder: Path) -> Facts:
    """The facts in `folder`.

    Raises:
      JaxalignError: a file that is damaged, or says what cannot be or is not supported.
    """
    config = read_json(folder / "config.json")
    name = config.text("architecture").partition(".")[0]
    if not re.fullmatch(ARCHITECTURES, name):
        raise JaxalignError(
            f"{config.where}: architecture is {name!r:.60}; expected a DINOv2 or DINOv3, such as"
            " vit_base_patch14_dinov2"
        )
    pretrained = config.object("pretrained_cfg")
    if "pretrained_cfg" in config.values:
        check_fields(config, FILE)
    else:  # as older files have it: all in one object
        kept = ("architecture", "num_features")
        pretrained = JsonObject({k: v for k, v in config.values.items() if k not in kept}, config.where)
    arguments = config.object("model_args")
    check_fields(pretrained, PRETRAINED)
    check_fields(arguments, ARGUMENTS)
    size = _side(pretrained, "input_size", 3, 224)
    if _side(arguments, "img_size", 2, size) != size:
        raise JaxalignError(
            f"{config.where}: img_size is {arguments.values['img_size']!r:.60}, input_size"
            f" {pretrained.values.get('input_size')!r:.60}; expected the same"
        )
    image = {"image_size": size}
    if arguments.values.keys() & {"embed_dim", "num_heads"}:  # else as many as the architecture has
        image["heads"] = arguments.integer("num_heads")
    return Facts(image, spec=_preprocessing(pretrained, size))


def _preprocessing(config: JsonObject, size: int) -> dict[str, Any]:
    """Fields of `ModelSpec`; what the file does not say is as timm has it."""
    kinds = {"bicubic": "bicubic", "bilinear": "bilinear"}
    spec = {
        "interpolation": config.choice("interpolation", kinds, "bicubic"),
        "mean": config.channels("mean", IMAGENET_MEAN),
        "std": config.channels("std", IMAGENET_STD, least=1e-6),
        "pipeline": "timm",
    }
    whole = math.floor(size / config.number("crop_pct", 0.875, least=1e-3, most=1e3))
    if config.choice("crop_mode", {"center": "center", "squash": "squash"}, "center") == "center":
        return spec | {"resize": "shortest", "resize_size": whole}
    if whole != size:
        raise JaxalignError(
            f"{config.where}: crop_pct is {config.values.get('crop_pct')!r:.60} with crop_mode 'squash';"
            " expected 1"
        )
    return spec | {"resize": "squash", "resize_size": None}


def _side(config: JsonObject, name: str, axes: int, default: int) -> int:
    """The side of a square size: a number, or a list of `axes` that ends in height and width."""
    size = config.values.get(name)
    if size is None:
        return default
    if isinstance(size, list) and len(size) == axes and size[-1] == size[-2] and size[:-2] in ([], [3]):
        size = size[-1]
    if type(size) is not int or not 0 < size < 2**16:
        raise JaxalignError(f"{config.where}: {name} is {size!r:.60}; expected {[3, 'side', 'side'][-axes:]}")
    return size
