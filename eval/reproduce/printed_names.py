"""What the papers call things, and what we call them: settings of a cell by column and printed name."""

from collections.abc import Mapping
from typing import Any

AVERAGES = ("Avg", "Average")

# Weights by preference: the code that a paper used first, then the same weights in other code.
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
    "SigLIP2 B/16": (
        "siglip2-base-patch16-224-open-clip",
        "siglip2-base-patch16-224",
        "siglip2-base-patch16-224-big-vision",
    ),
    "DINOv2 B/14": ("dinov2-base-meta", "dinov2-base"),
    # Reevaluating
    "CLIP B/32": ("clip-vit-base-patch32",),
    "CLIP L/14": ("clip-vit-large-patch14",),
    "CLIP ViT-L/14": ("clip-vit-large-patch14",),
    "CLIP ViT-B/16": ("clip-vit-base-patch16",),
    "CLIP": ("clip-vit-base-patch16",),
    "rn50": ("clip-rn50",),
    "SigLIP B/16": (
        "siglip-base-patch16-224-open-clip",
        "siglip-base-patch16-224",
        "siglip-base-patch16-224-big-vision",
    ),
    "SigLIP": (
        "siglip-base-patch16-224-open-clip",
        "siglip-base-patch16-224",
        "siglip-base-patch16-224-big-vision",
    ),
    "SigLIP2": (
        "siglip2-base-patch16-224-open-clip",
        "siglip2-base-patch16-224",
        "siglip2-base-patch16-224-big-vision",
    ),
    "SLIP B/16": ("slip-vit-base-patch16",),
    "DINOv2": ("dinov2-base-meta", "dinov2-base"),
    "DINOv2 ViT-B/14": ("dinov2-base-meta", "dinov2-base"),
    "DINOv3 L/16": ("dinov3-large-patch16", "dinov3-large-patch16-256"),
    "DINOv3 ViT-L/16": ("dinov3-large-patch16", "dinov3-large-patch16-256"),
    "dinov3_vitl16": ("dinov3-large-patch16", "dinov3-large-patch16-256"),
}

# With its published code's 769 singular values, of which 768 can be other than 0, a printed k_bottom of 50
# leaves what 49 does here.
REFERENCE_BANDS: Mapping[str, tuple[int, int]] = {"SigLIP2 B/16": (350, 49)}

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
