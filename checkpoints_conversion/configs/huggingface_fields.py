"""What becomes of each field of transformers' files, of version 4 and of version 5."""

from .fields import Table, only, used, used_or_null, without_effect

# What every configuration class of transformers takes, besides the fields of its model.
BOOKKEEPING: Table = {
    **without_effect(
        "says where the file comes from",
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "model_type",
        "name_or_path",
        "transformers_version",
    ),
    **without_effect("the weights are taken in the dtype that they have", "dtype", "torch_dtype"),
    **without_effect(
        "what else is given, or how it is computed",
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "attn_implementation",
        "chunk_size_feed_forward",
        "experts_implementation",
        "output_attentions",
        "output_hidden_states",
        "return_dict",
        "tie_last_hidden_states",
        "torchscript",
        "use_bfloat16",
        "use_return_dict",
    ),
    **without_effect("of training", "gradient_checkpointing", "tf_legacy_loss"),
    **without_effect(
        "of other heads than these models have",
        "finetuning_task",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "task_specific_params",
        "tie_encoder_decoder",
        "tie_word_embeddings",
    ),
    **without_effect(  # `GenerationConfig` and what it was before
        "of text generation",
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "bad_words_ids",
        "begin_suppress_tokens",
        "decoder_start_token_id",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "epsilon_cutoff",
        "eta_cutoff",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "prefix",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "sep_token_id",
        "suppress_tokens",
        "target_lookbehind",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "use_cache",
    ),
    **only(None, {}, fields=("pruned_heads",)),
    **only(
        None,
        fields=("auto_map", "cross_attention_hidden_size", "per_layer_config", "quantization_config"),
    ),
    **only(False, None, fields=("add_cross_attention", "is_decoder", "is_encoder_decoder")),
    **only(
        None,
        "CLIPTokenizer",
        "CLIPTokenizerFast",
        "GemmaTokenizer",
        "GemmaTokenizerFast",
        "SiglipTokenizer",
        "Siglip2Tokenizer",
        fields=("tokenizer_class",),  # that tokenizer_config.json has, too
    ),
}
_TRAINING = without_effect(
    "of training", "attention_dropout", "dropout", "initializer_factor", "initializer_range"
)
_TRANSFORMER = used(
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "num_attention_heads",
    "num_hidden_layers",
)
_VISION: Table = {
    **_TRANSFORMER,
    **used("image_size", "patch_size"),
    **only(3, fields=("num_channels",)),
    **without_effect("no token is in an image", "bos_token_id", "eos_token_id", "pad_token_id"),
}
_TEXT: Table = {**_TRANSFORMER, **used("max_position_embeddings", "vocab_size")}

CLIP: Table = {
    **BOOKKEEPING,
    **_TRAINING,
    **used("projection_dim"),
    **used_or_null("text_config", "text_config_dict", "vision_config", "vision_config_dict"),
    **without_effect("what training starts from", "logit_scale_init_value"),
}
CLIP_TEXT: Table = {
    **BOOKKEEPING,
    **_TRAINING,
    **_TEXT,
    **used("eos_token_id"),
    **used_or_null("bos_token_id"),
    **without_effect("padding follows the end token, where a causal tower does not look", "pad_token_id"),
    **without_effect("that of the whole model counts", "projection_dim"),
    **only(True, fields=("is_causal",)),
}
CLIP_VISION: Table = {
    **BOOKKEEPING,
    **_TRAINING,
    **_VISION,
    **without_effect("that of the whole model counts", "projection_dim"),
}
SIGLIP: Table = {
    **BOOKKEEPING,
    **_TRAINING,
    **used_or_null("text_config", "vision_config"),
    **only(None, fields=("text_config_dict", "vision_config_dict")),
    **without_effect("what training starts from", "logit_scale_init_value"),
}
SIGLIP_TEXT: Table = {
    **BOOKKEEPING,
    **_TRAINING,
    **_TEXT,
    **used_or_null("projection_size"),
    **without_effect("the last position is pooled, and the tokenizer has the ids", "bos_token_id"),
    **without_effect("the last position is pooled, and the tokenizer has the ids", "eos_token_id"),
    **without_effect("the tokenizer pads", "pad_token_id"),
}
SIGLIP_VISION: Table = {**BOOKKEEPING, **_TRAINING, **_VISION, **only(True, fields=("vision_use_head",))}

