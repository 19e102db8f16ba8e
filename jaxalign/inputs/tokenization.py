"""Texts to the token ids that a text tower takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.inputs.clip_bpe import ClipBpe, is_clip
from jaxalign.inputs.json_vocabulary import (
    LIMIT,
    TOKENIZER_JSON,
    JsonVocabulary,
    check_tokenizer,
    largest_id,
    make_json_vocabulary,
)
from jaxalign.inputs.json_vocabulary import read_json_vocabulary as read_json_vocabulary
from jaxalign.inputs.sentencepieces import SENTENCEPIECE, SentencePieces, read_sentencepieces
from jaxalign.inputs.text_cleaning import CLEANERS, Cleaning
from jaxalign.local_files import read_json

# Names that sources give their SentencePiece file: transformers, T5's and big_vision's, Gemma's.
SENTENCEPIECE_NAMES = (SENTENCEPIECE, "sentencepiece.model", "tokenizer.model", "gemma_tokenizer.model")
TOKENIZER_FILES = (TOKENIZER_JSON, *SENTENCEPIECE_NAMES)


class Vocabulary(Protocol):
    """How texts are split into ids: `JsonVocabulary`, `ClipBpe` or `SentencePieces`."""

    def __len__(self) -> int: ...

    @property
    def largest_id(self) -> int: ...

    def id_of(self, token: str) -> int | None:
        """The id of a special token; None where there is none of this name."""
        ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text alone: no start, end or padding, and not cut."""
        ...

    def files(self) -> dict[str, bytes]:
        """Name and content of what `load_tokenizer` needs to give the same."""
        ...


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary and how its ids are laid out.

    Attributes:
      vocabulary: splits cleaned texts into ids.
      context: number of ids in a row.
      start_token: put before the words (CLIP); None for none (SigLIP, "sticky").
      end_token: put after the words, and kept when a text is cut to the context.
      pad_token: fills the rest, on the right.
      cleaning: what is done to a text first, by name (`jaxalign.inputs.text_cleaning`); None for nothing.
    """

    vocabulary: Vocabulary
    context: int
    start_token: int | None
    end_token: int
    pad_token: int
    cleaning: Cleaning | None = None

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Token ids int32 `[n, context]`; raises JaxalignError for anything but a sequence of strings."""
        if isinstance(texts, str):
            raise JaxalignError(f'texts is one string, {texts!r:.60}; expected a list: ["..."]')
        if not isinstance(texts, Sequence | np.ndarray):
            raise JaxalignError(f"texts is a {type(texts).__name__}; expected a list of strings")
        texts = list(texts)
        ids = np.full((len(texts), self.context), self.pad_token, np.int32)
        for row, words in zip(ids, self.words(texts), strict=True):
            tokens = words if self.start_token is None else [self.start_token, *words]
            tokens = [*tokens[: self.context - 1], self.end_token]
            row[: len(tokens)] = tokens
        return ids

    def words(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text alone: no start, end or padding, and not cut."""
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise JaxalignError(f"text {i} is a {type(text).__name__}; expected a string")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise JaxalignError(
                    f"text {i}, {text!r:.60}, has half of a surrogate pair; expected text that was decoded as"
                    " UTF-8, as open(..., encoding='utf-8') does"
                ) from None
        clean = CLEANERS[self.cleaning] if self.cleaning else str
        return self.vocabulary.encode([clean(text) for text in texts])

    def files(self) -> dict[str, bytes]:
        """Name and content of the files to keep beside the weights, for `load_tokenizer`."""
        return self.vocabulary.files()


def load_tokenizer(spec: Any, folder: Path) -> Tokenizer | None:
    """The tokenizer of the checkpoint in `folder`, laid out as `spec` says.

    CLIP's vocabulary ships with the package, so that a `clip-bpe` model needs no file; one that comes with
    other words in its `tokenizer.json` is split as that says.

    Args:
      spec: a `jaxalign.specs.ModelSpec`.
      folder: where the checkpoint's files are; `TOKENIZER_FILES` are the names that are looked for.

    Returns:
      None for a model without text tower, and where the vocabulary is neither shipped nor in `folder`.

    Raises:
      JaxalignError: a damaged file, or a vocabulary that does not belong to the model.
    """
    if spec.vocabulary is None:
        return None
    as_file, size = spec.vocabulary != "clip-bpe", spec.towers.text.vocabulary
    path, vocabulary = find_vocabulary(folder, wanted_files(spec), size, as_file=as_file)
    if vocabulary is None and spec.vocabulary == "clip-bpe":
        vocabulary = ClipBpe()
    return None if vocabulary is None else make_tokenizer(spec, vocabulary, str(path or "CLIP's vocabulary"))


def find_vocabulary(
    folder: Path, names: Sequence[str], size: int, *, as_file: bool
) -> tuple[Path | None, Vocabulary | None]:
    """The first file of `names` in `folder`, and its vocabulary, for a tower of `size` tokens.

    CLIP's own, found there, is `ClipBpe`, unless texts are to be split `as_file` says.
    """
    path = next((path for name in names if (path := folder / name).exists()), None)
    if path is None:
        return None, None
    if path.name != TOKENIZER_JSON:
        return path, read_sentencepieces(path)
    values = check_tokenizer(read_json(path, LIMIT), str(path))
    if not as_file and is_clip(values, size):
        return path, ClipBpe()
    _check_ids(largest_id(values), size, str(path))  # before the library makes all of it
    return path, make_json_vocabulary(values, str(path))


def make_tokenizer(spec: Any, vocabulary: Vocabulary, where: str) -> Tokenizer:
    """`vocabulary` in the layout of `spec`; raises JaxalignError if it is another model's."""
    text = spec.towers.text
    _check_ids(vocabulary.largest_id, text.vocabulary, where)
    start, end = spec.start_token, text.end_token
    own = vocabulary.end_token if isinstance(vocabulary, SentencePieces) else None
    if None not in (own, end) and own != end:
        raise JaxalignError(
            f"{where} ends a text with id {own}, the text tower with {end}; it belongs to another model"
        )
    if spec.tokens is None and isinstance(vocabulary, JsonVocabulary):
        start, end = vocabulary.frame
    if end is None or text.end_token not in (None, end):
        raise JaxalignError(
            f"{where} ends a text with {'no token' if end is None else end}, the text tower with"
            f" {text.end_token or 'its largest id'}; expected a post_processor that puts tokens around a text"
        )
    # a vocabulary of the checkpoint's own does its own cleaning where CLIP's was expected
    cleaning = None if spec.cleaning == "clip" and not isinstance(vocabulary, ClipBpe) else spec.cleaning
    return Tokenizer(vocabulary, text.context, start, end, spec.pad_token, cleaning)


def _check_ids(largest: int, size: int, where: str) -> None:
    if largest >= size:
        raise JaxalignError(
            f"{where} has ids up to {largest}, the text tower {size} tokens; it belongs to another model"
        )


def wanted_files(spec: Any) -> tuple[str, ...]:
    """Names of the files of which one holds the vocabulary of `spec`, the best one first."""
    if spec.vocabulary == "sentencepiece":
        return (*SENTENCEPIECE_NAMES, TOKENIZER_JSON)
    return (TOKENIZER_JSON,) if spec.vocabulary == "clip-bpe" else TOKENIZER_FILES


def describe_missing(spec: Any) -> str:
    """For messages: which files a model of `spec` came without, and what to do."""
    names = {SENTENCEPIECE: f"{SENTENCEPIECE} or {TOKENIZER_JSON}"}.get(wanted_files(spec)[0], TOKENIZER_JSON)
    return (
        f"model {spec.name!r} came without {names}; put it into the model's folder (source: {spec.source})"
        " and load again, or pass token ids to apply_text"
    )
