"""What `jaxalign search` looks for, and how it shows what it finds."""

import sys
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxalign.errors import JaxalignError
from jaxalign.eval.terminal import say

from .groups import DEFAULT_MODEL, ModelOptions
from .options import NullPaths, PageFile, PathsAlone, UsageError, option
from .printing import STANDARD_OUTPUT, check_file

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.search import Query
    from jaxalign.eval.tasks.workspace import Workspace


@dataclass(frozen=True)
class QueryOptions:
    """What to look for: images, texts, or both. Quote a text of several words."""

    query: Annotated[
        tuple[str, ...], option("Images to search with; - is standard input.", "IMAGE [IMAGE ...]", "none")
    ] = ()
    like_row: Annotated[
        tuple[int, ...],
        option("Images of --from to search with, by the numbers in its table.", "N [N ...]", "none"),
    ] = ()
    text: Annotated[
        tuple[str, ...],
        option("Texts to search with, compared by the model's own projectors.", "TEXT [TEXT ...]", "none"),
    ] = ()
    minus_query: Annotated[
        tuple[str, ...], option("Images whose likes are not wanted.", "IMAGE [IMAGE ...]", "none")
    ] = ()
    minus_text: Annotated[
        tuple[str, ...], option("Texts for what is not wanted.", "TEXT [TEXT ...]", "none")
    ] = ()
    weights: Annotated[
        tuple[float, ...],
        option(
            "Weights, numbers above 0, of each --query, --like-row, --text, --minus-query and"
            " --minus-text, in this order.",
            "W [W ...]",
            "1 each",
        ),
    ] = ()
    from_result: Annotated[
        Path | None,
        option("Result of an earlier search, written by --json, for --like-row.", "FILE", "none"),
        tyro.conf.arg(aliases=["--from"]),
    ] = None

    def check(self) -> None:
        """Raise UsageError for what asks for nothing, or weights that are no weights of it."""
        if not (self.query or self.like_row or self.text):
            raise UsageError(
                "there is nothing to look for; expected one or more of --query, --text and --like-row"
            )
        if bool(self.like_row) != (self.from_result is not None):
            raise UsageError("--like-row N and --from FILE go together; got one of both")
        count = sum(map(len, (self.query, self.like_row, self.text, self.minus_query, self.minus_text)))
        if self.weights and len(self.weights) != count:
            raise UsageError(f"--weights has {len(self.weights)} numbers for {count} images and texts")
        for weight in self.weights:
            if not (isfinite(weight) and weight > 0):
                raise UsageError(
                    f"--weights has {weight:g}; expected numbers above 0 (--minus-text subtracts)"
                )
        if any(not text.strip() for text in (*self.text, *self.minus_text)):
            raise UsageError("a text is empty; expected what an image shows")
        if (*self.query, *self.minus_query).count("-") > 1:
            raise UsageError("standard input is given twice; it holds one image")

    def read(self) -> "Query":
        """Images that were opened, and texts; raises JaxalignError for an image that cannot be read."""
        from jaxalign.eval.search import Query, read_found_files, read_query_image

        rows = read_found_files(self.from_result, self.like_row) if self.from_result else []
        parts = (self.query, rows, self.text, self.minus_query, self.minus_text)
        weights = iter(self.weights or [1.0] * sum(map(len, parts)))
        query, rows, text, minus_query, minus_text = ([(of, next(weights)) for of in part] for part in parts)
        wanted = [(read_query_image(image), weight) for image, weight in (*query, *rows)]
        unwanted = [(read_query_image(image), -weight) for image, weight in minus_query]
        texts = (*text, *((of, -weight) for of, weight in minus_text))
        return Query((*wanted, *unwanted), texts)


@dataclass(frozen=True)
class OutputOptions:
    """What is shown of what was found."""

    first: Annotated[int, option("Results of each ranking.", "N")] = 10
    min_score: Annotated[float | None, option("Lowest score of a result.", "SCORE", "none")] = None
    paths: PathsAlone = False
    null: NullPaths = False
    page: PageFile = None
    open: Annotated[bool, option("Open the page in the browser; without --page it is a temporary file.")] = (
        False
    )
    sheet: Annotated[Path | None, option("Image of the results, all in one.", "FILE.png", "none")] = None
    compare: Annotated[
        bool,
        option(
            "Show two rankings: before, by the model's embeddings as they are, and after, by --method; what"
            " the other one does not have is marked."
        ),
    ] = False

    @property
    def paths_alone(self) -> bool:
        return self.paths or self.null

    def check(self, json: Path | None) -> None:
        """Raise UsageError for what cannot be meant, JaxalignError for files that cannot be written."""
        if self.first < 1:
            raise UsageError(f"--first is {self.first}; expected 1 or more")
        if self.min_score is not None and not isfinite(self.min_score):
            raise UsageError(f"--min-score is {self.min_score}; expected a number")
        for name, ending in {"sheet": ".png", "page": ".html"}.items():
            file = getattr(self, name)
            if file is not None and file.suffix.lower() != ending:
                raise UsageError(f"--{name} is {file}; expected a file name that ends in {ending}")
            check_file(file)
        if self.paths_alone and self.compare:
            raise UsageError("--paths are those of one ranking, and --compare has two; leave out one of both")
        if self.paths_alone and json == STANDARD_OUTPUT:
            raise UsageError("--paths and --json - both go to standard output; give --json a file")


@dataclass(frozen=True)
class FoundModel(ModelOptions):
    """The model, and how it computes."""

    model: Annotated[
        str | None,
        option(
            "A name of `jaxalign models`, a folder or a file; of features:PATH, the model that gave them.",
            "MODEL",
            "the first that has been fetched: see `jaxalign fetch --help`",
        ),
    ] = None

    def load(self, workspace: "Workspace") -> "DualEncoder":
        """The model that was named, or the first that is in the hub's cache."""
        if self.model is not None:
            return super().load(workspace)
        from jaxalign.eval.availability import BEGIN_WITH, first_cached
        from jaxalign.specs import find_spec

        from .models import count_parameters

        if (spec := first_cached()) is None:
            best = find_spec(BEGIN_WITH)
            size = 4 * count_parameters(best.towers) / 1e6
            raise JaxalignError(
                f"no model has been fetched; `jaxalign fetch {BEGIN_WITH}` downloads one ({size:,.0f} MB,"
                f" licence {best.licence}), or try the toy that knows emoji: --model {DEFAULT_MODEL}"
            )
        say(f"The model is {spec.name}, the first that has been fetched; --model chooses another", sys.stderr)
        return replace(self, model=spec.name).load(workspace)
