"""open_clip's `open_clip_config.json` of a model: what `read_open_clip` reads, written."""

from typing import Any

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.inputs.clip_bpe import ClipBpe
from jaxalign.models import ImageTowerConfig, ResNetConfig, TextTowerConfig

from .open_clip import CLEANINGS, DEFAULT_EPSILON, HEAD_WIDTH

_CLEANINGS = {ours: theirs for theirs, ours in CLEANINGS.items()}
_POOLINGS = {"end": "eos", "argmax": "argmax", "first": "first", "last": "last"}
_LOGIT_BIAS = -10  # where open_clip's training starts; the checkpoint's own takes its place
# timm's vision transformers of SigLIP by patch and sizes (width, depth, width of the MLP), and their images.
_SIGLIP = {
    (16, 768, 12, 3072): ("base_patch16", (224, 256, 384, 512)),
    (32, 768, 12, 3072): ("base_patch32", (256,)),
    (16, 1024, 24, 4096): ("large_patch16", (256, 384, 512)),
    (14, 1152, 27, 4304): ("so400m_patch14", (224, 378, 384)),
    (16, 1152, 27, 4304): ("so400m_patch16", (256, 384, 512)),
}
_BASE_16 = (16, 768, 12, 3072, 224)


def open_clip_config(model: DualEncoder, has_trunk: bool) -> dict[str, Any]:
    """`open_clip_config.json`.

    Args:
      has_trunk: whether the image tower is one of timm's, which a name describes.

    Raises:
      JaxalignError: towers for which there is no such name.
    """
    image, text = model.config.image, model.require_text()
    activations = {text.activation} if has_trunk else {text.activation, getattr(image, "activation", None)}
    config: dict[str, Any] = {"embed_dim": text.projection}
    if "quick_gelu" in activations:
        config["quick_gelu"] = True
    if has_trunk:
        config["custom_text"] = True
        vision = _trunk(image)
    else:
        vision = _vision(image)
    if model.config.logit_bias:
        config["init_logit_bias"] = _LOGIT_BIAS
    config |= {"vision_cfg": vision, "text_cfg": _text(text) | _tokens(model)}
    return {"model_cfg": config, "preprocess_cfg": _preprocessing(model)}


def _vision(image: ImageTowerConfig | ResNetConfig) -> dict[str, Any]:
    if isinstance(image, ResNetConfig):
        return {
            "image_size": image.image_size,
            "layers": list(image.stage_depths),
            "width": image.stem_width,
            "head_width": image.stem_width * 32 // image.heads,
            "patch_size": None,
        }
    found = {"image_size": image.image_size, "patch_size": image.patch_size} | _transformer(image)
    if image.width // image.heads != HEAD_WIDTH:
        found["head_width"] = image.width // image.heads
    if image.pooling == "avg":
        found |= {"pool_type": "avg", "final_ln_after_pool": image.norm_after_pool}
    return found


def _text(text: TextTowerConfig) -> dict[str, Any]:
    found: dict[str, Any] = {
        "context_length": text.context,
        "vocab_size": text.vocabulary,
        "heads": text.heads,
    }
    found |= _transformer(text)
    is_largest = text.end_token == text.vocabulary - 1  # as in all originals, where both are the same
    pooling = "argmax" if text.pools_at == "end" and is_largest else _POOLINGS[text.pools_at]
    if pooling != "argmax":
        found["pool_type"] = pooling
    if pooling == "eos":
        found["eos_id"] = text.end_token
    if not text.causal:
        found["no_causal_mask"] = True
    return found | ({"proj_bias": True} if text.projection_bias else {})


def _transformer(tower: ImageTowerConfig | TextTowerConfig) -> dict[str, Any]:
    found: dict[str, Any] = {"width": tower.width, "layers": tower.depth}
    if tower.mlp_hidden != 4 * tower.width:
        ratio = tower.mlp_hidden / tower.width
        # the product is cut to a whole number
        exact = int(tower.width * ratio) == tower.mlp_hidden
        found["mlp_ratio"] = ratio if exact else (tower.mlp_hidden + 0.5) / tower.width
    if tower.norm_epsilon != DEFAULT_EPSILON:
        found["norm_kwargs"] = {"eps": tower.norm_epsilon}
    if tower.activation == "gelu_tanh":
        found["act_kwargs"] = {"approximate": "tanh"}
    return found


def _trunk(image: ImageTowerConfig | ResNetConfig) -> dict[str, Any]:
    """The name under which timm makes the image tower; what it fixes besides is compared when it is read."""
    assert isinstance(image, ImageTowerConfig)
    size = (image.patch_size, image.width, image.depth, image.mlp_hidden)
    name, pool = None, "map"
    if image.pooling == "map" and image.projection is None:
        siglip, sides = _SIGLIP.get(size, ("", ()))
        name = f"vit_{siglip}_siglip_{image.image_size}" if image.image_size in sides else None
    elif image.pooling == "map" and (*size, image.image_size) == _BASE_16:
        name = "vit_pe_core_base_patch16_224"
    elif image.gated_mlp and (*size[:3], image.image_size) == (*_BASE_16[:3], _BASE_16[4]):
        name, pool = "eva02_base_patch16_clip_224", "token"
    if name is None:
        raise JaxalignError("timm, by whose names open_clip makes such image towers, has none of these sizes")
    return {
        "image_size": image.image_size,
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": pool,
        "timm_proj": None if image.projection else "none",  # None: timm's own head
    }


def _tokens(model: DualEncoder) -> dict[str, Any]:
    """None of CLIP's own, which open_clip has without a file; otherwise its folder is asked for them."""
    tokenizer = model.tokenizer
    if model.spec.vocabulary == "clip-bpe" and (
        tokenizer is None or isinstance(tokenizer.vocabulary, ClipBpe)
    ):
        return {}
    named = next((name for name in model.spec.hub_ids if name.startswith("timm/")), model.name)
    cleaning = _CLEANINGS.get(model.spec.cleaning or "", "whitespace")
    return {"hf_tokenizer_name": named, "tokenizer_kwargs": {"clean": cleaning}}


def _preprocessing(model: DualEncoder) -> dict[str, Any]:
    spec = model.spec
    if spec.mean is None or spec.std is None:
        raise JaxalignError(
            "nothing says how its images are prepared, and without a word open_clip takes CLIP's mean and"
            " deviation; load it with spec=NAME, or --spec NAME, of the known model that it was trained from"
        )
    return {
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": spec.interpolation,
        "resize_mode": spec.resize,
    }
