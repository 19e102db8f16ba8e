"""`tokenizer.json` of strangers: one line, at once, and what the library would stop at is never built."""

import base64
import contextlib
import copy
import io
import json
import struct
import time
from dataclasses import replace

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.inputs.clip_bpe import _vocabulary_and_merges, huggingface_values, is_clip
from jaxalign.inputs.json_vocabulary import JsonVocabulary, _one_line, check_tokenizer, make_json_vocabulary
from jaxalign.inputs.precompiled_maps import check_precompiled
from jaxalign.inputs.tokenization import load_tokenizer


@pytest.fixture(scope="module")
def values(clip) -> dict:
    """What a tokenizer.json says: WordPiece with the fourteen words of the small models."""
    return json.loads(clip.tokenizer.files()["tokenizer.json"])


def make(values) -> JsonVocabulary:
    return make_json_vocabulary(check_tokenizer(values, "it"), "it")


def replaced(pattern, content) -> dict:
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(*parts) -> dict:
    return {"type": "Sequence", "normalizers": list(parts)}


def split(pattern) -> dict:
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


NESTED = sequence(sequence(sequence({"type": "Lowercase"})))
DOUBLE = replaced({"String": "a"}, "aa")
WORDS = {"a": 0, "b": 1, "ab": 2}
CUT = {"a": 0, "日": 1, "a日": 2}
MAP = base64.b64encode(struct.pack("<I", 8) + struct.pack("<2I", 0xFFFFFC00, 7) + b"x\0").decode()
BAD = {
    "doublings": ({"normalizer": sequence(*[DOUBLE] * 7)}, r"up to 128 times longer; expected at most 64"),
    "many doublings": ({"normalizer": sequence(*[DOUBLE] * 40)}, "normalizer has more parts than 16"),
    "nested doublings": ({"normalizer": sequence(*[sequence(*[DOUBLE] * 4)] * 2)}, "up to 256 times longer"),
    "long content": ({"normalizer": replaced({"String": "a"}, "a" * 10**6)}, "Replace adds 'aaa"),
    "prepend": ({"normalizer": {"type": "Prepend", "prepend": "x" * 10**6}}, "Prepend adds 'xxx"),
    "normalizer": (
        {"normalizer": {"type": "Evil"}},
        "normalizer is a 'Evil'; expected one of BertNormalizer",
    ),
    "no object": ({"normalizer": [1]}, r"normalizer is \[1\]; expected an object"),
    "backtracking": ({"pre_tokenizer": split({"Regex": "(a+)+$|(.*a){30}x"})}, "has the regular expression"),
    "polynomial": ({"pre_tokenizer": split({"Regex": "a*a*a*b"})}, "has the regular expression 'a"),
    "optional, in all ways": (
        {"pre_tokenizer": split({"Regex": "a?" * 22 + "(?!a)"})},
        r"may take 96,468,992 steps at each character; expected at most 128",
    ),
    "counted, in all ways": ({"normalizer": replaced({"Regex": "x|a{0,20}[a]{9,0}b{3}"}, "")}, "6,721 steps"),
    "counted": ({"pre_tokenizer": split({"Regex": r"\p{L}{99}[^|{]{99}"})}, "may take 198 steps"),
    "reference": ({"pre_tokenizer": split({"Regex": r"a\1"})}, "has the regular expression"),
    "long regex": ({"pre_tokenizer": split({"Regex": "(?:" * 5000})}, "expected 1 to 500 characters"),
    "bytes twice": (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}] * 3}},
        "has ByteLevel 3 times; expected it once",
    ),
    "map": ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "the map is damaged"),
    "map's trie": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": MAP}},
        "leads out of the trie",
    ),
    "merge": (
        {"model": {"type": "BPE", "vocab": WORDS, "merges": ["a b", "x y"]}},
        "merges has 'x y', but the vocabulary lacks 'x'",
    ),
    "merge in bytes": (  # of which the library cuts a letter in two
        {"model": {"type": "BPE", "continuing_subword_prefix": "#", "vocab": CUT, "merges": [["a", "日"]]}},
        r"merges has \['a', '日'\]; expected pairs of words",
    ),
    "prefix in bytes": (
        {"model": {"type": "BPE", "continuing_subword_prefix": "é", "vocab": CUT, "merges": []}},
        "continuing_subword_prefix is 'é'; expected ASCII",
    ),
    "long pieces": (
        {"model": {"type": "Unigram", "unk_id": 0, "vocab": [["ab" * 6000, -1.0]] * 700}},
        "model: vocab has 8,400,000 characters; expected at most 8,388,608 of all together",
    ),
    "long tokens": (
        {"added_tokens": [{"id": 0, "content": "[PAD]" * 220_000}]},
        "added_tokens has 1,100,000 characters; expected at most 1,048,576",
    ),
    "one id": ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}, "one id to two words"),
    "dropout": ({"model": {"type": "BPE", "dropout": 0.1, "vocab": WORDS, "merges": []}}, "dropout is 0.1"),
    "unknown word": (
        {"model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "?"}},
        r"unk_token is '\?'",
    ),
    "no unknown word": ({"model": {"type": "WordPiece", "vocab": WORDS}}, "unk_token is None"),
    "no unknown piece": ({"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}, "unk_id is None"),
    "no pieces": ({"model": {"type": "Unigram", "unk_id": 0, "vocab": []}}, "unk_id is 0"),
    "no number": ({"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", float("nan")]]}}, "vocab is"),
    "negative id": ({"model": {"type": "WordLevel", "vocab": {"a": -1}, "unk_token": "a"}}, "vocab is"),
    "no model": ({"model": None}, "it has no object 'model'"),
    "model": ({"model": {"type": "Oracle"}}, "model is a 'Oracle'; expected one of BPE"),
    "field": ({"plugin": "x"}, "has the field 'plugin'"),
    "added id": ({"added_tokens": [{"id": 2**32 - 1, "content": "zebra"}]}, "it is not|gives 'zebra' the id"),
    "added nothing": ({"added_tokens": [{"id": 3, "content": ""}]}, "added_tokens is"),
    "side": ({"padding": {"direction": "Left"}}, "it is not a tokenizer.json|direction 'Left'"),
    "template": (
        {
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "X", "type_id": 0}}],
                "pair": [],
                "special_tokens": {},
            }
        },
        r"has a token with the ids \[\]; expected one id|not a tokenizer",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_what_is_refused(values, change, message, capfd):
    start = time.process_time()
    with pytest.raises(ja.JaxalignError, match=message) as caught:
        make(values | change)
    assert time.process_time() - start < 1
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # no panic of Rust


