"""Which tokens start, end and pad a text: read from the tokenizer's files, never from a size."""

import copy
import json
import random
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from oracles_conversion import TINY_CLIP_CONFIG, random_parameters, source_tensors, tiny
from safetensors.numpy import save_file

import jaxalign as ja
from jaxalign.conversion.formats import FORMATS

WORDS = ["cat</w>", "dog</w>", *"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefgh")]
START, END = len(WORDS), len(WORDS) + 1


def write(folder: Path, name: str, values) -> None:
    (folder / name).write_text(json.dumps(values))


def save_weights(table: str, spec, folder: Path) -> None:
    found = next(t for t in FORMATS if t.name == table)
    tensors = source_tensors(found, random_parameters(spec.towers))
    save_file({k: np.array(v, order="C") for k, v in tensors.items()}, folder / "model.safetensors")


@pytest.fixture
def clip(tmp_path) -> Path:
    """A small CLIP of transformers with words of its own, in the older files, and padded embeddings."""
    save_weights("transformers CLIPModel", tiny("clip-vit-base-patch16"), tmp_path)
    write(tmp_path, "config.json", configured(END))
    words = [*WORDS, "<|startoftext|>", "<|endoftext|>"]
    write(tmp_path, "vocab.json", {word: i for i, word in enumerate(words)})
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    write(tmp_path, "added_tokens.json", {"<mine>": len(words)})
    return tmp_path


def configured(end: int) -> dict:
    config = copy.deepcopy(TINY_CLIP_CONFIG)
    config["text_config"] |= {"eos_token_id": end, "bos_token_id": 0}
    return config


def test_padded_embeddings_and_added_tokens(clip):
    """Fifty embeddings, of which the last are of no token."""
    model = ja.load(clip)
    assert (model.spec.start_token, model.tokenizer.end_token, model.config.text.end_token) == (
        START,
        END,
        END,
    )
    ids = model.tokenizer(["A cat <mine>"])[0].tolist()
    letters = [WORDS.index(letter) for letter in ("a</w>", "c", "a")]
    assert ids[:4] == [START, *letters]
    assert ids[4:] == [END + 1, END, END, END, END, END]  # no word for the t at the end; padded with the end
    ja.save(model, clip / "saved")
    again = ja.load(clip / "saved")
    assert again.spec == model.spec
    assert again.tokenizer(["A cat <mine>"])[0].tolist() == ids


def test_the_old_end_token_pools_the_largest_id(clip):
    write(clip, "config.json", configured(2))
    text = ja.load(clip).config.text
    assert (text.pools_at, text.end_token) == ("argmax", END)


def test_an_end_token_at_odds_with_the_tokenizer(clip):
    write(clip, "config.json", configured(7))
    with pytest.raises(ja.JaxalignError, match=f"texts end with the id {END}, but the tower pools the id 7"):
        ja.load(clip)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        (
            "tokenizer_config.json",
            {"eos_token": "<nowhere>"},
            "has no token '<nowhere>', which is the eos_token",
        ),
        (
            "tokenizer_config.json",
            {"padding_side": "left"},
            "padding_side is 'left'; expected 'right' or null",
        ),
        (
            "tokenizer_config.json",
            {"tokenizer_class": "BertTokenizer"},
            "unknown tokenizer_class 'BertTokenizer'",
        ),
        ("tokenizer_config.json", {"do_lower_case": False}, "do_lower_case is false; expected true"),
        (
            "special_tokens_map.json",
            {"bos_token": {"content": "<x>"}},
            "has no token '<x>', which is the bos_token",
        ),
        (
            "added_tokens.json",
            {"<mine>": 49},
            "gives '<mine>' the id 49, where its place among the words gives",
        ),
        ("added_tokens.json", {"<mine>": "x"}, "added_tokens is"),
        ("vocab.json", {"a": -1}, "vocab is"),
    ],
)
def test_what_is_refused(clip, file, values, message):
    write(clip, file, values)
    with pytest.raises(ja.JaxalignError, match=message):
        ja.load(clip)


