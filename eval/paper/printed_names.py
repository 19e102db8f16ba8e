"""What the papers call things, and what we call them: weights by backbone, settings by column and name."""

from collections.abc import Mapping
from typing import Any

AVERAGES = ("Avg", "Average")

_SIGLIP, _SIGLIP_2 = (
    tuple(f"{name}{source}" for source in ("", "-open-clip", "-big-vision"))
    for name in ("siglip-base-patch16-224", "siglip2-base-patch16-224")
)
_DINO_3 = ("dinov3-large-patch16", "dinov3-large-patch16-256")

# Weights by preference: as the code that a paper published loads them first, then the same in other code.
BACKBONES: Mapping[str, tuple[str, ...]] = {
    # IsoCLIP
    "ViT-B/32": ("clip-vit-base-patch32",),
    "ViT-B/16": ("clip-vit-base-patch16",),
    "ViT-L/14": ("clip-vit-large-patch14",),
    "ViT-B/32-open": ("clip-vit-base-patch32-datacomp",),
    "ViT-B/16-open": ("clip-vit-base-patch16-datacomp",),
    "PE-Core-B-16": ("pe-core-base-patch16",),
    "PE-Core B/16": ("pe-core-base-patch16",),
    "EVA-02 B/16": ("eva02-clip-base-patch16",),
    "SigLIP2 B/16": (_SIGLIP_2[1], _SIGLIP_2[0], _SIGLIP_2[2]),
    "DINOv2 B/14": ("dinov2-base-meta", "dinov2-base"),
    # Reevaluating
    "CLIP B/32": ("clip-vit-base-patch32",),
    "CLIP L/14": ("clip-vit-large-patch14",),
    "CLIP ViT-L/14": ("clip-vit-large-patch14",),
    "CLIP ViT-B/16": ("clip-vit-base-patch16",),
    "CLIP": ("clip-vit-base-patch16",),
    "rn50": ("clip-rn50",),
    "SigLIP B/16": _SIGLIP,
    "SigLIP": _SIGLIP,
    "SigLIP2": _SIGLIP_2,
    "SLIP B/16": ("slip-vit-base-patch16",),
    "DINOv2": ("dinov2-base-meta", "dinov2-base"),
    "DINOv2 ViT-B/14": ("dinov2-base", "dinov2-base-meta"),
    "DINOv3 L/16": _DINO_3,
    "DINOv3 ViT-L/16": _DINO_3,
    "dinov3_vitl16": _DINO_3,
}
# What both papers print, and Reevaluating loads through transformers.
OF_REEVALUATING: Mapping[str, tuple[str, ...]] = {"SigLIP2 B/16": _SIGLIP_2}
# With registers, which the paper does not say.
OF_REFERENCE: Mapping[str, tuple[str, ...]] = {
    "DINOv2": ("dinov2-with-registers-base-meta", "dinov2-with-registers-base")
}
# Preprocessed with SLIP's transform in the published code of retrieval, whose features its few-shot code took
# over; table 1 has code of its own.
SLIP_TRANSFORM = ("DINOv2", "DINOv3 L/16", "dinov3_vitl16")
# Whose few-shot features are taken over from retrieval: of images that are neither cropped nor flipped, and
# not scaled to length one ("merge from ctg to gda.py" in the published code).
TAKEN_OVER = ("SigLIP", "SigLIP2", "DINOv2", "dinov3_vitl16")

# Protocols of a table that are a task of another name, with settings of their own.
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "zero-shot": {"protocol": "classification", "classifiers": ("zero-shot",)},
    "ncm": {"protocol": "classification", "classifiers": ("ncm",)},
    "band-selection": {"protocol": "band-sweep"},
}
METHODS: Mapping[str, Mapping[str, Any]] = {
    "Image-Image": {"method": "image-image"},
    "Image-Image [Pre]": {"method": "pre"},
    "Image-Image (whitened projector)": {"method": "whitened"},
    "IsoCLIP": {"method": "isoclip"},
    "OTI (IT)": {"method": "oti"},
    "Text-Text": {"method": "text-text"},
    "OVI (TI)": {"method": "ovi"},
    "Original": {"method": "image-image"},
    "OTI": {"method": "oti"},
    "PCA<-": {"method": "pca"},
    "Image-Text / Zero-Shot": {"protocol": "zero-shot"},
    "Image-Image / NCM": {"protocol": "ncm", "method": "image-image"},
    "IsoCLIP / NCM": {"protocol": "ncm", "method": "isoclip"},
}
CLASSIFIERS: Mapping[str, Mapping[str, Any]] = {
    "Prototype": {"classifier": "prototype"},
    "LDA": {"classifier": "lda"},
}
INPUTS: Mapping[str, Mapping[str, Any]] = {
    "image only": {"with_text": False},
    "with text": {"with_text": True},
}
PROJECTED: Mapping[str, Mapping[str, Any]] = {"no": {"projected": False}, "PCA<-": {"projected": True}}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "Image-Image": {"modality": "image", "dataset": "caltech101"},
    "Text-Text": {"modality": "text", "dataset": "coco-captions"},
    "weather": {"task": "weather"},
    "time of day": {"task": "time-of-day"},
}
BY_COLUMN: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "method": METHODS,
    "classifier": CLASSIFIERS,
    "inputs": INPUTS,
    "projected": PROJECTED,
    "task": TASKS,
}
