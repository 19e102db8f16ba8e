"""What a search looks for: images and texts, each with a weight, and their features."""

import os
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.thumbnails import ON_PAGE, thumbnail
from jaxalign.inputs.image_files import FILE_LIMIT, opened_image, upright
from jaxalign.local_files import is_there, read_json

from .library import Library
from .ranking import Term

STANDARD_INPUT = "-"


@dataclass(frozen=True, eq=False)
class QueryImage:
    """An image to search with.

    Attributes:
      name: what people call it.
      source: its file, or the bytes of one.
      place: what `Library.positions` finds it by: its file, or for standard input the descriptor of a file
        that was redirected, or of a pipe the content.
      small: uint8 `[h, w, 3]`, upright, to be shown.
    """

    name: str
    source: Path | bytes
    place: Path | int | bytes
    small: np.ndarray

    @property
    def path(self) -> str:
        """Of its file; empty for standard input."""
        return str(self.source) if isinstance(self.source, Path) else ""

    def encode(self, model: DualEncoder) -> np.ndarray:
        """Pre-projection features `[d_image]`, of the image as it is shown."""
        with opened_image(self.source, f"the query {self.name}") as stored:
            return np.asarray(model.encode_image([upright(stored)], projected=False))[0]


@dataclass(frozen=True)
class Query:
    """Images and texts with their weights, those of what is not wanted below 0."""

    images: Sequence[tuple[QueryImage, float]] = ()
    texts: Sequence[tuple[str, float]] = ()

    def __str__(self) -> str:
        named = [(image.name, weight) for image, weight in self.images]
        named += [(f'"{text}"', weight) for text, weight in self.texts]
        parts = [
            f"{'-' if weight < 0 else '+'} {'' if abs(weight) == 1 else f'{abs(weight):g} '}{name}"
            for name, weight in named
        ]
        return " ".join(parts).removeprefix("+ ")

    def cut(self, model: DualEncoder) -> list[tuple[str, int]]:
        """The texts that are longer than the model reads, and how many tokens it reads of them."""
        tokenizer = model.require_tokenizer()
        most = tokenizer.context - 1 - (tokenizer.start_token is not None)
        words = tokenizer.words([text for text, _ in self.texts])
        return [(text, most) for (text, _), own in zip(self.texts, words, strict=True) if len(own) > most]

    def rows_of(self, library: Library) -> set[int]:
        """Where its images are in a library, under all names that links give them."""
        return {row for image, _ in self.images for row in library.positions(image.place)}

    def terms(self, model: DualEncoder, library: Library) -> list[Term]:
        """What it asks for; features of images that are in the library are not computed again."""
        found = []
        for image, weight in self.images:
            rows = library.positions(image.place)
            pre = library.features[rows[0]] if rows else image.encode(model)
            found.append(Term(weight, pre))
        if self.texts:
            pre = np.asarray(model.encode_text([text for text, _ in self.texts], projected=False))
            for (_, weight), own in zip(self.texts, pre, strict=True):
                found.append(Term(weight, own, is_text=True))
        return found


def read_query_image(given: str) -> QueryImage:
    """The image in a file, or of `-` that on standard input; raises JaxalignError where it is none."""
    if given == STANDARD_INPUT:
        name, source = "standard input", _read_standard_input()
        place = _origin(source)
    else:
        source = place = Path(os.path.expanduser(given))
        name = source.name
        if not is_there(source):
            raise JaxalignError(f"the query {source} is not there; expected an image file")
    where = f"the query {name if given == STANDARD_INPUT else source}"
    with opened_image(source, where) as image:
        return QueryImage(name, source, place, thumbnail(image, ON_PAGE))


def _origin(content: bytes) -> int | bytes:
    """Of what came on standard input: its descriptor where a file was redirected; of a pipe only the content
    says which file it was."""
    try:
        descriptor = sys.stdin.fileno()
        return descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else content
    except (AttributeError, OSError, ValueError):  # closed, or no file
        return content


def _read_standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        raise JaxalignError("the query - is standard input, which has nothing; pipe an image into it")
    content = sys.stdin.buffer.read(FILE_LIMIT + 1)
    if len(content) > FILE_LIMIT:
        raise JaxalignError(f"standard input has more than {FILE_LIMIT:,} bytes; expected an image")
    return content


def read_found_files(file: Path, rows: Sequence[int]) -> list[str]:
    """Files of results of an earlier search, of which `file` is the JSON.

    Args:
      rows: as its table counts them, from 1; of two rankings those of the second one.

    Raises:
      JaxalignError: a file of another kind, or a row that it has not.
    """
    said = read_json(file)
    try:
        found = said["results"]
        found = found["after"] if isinstance(found, dict) else found
        paths = [os.path.join(said["folder"], hit["file"]) for hit in found]
    except (LookupError, TypeError) as error:
        raise JaxalignError(f"{file} is no result of `jaxalign search --json`") from error
    for row in rows:
        if not 1 <= row <= len(paths):
            raise JaxalignError(f"--like-row is {row}; {file} has {len(paths)} results")
    return [paths[row - 1] for row in rows]
