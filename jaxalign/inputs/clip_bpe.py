"""CLIP's byte-pair vocabulary, which ships with the package (MIT, from OpenAI's CLIP and open_clip)."""

import gzip
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jaxalign.inputs.tokenizer_parts import chain

MERGES = Path(__file__).parent / "vocabularies" / "clip_bpe_merges.txt.gz"
NUM_MERGES = 49152 - 256 - 2  # CLIP uses so many of the 262,144 that the published file has
START, END = "<start_of_text>", "<end_of_text>"  # as open_clip writes them; OpenAI: <|startoftext|>
OPENAI_NAMES = {"<|startoftext|>": START, "<|endoftext|>": END}
_SUFFIX = "</w>"
# How transformers splits texts for these words; since version 5 the special tokens come first.
_HUGGINGFACE_SPECIAL = r"<\|startoftext\|>|<\|endoftext\|>|"
_HUGGINGFACE_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Contractions, words, single digits, runs of anything else. The case is ignored where it is in the original:
# lower-casing leaves the long s (U+017F) alone, which matches `s` then.
_WORDS = rf"(?i:{START}|{END}|'s|'t|'re|'ve|'m|'ll|'d)|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+"


class ClipBpe:
    """The 49,408 tokens of CLIP, split as OpenAI's `tokenize` and open_clip's `SimpleTokenizer` do.

    The texts are to be cleaned (`text_cleaning.clean_clip`) before. Code points that Unicode 16 does not know
    count as symbols, where a newer `regex` module may see letters.
    """

    def __init__(self):
        self._backend = _backend()
        self._special = {token: self._backend.token_to_id(token) for token in (START, END)}

    def __len__(self) -> int:
        return self._backend.get_vocab_size()

    @property
    def largest_id(self) -> int:
        return len(self) - 1

    def id_of(self, token: str) -> int | None:
        """The id of a token, the start and end by whoever's name; None where there is none of this name."""
        return self._backend.token_to_id(OPENAI_NAMES.get(token, token))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, without start and end."""
        # With its `IGNORECASE`, `regex` finds U+0345 neither in the letters nor outside of them.
        texts = [text.replace("\N{COMBINING GREEK YPOGEGRAMMENI}", " ") for text in texts]
        encoded = self._backend.encode_batch(texts, add_special_tokens=False)
        spelled = lambda text: START in text or END in text
        return [
            self._encode_spelled(text) if spelled(text) else found.ids
            for text, found in zip(texts, encoded, strict=True)
        ]

    def _encode_spelled(self, text: str) -> list[int]:
        """Of a text in which a special token is spelled out: it gets its id, as in the original."""
        ids: list[int] = []
        for word, (begin, end) in self._backend.pre_tokenizer.pre_tokenize_str(text):
            if text[begin:end] in self._special:
                ids.append(self._special[text[begin:end]])
            else:
                ids.extend(token.id for token in self._backend.model.tokenize(word))
        return ids

    def files(self) -> dict[str, bytes]:
        """None: whoever has the package has the vocabulary."""
        return {}


def is_clip(values: Mapping[str, Any], size: int) -> bool:
    """Whether a `tokenizer.json` that says `values`, which `check_tokenizer` took, is transformers' own for
    CLIP's words and no others.

    Sources name the two special tokens in several ways. Their names do not count where they were added once
    more, with ids from `size` on, which the tower does not have.
    """
    model, added = values["model"], values.get("added_tokens") or []
    words, merges = _vocabulary_and_merges()
    found, special = model["vocab"], {len(words) - 2, len(words) - 1}
    if model.get("type", "BPE") != "BPE" or len(found) != len(words) or len(model["merges"]) != len(merges):
        return False
    named = {token["id"] for token in added if token["content"] in (*OPENAI_NAMES, START, END)}
    others = {token["id"] for token in added} - special - {i for i in named if i >= size}
    is_equal = all(found.get(token) == i for token, i in words.items() if i not in special)
    pairs = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    return is_equal and not others and pairs == merges and is_usual(values)


def huggingface_values(
    words: Mapping[str, int], merges: Sequence[Sequence[str]], added: Mapping[str, int]
) -> dict[str, Any]:
    """The `tokenizer.json` that transformers makes of a CLIP tokenizer's older files."""
    replace = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    split = {"type": "Split", "pattern": {"Regex": _HUGGINGFACE_WORDS}, "behavior": "Removed", "invert": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False) | {"normalized": True, "special": False}
    return {
        "added_tokens": [{"content": token, "id": i} | flags for token, i in added.items()],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, replace, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "model": {"type": "BPE", "vocab": words, "merges": merges, "end_of_word_suffix": _SUFFIX},
    }


def huggingface_words() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Words and merges, the start and the end by the names that OpenAI and transformers have for them."""
    words, merges = _vocabulary_and_merges()
    theirs = {ours: name for name, ours in OPENAI_NAMES.items()}
    return {theirs.get(token, token): i for token, i in words.items()}, merges


def is_usual(values: Mapping[str, Any]) -> bool:
    """Whether the parts around the words of a `tokenizer.json` are those that transformers gives CLIP."""
    model = values["model"]
    steps = [(part.get("type"), part.get("content")) for part in chain(values, "normalizer")]
    first, *others = [*chain(values, "pre_tokenizer"), {}]
    pattern = first.get("pattern")
    pattern = pattern.get("Regex", "") if isinstance(pattern, Mapping) else ""
    return (
        not any(model.get(name) for name in ("byte_fallback", "ignore_merges", "continuing_subword_prefix"))
        and model.get("end_of_word_suffix") == _SUFFIX
        and steps == [("NFC", None), ("Replace", " "), ("Lowercase", None)]
        and pattern.removeprefix(_HUGGINGFACE_SPECIAL) == _HUGGINGFACE_WORDS
        and [(p.get("type"), p.get("add_prefix_space")) for p in others[:-1]] == [("ByteLevel", False)]
    )


@cache
def _vocabulary_and_merges() -> tuple[dict[str, int], list[tuple[str, str]]]:
    lines = gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in lines)]
    symbols = _byte_symbols()
    tokens = [
        *symbols,
        *(symbol + _SUFFIX for symbol in symbols),
        *(first + second for first, second in merges),
        START,
        END,
    ]
    return {token: i for i, token in enumerate(tokens)}, merges


def _byte_symbols() -> list[str]:
    """A visible character for each byte: those that have one of their own first, then the others from 256."""
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in own] + [chr(256 + i) for i in range(256 - len(own))]


@cache
def _backend() -> Any:
    """A `tokenizers.Tokenizer`, built once in a process."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    vocabulary, merges = _vocabulary_and_merges()
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=_SUFFIX))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return backend