@pytest.mark.parametrize(
    "pattern",
    [
        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        r"<\|startoftext\|>|<\|endoftext\|>|'s|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+(?!\S)|\s+",
        r"\s+",
        " {2,}",
    ],
)
def test_patterns_of_known_tokenizers(values, pattern):
    found = make(values | {"pre_tokenizer": split({"Regex": pattern}), "normalizer": NESTED})
    assert found.encode(["A"]) == [[4]]


def test_what_the_library_stops_at_is_one_line():
    """Its panics are no `Exception`, and it raises plain ones at encoding."""

    class PanicException(BaseException):
        pass

    for error in (PanicException("index out of bounds\nnote: run"), Exception("unknown token\nmore")):
        message = r"^it fails: (index out of bounds|unknown token)$"
        with pytest.raises(ja.JaxalignError, match=message), _one_line("it fails"):
            raise error
    with pytest.raises(KeyboardInterrupt), _one_line("it fails"):
        raise KeyboardInterrupt
    bpe = {"type": "BPE", "vocab": WORDS, "merges": [["a", "b"]], "unk_token": "?"}
    with pytest.raises(ja.JaxalignError, match="this vocabulary cannot split the texts"):
        make({"model": bpe}).encode(["ab z"])


@pytest.mark.long
def test_ids_count_and_not_tokens(values, clip, tmp_path):
    """Few tokens with large ids: their embeddings would be NaN."""
    other = copy.deepcopy(values)
    other["model"]["vocab"]["blue"] = 14
    (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(ja.JaxalignError, match="has ids up to 14, the text tower 14 tokens"):
        load_tokenizer(clip.spec, tmp_path)
    other["model"]["vocab"] = {**values["model"]["vocab"], **{f"w{i}": 5000 + i for i in range(100_000)}}
    (tmp_path / "tokenizer.json").write_text(json.dumps(other))
    start = time.process_time()
    with pytest.raises(ja.JaxalignError, match="has ids up to 104999"):
        load_tokenizer(clip.spec, tmp_path)
    assert time.process_time() - start < 3


def roberta(start: int, end: int) -> dict:
    return {
        "type": "RobertaProcessing",
        "cls": ["<start>", start],
        "sep": ["<end>", end],
        "trim_offsets": False,
        "add_prefix_space": False,
    }


def test_the_frame_is_the_template_s(values, clip, tmp_path):
    """Where nothing else says which tokens start and end a text, the file's own template does."""
    text = replace(clip.config.text, end_token=None, pooling="argmax")
    spec = replace(clip.spec, tokens=None, start_token=None, towers=replace(clip.config, text=text))
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(values))
    with pytest.raises(ja.JaxalignError, match="ends a text with no token"):
        load_tokenizer(spec, tmp_path)
    path.write_text(json.dumps(values | {"post_processor": roberta(2, 3)}))
    assert load_tokenizer(spec, tmp_path)(["a cat"])[0].tolist() == [2, 4, 7, 3] + [0] * 6
    template = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<end>", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<end>": {"id": "<end>", "ids": [3], "tokens": ["<end>"]}},
    }
    assert make(values | {"post_processor": template}).frame == (None, 3)


