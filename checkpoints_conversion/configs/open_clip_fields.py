"""What becomes of each field of open_clip's `open_clip_config.json`."""

from .fields import Table, only, used, used_or_null, without_effect

FILE: Table = {**used("model_cfg"), **used_or_null("preprocess_cfg")}
MODEL: Table = {
    **used("embed_dim", "quick_gelu", "text_cfg", "vision_cfg"),
    **without_effect("the names of the tensors show it", "custom_text"),
    **without_effect("the tensors show it", "init_logit_bias", "init_logit_scale", "nonscalar_logit_scale"),
    **without_effect(
        "the dtype of the weights, and the form of what comes back", "cast_dtype", "output_dict"
    ),
    **only(None, fields=("multimodal_cfg",)),
}
_BLOCKS: Table = {
    **only(None, "default", "custom", fields=("block_type",)),  # the same function without the options below
    **only(None, fields=("ls_init_value",)),
    **only(
        False,
        fields=("qk_norm", "scale_attn", "scale_attn_inner", "scale_fc", "scale_heads", "scaled_cosine_attn"),
    ),
    **used_or_null("act_kwargs", "norm_kwargs"),
    **without_effect("what else comes back", "output_tokens"),
}
VISION: Table = {
    **_BLOCKS,
    **used("final_ln_after_pool", "head_width", "image_size", "layers", "mlp_ratio", "pool_type", "width"),
    **used_or_null("patch_size"),  # of a ResNet
    **used_or_null("timm_model_name", "timm_pool", "timm_proj"),
    **only(False, fields=("attentional_pool", "no_ln_pre")),
    **without_effect("the weights have the positions", "pos_embed_type"),
    **without_effect("of pooling by attention", "attn_pooler_heads", "attn_pooler_queries"),
    **without_effect("of training", "patch_dropout", "timm_drop", "timm_drop_path"),
    **without_effect("the weights are in the file", "timm_model_pretrained"),
    **without_effect("the tensors show it", "timm_proj_bias"),
}
TEXT: Table = {
    **_BLOCKS,
    **used(
        "context_length",
        "eos_id",
        "heads",
        "layers",
        "mlp_ratio",
        "no_causal_mask",
        "pool_type",
        "vocab_size",
        "width",
    ),
    **used_or_null("hf_tokenizer_name", "tokenizer_kwargs"),
    **only(None, "", fields=("hf_model_name", "tokenizer_mode")),
    **only(False, fields=("embed_cls",)),
    **only("linear", fields=("proj_type",)),
    **without_effect("the tensors show it", "proj_bias"),
    **without_effect("no mask hides the padding", "pad_id"),
    **without_effect("open_clip does not pass it on", "final_ln_after_pool"),
    **without_effect("of towers of transformers", "hf_model_pretrained", "hf_pooler_type", "hf_proj_type"),
}
TOKENIZER: Table = {
    **used("clean"),
    **only(None, "", fields=("reduction_mask",)),
    **only(None, [], fields=("additional_special_tokens",)),
    **only(None, fields=("language",)),
    **only(False, fields=("strip_sep_token",)),
    **only(None, True, False, fields=("use_fast",)),
}
ACTIVATION: Table = used("approximate")
NORM: Table = used("eps")
PREPROCESSING: Table = {
    **used_or_null("interpolation", "mean", "resize_mode", "std"),
    **only("RGB", None, fields=("mode",)),
    **without_effect("the size of the tower counts", "size"),
    **without_effect("of resize_mode longest", "fill_color"),
}
