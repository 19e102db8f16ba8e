"""The files that the authors of PE (Meta), EVA-CLIP (BAAI) and SLIP (Meta) published."""

from jaxalign.conversion.engine import Format

from .layers import (
    FLAT,
    FROM_HEADS,
    IN_PROJ,
    LINEAR,
    NORM,
    TO_HEADS_KERNEL,
    VALUE,
    ZEROS,
    rules,
    under,
)
from .open_clip import ATTENTION, IGNORED, LOSS, TEXT_PARAMETER, VIT
from .timm_trunks import BLOCK, EMBEDDING

PE_POOL = (
    ("probe", "probe", VALUE),
    ("attn.in_proj", ATTENTION, IN_PROJ),
    ("attn.out_proj", f"{ATTENTION}/out", FROM_HEADS),
    ("layernorm", "LayerNorm_0", NORM),
    ("mlp.c_fc", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.c_proj", "MlpBlock_0/Dense_1", LINEAR),
)

PE_ORIGINAL = Format(
    "PE original",
    rules(
        (
            *under("visual.", "img/", VIT),
            *under("visual.attn_pool.", "img/MAPHead_0/", PE_POOL),
            ("visual.proj", "img/head/kernel", VALUE),  # (in, out): not transposed
            *TEXT_PARAMETER,
            *LOSS,
        )
    ),
    telling=("visual.conv1.weight", "visual.attn_pool.probe", "token_embedding.weight"),
    ignored=(*IGNORED, r".*rope.*"),
)

EVA_BLOCK = (
    ("norm1", "LayerNorm_0", NORM),
    ("attn.q_proj", f"{ATTENTION}/query", TO_HEADS_KERNEL),
    ("attn.k_proj", f"{ATTENTION}/key", TO_HEADS_KERNEL),
    ("attn.v_proj", f"{ATTENTION}/value", TO_HEADS_KERNEL),
    ("attn.q_bias", f"{ATTENTION}/query/bias", FLAT),
    ("", f"{ATTENTION}/key/bias", ZEROS),
    ("attn.v_bias", f"{ATTENTION}/value/bias", FLAT),
    ("attn.inner_attn_ln", f"{ATTENTION}/norm", NORM),
    ("attn.proj", f"{ATTENTION}/out", FROM_HEADS),
    ("norm2", "LayerNorm_1", NORM),
    ("mlp.w1", "MlpBlock_0/gate", LINEAR),
    ("mlp.w2", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.ffn_ln", "MlpBlock_0/LayerNorm_0", NORM),
    ("mlp.w3", "MlpBlock_0/Dense_1", LINEAR),
)

EVA_ORIGINAL = Format(
    "EVA02-CLIP original",
    rules(
        (
            *under("visual.", "img/", EMBEDDING),
            *under("visual.blocks.{i}.", "img/Transformer/encoderblock_{i}/", EVA_BLOCK),
            ("visual.norm", "img/Transformer/encoder_norm", NORM),
            ("visual.head", "img/head", LINEAR),
            *under("text.", "", TEXT_PARAMETER),
            *LOSS,
        )
    ),
    telling=("visual.blocks.0.attn.inner_attn_ln.weight", "visual.head.weight"),
    ignored=(*IGNORED, r"visual\..*rope.*"),
)

SLIP = Format(
    "SLIP original",
    rules(
        (
            *under("visual.", "img/", EMBEDDING),
            *under("visual.blocks.{i}.", "img/Transformer/encoderblock_{i}/", BLOCK),
            ("visual.norm", "img/Transformer/encoder_norm", NORM),
            ("image_projection", "img/head/kernel", VALUE),  # (in, out): not transposed
            *TEXT_PARAMETER,
            *LOSS,
        )
    ),
    telling=("image_projection", "visual.pos_embed", "token_embedding.weight"),
    ignored=(*IGNORED, r"image_mlp\..*"),  # the head of its self-supervised loss
)
