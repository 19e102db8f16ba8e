r"""A big_vision config: SigLIP B/16 on COCO captions, with image-to-image evaluations as it trains.

    python -m big_vision.trainers.proj.image_text.siglip \
        --config examples/big_vision_siglip.py:batch_size=512 --workdir /tmp/siglip

`get_config` is like that of any big_vision config. What is ours is one import, which registers evaluators,
and the entries of `config.evals`. docs/big_vision.md explains their settings.
"""

from ml_collections import ConfigDict  # pyright: ignore[reportMissingImports]

import jaxalign.eval.big_vision as _evaluators  # noqa: F401

VOCABULARY = "~/siglip/sentencepiece.model"  # gs://t5-data/vocabs/cc_en.32000/sentencepiece.model
CHECKPOINT = "gs://big_vision/siglip/webli_en_b16_224_63724782.npz"


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: `name=value` pairs with commas: `batch_size`, `image_size`, `checkpoint`, `vocabulary`."""
    options = dict(part.split("=", 1) for part in (arg or "").split(",") if part)
    image_size = int(options.get("image_size", 224))
    vocabulary = options.get("vocabulary", VOCABULARY)
    config = ConfigDict()
    tokenize = f'tokenize(max_len=64, model="{vocabulary}", eos="sticky", pad_value=1, inkey="captions/text")'
    resize = f"resize({image_size})|value_range(-1, 1)"
    config.input = {
        "data": {"name": "coco_captions", "split": "train"},
        "batch_size": int(options.get("batch_size", 512)),
        "shuffle_buffer_size": 50_000,
        "pp": f'decode|{resize}|flatten|{tokenize}|keep("image", "labels")',
    }
    config.pp_modules = ["ops_general", "ops_image", "ops_text"]
    config.total_steps = 5_000
    config.init_shapes = [(1, image_size, image_size, 3), (1, 64)]
    config.init_types = ["float32", "int32"]
    config.log_training_steps = 50
    config.ckpt_steps = 1_000
    config.model_name = "proj.image_text.two_towers"
    config.model_init = options.get("checkpoint", CHECKPOINT)
    config.model = {
        "image": {"variant": "B/16", "pool_type": "map"},
        "text": {"variant": "B", "vocab_size": 32_000},
        "out_dim": (None, 768),  # no head of its own for images: the attention pool's MLP is the head
        "bias_init": -10.0,
    }
    config.optax_name = "scale_by_adam"
    config.lr, config.wd, config.grad_clip_norm = 1e-5, 1e-4, 1.0
    config.schedule = {"decay_type": "cosine", "warmup_steps": 500}
    config.evals = evaluations(image_size, vocabulary, resize)
    return config


def evaluations(image_size: int, vocabulary: str, resize: str) -> dict[str, dict]:
    """By name; the name is also the prefix of what is logged."""
    methods = {
        "image_size": image_size,
        "band": (200, 50),  # "auto", the default, chooses one at each evaluation
        "tokenizer": {"file": vocabulary},  # for PCA<-; its texts are CLIP's names of the ImageNet classes
        "log_steps": 500,
    }
    few_shot = {
        "evaluator": "fewshot_lsr",
        "datasets": {"pets": ("oxford_iiit_pet", "train", "test")},
        "shots": (5, 10),
        "l2_reg": 2.0**10,
        "pp_train": f'decode|{resize}|keep("image", "label")',
        "pp_eval": f'decode|{resize}|keep("image", "label")',
        "display_first": [("pets", 10)],
        "log_steps": 500,
    }
    return {
        "scenes": {"type": "intra_modal_retrieval", "dataset": "emoji-scenes", "label": "emoji"} | methods,
        "styles": {"type": "intra_modal_fewshot", "dataset": "emoji", "label": "style"} | methods,
        "few_shot_isoclip": {"type": "with_isoclip", "band": (200, 50)} | few_shot,
    }
