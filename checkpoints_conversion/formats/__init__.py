"""The formats, one record each: how their tensors are called, and by which names a file is recognised."""

from collections.abc import Iterable

from jaxalign.conversion.engine import Format
from jaxalign.errors import JaxalignError

from .big_vision import BIG_VISION
from .dino import (
    DINOV2_META,
    DINOV2_TIMM,
    DINOV2_TIMM_REGISTERS,
    DINOV3_META,
    DINOV3_TIMM,
    DINOV3_TIMM_BIASES,
)
from .huggingface import HF_CLIP, HF_DINOV2, HF_DINOV3, HF_SIGLIP
from .open_clip import CLIP_RESNET, CLIP_VIT
from .originals import EVA_ORIGINAL, PE_ORIGINAL, SLIP
from .timm_trunks import EVA_TIMM, PE_TIMM, SIGLIP_TIMM

FORMATS = (
    CLIP_VIT,
    CLIP_RESNET,
    HF_CLIP,
    HF_SIGLIP,
    SIGLIP_TIMM,
    PE_TIMM,
    EVA_TIMM,
    PE_ORIGINAL,
    EVA_ORIGINAL,
    SLIP,
    DINOV2_META,
    DINOV2_TIMM,
    DINOV2_TIMM_REGISTERS,
    HF_DINOV2,
    DINOV3_TIMM,
    DINOV3_TIMM_BIASES,
    DINOV3_META,
    HF_DINOV3,
    BIG_VISION,
)


def find_format(names: Iterable[str], where: str) -> Format:
    """The format of a file with these tensor names; raises JaxalignError where there is none."""
    names = set(names)
    found = [format for format in FORMATS if format.recognises(names)]
    if len(found) == 1:
        return found[0]
    some = ", ".join(sorted(names)[:3])
    formats = "; ".join(format.name for format in found or FORMATS)
    raise JaxalignError(
        f"{where} holds {len(names)} tensors ({some}, ...) of {'several' if found else 'no known'} formats;"
        f" expected all of one: {formats}"
    )


def wrapper_prefix(names: Iterable[str]) -> str:
    """What all `names` begin with, where behind it they are those of a format; empty where they never are.

    Scripts keep a model in an attribute of their own (`model.`, `clip.`), which adds its name to every other.
    """
    prefix, names = "", set(names)
    while not any(format.recognises(names) for format in FORMATS):
        attribute, dot, _ = next(iter(names), "").partition(".")
        start = attribute + dot
        if not dot or not all(name.startswith(start) for name in names):
            return ""
        prefix, names = prefix + start, {name.removeprefix(start) for name in names}
    return prefix
