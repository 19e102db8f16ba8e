"""ClipCap (rmokady/CLIP_prefix_caption): a prefix mapper of its own, and GPT-2 as transformers calls it.

Both are whole checkpoints; they are no models with two towers, so `FORMATS` has not got them.
"""

from jaxalign.conversion.engine import Format

from .layers import (
    COLUMNS,
    FROM_HEADS,
    KV_KERNEL,
    LINEAR,
    NORM,
    QKV_COLUMNS,
    ROWS_OF_HEADS,
    TO_HEADS_KERNEL,
    VALUE,
    ZEROS,
    rules,
    under,
)

ATTENTION = "MultiHeadDotProductAttention_0"
GPT2_BLOCK = (
    ("ln_1", "LayerNorm_0", NORM),
    ("attn.c_attn", ATTENTION, QKV_COLUMNS),
    ("attn.c_proj", f"{ATTENTION}/out", ROWS_OF_HEADS),
    ("ln_2", "LayerNorm_1", NORM),
    ("mlp.c_fc", "MlpBlock_0/Dense_0", COLUMNS),
    ("mlp.c_proj", "MlpBlock_0/Dense_1", COLUMNS),
)
GPT2 = (
    ("wte.weight", "Embed_0/embedding", VALUE),
    ("wpe.weight", "pos_embedding", VALUE),
    *under("h.{i}.", "encoderblock_{i}/", GPT2_BLOCK),
    ("ln_f", "encoder_norm", NORM),
)
MAPPER_BLOCK = (
    ("norm1", "LayerNorm_0", NORM),
    ("attn.to_queries", f"{ATTENTION}/query", TO_HEADS_KERNEL),
    ("attn.to_keys_values", ATTENTION, KV_KERNEL),
    *(("", f"{ATTENTION}/{name}/bias", ZEROS) for name in ("query", "key", "value")),
    ("attn.project", f"{ATTENTION}/out", FROM_HEADS),
    ("norm2", "LayerNorm_1", NORM),
    ("mlp.fc1", "MlpBlock_0/Dense_0", LINEAR),
    ("mlp.fc2", "MlpBlock_0/Dense_1", LINEAR),
)
BUFFERS = (r"gpt\.transformer\.h\.\d+\.attn\.(bias|masked_bias)",)  # GPT-2's causal mask

CLIPCAP_MLP = Format(
    "ClipCap (MLP)",
    rules(
        (
            *under("gpt.transformer.", "", GPT2),
            ("clip_project.model.0", "mapper/Dense_0", LINEAR),
            ("clip_project.model.2", "mapper/Dense_1", LINEAR),
        )
    ),
    telling=("clip_project.model.0.weight", "gpt.transformer.wte.weight"),
    ignored=BUFFERS,
)
CLIPCAP_TRANSFORMER = Format(
    "ClipCap (transformer)",
    rules(
        (
            *under("gpt.transformer.", "", GPT2),
            ("clip_project.linear", "mapper/Dense_0", LINEAR),
            ("clip_project.prefix_const", "mapper/prefix", VALUE),
            *under("clip_project.transformer.layers.{i}.", "mapper/encoderblock_{i}/", MAPPER_BLOCK),
        )
    ),
    telling=("clip_project.prefix_const", "gpt.transformer.wte.weight"),
    ignored=BUFFERS,
)