def test_embeddings_that_are_too_few(clip):
    words = json.loads((clip / "vocab.json").read_text())
    write(clip, "vocab.json", words | {f"w{i}": 100 + i for i in range(5)})
    write(clip, "added_tokens.json", {})
    with pytest.raises(ja.JaxalignError, match=r"vocab\.json has ids up to 104, the text tower 50 tokens"):
        ja.load(clip)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory) -> Path:
    """A `spiece.model` of 40 pieces whose end is id 3."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("pieces")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(rng.choices(["a", "cat", "dog", "red"], k=6)) for _ in range(200)]),
        model_prefix=str(folder / "spiece"),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        pad_id=0,
        bos_id=-1,
        unk_id=1,
        eos_id=3,
    )
    return folder / "spiece.model"


@pytest.fixture
def siglip(pieces, tmp_path) -> Path:
    spec = tiny("siglip-base-patch16-224")
    save_weights("transformers SiglipModel", spec, tmp_path)
    tower = {"num_hidden_layers": 3, "num_attention_heads": 1, "hidden_size": 64, "intermediate_size": 28}
    text = {**tower, "vocab_size": 50, "max_position_embeddings": 10, "projection_size": 128}
    vision = {"hidden_size": 128, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 48, "patch_size": 16}
    write(tmp_path, "config.json", {"model_type": "siglip", "text_config": text, "vision_config": vision})
    return tmp_path


@pytest.mark.long
def test_the_tokens_of_sentencepieces(siglip, pieces):
    """The end and the padding are the file's; the cleaning is that of the class that is named."""
    for name, kind, pad, cleaning in (
        ("spiece.model", None, 3, "siglip"),
        ("spiece.model", "SiglipTokenizer", 0, "siglip"),
        ("tokenizer.model", "GemmaTokenizerFast", 0, "lower"),
    ):
        for old in ("spiece.model", "tokenizer.model", "tokenizer_config.json"):
            (siglip / old).unlink(missing_ok=True)
        (siglip / name).write_bytes(pieces.read_bytes())
        if kind is not None:
            write(
                siglip,
                "tokenizer_config.json",
                {"tokenizer_class": kind, "pad_token": "<pad>", "eos_token": "</s>"},
            )
        model = ja.load(siglip)
        assert (model.config.text.end_token, model.spec.pad_token, model.spec.cleaning) == (3, pad, cleaning)
        ids = model.tokenizer(["A CAT!"])[0].tolist()
        assert ids[ids.index(3) :][:2] == [3, pad]
        assert model.spec.vocabulary == "sentencepiece"


def test_a_vocabulary_that_nothing_explains(siglip, pieces):
    (siglip / "tokenizer.model").write_bytes(pieces.read_bytes())
    with pytest.raises(
        ja.JaxalignError, match=r"does not say what is done to a text .* tokenizer_config\.json"
    ):
        ja.load(siglip)


GEMMA = {
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
    "pre_tokenizer": {
        "type": "Split",
        "pattern": {"String": " "},
        "behavior": "MergedWithPrevious",
        "invert": False,
    },
}


@pytest.mark.parametrize(
    ("changes", "is_gemmas"),
    [
        ({}, True),
        ({"pre_tokenizer": None}, True),  # no space is left
        (
            {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, GEMMA["normalizer"]]}},
            True,
        ),
        ({"normalizer": None}, False),
        ({"pre_tokenizer": {"type": "Whitespace"}}, False),
        ({"byte_fallback": False}, False),
    ],
)
@pytest.mark.long
def test_gemma_makes_words_in_one_way(siglip, changes, is_gemmas):
    """transformers 5 makes all but the words of a GemmaTokenizer anew, whatever its file says."""
    words = ["<pad>", "</s>", "<unk>", "\u2581", "c", "a", "t", "ca"]
    model = {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "merges": [["c", "a"]]}
    model |= {
        "byte_fallback": changes.get("byte_fallback", True),
        "vocab": {w: i for i, w in enumerate(words)},
    }
    end = {"id": "</s>", "ids": [1], "tokens": ["</s>"]}
    frame = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    post = {"type": "TemplateProcessing", "single": frame, "pair": frame, "special_tokens": {"</s>": end}}
    parts = GEMMA | {name: part for name, part in changes.items() if name in GEMMA}
    write(siglip, "tokenizer.json", {**parts, "post_processor": post, "model": model})
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    write(siglip, "tokenizer_config.json", {"tokenizer_class": "GemmaTokenizer", **names})
    if is_gemmas:
        assert ja.load(siglip).tokenizer(["cat cat"])[0].tolist()[:7] == [7, 6, 3, 7, 6, 1, 0]
        return
    with pytest.raises(ja.JaxalignError, match="in another way than Gemma's"):
        ja.load(siglip)


def test_open_clip_has_clip_s_tokens_unless_it_names_others(tmp_path):
    from jaxalign.conversion.configs.open_clip import read_open_clip

    model = {
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16},
        "text_cfg": {"vocab_size": 49472, "context_length": 77},
    }

    def facts(**text):
        model["text_cfg"] = {"vocab_size": 49472, "context_length": 77, **text}
        write(tmp_path, "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": {}})
        return read_open_clip(tmp_path)

    padded = facts()
    assert (padded.spec["start_token"], padded.text["end_token"], padded.text["pooling"]) == (
        49406,
        49407,
        "argmax",
    )
    assert padded.spec["cleaning"] == "clip"
    assert facts(tokenizer_kwargs={"clean": "whitespace"}).spec["cleaning"] == "mended"
    assert facts(vocab_size=1000).spec["tokens"] is None  # too small for CLIP's
    named = facts(hf_tokenizer_name="roberta-base")
    assert (named.spec["vocabulary"], named.spec["tokens"], named.text["end_token"]) == (
        "tokenizer.json",
        None,
        None,
    )
    known = facts(
        hf_tokenizer_name="timm/ViT-B-16-SigLIP", no_causal_mask=True, pool_type="last", vocab_size=32000
    )
    assert "vocabulary" not in known.spec
    with pytest.raises(ja.JaxalignError, match="texts end with the id 49407, but the tower pools the id 2"):
        facts(pool_type="eos")
    for name, value in (("embed_cls", True), ("hf_model_name", "roberta-base"), ("tokenizer_mode", "clips")):
        with pytest.raises(ja.JaxalignError, match=f"{name} is"):
            facts(**{name: value})
