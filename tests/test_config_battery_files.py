"""Every field of transformers' other files, changed: images and ids as it has them, or refused by name."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the originals' imports
    for module in ("torch", "transformers"):
        pytest.importorskip(module, reason="the originals need the extra `reference`")
    import transformers

from config_battery import Outputs, judge, variants
from PIL import Image

from jaxalign.conversion.configs import huggingface_fields
from jaxalign.conversion.configs.huggingface_images import read_preprocessing
from jaxalign.conversion.configs.huggingface_tokens import with_tokens
from jaxalign.conversion.facts import Facts
from jaxalign.inputs.image_processing import ImageProcessor
from jaxalign.inputs.text_cleaning import CLEANERS
from jaxalign.inputs.tokenization import Tokenizer

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
IMAGE = Image.fromarray(np.random.default_rng(1).integers(0, 255, (43, 61, 3), np.uint8))
CROPPED = {"size": {"shortest_edge": 40}, "crop_size": {"height": 31, "width": 31}}
SQUASHED = {"size": {"height": 31, "width": 31}}
COLOURS = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
PREPROCESSING = {
    "clip": CROPPED | COLOURS | {"image_processor_type": "CLIPImageProcessor", "resample": 2},
    "siglip": SQUASHED | COLOURS | {"image_processor_type": "SiglipImageProcessor"},
    "dinov2": CROPPED | COLOURS | {"image_processor_type": "BitImageProcessor"},
    "dinov3_vit": SQUASHED | COLOURS | {"image_processor_type": "DINOv3ViTImageProcessorFast"},
}
TELLING = {
    "do_resize": [False, None],
    "do_center_crop": [True, False, None],
    "do_normalize": [False, None],
    "do_rescale": [False, None],
    "do_pad": [True, False],
    "rescale_factor": [1.0, 1 / 127.5, 0, -1, float("nan"), None],
    "size": [
        *(36, [31, 31], [40, 31], {"shortest_edge": 31}, {"height": 40, "width": 40}, {"longest_edge": 40}),
        *({"shortest_edge": 40, "longest_edge": 50}, {"height": 31}, {"shortest_edge": 20}, None),
    ],
    "crop_size": [36, [31, 31], [36, 30], {"height": 36, "width": 36}, {"shortest_edge": 31}, None],
    "default_to_square": [True, False, None],
    "resample": [0, 1, 2, 3, 4, "bicubic", None],
    "image_mean": [0.5, [0.5, 0.4, 0.3], None, [float("nan"), 0, 0], [1e400, 0, 0], [0.5]],
    "image_std": [0.5, [0.5, 0.4, 0.3], None, [0, 1, 1], [-1.0, 1, 1], [10**400, 1, 1]],
    "image_processor_type": ["CLIPImageProcessor", "SiglipImageProcessor", "ViTImageProcessor", "X", None],
    "feature_extractor_type": ["CLIPFeatureExtractor", None],
    "do_convert_rgb": [False],
    "data_format": ["channels_first"],
    "input_data_format": ["channels_last"],
    "pad_size": [{"height": 50, "width": 50}],
    "model_input_names": [["pixel_values"]],
    "_valid_processor_keys": [["images"]],
    "device": [None],
    "return_tensors": [None],
}


def write(folder: Path, name: str, values: Any) -> None:
    (folder / name).write_text(json.dumps(values))


def ours_processed(folder: Path, kind: str) -> Outputs:
    found = read_preprocessing(folder, kind)
    options = dict(found.spec)
    options["resize_size"] = None if options["resize_size"] == found.side else options["resize_size"]
    return (ImageProcessor(found.side, **options)([IMAGE])[0],)


def theirs_processed(folder: Path, kind: str) -> Outputs:
    # as ours; DINOv3's is of torchvision alone
    processor = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = processor(images=IMAGE, return_tensors="np")["pixel_values"][0]
    return (np.asarray(pixels, np.float32).transpose(1, 2, 0),)


@pytest.mark.parametrize("kind", PREPROCESSING)
def test_preprocessing_of_transformers(kind, tmp_path):
    write(tmp_path, "config.json", {"model_type": kind})
    wrong = []
    tables = {"": huggingface_fields.PREPROCESSOR}
    cases = list(variants(PREPROCESSING[kind], tables, lambda _: {}, TELLING, lambda _: True, set()))
    for field, other in [("nothing", PREPROCESSING[kind]), *cases]:
        write(tmp_path, "preprocessor_config.json", other)
        ours, theirs = (lambda f=f: f(tmp_path, kind) for f in (ours_processed, theirs_processed))
        wrong.append(judge(field, ours, theirs))
    assert [problem for problem in wrong if problem] == []


def test_the_place_that_counts(tmp_path):
    """`image_processor` of `processor_config.json`, else `preprocessor_config.json`, as in transformers."""
    write(tmp_path, "config.json", {"model_type": "clip"})
    nested, own = PREPROCESSING["clip"], PREPROCESSING["clip"] | {"image_mean": [0.9, 0.8, 0.7]}
    for processor, preprocessor in (
        ({"image_processor": nested, "processor_class": "CLIPProcessor"}, None),
        ({"image_processor": nested}, own),
        ({"processor_class": "CLIPProcessor"}, own),
        (None, own),
    ):
        for name, values in (
            ("processor_config.json", processor),
            ("preprocessor_config.json", preprocessor),
        ):
            (tmp_path / name).unlink(missing_ok=True)
            if values is not None:
                write(tmp_path, name, values)
        found = [f(tmp_path, "clip")[0] for f in (ours_processed, theirs_processed)]
        np.testing.assert_allclose(*found, atol=1e-5)


TEXTS = ["A photo of a cat", "the  dog,\tand <mine> too", "", "catcat " * 9, "caf\u00e9 10"]
CONTEXT = 12


def write_clip_tokenizer(folder: Path, slow: bool = False) -> int:
    """A tokenizer of CLIP's kind with a vocabulary of its own and one added token; gives its size."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters)]
    merges = [("c", "a"), ("ca", "t</w>"), ("p", "h"), ("ph", "o"), ("d", "o"), ("do", "g</w>")]
    words += ["".join(pair) for pair in merges] + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=merges)
    tokenizer.add_tokens(["<mine>"])
    tokenizer.save_pretrained(folder)
    if slow:  # as transformers 4 wrote it
        (folder / "tokenizer.json").unlink()
        write(folder, "vocab.json", {w: i for i, w in enumerate(words)})
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
        write(folder, "added_tokens.json", {"<mine>": len(words)})
    return len(words) + 1


