"""SentencePiece vocabularies as SigLIP and SigLIP 2 use them, on tiny ones that are trained here."""

import random
import shutil
from dataclasses import replace

import numpy as np
import pytest
import sentencepiece
from goldens.make_tokens import draw_texts

from jaxalign.errors import JaxalignError
from jaxalign.inputs.sentencepieces import read_sentencepieces
from jaxalign.inputs.text_cleaning import CLEANERS
from jaxalign.inputs.tokenization import describe_missing, load_tokenizer
from jaxalign.specs import ModelSpec, find_spec

WORDS = (
    "a photo of the cat dog red blue apple on under near house tree with and 10 don't \u00fcber \u65e5\u672c"
)
SIGLIP, SIGLIP_2 = (find_spec(f"siglip{version}-base-patch16-224") for version in ("", "2"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folders with a `spiece.model`: like T5's, which SigLIP has, and like Gemma's, which SigLIP 2 has."""
    rng = random.Random(0)
    corpus = [" ".join(rng.choices(WORDS.split(), k=8)) for _ in range(500)]
    like_gemma = {
        "model_type": "bpe",
        "byte_fallback": True,
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
        "vocab_size": 400,
        "bos_id": 2,
        "unk_id": 3,
        "bos_piece": "<bos>",
        "eos_piece": "<eos>",
    }
    like_t5 = {"model_type": "unigram", "bos_id": -1, "unk_id": 2, "vocab_size": 100}
    folders = {}
    for name, options in {"t5": like_t5, "gemma": like_gemma}.items():
        folder = tmp_path_factory.mktemp(name)
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus),
            model_prefix=str(folder / "spiece"),
            pad_id=0,
            eos_id=1,
            hard_vocab_limit=False,
            minloglevel=2,
            **options,
        )
        (folder / "spiece.vocab").unlink()
        folders[name] = folder
    return folders


def load(spec: ModelSpec, folder):
    tokenizer = load_tokenizer(spec, folder)
    assert tokenizer is not None
    return tokenizer


@pytest.mark.parametrize(("spec", "kind", "pad"), [(SIGLIP, "t5", 1), (SIGLIP_2, "gemma", 0)])
def test_words_then_end_then_padding_to_64(spec, kind, pad, trained):
    tokenizer = load(spec, trained[kind])
    ids = tokenizer(["A photo of a CAT", ""])
    (words,) = tokenizer.words(["a photo of a cat"])
    assert 0 < len(words) < 20
    assert not {0, 1, 2} & set(words)
    assert ids.shape == (2, 64)
    assert ids[0].tolist() == [*words, 1] + [pad] * (63 - len(words))
    assert ids[1].tolist() == [1] + [pad] * 63


@pytest.mark.parametrize(("spec", "kind"), [(SIGLIP, "t5"), (SIGLIP_2, "gemma")])
def test_a_text_that_is_too_long_keeps_the_end_in_the_last_place(spec, kind, trained):
    tokenizer = load(spec, trained[kind])
    text = "a photo of the cat " * 30
    (row,), (words,) = tokenizer([text]), tokenizer.words([text])
    assert row.tolist() == [*words[:63], 1]
    for length in (62, 63, 64):  # one place is left, none is, one word too many
        (row,) = tokenizer(["cat" + " cat" * (length - 1)])
        assert row.tolist().index(1) == min(length, 63)


@pytest.mark.parametrize(
    ("cleaning", "expected"),
    [
        ("siglip", "mycat its 20 na\u00efve \u00ff\u03c3\u03c2"),
        ("canonicalize", "my cat its 20 na\u00efve \u00ff\u03c3\u03c2"),
        ("lower", "my_cat:  it's 20% na\u00efve \u00ff\u03c3\u03c3"),
        ("lower_ascii", "my_cat:  it's 20% na\u00cfve \u0178\u03a3\u03a3"),
    ],
)
def test_cleaning_is_the_source_s(cleaning, expected):
    assert CLEANERS[cleaning]("My_Cat:  it's 20% NA\u00cfVE \u0178\u03a3\u03a3") == expected


def test_the_same_words_after_saving(trained, tmp_path):
    tokenizer = load(SIGLIP, trained["t5"])
    for name, content in tokenizer.files().items():
        (tmp_path / name).write_bytes(content)
    texts = draw_texts(200, seed=0)
    np.testing.assert_array_equal(load(SIGLIP, tmp_path)(texts), tokenizer(texts))


def test_names_of_other_sources_are_found(trained, tmp_path):
    shutil.copy(trained["t5"] / "spiece.model", tmp_path / "sentencepiece.model")
    assert load(SIGLIP, tmp_path)(["a cat"]).tolist() == load(SIGLIP, trained["t5"])(["a cat"]).tolist()


def test_without_a_file_there_is_no_tokenizer_and_the_message_says_which(tmp_path):
    assert load_tokenizer(SIGLIP, tmp_path) is None
    said = describe_missing(SIGLIP)
    assert "came without spiece.model or tokenizer.json; put it into the model's folder" in said
    assert "google/siglip-base-patch16-224" in said
    assert load_tokenizer(find_spec("dinov2-base"), tmp_path) is None


def test_files_of_another_model_and_damaged_ones_are_named(trained, tmp_path):
    whole = (trained["t5"] / "spiece.model").read_bytes()
    path = tmp_path / "spiece.model"
    for content in (b"", b"{}", whole[: len(whole) // 2], bytes(1000)):
        path.write_bytes(content)
        with pytest.raises(JaxalignError, match=r"spiece\.model is"):
            load_tokenizer(SIGLIP, tmp_path)
    small = replace(SIGLIP.towers, text=replace(SIGLIP.towers.text, vocabulary=30))
    with pytest.raises(JaxalignError, match=r"has ids up to \d+, the text tower 30 tokens; it belongs to"):
        load_tokenizer(replace(SIGLIP, towers=small), trained["t5"])
    other_end = replace(SIGLIP.towers, text=replace(SIGLIP.towers.text, end_token=7))
    with pytest.raises(JaxalignError, match="ends a text with id 1, the text tower with 7"):
        load_tokenizer(replace(SIGLIP, towers=other_end), trained["t5"])


@pytest.mark.reference
def test_siglip_against_transformers(trained):
    transformers = pytest.importorskip("transformers", reason="needs the extra `reference`")
    original = transformers.SiglipTokenizer(str(trained["t5"] / "spiece.model"))
    # a special token that is spelled out in a text gets its id there; here it is text
    texts = [text for text in draw_texts(1500, seed=4) if "</s>" not in text]
    expected = original(texts, padding="max_length", max_length=64, truncation=True).input_ids
    assert load(SIGLIP, trained["t5"])(texts).tolist() == expected


@pytest.mark.reference
@pytest.mark.parametrize("kind", ["t5", "gemma"])
def test_open_clip_s_tokenizers(kind, trained, tmp_path):
    """From the SentencePiece file and from the `tokenizer.json` that transformers makes of it."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `reference`")
    tokenizer_module = pytest.importorskip("open_clip.tokenizer", reason="needs the extra `reference`")
    if kind == "t5":
        spec = find_spec("siglip-base-patch16-224-open-clip")
        original = transformers.T5TokenizerFast.from_pretrained(trained[kind], extra_ids=0)
        original.pad_token = "</s>"
    else:
        spec = find_spec("siglip2-base-patch16-224-open-clip")
        shutil.copy(trained[kind] / "spiece.model", tmp_path / "tokenizer.model")
        original = transformers.GemmaTokenizerFast.from_pretrained(
            tmp_path, padding_side="right", add_bos_token=False, add_eos_token=True
        )
    wrapped = tokenizer_module.SigLipTokenizer.__new__(tokenizer_module.SigLipTokenizer)
    wrapped.tokenizer, wrapped.context_length = original, 64
    texts = draw_texts(1500, seed=5)
    expected = wrapped(texts).numpy()
    np.testing.assert_array_equal(load(spec, trained[kind])(texts), expected)
    saved = tmp_path / "json"
    original.save_pretrained(saved)
    assert [path.name for path in saved.glob("*.model")] == []
    np.testing.assert_array_equal(load(spec, saved)(texts), expected)


@pytest.mark.reference
def test_siglip_2_against_transformers(trained, tmp_path):
    """Lower-casing and splitting; its padding on the left is what the model was not trained with."""
    transformers = pytest.importorskip("transformers", reason="needs the extra `reference`")
    shutil.copy(trained["gemma"] / "spiece.model", tmp_path / "tokenizer.model")
    gemma = transformers.GemmaTokenizerFast.from_pretrained(tmp_path)
    backend = gemma.backend_tokenizer
    lower = type(backend).from_str(backend.to_str())
    from tokenizers.normalizers import Lowercase, Sequence

    lower.normalizer = Sequence([Lowercase(), backend.normalizer])  # as Siglip2Tokenizer does
    texts = [text for text in draw_texts(1500, seed=6) if "<" not in text]
    expected = [found.ids for found in lower.encode_batch(texts, add_special_tokens=False)]
    assert load(SIGLIP_2, trained["gemma"]).words(texts) == expected


def test_sentencepieces_of_a_missing_file(tmp_path):
    with pytest.raises(JaxalignError, match=r"cannot read .*spiece\.model: No such file"):
        read_sentencepieces(tmp_path / "spiece.model")
