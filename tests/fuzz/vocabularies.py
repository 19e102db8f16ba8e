"""Tiny valid vocabularies: `tokenizer.json` of several kinds, and SentencePiece models."""

import random
import tempfile
from functools import cache
from pathlib import Path

import sentencepiece
import tokenizers
from conftest import WORDS
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

_CORPUS = [
    "a",
    "photo",
    "of",
    "the",
    "cat",
    "dog",
    "red",
    "blue",
    "apple",
    "on",
    "under",
    "near",
    "house",
    "tree",
    "with",
    "and",
    "10",
    "don't",
    "über",
    "日本",
]


@cache
def json_vocabularies() -> tuple[bytes, ...]:
    """A model of each kind, with normalisers and splits."""
    words = {word: i for i, word in enumerate(WORDS)}
    letters = {letter: i for i, letter in enumerate("abcdefgh")} | {"ab": 8, "abc": 9, "[UNK]": 10}
    pieces = [("[UNK]", -5.0), ("a", -1.0), ("b", -2.0), ("ab", -1.5), ("▁", -3.0)]
    kinds = (
        (
            models.WordPiece(words, unk_token="[UNK]"),
            normalizers.Lowercase(),
            pre_tokenizers.BertPreTokenizer(),
        ),
        (models.WordLevel(words, unk_token="[UNK]"), normalizers.NFKC(), pre_tokenizers.Whitespace()),
        (
            models.BPE(letters, [("a", "b"), ("ab", "c")], unk_token="[UNK]"),
            normalizers.Sequence([normalizers.Replace("x", "y"), normalizers.StripAccents()]),
            pre_tokenizers.Split(tokenizers.Regex(r"\w+|[^\w\s]+"), "isolated"),
        ),
        (
            models.Unigram(pieces, unk_id=0, byte_fallback=False),
            normalizers.Prepend("▁"),
            pre_tokenizers.Metaspace(),
        ),
    )
    found = []
    for model, normalizer, splitter in kinds:
        backend = tokenizers.Tokenizer(model)
        backend.normalizer, backend.pre_tokenizer = normalizer, splitter
        backend.decoder = decoders.ByteLevel()
        backend.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
        backend.add_special_tokens([WORDS[1]])
        found.append(backend.to_str().encode())
    return tuple(found)


@cache
def sentencepieces() -> tuple[bytes, ...]:
    """One like T5's and one like Gemma's."""
    rng = random.Random(0)
    corpus = [" ".join(rng.choices(_CORPUS, k=8)) for _ in range(300)]
    kinds = (
        {"model_type": "unigram", "bos_id": -1, "unk_id": 2, "vocab_size": 60},
        {
            "model_type": "bpe",
            "bos_id": 2,
            "unk_id": 3,
            "vocab_size": 320,
            "byte_fallback": True,
            "normalization_rule_name": "identity",
        },
    )
    with tempfile.TemporaryDirectory() as folder:
        for i, options in enumerate(kinds):
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(corpus),
                model_prefix=f"{folder}/{i}",
                pad_id=0,
                eos_id=1,
                hard_vocab_limit=False,
                minloglevel=2,
                num_threads=1,
                **options,
            )
        return tuple(Path(folder, f"{i}.model").read_bytes() for i in range(len(kinds)))
