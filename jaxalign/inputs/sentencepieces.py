"""The vocabulary of a SentencePiece file (`spiece.model` and the like), as SigLIP's and SigLIP 2's are."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.local_files import read_limited

SENTENCEPIECE = "spiece.model"
LIMIT = 32 << 20  # bytes; Gemma's has four million


@dataclass(frozen=True)
class SentencePieces:
    """A `sentencepiece.SentencePieceProcessor`, whatever start and end it would add left out.

    A special token that is spelled out in a text is text like any other.
    """

    processor: Any = field(repr=False)

    def __len__(self) -> int:
        return self.processor.get_piece_size()

    @property
    def largest_id(self) -> int:
        return len(self) - 1

    def id_of(self, token: str) -> int | None:
        """The id of a piece; None where there is none of this name."""
        found = self.processor.piece_to_id(token)
        return found if self.processor.id_to_piece(found) == token else None

    @property
    def end_token(self) -> int | None:
        """The id that the file gives the end of a text; None where it has none."""
        token = self.processor.eos_id()
        return token if token >= 0 else None

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text alone."""
        return self.processor.encode(list(texts), out_type=int, add_bos=False, add_eos=False)

    def files(self) -> dict[str, bytes]:
        """What to write so that `read_sentencepieces` gives the same."""
        return {SENTENCEPIECE: self.processor.serialized_model_proto()}


def read_sentencepieces(path: Path) -> SentencePieces:
    """The vocabulary in the file `path`; raises JaxalignError for a missing or damaged one."""
    import sentencepiece

    content = read_limited(path, LIMIT)
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    except (RuntimeError, UnicodeDecodeError) as error:  # sentencepiece raises nothing narrower
        raise JaxalignError(f"{path} is no SentencePiece model, or cut off; download it again") from error
    if not content or not processor.get_piece_size():
        raise JaxalignError(f"{path} is empty; download it again")
    return SentencePieces(processor)
