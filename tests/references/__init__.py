"""The original classes with random parameters, built offline, and their forms on disk.

`REFERENCES` names each pair of a class and a form. All need the extra `reference`: a test that imports this
package first skips where torch, timm, open_clip or transformers is missing.
"""

from functools import partial
from typing import Any

from . import clip_models, openai_files, original_files, slip, timm_models, transformers_models
from .base import Reference as Reference
from .base import Size as Size

_HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def _open_clip(name: str, tag: str, spec: str, see: Any, binary: bool = False, **options: Any) -> Reference:
    """open_clip's model `name` as its folder on the hub."""
    return Reference(
        spec,
        make=partial(clip_models.make, name),
        sizes=partial(clip_models.sizes, name),
        see_image=see,
        see_text=clip_models.see_text,
        scale=clip_models.scale,
        **{"write": partial(clip_models.write_folder, name, tag, binary), **options},
    )


def _openai(name: str, spec: str, see: Any, write: Any, file: str) -> Reference:
    """OpenAI's model in its own file."""
    return _open_clip(name, "openai", spec, see, write=partial(write, file), prepare=openai_files.halve)


def _transformers(
    spec: str, config: Any, preprocessing: Any, form: str = "safetensors", **options: Any
) -> Reference:
    """A model of transformers; `config` and `preprocessing` are functions of the size."""
    return Reference(
        spec,
        make=lambda size: transformers_models.make(config(size)),
        sizes=options.pop("sizes", lambda size: transformers_models.sizes(config(size))),
        write=lambda model, folder: transformers_models.write_folder(
            preprocessing(model.config), form, model, folder
        ),
        **options,
    )


def _squash(side: int, resample: int, values: dict[str, Any]) -> dict[str, Any]:
    return {"do_resize": True, "size": {"height": side, "width": side}, "resample": resample, **values}


def _crop(side: int, shortest: int, values: dict[str, Any]) -> dict[str, Any]:
    sizes = {"size": {"shortest_edge": shortest}, "crop_size": {"height": side, "width": side}}
    return {"do_resize": True, "do_center_crop": True, "resample": 3, **sizes, **values}


def _hf_clip(spec: str, form: str, **config: Any) -> Reference:
    def preprocessing(found: Any) -> dict[str, Any]:
        side = found.vision_config.image_size
        return _crop(side, side, _CLIP)

    return _transformers(
        spec,
        partial(transformers_models.clip_config, **config),
        preprocessing,
        form,
        see_image=transformers_models.see_clip_image,
        see_text=transformers_models.see_clip_text,
        scale=transformers_models.scale,
    )


def _hf_siglip(spec: str, vocabulary: dict[str, int], resample: int, shape: str = "base") -> Reference:
    return _transformers(
        spec,
        lambda size: transformers_models.siglip_config(size, vocabulary[size], shape),
        lambda found: _squash(found.vision_config.image_size, resample, _HALF),
        see_image=transformers_models.see_siglip_image,
        see_text=transformers_models.see_siglip_text,
        scale=transformers_models.scale,
    )


