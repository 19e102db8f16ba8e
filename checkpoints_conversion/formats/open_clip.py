"""OpenAI's CLIP, as published (`.pt`) and as open_clip writes it: `CLIP` with a ViT or a ResNet."""

from jaxalign.conversion.engine import Format

from .layers import (
    BATCH_NORM,
    CONV,
    FLAT,
    FROM_HEADS,
    IN_PROJ,
    LINEAR,
    NORM,
    ROWS,
    SCALAR,
    VALUE,
    rules,
    under,
)

ATTENTION = "MultiHeadDotProductAttention_0"

RESBLOCK = (
    ("ln_1", "LayerNorm_0", NORM),
    ("attn.in_proj", ATTENTION, IN_PROJ),
    ("attn.out_proj", f"{ATTENTION}/out", FROM_HEADS),
    ("ln_2", "LayerNorm_1", NORM),
    ("mlp.c_fc", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.c_proj", "MlpBlock_0/Dense_1", LINEAR),
)
TEXT = (
    ("token_embedding.weight", "txt/Embed_0/embedding", VALUE),
    ("positional_embedding", "txt/pos_embedding", ROWS),
    *under("transformer.resblocks.{i}.", "txt/Encoder_0/encoderblock_{i}/", RESBLOCK),
    ("ln_final", "txt/Encoder_0/encoder_norm", NORM),
)
TEXT_PARAMETER = (*TEXT, ("text_projection", "txt/head/kernel", VALUE))  # (in, out): not transposed
TEXT_LINEAR = (*TEXT, ("text_projection", "txt/head", LINEAR))
LOSS = (("logit_scale", "t", SCALAR), ("logit_bias", "b", SCALAR))

# What OpenAI's TorchScript archives hold besides; masks are functions of the context length.
IGNORED = (r"input_resolution|context_length|vocab_size", r"(.*\.)?attn_mask")

VIT = (
    ("conv1", "embedding", CONV),
    ("class_embedding", "cls", FLAT),
    ("positional_embedding", "pos_embedding", ROWS),
    ("ln_pre", "pre_norm", NORM),
    *under("transformer.resblocks.{i}.", "Transformer/encoderblock_{i}/", RESBLOCK),
    ("ln_post", "Transformer/encoder_norm", NORM),
)

CLIP_VIT = Format(
    "OpenAI / open_clip CLIP",
    rules(
        (
            *under("visual.", "img/", VIT),
            ("visual.proj", "img/head/kernel", VALUE),  # (in, out): not transposed
            *TEXT_PARAMETER,
            *LOSS,
        )
    ),
    telling=("visual.class_embedding", "visual.proj", "token_embedding.weight"),
    never=("visual.attn_pool.probe",),
    libraries=("open_clip", "openai"),
    ignored=IGNORED,
)

BOTTLENECK = (
    ("conv1", "conv_0", CONV),
    ("bn1", "bn_0", BATCH_NORM),
    ("conv2", "conv_1", CONV),
    ("bn2", "bn_1", BATCH_NORM),
    ("conv3", "conv_2", CONV),
    ("bn3", "bn_2", BATCH_NORM),
    ("downsample.0", "downsample_conv", CONV),
    ("downsample.1", "downsample_bn", BATCH_NORM),
)

CLIP_RESNET = Format(
    "OpenAI / open_clip CLIP with a ResNet",
    rules(
        (
            ("visual.conv1", "img/conv_0", CONV),
            ("visual.bn1", "img/bn_0", BATCH_NORM),
            ("visual.conv2", "img/conv_1", CONV),
            ("visual.bn2", "img/bn_1", BATCH_NORM),
            ("visual.conv3", "img/conv_2", CONV),
            ("visual.bn3", "img/bn_2", BATCH_NORM),
            *under("visual.layer{stage}.{j}.", "img/layer{stage}_{j}/", BOTTLENECK),
            ("visual.attnpool.positional_embedding", "img/attnpool/pos_embedding", VALUE),
            ("visual.attnpool.q_proj", "img/attnpool/query", LINEAR),
            ("visual.attnpool.k_proj", "img/attnpool/key", LINEAR),
            ("visual.attnpool.v_proj", "img/attnpool/value", LINEAR),
            ("visual.attnpool.c_proj", "img/head", LINEAR),
            *TEXT_PARAMETER,
            *LOSS,
        )
    ),
    telling=("visual.attnpool.positional_embedding", "token_embedding.weight"),
    # open_clip's own text towers have the exact gelu by default
    settings=("clip-vit-base-patch32-datacomp", "clip-vit-base-patch16-datacomp"),
    libraries=("open_clip", "openai"),
    ignored=(*IGNORED, r".*\.num_batches_tracked"),
)
