"""Texts to the token ids that a text tower takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxalign.clip_bpe import ClipBpe, clip_vocabulary
from jaxalign.errors import JaxalignError
from jaxalign.sentencepieces import SENTENCEPIECE, read_sentencepieces
from jaxalign.text_cleaning import CLEANERS, Cleaning

TOKENIZER_JSON = "tokenizer.json"
# Names that sources give their SentencePiece file: transformers, T5's and big_vision's, Gemma's.
SENTENCEPIECE_NAMES = (SENTENCEPIECE, "sentencepiece.model", "tokenizer.model", "gemma_tokenizer.model")
TOKENIZER_FILES = (TOKENIZER_JSON, *SENTENCEPIECE_NAMES)


class Vocabulary(Protocol):
    """How texts are split into ids: `JsonVocabulary`, `ClipBpe` or `SentencePieces`."""

    def __len__(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text alone: no start, end or padding, and not cut."""
        ...

    def files(self) -> dict[str, bytes]:
        """Name and content of what `load_tokenizer` needs to give the same."""
        ...


@dataclass(frozen=True)
class JsonVocabulary:
    """A `tokenizers.Tokenizer`; only its words count, its own template and padding are not used."""

    backend: Any = field(repr=False)

    def __len__(self) -> int:
        return self.backend.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [found.ids for found in self.backend.encode_batch(list(texts), add_special_tokens=False)]

    def files(self) -> dict[str, bytes]:
        return {TOKENIZER_JSON: self.backend.to_str().encode()}


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary and how its ids are laid out.

    Attributes:
      vocabulary: splits cleaned texts into ids.
      context: number of ids in a row.
      start_token: put before the words (CLIP); None for none (SigLIP, "sticky").
      end_token: put after the words, and kept when a text is cut to the context.
      pad_token: fills the rest, on the right.
      cleaning: what is done to a text first, by name (`jaxalign.text_cleaning`); None for nothing.
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
    path = next((path for name in wanted_files(spec) if (path := folder / name).is_file()), None)
    vocabulary = None if path is None else _read_vocabulary(path)
    if spec.vocabulary == "clip-bpe" and (vocabulary is None or _is_clip(vocabulary)):
        return make_tokenizer(spec, ClipBpe(), "CLIP's vocabulary")
    return None if vocabulary is None else make_tokenizer(spec, vocabulary, str(path))


def make_tokenizer(spec: Any, vocabulary: Vocabulary, where: str) -> Tokenizer:
    """`vocabulary` in the layout of `spec`; raises JaxalignError if it is another model's."""
    text = spec.towers.text
    if len(vocabulary) > text.vocabulary:
        raise JaxalignError(
            f"{where} has {len(vocabulary)} tokens, the text tower {text.vocabulary};"
            " it belongs to another model"
        )
    end = getattr(vocabulary, "end_token", None)
    if end is not None and end != text.end_token:
        raise JaxalignError(
            f"{where} ends a text with id {end}, the text tower with {text.end_token};"
            " it belongs to another model"
        )
    # a vocabulary of the checkpoint's own does its own cleaning where CLIP's was expected
    cleaning = None if spec.cleaning == "clip" and not isinstance(vocabulary, ClipBpe) else spec.cleaning
    return Tokenizer(vocabulary, text.context, spec.start_token, text.end_token, spec.pad_token, cleaning)


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


def _read_vocabulary(path: Path) -> Vocabulary:
    return read_json_vocabulary(path) if path.name == TOKENIZER_JSON else read_sentencepieces(path)


def read_json_vocabulary(path: Path) -> JsonVocabulary:
    """The vocabulary of a `tokenizer.json`; raises JaxalignError for a damaged one."""
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # tokenizers raises nothing narrower
        raise JaxalignError(f"{path} is not a tokenizer.json: {str(error).splitlines()[0]}") from error
    backend.no_padding()
    backend.no_truncation()
    return JsonVocabulary(backend)


def _is_clip(vocabulary: Vocabulary) -> bool:
    """Whether the words are CLIP's; sources name the two special tokens in several ways."""
    if not isinstance(vocabulary, JsonVocabulary):
        return False
    found = vocabulary.backend.get_vocab(with_added_tokens=False)
    ours = clip_vocabulary()
    return all(found.get(token) == i for token, i in ours.items() if i < len(ours) - 2)
