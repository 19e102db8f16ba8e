"""The words of the embedded models: tokenizer and fixed vectors."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from jaxalign.eval.datasets.emoji import scenes
from jaxalign.eval.datasets.emoji.sprites import read_emoji

PAD, UNKNOWN, START, END = "[PAD]", "[UNK]", "<start>", "<end>"
CONTEXT = 20
WORD = 128  # width of the text tower and of the word vectors
FREQUENT = 4  # a word in so many training names gets an embedding of its own beside its WordNet vector


def split_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+|[^\sa-z0-9]", text.lower())


def caption_words() -> set[str]:
    """The words of the captions that are not names or keywords."""
    spoken = (
        scenes.KINDS,
        scenes.SPOKEN_STYLES.values(),
        scenes.BACKGROUNDS,
        scenes.TEXTURES,
        scenes.SIZES,
    )
    texts = [text for group in spoken for text in group] + [
        *scenes.PLACES,
        "a an of at the on and background , in white symbol",
    ]
    return {word for text in texts for word in split_words(text)}


def vocabulary_words(more: Iterable[str] = ()) -> list[str]:
    """Every word of the emoji's names and keywords, of the captions, and `more`, in order."""
    texts = (text for e in read_emoji() for text in (e.name, *e.keywords))
    return sorted({w for text in texts for w in split_words(text)} | caption_words() | set(more))


def build_tokenizer(words: list[str]) -> Tokenizer:
    """Whole words of Unicode's English emoji names and keywords, single characters for every other word."""
    characters = sorted(set("".join(words)) | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    vocabulary = [PAD, UNKNOWN, START, END, *words]
    known = set(vocabulary)
    vocabulary += [p + c for p in ("", "##") for c in characters if p + c not in known]
    tokenizer = Tokenizer(
        models.WordPiece(
            {w: i for i, w in enumerate(vocabulary)}, unk_token=UNKNOWN, max_input_chars_per_word=100
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([PAD, UNKNOWN, START, END])
    return tokenizer


class Words:
    """The tokenizer with the ids of what stands between spaces kept: captions repeat their words."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.ids: dict[str, list[int]] = {}

    def of(self, word: str) -> list[int]:
        if word not in self.ids:
            self.ids[word] = self.tokenizer.encode(word, add_special_tokens=False).ids
        return self.ids[word]

    def tokenize(self, texts: Sequence[str], causal: bool) -> np.ndarray:
        """Token ids int32 [n, CONTEXT]: start, words, end, padding; no start for the bidirectional tower."""
        ids = np.zeros((len(texts), CONTEXT), np.int32)
        for row, text in zip(ids, texts, strict=True):
            tokens = [2] * causal
            for word in text.split():
                tokens += self.of(word)
            tokens = [*tokens[: CONTEXT - 1], 3]
            row[: len(tokens)] = tokens
        return ids


def embedding_basis(
    words: list[str], size: int, wordnet: Path, names: Iterable[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Fixed vectors [size, WORD] of the vocabulary; a mask [size, 1] of the words that learn their own.

    Args:
      names: training names beside those of the emoji.
    """
    from word_vectors import word_vectors  # with scikit-learn, which takes seconds

    rng = np.random.default_rng(0)
    vectors = rng.normal(0, 0.5 / WORD**0.5, (size, WORD)).astype(np.float32)
    learns = np.ones((size, 1), np.float32)
    found = word_vectors(words, wordnet, WORD)
    emoji = [e.name for e in read_emoji() if e.split == "train"]
    counts = Counter(word for name in {*emoji, *names} for word in set(split_words(name)))
    own = caption_words()
    for i, (word, vector) in enumerate(zip(words, found, strict=True), start=4):
        if vector.any():
            vectors[i] = vector
            learns[i] = word in own or counts[word] >= FREQUENT
    return vectors, learns