def test_words_of_clip_in_a_file(tmp_path):
    """CLIP's own, whoever wrote the file; one more token, merge or step, and the file counts."""
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {names.get(token, token): i for token, i in _vocabulary_and_merges()[0].items()}
    merges = [list(pair) for pair in _vocabulary_and_merges()[1]]
    own = huggingface_values(words, merges, {"<|startoftext|>": 49406, "<|endoftext|>": 49407})
    assert is_clip(own, 49408)
    assert not is_clip(
        own | {"added_tokens": [*own["added_tokens"], {"id": 49408, "content": "<me>"}]}, 49409
    )
    assert not is_clip(own | {"model": own["model"] | {"merges": [merges[1], merges[0], *merges[2:]]}}, 49408)
    assert not is_clip(own | {"normalizer": {"type": "Lowercase"}}, 49408)
    again = {"added_tokens": [{"id": 49408, "content": "<start_of_text>"}]}
    assert is_clip(own | again, 49408)  # the tower has no such id
    assert not is_clip(own | again, 49409)


def test_maps_of_sentencepiece():
    sentencepiece = pytest.importorskip("sentencepiece")
    proto = pytest.importorskip("sentencepiece.sentencepiece_model_pb2", reason="needs protobuf")
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a cat and a dog"] * 20),
        model_writer=content,
        vocab_size=20,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    model = proto.ModelProto()
    model.ParseFromString(content.getvalue())
    whole = model.normalizer_spec.precompiled_charsmap
    assert check_precompiled(base64.b64encode(whole).decode(), "it") == 18  # one ligature becomes 18 letters
    rng = np.random.default_rng(0)
    (size,) = struct.unpack_from("<I", whole)
    for i in rng.integers(4, 4 + size, 8):  # a damaged trie is refused, or still leads nowhere outside
        damaged = bytearray(whole)
        damaged[i] ^= int(rng.integers(1, 256))
        with contextlib.suppress(ja.JaxalignError):
            check_precompiled(base64.b64encode(bytes(damaged)).decode(), "it")
    for cut in (whole[:3], whole[: size // 2], whole[: 4 + size] + b"\xff"):
        with pytest.raises(ja.JaxalignError, match="it Precompiled: the map is damaged"):
            check_precompiled(base64.b64encode(cut).decode(), "it")