def ours_tokenized(folder: Path, size: int) -> Outputs:
    facts = with_tokens(Facts(text={"vocabulary": size}), folder, "clip")
    tokens = facts.tokens
    cleaning = facts.spec["cleaning"]
    assert cleaning is None or cleaning in CLEANERS
    found = Tokenizer(tokens.vocabulary, CONTEXT, tokens.start, tokens.end, tokens.pad, cleaning)
    return (found(TEXTS) + 1,)  # no zeros, relative to which differences would be


def theirs_tokenized(folder: Path) -> Outputs:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    options = {"padding": "max_length", "truncation": True, "max_length": CONTEXT}
    return (np.array(tokenizer(TEXTS, **options).input_ids) + 1,)


def test_tokenizers_of_transformers(tmp_path):
    write(tmp_path, "config.json", {"model_type": "clip"})
    size = write_clip_tokenizer(tmp_path)
    base = json.loads((tmp_path / "tokenizer_config.json").read_text())
    telling = {
        **{name: ["<mine>", "cat</w>", "nowhere", None, {"content": "cat</w>"}] for name in
           ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token")},
        "tokenizer_class": ["CLIPTokenizerFast", "PreTrainedTokenizerFast", "BertTokenizer", None],
        "padding_side": ["left", "right"],
        "truncation_side": ["left", "right"],
        "split_special_tokens": [True, False],
        "additional_special_tokens": [[], ["<mine>"], ["nowhere"]],
        "extra_special_tokens": [[], ["<mine>"], {"image_token": "nowhere"}],
        "added_tokens_decoder": [{}, {"520": {"content": "<mine>"}}, {"7": {"content": "<mine>"}}],
        "model_specific_special_tokens": [{}],
        "do_lower_case": [True, False],
        "add_prefix_space": [True, False],
        "sp_model_kwargs": [{}, {"nbest_size": 3}],
        "init_inputs": [[], ["x"]],
        "pad_to_multiple_of": [8, None],
        "extra_ids": [100, 0],
        "auto_map": [{"AutoTokenizer": ["a.B", None]}],
        "model_input_names": [["input_ids"]],
        "chat_template": ["x"],
        "max_length": [5],
        "model_max_length": [5, 77],
        "stride": [0],
        "errors": ["strict"],
        "backend": ["tokenizers"],
        "tokenizer_file": [],
        "vocab_file": [],
    }  # fmt: skip
    wrong = []
    tables = {"": huggingface_fields.TOKENIZER_CONFIG}
    cases = list(variants(base, tables, lambda _: {}, telling, lambda _: True, {"is_local"}))
    for field, other in [("nothing", base), *cases]:
        write(tmp_path, "tokenizer_config.json", other)
        wrong.append(judge(field, lambda: ours_tokenized(tmp_path, size), lambda: theirs_tokenized(tmp_path)))
    assert [problem for problem in wrong if problem] == []


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("special", [{}, {"eos_token": "cat</w>"}, {"bos_token": {"content": "<mine>"}}])
def test_older_files_beside_the_vocabulary(slow, special, tmp_path):
    write(tmp_path, "config.json", {"model_type": "clip"})
    size = write_clip_tokenizer(tmp_path, slow)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config.pop("added_tokens_decoder", None)
    write(tmp_path, "tokenizer_config.json", config)
    write(tmp_path, "special_tokens_map.json", special)
    (ours,), (theirs,) = ours_tokenized(tmp_path, size), theirs_tokenized(tmp_path)
    np.testing.assert_array_equal(ours, theirs)
