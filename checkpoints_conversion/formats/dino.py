"""DINOv2 and DINOv3, as Meta published them and as timm writes them."""

from jaxalign.conversion.engine import Format

from .layers import (
    CONV,
    FLAT,
    FROM_HEADS,
    LINEAR,
    NORM,
    PATCH_POSITIONS,
    QKV,
    QKV_KERNEL,
    QKV_MASKED_KEY,
    VALUE,
    ZEROS,
    rules,
    under,
)
from .open_clip import ATTENTION

CLASS_TOKEN = ("cls_token", "img/cls", VALUE)
PATCHES = ("patch_embed.proj", "img/embedding", CONV)
FINAL_NORM = ("norm", "img/Transformer/encoder_norm", NORM)
BLOCKS = ("blocks.{i}.", "img/Transformer/encoderblock_{i}/")
OUT_AND_MLP = (
    ("norm1", "LayerNorm_0", NORM),
    ("attn.proj", f"{ATTENTION}/out", FROM_HEADS),
    ("norm2", "LayerNorm_1", NORM),
    ("mlp.fc1", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.fc2", "MlpBlock_0/Dense_1", LINEAR),
)
LAYER_SCALES = (
    ("ls1.gamma", "LayerScale_0/gamma", VALUE),
    ("ls2.gamma", "LayerScale_1/gamma", VALUE),
)
BLOCK = (*OUT_AND_MLP, *LAYER_SCALES, ("attn.qkv", ATTENTION, QKV))


def dinov2(registers: str, positions: tuple) -> tuple:
    return rules(
        (
            CLASS_TOKEN,
            (registers, "img/reg", VALUE),
            ("pos_embed", "img/pos_embedding", positions),
            PATCHES,
            *under(*BLOCKS, BLOCK),
            FINAL_NORM,
        )
    )


DINOV2_META = Format(
    "DINOv2 original",
    dinov2("register_tokens", VALUE),
    telling=("cls_token", "pos_embed", "mask_token", "blocks.0.ls1.gamma"),
    ignored=(r"mask_token",),
)
DINOV2_TIMM = Format(
    "DINOv2 timm",
    dinov2("reg_token", VALUE),
    telling=("cls_token", "pos_embed", "blocks.0.ls1.gamma"),
    never=("mask_token", "reg_token"),
)
DINOV2_TIMM_REGISTERS = Format(
    "DINOv2 with registers, timm",
    dinov2("reg_token", PATCH_POSITIONS),  # the class token's position is already added to it
    telling=("cls_token", "pos_embed", "blocks.0.ls1.gamma", "reg_token"),
)

DINOV3_TIMM_LAYER_SCALES = (
    ("gamma_1", "LayerScale_0/gamma", VALUE),
    ("gamma_2", "LayerScale_1/gamma", VALUE),
)
DINOV3_BIASES = (
    *DINOV3_TIMM_LAYER_SCALES,
    ("attn.qkv", ATTENTION, QKV_KERNEL),
    ("attn.q_bias", f"{ATTENTION}/query/bias", FLAT),
    ("", f"{ATTENTION}/key/bias", ZEROS),
    ("attn.v_bias", f"{ATTENTION}/value/bias", FLAT),
)
DINOV3_NO_BIASES = (
    *DINOV3_TIMM_LAYER_SCALES,
    ("attn.qkv", ATTENTION, QKV_KERNEL),
    ("", f"{ATTENTION}/query/bias", ZEROS),
    ("", f"{ATTENTION}/key/bias", ZEROS),
    ("", f"{ATTENTION}/value/bias", ZEROS),
)
DINOV3_MASKED_BIAS = (
    *LAYER_SCALES,
    ("attn.qkv", ATTENTION, QKV_MASKED_KEY),
    ("", f"{ATTENTION}/key/bias", ZEROS),
)


def dinov3(attention: tuple, registers: str) -> tuple:
    return rules(
        (
            CLASS_TOKEN,
            (registers, "img/reg", VALUE),
            PATCHES,
            *under(*BLOCKS, (*OUT_AND_MLP, *attention)),
            FINAL_NORM,
        )
    )


DINOV3_TIMM = Format(
    "DINOv3 timm",
    dinov3(DINOV3_NO_BIASES, "reg_token"),
    telling=("cls_token", "reg_token", "blocks.0.gamma_1"),
    never=("blocks.0.attn.q_bias",),
)
DINOV3_TIMM_BIASES = Format(
    "DINOv3 timm with q and v biases",
    dinov3(DINOV3_BIASES, "reg_token"),
    telling=("cls_token", "reg_token", "blocks.0.gamma_1", "blocks.0.attn.q_bias"),
)
DINOV3_META = Format(
    "DINOv3 original",
    dinov3(DINOV3_MASKED_BIAS, "storage_tokens"),
    telling=("cls_token", "storage_tokens"),
    # The frequencies of its rotary positions are computed here, in float32 rather than the file's bfloat16.
    ignored=(r"mask_token", r"rope_embed\.periods", r".*\.bias_mask", r"local_cls_norm\..*"),
)
