"""transformers' CLIPModel, SiglipModel, Dinov2Model (also with registers) and DINOv3ViTModel."""

from jaxalign.conversion.engine import Format

from .layers import (
    CONV,
    FLAT,
    FROM_HEADS,
    IN_PROJ,
    LINEAR,
    NORM,
    ROWS,
    SCALAR,
    TO_HEADS,
    TO_HEADS_KERNEL,
    VALUE,
    ZEROS,
    rules,
    under,
)
from .open_clip import ATTENTION

LAYER = (
    ("layer_norm1", "LayerNorm_0", NORM),
    ("self_attn.q_proj", f"{ATTENTION}/query", TO_HEADS),
    ("self_attn.k_proj", f"{ATTENTION}/key", TO_HEADS),
    ("self_attn.v_proj", f"{ATTENTION}/value", TO_HEADS),
    ("self_attn.out_proj", f"{ATTENTION}/out", FROM_HEADS),
    ("layer_norm2", "LayerNorm_1", NORM),
    ("mlp.fc1", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.fc2", "MlpBlock_0/Dense_1", LINEAR),
)
TEXT = (
    ("embeddings.token_embedding.weight", "Embed_0/embedding", VALUE),
    ("embeddings.position_embedding.weight", "pos_embedding", ROWS),
    *under("encoder.layers.{i}.", "Encoder_0/encoderblock_{i}/", LAYER),
    ("final_layer_norm", "Encoder_0/encoder_norm", NORM),
)
VISION = (
    ("embeddings.patch_embedding", "embedding", CONV),
    ("embeddings.class_embedding", "cls", FLAT),
    ("embeddings.position_embedding.weight", "pos_embedding", ROWS),
    ("pre_layrnorm", "pre_norm", NORM),  # their spelling
    *under("encoder.layers.{i}.", "Transformer/encoderblock_{i}/", LAYER),
    ("post_layernorm", "Transformer/encoder_norm", NORM),
)
IGNORED = (r"(text|vision)_model\.embeddings\.position_ids",)  # 0, 1, 2, ...: in older files

HF_CLIP = Format(
    "transformers CLIPModel",
    rules(
        (
            *under("vision_model.", "img/", VISION),
            ("visual_projection", "img/head", LINEAR),  # without bias
            *under("text_model.", "txt/", TEXT),
            ("text_projection", "txt/head", LINEAR),  # without bias
            ("logit_scale", "t", SCALAR),
        )
    ),
    telling=("vision_model.pre_layrnorm.weight", "visual_projection.weight", "text_projection.weight"),
    libraries=("huggingface", "sentence-transformers"),
    ignored=IGNORED,
)

MAP_HEAD = (
    ("probe", "probe", VALUE),
    ("attention.in_proj", ATTENTION, IN_PROJ),
    ("attention.out_proj", f"{ATTENTION}/out", FROM_HEADS),
    ("layernorm", "LayerNorm_0", NORM),
    ("mlp.fc1", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.fc2", "MlpBlock_0/Dense_1", LINEAR),
)

HF_SIGLIP = Format(
    "transformers SiglipModel",
    rules(
        (
            *under("vision_model.", "img/", VISION),
            *under("vision_model.head.", "img/MAPHead_0/", MAP_HEAD),
            *under("text_model.", "txt/", TEXT),
            ("text_model.head", "txt/head", LINEAR),
            ("logit_scale", "t", VALUE),
            ("logit_bias", "b", VALUE),
        )
    ),
    telling=("vision_model.head.probe", "text_model.head.weight"),
    libraries=("huggingface",),
    ignored=IGNORED,
)

DINOV2_LAYER = (
    ("norm1", "LayerNorm_0", NORM),
    ("attention.attention.query|attention.q_proj", f"{ATTENTION}/query", TO_HEADS),
    ("attention.attention.key|attention.k_proj", f"{ATTENTION}/key", TO_HEADS),
    ("attention.attention.value|attention.v_proj", f"{ATTENTION}/value", TO_HEADS),
    ("attention.output.dense|attention.o_proj", f"{ATTENTION}/out", FROM_HEADS),
    ("layer_scale1.lambda1", "LayerScale_0/gamma", VALUE),
    ("norm2", "LayerNorm_1", NORM),
    ("mlp.fc1", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.fc2", "MlpBlock_0/Dense_1", LINEAR),
    ("layer_scale2.lambda1", "LayerScale_1/gamma", VALUE),
)

HF_DINOV2 = Format(
    "transformers Dinov2Model",
    rules(
        (
            ("embeddings.cls_token", "img/cls", VALUE),
            ("embeddings.register_tokens", "img/reg", VALUE),
            ("embeddings.position_embeddings", "img/pos_embedding", VALUE),
            ("embeddings.patch_embeddings.projection", "img/embedding", CONV),
            *under("encoder.layer.{i}.", "img/Transformer/encoderblock_{i}/", DINOV2_LAYER),
            ("layernorm", "img/Transformer/encoder_norm", NORM),
        )
    ),
    telling=("embeddings.position_embeddings", "embeddings.patch_embeddings.projection.weight"),
    ignored=(r"embeddings\.mask_token",),
)

DINOV3_LAYER = (
    ("norm1", "LayerNorm_0", NORM),
    ("attention.q_proj", f"{ATTENTION}/query", TO_HEADS),
    ("attention.k_proj", f"{ATTENTION}/key", TO_HEADS_KERNEL),
    ("", f"{ATTENTION}/key/bias", ZEROS),
    ("attention.v_proj", f"{ATTENTION}/value", TO_HEADS),
    ("attention.o_proj", f"{ATTENTION}/out", FROM_HEADS),
    ("layer_scale1.lambda1", "LayerScale_0/gamma", VALUE),
    ("norm2", "LayerNorm_1", NORM),
    ("mlp.up_proj", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.down_proj", "MlpBlock_0/Dense_1", LINEAR),
    ("layer_scale2.lambda1", "LayerScale_1/gamma", VALUE),
)

HF_DINOV3 = Format(
    "transformers DINOv3ViTModel",
    rules(
        (
            ("embeddings.cls_token", "img/cls", VALUE),
            ("embeddings.register_tokens", "img/reg", VALUE),
            ("embeddings.patch_embeddings", "img/embedding", CONV),  # the convolution itself
            *under("layer.{i}.|model.layer.{i}.", "img/Transformer/encoderblock_{i}/", DINOV3_LAYER),
            ("norm", "img/Transformer/encoder_norm", NORM),
        )
    ),
    telling=("embeddings.cls_token", "embeddings.patch_embeddings.weight"),
    ignored=(r"embeddings\.mask_token",),
)
