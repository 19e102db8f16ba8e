"""transformers' configuration files of a model: what `read_huggingface` reads, written."""

from collections.abc import Mapping
from typing import Any

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTowerConfig, TextTowerConfig

from .huggingface import ACTIVATIONS, LEGACY_END
from .huggingface_images import CLASSES, RESAMPLE

_ACTIVATIONS = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
_RESAMPLE = {ours: theirs for theirs, ours in RESAMPLE.items()}


def huggingface_config(model: DualEncoder, kind: str) -> dict[str, Any]:
    """`config.json`.

    Args:
      kind: the `model_type`, `clip` or `siglip`.

    Raises:
      JaxalignError: a tower of another kind than these have.
    """
    image, text = model.config.image, model.require_text()
    if not isinstance(image, ImageTowerConfig):
        raise JaxalignError("its image tower is a ResNet, and that of transformers a vision transformer")
    vision = _transformer(image) | {"image_size": image.image_size, "patch_size": image.patch_size}
    words = _transformer(text) | {"max_position_embeddings": text.context, "vocab_size": text.vocabulary}
    config = {
        "architectures": [{"clip": "CLIPModel", "siglip": "SiglipModel"}[kind]],
        "model_type": kind,
        "text_config": {"model_type": f"{kind}_text_model", **words, **_tokens(model, text, kind)},
        "vision_config": {"model_type": f"{kind}_vision_model", **vision},
    }
    if kind == "clip":
        return config | {"projection_dim": text.projection}
    config["text_config"]["projection_size"] = text.projection
    return config


def _transformer(tower: ImageTowerConfig | TextTowerConfig) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_hidden,
        "num_hidden_layers": tower.depth,
        "num_attention_heads": tower.heads,
        "hidden_act": _ACTIVATIONS[tower.activation],
        "layer_norm_eps": tower.norm_epsilon,
    }


def _tokens(model: DualEncoder, text: TextTowerConfig, kind: str) -> dict[str, Any]:
    """CLIP's towers pool at the end token that stands here, or for `LEGACY_END` at the largest id."""
    pools_largest = kind == "clip" and text.pools_at == "argmax"
    return {
        "bos_token_id": model.spec.start_token,
        "eos_token_id": LEGACY_END if pools_largest else text.end_token,
        "pad_token_id": model.spec.pad_token,
    }


def huggingface_preprocessing(model: DualEncoder, kind: str) -> Mapping[str, Any] | None:
    """`preprocessor_config.json`; None where nothing says how images are prepared."""
    spec, side = model.spec, model.config.image.image_size
    if spec.mean is None or spec.std is None:
        return None
    square, is_cropped = {"height": side, "width": side}, spec.resize == "shortest"
    crop = {"crop_size": square} if is_cropped else {}
    return {
        "image_processor_type": CLASSES[kind],
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": spec.resize_size or side} if is_cropped else square,
        "resample": _RESAMPLE[spec.interpolation],
        "do_center_crop": is_cropped,
        **crop,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
    }
