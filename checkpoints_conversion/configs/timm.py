"""timm's `config.json` on the hub: `architecture` and `pretrained_cfg`. Here for DINOv2 and DINOv3."""

import math
from pathlib import Path
from typing import Any

from checkpoints_conversion.facts import Facts
from jaxalign.errors import JaxalignError

from .json_facts import JsonFacts, read_json


def read_timm(folder: Path) -> Facts:
    """The facts in `folder`; raises JaxalignError for a file that is damaged or says what cannot be."""
    config = read_json(folder / "config.json")
    pretrained = config.object("pretrained_cfg")
    spec: dict[str, Any] = {}
    for name in ("mean", "std"):
        if pretrained.values.get(name) is not None:
            spec[name] = pretrained.channels(name)
    if pretrained.values.get("interpolation") is not None:
        spec["interpolation"] = pretrained.choice(
            "interpolation", {"bicubic": "bicubic", "bilinear": "bilinear"}
        )
    size = _size(pretrained)
    if size is None:
        return Facts(spec=spec)
    if pretrained.text("crop_mode", "center") == "squash":
        spec["resize"], spec["resize_size"] = "squash", None
    else:
        spec["resize"] = "shortest"
        spec["resize_size"] = math.floor(size / max(pretrained.number("crop_pct", 1.0), 1e-3))
    return Facts(image={"image_size": size}, spec=spec)


def _size(pretrained: JsonFacts) -> int | None:
    """The side of the square input, `input_size` being (channels, height, width)."""
    size = pretrained.values.get("input_size")
    if size is None:
        return None
    if not isinstance(size, list) or len(size) != 3 or type(size[1]) is not int or size[1] != size[2]:
        raise JaxalignError(f"{pretrained.where}: input_size is {size!r:.60}; expected [3, side, side]")
    return size[1]
