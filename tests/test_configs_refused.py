"""Configurations that are damaged, absurd or say what is not supported: one line that names the field."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from oracles_conversion import TINY_CLIP_CONFIG, random_parameters, source_tensors, tiny
from safetensors.numpy import save_file

import jaxalign as ja
from jaxalign.conversion.configs import huggingface_fields
from jaxalign.conversion.configs.fields import Only, Used, WithoutEffect, check_fields
from jaxalign.conversion.configs.json_object import JsonObject
from jaxalign.conversion.formats import FORMATS

DEEP = '{"model_type":' + "[" * 100_000 + "]" * 100_000 + "}"
PREPROCESSOR = {"size": {"shortest_edge": 48}, "crop_size": 48, "image_mean": [0.1, 0.2, 0.3]}
# What the configuration of openai/clip-vit-base-patch32 says of either tower besides its sizes: transformers
# 4.16 wrote every attribute of its classes.
OLD = {
    "_name_or_path": "",
    "add_cross_attention": False,
    "architectures": None,
    "attention_dropout": 0.0,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "dropout": 0.0,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "finetuning_task": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "id2label": {"0": "LABEL_0"},
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0},
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "model_type": "clip_text_model",
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "pad_token_id": 1,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "remove_invalid_values": False,
    "repetition_penalty": 1.0,
    "return_dict": True,
    "return_dict_in_generate": False,
    "sep_token_id": None,
    "task_specific_params": None,
    "temperature": 1.0,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "top_k": 50,
    "tokenizer_class": None,
    "top_p": 1.0,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.16.0.dev0",
    "use_bfloat16": False,
    "projection_dim": 512,
}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    """A small CLIP of transformers."""
    folder = tmp_path_factory.mktemp("clip")
    spec = tiny("clip-vit-base-patch16")
    table = next(t for t in FORMATS if t.name == "transformers CLIPModel")
    tensors = source_tensors(table, random_parameters(spec.towers))
    save_file({k: np.array(v, order="C") for k, v in tensors.items()}, folder / "model.safetensors")
    return folder


@pytest.fixture
def folder(clip_folder, tmp_path) -> Path:
    os.link(clip_folder / "model.safetensors", tmp_path / "model.safetensors")
    write(tmp_path, "config.json", TINY_CLIP_CONFIG)
    write(tmp_path, "preprocessor_config.json", PREPROCESSOR)
    return tmp_path


def write(folder: Path, name: str, values) -> None:
    (folder / name).write_text(values if isinstance(values, str) else json.dumps(values))


def with_field(part: str, name: str, value) -> dict:
    config = copy.deepcopy(TINY_CLIP_CONFIG)
    (config[part] if part else config)[name] = value
    return config


@pytest.mark.long
def test_everything_that_old_configurations_hold(folder):
    config = copy.deepcopy(TINY_CLIP_CONFIG) | {"text_config_dict": None, "vision_config_dict": None}
    config |= {"architectures": ["CLIPModel"], "initializer_factor": 1.0, "logit_scale_init_value": 2.6592}
    config["text_config"] = {**OLD, **config["text_config"], "bos_token_id": 0}
    config["vision_config"] = {**OLD, **config["vision_config"], "bos_token_id": None, "eos_token_id": None}
    write(folder, "config.json", config)
    model = ja.load(folder)
    assert (model.config.text.pools_at, model.config.text.end_token) == ("argmax", None)
    assert (model.spec.tokens, model.spec.start_token, model.tokenizer) == (None, None, None)
    with pytest.raises(ja.JaxalignError, match=r"came without tokenizer\.json"):
        model.encode_text(["a"])


@pytest.mark.parametrize(
    "content", [DEEP, "", "[1]", '{"a": 1', '{"model_type": ' + "9" * 5000 + "}", "\ufeff"]
)
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_files_that_are_no_configuration(folder, name, content):
    write(folder, name, content)
    with pytest.raises(ja.JaxalignError, match=name.replace(".", r"\.")) as caught:
        ja.load(folder)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer_config.json"])
def test_pipes_and_devices_are_not_read(folder, name):
    for make in (os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
        (folder / name).unlink(missing_ok=True)
        make(folder / name)
        with pytest.raises(ja.JaxalignError, match=r"is a (pipe|device); expected a file"):
            ja.load(folder)


HUGE = 10**400
NUMBERS = [float("nan"), float("inf"), HUGE, -HUGE, "1", True, [1]]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda v: f"{v!r:.8}")
def test_numbers_that_are_none(folder, value):
    fields = [("text_config", "layer_norm_eps"), ("vision_config", "num_attention_heads")]
    for part, name in fields:
        write(folder, "config.json", with_field(part, name, value))
        with pytest.raises(ja.JaxalignError, match=rf"{part}: {name} is "):
            ja.load(folder)
    write(folder, "config.json", TINY_CLIP_CONFIG)
    for name, wrong in (("rescale_factor", value), ("image_std", [value] * 3), ("image_mean", [0, value, 0])):
        write(folder, "preprocessor_config.json", PREPROCESSOR | {name: wrong})
        with pytest.raises(ja.JaxalignError, match=rf"{name} is "):
            ja.load(folder)


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        (
            "vision_config",
            "num_attention_heads",
            10**9,
            "num_attention_heads is 1000000000; expected at most",
        ),
        ("text_config", "layer_norm_eps", 1e9, "layer_norm_eps is 1000000000.0; expected a number of 0 to 1"),
        ("text_config", "layer_norm_eps", -1e-5, "layer_norm_eps is -1e-05"),
        ("text_config", "eos_token_id", 50, "eos_token_id is 50; expected an id below 50"),
        ("text_config", "eos_token_id", None, "eos_token_id is null"),
        ("text_config", "is_causal", False, "is_causal is false; expected true"),
        ("text_config", "head_dim", 16, "unknown field 'head_dim'"),
        ("vision_config", "num_channels", 4, "num_channels is 4; expected 3"),
        ("vision_config", "hiden_act", "gelu", "unknown field 'hiden_act'; did you mean 'hidden_act'"),
        ("", "quantization_config", {"bits": 8}, "quantization_config is .*; expected null"),
        ("", "per_layer_config", {"0": {}}, "per_layer_config is"),
        ("", "my_notes", "x", "unknown field 'my_notes'; take it out of the file if it changes nothing"),
    ],
)
def test_fields_that_are_refused(folder, part, name, value, message):
    write(folder, "config.json", with_field(part, name, value))
    with pytest.raises(ja.JaxalignError, match=message):
        ja.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_resize": False}, "do_resize is false; expected true"),
        ({"do_pad": True}, "do_pad is true; expected false or null"),
        ({"size": {"longest_edge": 48}}, "size is .* expected shortest_edge alone, or height and width"),
        ({"size": {"height": 60, "width": 60}}, "expected shortest_edge, or the size of the crop"),
        ({"do_center_crop": False}, "do_center_crop is false with shortest_edge in size"),
        ({"crop_size": 32}, "images become 32 pixels wide, but image_size in .* is 48"),
        ({"size": {"shortest_edge": 40}}, "shortest_edge 40, less than the crop_size 48"),
        ({"resample": 1}, "resample is 1; expected one of 2, 3"),
        ({"image_processor_type": "ConvNextImageProcessor"}, "unknown image_processor_type"),
        ({"image_std": [0, 1, 1]}, "image_std is"),
        ({"crop_pct": 0.9}, "unknown field 'crop_pct'"),
    ],
)
def test_preprocessing_that_is_refused(folder, change, message):
    write(folder, "preprocessor_config.json", PREPROCESSOR | change)
    with pytest.raises(ja.JaxalignError, match=message):
        ja.load(folder)


def test_preprocessing_that_is_switched_off(folder):
    """Pixels are always divided by 255 here: the mean and the deviation make up for another factor."""
    image = np.random.default_rng(0).integers(0, 256, (1, 48, 48, 3)).astype(np.uint8)
    for change, expected in (
        ({}, (image / 255 - [0.1, 0.2, 0.3]) / [0.26862954, 0.26130258, 0.27577711]),
        ({"do_normalize": False}, image / 255),
        ({"do_normalize": False, "do_rescale": False}, image),
        ({"do_normalize": False, "rescale_factor": 0.5}, image * 0.5),
        ({"rescale_factor": 1 / 127.5, "image_mean": 1.0, "image_std": 1.0}, image / 127.5 - 1),
    ):
        write(folder, "preprocessor_config.json", PREPROCESSOR | change)
        ours = ja.load(folder).image_processor(image)
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_the_nested_place_comes_first(folder):
    write(folder, "processor_config.json", {"image_processor": PREPROCESSOR | {"resample": 2}})
    assert ja.load(folder).spec.interpolation == "bilinear"
    write(folder, "processor_config.json", {"processor_class": "CLIPProcessor"})
    assert ja.load(folder).spec.interpolation == "bicubic"


def test_every_table_says_why():
    tables = [getattr(huggingface_fields, name) for name in dir(huggingface_fields) if name.isupper()]
    assert len(tables) > 10
    for table in tables:
        assert all(isinstance(field, Used | Only) or field.reason for field in table.values())
    facts = JsonObject({str(i): i for i in range(100_000)}, "it")
    with pytest.raises(ja.JaxalignError, match="unknown field '4'") as caught:
        check_fields(facts, {"x": WithoutEffect("of nothing")})
    assert "'5'" not in str(caught.value)  # a message has its limits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(std=[float("nan")] * 3), "std is nan; expected a finite number"),
        (lambda c: c.update(mean=[1e30] * 3), "mean is .*; expected values of"),
        (lambda c: c.update(std=[1e-9] * 3), "std is .*; expected values above 0"),
        (lambda c: c.update(std=[HUGE, 1, 1]), "std is 1000.*; expected a finite number"),
        (lambda c: c["towers"]["image"].update(norm_epsilon=float("inf")), "norm_epsilon is inf"),
        (lambda c: c["towers"]["text"].update(norm_epsilon=-1.0), "norm_epsilon is -1.0; expected 0 to 1"),
        (lambda c: c["towers"]["text"].update(depth=HUGE), "depth is 1000.*; expected a finite number up to"),
        (lambda c: c["towers"]["text"].update(pooling="middle"), "pooling is 'middle'; expected"),
        (lambda c: c["towers"]["text"].update(end_token=None), "end_token is null; expected the id"),
        (lambda c: c.update(dict.fromkeys(map(str, range(100_000)), 0)), "unknown key '4'"),
    ],
)
def test_own_configurations(tmp_path, clip, change, message):
    ja.save(clip, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    del (
        config["towers"]["text"]["pooling"],
        config["towers"]["image"]["norm_after_pool"],
    )  # as older folders are
    write(tmp_path / "m", "config.json", config)
    assert ja.load(tmp_path / "m").spec == clip.spec
    change(config)
    write(tmp_path / "m", "config.json", config)
    with pytest.raises(ja.JaxalignError, match=message) as caught:
        ja.load(tmp_path / "m")
    assert len(str(caught.value)) < 2000
