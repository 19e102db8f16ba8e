"""Texts to the token ids that a text tower takes, with the vocabulary of a `tokenizer.json`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError


@dataclass(frozen=True)
class Tokenizer:
    """A `tokenizers.Tokenizer` and how its ids are laid out.

    Attributes:
      backend: a `tokenizers.Tokenizer`; only its words count, its own template and padding are not used.
      context: number of ids in a row.
      start_token: put before the words (CLIP); None for none (SigLIP, "sticky").
      end_token: put after the words, and kept when a text is cut to the context.
      pad_token: fills the rest.
    """

    backend: Any
    context: int
    start_token: int | None
    end_token: int
    pad_token: int

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
        return [encoding.ids for encoding in self.backend.encode_batch(list(texts), add_special_tokens=False)]


def read_backend(path: Path) -> Any:
    """The `tokenizers.Tokenizer` of a `tokenizer.json`; raises JaxalignError for a damaged one."""
    import tokenizers

    try:
        backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises nothing narrower
        raise JaxalignError(f"{path} is not a tokenizer.json: {str(error).splitlines()[0]}") from error
    backend.no_padding()
    backend.no_truncation()
    return backend
