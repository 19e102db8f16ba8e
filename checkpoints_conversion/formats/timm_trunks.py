"""open_clip's `CustomTextCLIP`, whose image tower is a timm model: SigLIP, PE, EVA02.

Older files have the text tower without the prefix `text.`.
"""

from jaxalign.conversion.engine import Format, Rule
from jaxalign.conversion.transforms import must_be_zero

from .layers import (
    CONV,
    FROM_HEADS,
    KV,
    LINEAR,
    NORM,
    QKV,
    TO_HEADS,
    TO_HEADS_KERNEL,
    VALUE,
    ZEROS,
    rules,
    under,
)
from .open_clip import ATTENTION, IGNORED, LOSS, TEXT_LINEAR, TEXT_PARAMETER

BLOCK = (
    ("norm1", "LayerNorm_0", NORM),
    ("attn.qkv", ATTENTION, QKV),
    ("attn.proj", f"{ATTENTION}/out", FROM_HEADS),
    ("norm2", "LayerNorm_1", NORM),
    ("mlp.fc1", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.fc2", "MlpBlock_0/Dense_1", LINEAR),
)
EMBEDDING = (
    ("cls_token", "cls", VALUE),
    ("pos_embed", "pos_embedding", VALUE),
    ("patch_embed.proj", "embedding", CONV),
)
POOL = (
    ("latent", "probe", VALUE),
    ("q", f"{ATTENTION}/query", TO_HEADS),
    ("kv", ATTENTION, KV),
    ("proj", f"{ATTENTION}/out", FROM_HEADS),
    ("norm", "LayerNorm_0", NORM),
    ("mlp.fc1", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.fc2", "MlpBlock_0/Dense_1", LINEAR),
)
POOLED_VIT = (
    *EMBEDDING,
    ("norm_pre", "pre_norm", NORM),
    *under("blocks.{i}.", "Transformer/encoderblock_{i}/", BLOCK),
    ("norm", "Transformer/encoder_norm", NORM),
    *under("attn_pool.", "MAPHead_0/", POOL),
)

SIGLIP_TIMM = Format(
    "open_clip SigLIP (timm)",
    rules(
        (
            *under("visual.trunk.", "img/", POOLED_VIT),
            *under("text.|", "", TEXT_LINEAR),
            *LOSS,
        )
    ),
    telling=("visual.trunk.attn_pool.latent",),
    never=("visual.trunk.cls_token",),
    libraries=("open_clip",),
    ignored=IGNORED,
)

PE_TIMM = Format(
    "open_clip PE (timm)",
    (
        *rules(
            (
                *under("visual.trunk.", "img/", POOLED_VIT),
                ("visual.trunk.head", "img/head", LINEAR),
                *under("text.|", "", TEXT_PARAMETER),
                *LOSS,
            )
        ),
        # the original has no such bias, and whoever writes it for timm adds zeros
        Rule("visual.trunk.head.bias", (), must_be_zero),
    ),
    telling=("visual.trunk.attn_pool.latent", "visual.trunk.cls_token"),
    libraries=("open_clip",),
    ignored=IGNORED,
)

EVA_BLOCK = (
    ("norm1", "LayerNorm_0", NORM),
    ("attn.q_proj", f"{ATTENTION}/query", TO_HEADS),
    ("attn.k_proj", f"{ATTENTION}/key", TO_HEADS_KERNEL),
    ("", f"{ATTENTION}/key/bias", ZEROS),
    ("attn.v_proj", f"{ATTENTION}/value", TO_HEADS),
    ("attn.norm", f"{ATTENTION}/norm", NORM),
    ("attn.proj", f"{ATTENTION}/out", FROM_HEADS),
    ("norm2", "LayerNorm_1", NORM),
    ("mlp.fc1_g", "MlpBlock_0/gate", LINEAR),
    ("mlp.fc1_x", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.norm", "MlpBlock_0/LayerNorm_0", NORM),
    ("mlp.fc2", "MlpBlock_0/Dense_1", LINEAR),
)

EVA_TIMM = Format(
    "open_clip EVA02 (timm)",
    rules(
        (
            *under("visual.trunk.", "img/", EMBEDDING),
            *under("visual.trunk.blocks.{i}.", "img/Transformer/encoderblock_{i}/", EVA_BLOCK),
            ("visual.trunk.norm", "img/Transformer/encoder_norm", NORM),
            ("visual.trunk.head", "img/head", LINEAR),
            *under("text.|", "", TEXT_PARAMETER),
            *LOSS,
        )
    ),
    telling=("visual.trunk.blocks.0.mlp.fc1_g.weight",),
    libraries=("open_clip",),
    ignored=(*IGNORED, r"visual\.trunk\..*rope.*"),
)