def _hf_dinov2(spec: str, registers: bool, side: dict[str, int]) -> Reference:
    """`side` is what the images have: where it is not the positions' own, the model resamples them."""

    def preprocessing(found: Any) -> dict[str, Any]:
        wanted = side["tiny" if found.num_hidden_layers == 2 else "full"]
        return _crop(wanted, wanted * 8 // 7, _IMAGENET)

    return _transformers(
        spec,
        partial(transformers_models.dinov2_config, registers=registers),
        preprocessing,
        sizes=lambda size: transformers_models.Sizes(side[size]),
        see_image=transformers_models.see_dino,
    )


def _timm(name: str, tag: str, spec: str, side: int, full: int) -> Reference:
    """`side` pixels where it is tiny."""
    return Reference(
        spec,
        make=partial(timm_models.make, name, side),
        sizes=partial(timm_models.sizes, side, full),
        see_image=timm_models.see,
        write=partial(timm_models.write_folder, name, tag),
    )


def _meta(name: str, spec: str, sides: tuple[int, int], see: Any, write: Any) -> Reference:
    """Meta's own file of a timm model; `sides` of the images where it is tiny and where it is full."""
    return Reference(
        spec,
        make=partial(timm_models.make, name, sides[0]),
        sizes=partial(timm_models.sizes, *sides),
        see_image=see,
        write=write,
    )


_VIT, _SIGLIP, _TRUNK = clip_models.see_vit, clip_models.see_siglip, clip_models.see_trunk
_ARCHIVE, _STATE = openai_files.write_archive, openai_files.write_state_dict
_DATACOMP = "datacomp_xl_s13b_b90k"
_T5, _GEMMA = {"tiny": 32_000, "full": 32_000}, {"tiny": 500, "full": 256_000}  # sizes of vocabularies
_V2, _V2_REG, _V3 = "vit_base_patch14_dinov2", "vit_base_patch14_reg4_dinov2", "vit_large_patch16_dinov3"

REFERENCES: dict[str, Reference] = {
    "clip-b32-open_clip": _open_clip("ViT-B-32-quickgelu", "openai", "clip-vit-base-patch32", _VIT),
    "clip-b16-archive": _openai("ViT-B-16-quickgelu", "clip-vit-base-patch16", _VIT, _ARCHIVE, "ViT-B-16.pt"),
    "clip-l14-state_dict": _openai(
        "ViT-L-14-quickgelu", "clip-vit-large-patch14", _VIT, _STATE, "ViT-L-14.pt"
    ),
    "clip-rn50-archive": _openai("RN50-quickgelu", "clip-rn50", clip_models.see_resnet, _ARCHIVE, "RN50.pt"),
    "clip-rn50-open_clip": _open_clip("RN50-quickgelu", "openai", "clip-rn50", clip_models.see_resnet),
    "clip-b16-transformers": _hf_clip("clip-vit-base-patch16", "safetensors"),
    "clip-b16-transformers-bin": _hf_clip("clip-vit-base-patch16", "bin"),
    "clip-l14-transformers": _hf_clip("clip-vit-large-patch14", "safetensors", large=224),
    "clip-l14-336-transformers": _hf_clip("clip-vit-large-patch14-336", "sharded", large=336),
    "datacomp-b32-open_clip": _open_clip("ViT-B-32", _DATACOMP, "clip-vit-base-patch32-datacomp", _VIT),
    "datacomp-b16-open_clip-bin": _open_clip(
        "ViT-B-16", _DATACOMP, "clip-vit-base-patch16-datacomp", _VIT, binary=True
    ),
    "datacomp-b16-transformers": _hf_clip("clip-vit-base-patch16-datacomp", "safetensors", activation="gelu"),
    "siglip-transformers": _hf_siglip("siglip-base-patch16-224", _T5, 3),
    "siglip-open_clip": _open_clip("ViT-B-16-SigLIP", "webli", "siglip-base-patch16-224-open-clip", _SIGLIP),
    "siglip2-transformers": _hf_siglip("siglip2-base-patch16-224", _GEMMA, 2),
    "siglip2-open_clip": _open_clip(
        "ViT-B-16-SigLIP2", "webli", "siglip2-base-patch16-224-open-clip", _SIGLIP
    ),
    "siglip-l16-transformers": _hf_siglip("siglip-large-patch16-256", _T5, 3, "large"),
    "siglip-l16-open_clip": _open_clip(
        "ViT-L-16-SigLIP-256", "webli", "siglip-base-patch16-224-open-clip", _SIGLIP
    ),
    "siglip-so400m-transformers": _hf_siglip("siglip-so400m-patch14-384", _T5, 3, "so400m"),
    "siglip-so400m-open_clip": _open_clip(
        "ViT-SO400M-14-SigLIP-384", "webli", "siglip-base-patch16-224-open-clip", _SIGLIP
    ),
    "siglip2-so400m-transformers": _hf_siglip("siglip2-so400m-patch14-384", _GEMMA, 2, "so400m"),
    "siglip2-so400m-open_clip": _open_clip(
        "ViT-SO400M-16-SigLIP2-256", "webli", "siglip2-base-patch16-224-open-clip", _SIGLIP
    ),
    "pe-open_clip": _open_clip(
        "PE-Core-B-16", "meta", "pe-core-base-patch16", _TRUNK, prepare=original_files.without_head_bias
    ),
    "pe-original": _open_clip(
        "PE-Core-B-16",
        "meta",
        "pe-core-base-patch16",
        _TRUNK,
        prepare=original_files.without_head_bias,
        write=original_files.write_pe,
    ),
    "eva02-open_clip": _open_clip("EVA02-B-16", "merged2b_s8b_b131k", "eva02-clip-base-patch16", _TRUNK),
    "eva02-original": _open_clip(
        "EVA02-B-16",
        "merged2b_s8b_b131k",
        "eva02-clip-base-patch16",
        _TRUNK,
        write=original_files.write_eva,
    ),
    "slip-original": Reference(
        "slip-vit-base-patch16",
        make=slip.make,
        sizes=slip.sizes,
        see_image=slip.see_image,
        write=slip.write,
        see_text=slip.see_text,
        scale=slip.scale,
    ),
    "dinov2-transformers": _hf_dinov2("dinov2-base", False, {"tiny": 70, "full": 518}),
    "dinov2-transformers-resampled": _hf_dinov2("dinov2-base", False, {"tiny": 56, "full": 224}),
    "dinov2-timm": _timm(_V2, "lvd142m", "dinov2-base-518", 70, 518),
    "dinov2-original": _meta(
        _V2, "dinov2-base-meta", (70, 224), timm_models.see_resampled, original_files.write_dinov2
    ),
    "dinov2-reg-transformers": _hf_dinov2("dinov2-with-registers-base", True, {"tiny": 70, "full": 518}),
    "dinov2-reg-transformers-resampled": _hf_dinov2(
        "dinov2-with-registers-base", True, {"tiny": 56, "full": 224}
    ),
    "dinov2-reg-timm": _timm(_V2_REG, "lvd142m", "dinov2-with-registers-base-518", 70, 518),
    "dinov2-reg-original": _meta(
        _V2_REG,
        "dinov2-with-registers-base-meta",
        (70, 224),
        timm_models.see_resampled,
        original_files.write_dinov2,
    ),
    "dinov3-transformers": _transformers(
        "dinov3-large-patch16",
        transformers_models.dinov3_config,
        lambda found: _squash(found.image_size, 2, _IMAGENET),
        see_image=transformers_models.see_dino,
    ),
    "dinov3-timm": _timm(_V3, "lvd1689m", "dinov3-large-patch16-256", 80, 256),
    "dinov3-timm-qkvb": _timm(f"{_V3}_qkvb", "lvd1689m", "dinov3-large-patch16-256", 80, 256),
    "dinov3-original": _meta(
        f"{_V3}_qkvb", "dinov3-large-patch16", (224, 224), timm_models.see, original_files.write_dinov3
    ),
}
