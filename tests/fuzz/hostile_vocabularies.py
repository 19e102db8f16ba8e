"""`tokenizer.json` whose parts are of the right form and do the wrong thing."""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

from .mutant import HOSTILE_TEXTS, Mutate, pick_count, pick_size
from .raw import mutate_bytes

_REGEXES = (
    "(a+)+$",
    "(a|aa)+!x",
    "(?:a*)*b",
    "(",
    "[",
    "\\",
    "(?<x>a)\\g<x>",
    "a{1000}{1000}",
    "(" * 5000 + ")" * 5000,
)
_REGEXES += ("", "^", "(?=a)", "\\p{L}", "(?i)ß", "[\\w--\\d]", "(?<!a+)b", ".", "\\X", "(?:)*")


def with_hostile_parts(otherwise: Mutate) -> Mutate:
    """Half of the cases exchange a part, the others are those of `otherwise`."""

    def mutate(rng: random.Random, content: bytes, other: bytes) -> tuple[str, bytes]:
        if rng.random() < 0.5:
            return otherwise(rng, content, other)
        parts = json.loads(content)
        for _ in range(rng.choice((1, 1, 2))):
            _CHANGES[kind := rng.choice(tuple(_CHANGES))](rng, parts)
        return kind, json.dumps(parts).encode("utf-8", "surrogatepass")

    return mutate


def _normalizer(rng: random.Random, parts: dict[str, Any]) -> None:
    text = lambda: rng.choice(HOSTILE_TEXTS).encode("utf-8", "ignore").decode()
    replacing = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    kinds: tuple[Callable[[], dict], ...] = (
        lambda: {"type": "Sequence", "normalizers": [replacing] * rng.choice((2, 20, 40))},
        lambda: {"type": "Replace", "pattern": {"Regex": rng.choice(_REGEXES)}, "content": text()},
        lambda: {"type": "Replace", "pattern": {"String": text()}, "content": text() * rng.choice((1, 1000))},
        lambda: {"type": "Prepend", "prepend": text()},
        lambda: {"type": "Precompiled", "precompiled_charsmap": _map(rng)},
        lambda: {"type": rng.choice(("NFD", "NFKC", "Lowercase", "StripAccents", "Nmt", "ByteLevel"))},
        lambda: {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": True,
        },
    )
    parts["normalizer"] = rng.choice(kinds)()


def _map(rng: random.Random) -> str:
    """SentencePiece's normalisation: the size of a trie, the trie, and texts that it points into."""
    size = rng.choice((0, 4, 8, pick_size(rng)))
    content = (size % 2**32).to_bytes(4, "little") + bytes(
        rng.randrange(256) for _ in range(rng.choice((0, 4, 40, 1000)))
    )
    return base64.b64encode(mutate_bytes(rng, content)).decode()


def _splitter(rng: random.Random, parts: dict[str, Any]) -> None:
    behaviour = rng.choice(("Removed", "Isolated", "MergedWithNext", "MergedWithPrevious", "Contiguous"))
    split = {
        "type": "Split",
        "pattern": {"Regex": rng.choice(_REGEXES)},
        "behavior": behaviour,
        "invert": False,
    }
    split["invert"] = rng.random() < 0.5
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    kinds = (
        split,
        split,
        {"type": "Sequence", "pretokenizers": [split] * 30},
        metaspace,
        None,
        {"type": "Digits"},
    )
    parts["pre_tokenizer"] = rng.choice(kinds)


def _numbers(rng: random.Random, parts: dict[str, Any]) -> None:
    """Ids that are too large, negative, doubled or missing."""
    vocabulary = parts["model"]["vocab"]
    first = rng.choice((3_000_000, 2**32 - 20, 14, 1, pick_size(rng)))
    if isinstance(vocabulary, dict):
        chosen = rng.sample(sorted(vocabulary), rng.randint(min(1, len(vocabulary)), len(vocabulary)))
        vocabulary |= {word: rng.choice((first, first + i)) for i, word in enumerate(chosen)}
    else:
        parts["model"]["vocab"] = [
            [word, rng.choice((score, 0, 1e308, -1e308))] for word, score in vocabulary
        ]
        parts["model"]["unk_id"] = rng.choice((None, pick_size(rng), 0))


def _words(rng: random.Random, parts: dict[str, Any]) -> None:
    """No unknown token, no words, or another kind of model for the same words."""
    model = parts["model"]
    model["type"] = rng.choice((model["type"], model["type"], "BPE", "WordLevel", "WordPiece", "Unigram"))
    match rng.randrange(5):
        case 0:
            model["vocab"] = type(model["vocab"])()
        case 1:
            model["unk_token"] = rng.choice((None, "<none>", "", "[UNK]"))
        case 2 if isinstance(model["vocab"], dict):
            model["vocab"].pop(rng.choice(sorted(model["vocab"])))
        case 3:
            model["vocab"] = dict.fromkeys(map(str, range(pick_count(rng, 3000))), 1)
        case _:
            model |= {
                "continuing_subword_prefix": rng.choice((None, "##", "")),
                "max_input_chars_per_word": 2**40,
            }


def _merges(rng: random.Random, parts: dict[str, Any]) -> None:
    known = sorted(parts["model"]["vocab"]) if isinstance(parts["model"]["vocab"], dict) else ["a"]
    word = lambda: rng.choice((*known, *known, "zz", "", "\0", "a b"))
    merges = [[word(), word()] for _ in range(rng.choice((1, 3, 1000)))]
    options = {"dropout": rng.choice((None, 0.5, 1.0, 2.0, -1.0)), "byte_fallback": True, "fuse_unk": True}
    parts["model"] |= {"type": "BPE", "merges": rng.choice((merges, [" ".join(m) for m in merges]))} | options


def _added(rng: random.Random, parts: dict[str, Any]) -> None:
    """Tokens beside the model's: hostile texts, any ids, thousands of them."""
    flags = {
        name: rng.random() < 0.5 for name in ("single_word", "lstrip", "rstrip", "normalized", "special")
    }
    texts = [text for text in HOSTILE_TEXTS if text.isprintable() or text.isspace()]
    parts["added_tokens"] += [
        {"id": rng.choice((i + 14, pick_size(rng))), "content": f"{rng.choice(texts)}{i or ''}", **flags}
        for i in range(pick_count(rng, 300))
    ]


_CHANGES = {
    "normalizer": _normalizer,
    "splitter": _splitter,
    "numbers": _numbers,
    "words": _words,
    "merges": _merges,
    "added": _added,
}