_BACKBONE: Table = without_effect(
    "of other outputs than the class token",
    "_out_features",
    "_out_indices",
    "apply_layernorm",
    "out_features",
    "out_indices",
    "reshape_hidden_states",
    "return_class_token",
    "stage_names",
)
_DINO: Table = {
    **BOOKKEEPING,
    **_BACKBONE,
    **_TRAINING,
    **_VISION,
    **without_effect("of training", "drop_path_rate", "layerscale_value"),
}
DINOV2: Table = {
    **_DINO,
    **used("mlp_ratio"),
    **without_effect("mlp_ratio counts", "intermediate_size"),
    **without_effect("of training", "attention_probs_dropout_prob", "hidden_dropout_prob"),
    **without_effect("no patch is masked", "use_mask_token"),
    **only(True, fields=("qkv_bias",)),
    **only(False, fields=("use_swiglu_ffn",)),
    **only(fields=("head_dim",)),
}
DINOV2_WITH_REGISTERS: Table = {
    **{name: field for name, field in DINOV2.items() if name != "use_mask_token"},
    **used("num_register_tokens"),
    **only(True, fields=("interpolate_antialias",)),
    **only(0.0, fields=("interpolate_offset",)),
}
DINOV3: Table = {
    **_DINO,
    **used("num_register_tokens"),
    **without_effect("of training", "pos_embed_jitter", "pos_embed_rescale", "pos_embed_shift"),
    **only(100.0, fields=("rope_theta",)),
    **only(True, fields=("mlp_bias", "proj_bias", "query_bias", "value_bias")),
    **only(False, fields=("key_bias", "use_gated_mlp")),
}

PREPROCESSOR: Table = {
    **used_or_null(
        "crop_size",
        "default_to_square",
        "do_center_crop",
        "do_normalize",
        "do_rescale",
        "feature_extractor_type",
        "image_mean",
        "image_processor_type",
        "image_std",
        "resample",
        "rescale_factor",
        "size",
    ),
    **only(True, fields=("do_resize",)),
    **only(False, None, fields=("do_pad", "use_square_size")),
    **only(None, fields=("auto_map", "pad_size")),
    **without_effect("images become RGB, and where they would not, the tower refuses them", "do_convert_rgb"),
    **without_effect(
        "how it is computed, or what else is given",
        "data_format",
        "device",
        "disable_grouping",
        "image_seq_length",
        "input_data_format",
        "model_input_names",
        "return_tensors",
        "use_fast",
    ),
    **without_effect("says where the file comes from", "_processor_class", "processor_class"),
    **without_effect("names of the other fields", "_valid_kwargs_names", "_valid_processor_keys"),
}
PROCESSOR: Table = {
    **used_or_null("image_processor"),
    **without_effect("says where the file comes from", "processor_class"),
    **only(None, fields=("auto_map",)),
}

TOKENIZER_CONFIG: Table = {
    **used_or_null(
        "added_tokens_decoder",
        "additional_special_tokens",
        "bos_token",
        "cls_token",
        "do_lower_case",
        "eos_token",
        "extra_special_tokens",
        "mask_token",
        "model_specific_special_tokens",
        "pad_token",
        "sep_token",
        "tokenizer_class",
        "unk_token",
    ),
    **only("right", None, fields=("padding_side", "truncation_side")),
    **only(False, None, fields=("add_prefix_space", "split_special_tokens")),
    **only({}, None, fields=("sp_model_kwargs",)),
    **only([], None, fields=("init_inputs",)),
    **only(None, fields=("auto_map", "pad_to_multiple_of")),
    **only(0, None, fields=("extra_ids",)),
    **without_effect("the file of the vocabulary has its own template", "add_bos_token", "add_eos_token"),
    **without_effect("texts are cut to the context of the tower", "max_length", "model_max_length"),
    **without_effect("texts are cut at their end", "stride", "truncation_strategy"),
    **without_effect("no mask is given to a tower, as in training", "model_input_names"),
    **without_effect(
        "of texts made from ids",
        "clean_up_tokenization_spaces",
        "errors",
        "spaces_between_special_tokens",
    ),
    **without_effect("of conversations", "chat_template", "use_default_system_prompt"),
    **without_effect("for several texts in one", "pad_token_type_id"),
    **without_effect(
        "says where the file comes from",
        "backend",
        "is_local",
        "legacy",
        "local_files_only",
        "name_or_path",
        "processor_class",
        "special_tokens_map_file",
        "tokenizer_file",
        "use_fast",
        "vocab_file",
    ),
}
