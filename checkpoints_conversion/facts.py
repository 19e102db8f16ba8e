"""What configuration files say, by the names of our own fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.inputs.clip_bpe import ClipBpe
from jaxalign.inputs.json_vocabulary import JsonVocabulary
from jaxalign.inputs.sentencepieces import SentencePieces
from jaxalign.inputs.tokenization import Vocabulary

# Of a `ModelSpec`, where nothing says how texts become ids.
UNKNOWN_TOKENS: Mapping[str, Any] = {"vocabulary": "tokenizer.json", "tokens": None, "start_token": None}
_KINDS = {ClipBpe: "clip-bpe", SentencePieces: "sentencepiece", JsonVocabulary: "tokenizer.json"}


@dataclass(frozen=True)
class Tokens:
    """A vocabulary and what is put around its words.

    Attributes:
      kind: the class of transformers' tokenizer; None where no file names one.
      where: the file of the vocabulary.
      start, end, pad: ids; None for none, or where nothing says which.
    """

    vocabulary: Vocabulary
    kind: str | None
    where: str
    start: int | None
    end: int | None
    pad: int | None


@dataclass(frozen=True)
class Facts:
    """Facts of a configuration file, by the names of our own fields; empty where there is no such file.

    Attributes:
      image, text: of `ImageTowerConfig` (or `ResNetConfig`) and `TextTowerConfig`.
      spec: of `ModelSpec`: preprocessing and tokens.
      tokens: what the tokenizer's files say; None where there are none, or nothing was looked for.
    """

    image: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    spec: Mapping[str, Any] = field(default_factory=dict)
    tokens: Tokens | None = None

    def with_tokens(self, tokens: Tokens, cleaning: str | None) -> "Facts":
        """These with `tokens`, and what is done to a text before.

        Raises:
          JaxalignError: tokens with which the tower would pool something else than the end of a text.
        """
        pooling, pooled = self.text.get("pooling"), self.text.get("end_token")
        if tokens.end is None:
            raise JaxalignError(f"{tokens.where} puts no token at the end of a text; expected one")
        if pooling == "end" and pooled != tokens.end:
            raise JaxalignError(
                f"{tokens.where}: texts end with the id {tokens.end}, but the tower pools the id {pooled}, as"
                " eos_token_id or eos_id says; expected the same"
            )
        if pooling == "argmax" and tokens.pad is not None and tokens.pad > tokens.end:
            raise JaxalignError(
                f"{tokens.where}: the tower pools the largest id, and that of the padding is {tokens.pad},"
                f" larger than {tokens.end}, which ends a text; expected a smaller one"
            )
        spec: dict[str, Any] = {
            "vocabulary": _KINDS[type(tokens.vocabulary)],
            "tokens": "sticky" if tokens.start is None else "causal",
            "start_token": tokens.start,
            "cleaning": cleaning,
        }
        if tokens.pad is not None:
            spec["pad_token"] = tokens.pad
        text = {**self.text, "end_token": tokens.end}
        return replace(self, text=text, spec={**self.spec, **spec}, tokens=tokens)

    def without_tokens(self) -> "Facts":
        """These where nothing says how texts become ids."""
        text = {"end_token": None, **self.text}
        return replace(self, text=text, spec={**self.spec, **UNKNOWN_TOKENS})
