"""CLIP's vocabulary and splitting against open_clip's and transformers', committed and live."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
from goldens.make_tokens import TARGET, draw_texts

from jaxalign.errors import JaxalignError
from jaxalign.inputs.clip_bpe import MERGES, ClipBpe, _vocabulary_and_merges
from jaxalign.inputs.text_cleaning import clean_canonicalize, clean_clip
from jaxalign.inputs.tokenization import Tokenizer, load_tokenizer, read_json_vocabulary
from jaxalign.specs import find_spec

CLIP, PE = find_spec("clip-vit-base-patch16"), find_spec("pe-core-base-patch16")


@pytest.fixture
def tokenizer(tmp_path) -> Tokenizer:
    """CLIP's, from a folder without any tokenizer file."""
    found = load_tokenizer(CLIP, tmp_path)
    assert found is not None
    return found


def test_the_ids_that_everyone_knows(tokenizer):
    ids = tokenizer(["a photo of \u00a3", "", "A  Photo of a CAT!"])
    assert ids.shape == (3, 77)
    assert ids.dtype == np.int32
    assert ids[0, :7].tolist() == [49406, 320, 1125, 539, 1950, 49407, 0]
    assert ids[1, :3].tolist() == [49406, 49407, 0]
    assert ids[2, :8].tolist() == [49406, 320, 1125, 539, 320, 2368, 256, 49407]
    words, _ = _vocabulary_and_merges()
    assert len(tokenizer.vocabulary) == len(words) == 49408
    assert (words["<start_of_text>"], words["<end_of_text>"]) == (49406, 49407)


@pytest.mark.parametrize("spec", [CLIP, PE], ids=lambda spec: spec.name)
def test_ids_are_those_of_open_clip(spec, tmp_path):
    rows = json.loads(TARGET.read_text(encoding="utf-8"))
    ids = load_tokenizer(spec, tmp_path)([row["text"] for row in rows])
    assert ids.shape == (len(rows), spec.context)
    for row, got in zip(rows, ids, strict=True):
        expected = row["clip" if spec is CLIP else "clip_32"]
        assert got.tolist() == expected + [0] * (spec.context - len(expected)), row["text"]


def test_cleaning_for_siglip_is_that_of_open_clip():
    for row in json.loads(TARGET.read_text(encoding="utf-8")):
        assert clean_canonicalize(row["text"]) == row["canonicalized"]


def test_plain_english_needs_no_mending(monkeypatch):
    """The short cut leaves out ftfy only where it changes nothing."""
    monkeypatch.setattr("ftfy.fix_text", lambda text: pytest.fail("ftfy was asked"))
    assert clean_clip("  A photo of {a}   'cat' <3 ") == "a photo of {a} 'cat' <3"


def test_a_text_that_is_too_long_ends_with_the_end_token(tmp_path):
    for spec in (CLIP, PE):
        tokenizer = load_tokenizer(spec, tmp_path)
        (row,) = tokenizer(["cat " * 100])
        assert row.tolist() == [49406] + [2368] * (spec.context - 2) + [49407]
        (exact,) = tokenizer(["cat " * (spec.context - 2)])
        assert exact.tolist() == row.tolist()


def test_padding_is_the_source_s(tmp_path):
    tokenizer = load_tokenizer(replace(CLIP, pad_token=49407), tmp_path)
    assert tokenizer(["a"])[0].tolist() == [49406, 320] + [49407] * 75


def test_half_a_surrogate_pair_is_an_error(tokenizer):
    with pytest.raises(JaxalignError, match=r"text 1, 'cat .ud83d', has half of a surrogate pair"):
        tokenizer(["cat", "cat \ud83d"])


def test_words_of_their_own_are_split_as_their_file_says(tmp_path, clip):
    """A CLIP that was trained anew with another vocabulary."""
    for name, content in clip.tokenizer.files().items():
        (tmp_path / name).write_bytes(content)
    tokenizer = load_tokenizer(CLIP, tmp_path)
    assert tokenizer(["a &amp; cat"])[0, :7].tolist() == [49406, 4, 1, 1, 1, 7, 49407]


@pytest.mark.reference
def test_many_texts_against_open_clip():
    original = pytest.importorskip("open_clip", reason="needs the extra `reference`").SimpleTokenizer()
    assert original.encoder == _vocabulary_and_merges()[0]
    texts = draw_texts(3000, seed=1)
    found = ClipBpe().encode([clean_clip(text) for text in texts])
    wrong = [text for text, ids in zip(texts, found, strict=True) if ids != original.encode(text)]
    assert not wrong


@pytest.fixture
def transformers_folder(tmp_path):
    """What a hub repository of a CLIP has: `tokenizer.json` with OpenAI's names of the special tokens."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `reference`")
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): i for token, i in _vocabulary_and_merges()[0].items()}
    original = transformers.CLIPTokenizer(vocab=vocabulary, merges=_merges())
    original.save_pretrained(tmp_path)
    return tmp_path, original


def _merges() -> list[tuple[str, str]]:
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    return [(line.split(" ")[0], line.split(" ")[1]) for line in lines]


@pytest.mark.reference
def test_texts_without_oddities_against_transformers(transformers_folder):
    """It mends neither Unicode nor HTML, and so agrees only where there is nothing to mend."""
    folder, original = transformers_folder
    tokenizer = load_tokenizer(CLIP, folder)
    assert isinstance(tokenizer.vocabulary, ClipBpe)
    texts = [text for text in draw_texts(6000, seed=2) if text.isascii() and text.isprintable()]
    texts = [text for text in texts if "&" not in text and "<" not in text]
    expected = original(texts, padding="max_length", max_length=77, truncation=True).input_ids
    ours = replace(tokenizer, pad_token=original.pad_token_id)(texts)
    assert len(texts) > 200
    assert [t for t, a, b in zip(texts, ours.tolist(), expected, strict=True) if a != b] == []


@pytest.mark.reference
def test_its_file_gives_what_transformers_gives(transformers_folder):
    folder, original = transformers_folder
    texts = draw_texts(2000, seed=3)
    found = read_json_vocabulary(folder / "tokenizer.json").encode(texts)
    assert found == original(texts, add_special_tokens=False).input_ids
