"""`jaxalign search`: one's own images that are like an image or fit a text."""

import sys
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxalign.errors import JaxalignError
from jaxalign.eval.terminal import say

from .groups import (
    DEFAULT_MODEL,
    ModelOptions,
    Projection,
    ProjectionOptions,
    Reading,
    ReadingOptions,
    Store,
    StoreOptions,
    about,
    model_option,
)
from .options import Excluded, NullPaths, PageFile, PathsAlone, UsageError, option
from .printing import STANDARD_OUTPUT, check_ending, describe_method, only_results, write_json
from .search_output import BEFORE, Found, show

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.search import Hit, Library, Query
    from jaxalign.eval.tasks.methods import Method
    from jaxalign.eval.tasks.projecting import Fitting
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
        check_ending("sheet", self.sheet, ".png")
        check_ending("page", self.page, ".html")
        if self.paths_alone and self.compare:
            raise UsageError("--paths are those of one ranking, and --compare has two; leave out one of both")
        if self.paths_alone and json == STANDARD_OUTPUT:
            raise UsageError("--paths and --json - both go to standard output; give --json a file")


@dataclass(frozen=True)
class FoundModel(ModelOptions):
    """The model, and how it computes."""

    model: Annotated[
        str | None, model_option("the first that has been fetched: see `jaxalign fetch --help`")
    ] = None

    def load(self, workspace: "Workspace") -> "DualEncoder":
        """The model that was named, or the first that is in the hub's cache."""
        if self.model is not None:
            return super().load(workspace)
        from jaxalign.specs import find_spec
        from jaxalign.weights.availability import BEGIN_WITH, first_cached

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


Asked = Annotated[QueryOptions, about(QueryOptions, "query")]
Output = Annotated[OutputOptions, about(OutputOptions, "output")]


@dataclass(frozen=True)
class Search:
    """Find images of FOLDER that are like an image or fit a text.

    Images are compared by the method that is best for the model: IsoCLIP where the paper prints a band for it
    or --band gives one, else its embeddings as they are. Texts are compared by the model's own projectors. A
    score is a cosine, of several images or texts the weighted mean; of images and texts together, each
    cosine first becomes a standard score over the folder. The query itself is left out, and every link to it.

    Features are kept by what an image is: the next search, `embed` or measurement computes only new ones,
    wherever files were moved. Photos are turned upright as their EXIF orientation says. Hidden files and
    folders are left out, with thumbnails and trash (.thumbnails, .Trash*, .trashed-*), @eaDir, #recycle,
    $RECYCLE.BIN, __MACOSX, and what jaxalign has drawn. Unreadable images are left out and named; raw photos
    and other formats that are not read are counted by their endings. HEIC needs the extra heic.

    Without --model it is the first model that has been fetched: see `jaxalign fetch --help`. --model
    emoji-clip is a toy that needs no download.

    Examples:
      jaxalign search ~/photos --query ~/photos/goose.jpg
      jaxalign search ~/photos --text "a red car at night" --open
      jaxalign search ~/photos --query beach.jpg --text "with a dog" --minus-text people --weights 1 2 0.5
      jaxalign search ~/photos --text receipt --first 100 -0 | xargs -0r cp -t receipts
      jaxalign search ~/photos --query goose.jpg --json found.json
      jaxalign search ~/photos --like-row 3 --from found.json --page geese.html
      jaxalign search ~/photos --query goose.jpg --compare --sheet geese.png
    """

    folder: Annotated[Path, tyro.conf.Positional, option("Images to search, subfolders included.", "FOLDER")]
    query: Asked = field(default_factory=QueryOptions)
    output: Output = field(default_factory=OutputOptions)
    exclude: Excluded = ()
    method: Annotated[
        str,
        option(
            "Method by which images are compared, of `jaxalign retrieve --help`; auto is isoclip where it"
            " has a band (--band, or the paper's), else image-image, or pca where that is what --compare"
            " compares with.",
            "METHOD",
        ),
    ] = "auto"
    model: Annotated[FoundModel, about(FoundModel, "model")] = field(default_factory=FoundModel)
    reading: Reading = field(default_factory=lambda: ReadingOptions(unreadable="leave-out"))
    projection: Projection = field(default_factory=ProjectionOptions)
    results: Store = field(default_factory=StoreOptions)

    def run(self) -> None:
        self.query.check()
        self.output.check(self.results.json)
        with only_results(STANDARD_OUTPUT if self.output.paths_alone else None):
            found = self._search()
            write_json(self.results.json, found.to_json())
            show(found, self.output)

    def _search(self) -> Found:
        from jaxalign.eval.tasks.projecting import Fitting

        workspace = self.results.open_workspace(self.reading)
        query = self.query.read()
        model = self.model.load(workspace)
        for text, tokens in query.cut(model) if query.texts else ():
            say(f'of "{text}" the model reads the first {tokens} tokens', sys.stderr)
        methods = self._find_methods(model, query)
        library = self._find_library(workspace, model)
        fitting = Fitting(workspace, model, lambda: library.features)
        rankings = self._rank(query, library, methods, fitting)
        return Found(model, library, query, [*methods.values()][-1], rankings)

    def _find_methods(self, model: "DualEncoder", query: "Query") -> "dict[str, Method | None]":
        """By title what compares images; None where the query has none."""
        from jaxalign.eval.tasks.methods import Method, find_method

        chosen, options, compare = self.method, self.projection, self.output.compare
        beside = "texts by the original projectors"
        if not query.images:
            if compare or chosen != "auto" or options != ProjectionOptions():
                raise UsageError("--compare, --method and its options are about images; the query has none")
            return {beside: None}
        if chosen == "auto":
            band = options.band or model.spec.band
            chosen = "isoclip" if band else "pca" if compare else BEFORE
        method = find_method(chosen, model, "image", options.method_options())
        if method.inverts:
            raise UsageError(
                f"--method {chosen} optimises each query, which a search has no time for; take isoclip or pca"
            )
        if options.band and method.band != options.band:
            raise UsageError(f"--band is about isoclip; the method is {chosen}")
        if not method.texts and replace(options, band=None) != ProjectionOptions():
            raise UsageError(f"--rank, --subspace and --class-names are about pca; the method is {chosen}")
        title = describe_method(method.to_json())
        more = f", {beside}" if query.texts else ""
        if not compare:
            return {title + more: method}
        return {f"before: {BEFORE}{more}": Method(BEFORE, "image"), f"after: {title}{more}": method}

    def _find_library(self, workspace: "Workspace", model: "DualEncoder") -> "Library":
        from jaxalign.eval.search import find_library

        written = [] if self.output.sheet is None else [self.output.sheet]
        with workspace.stages.stage("embed", f"{model.name}: {self.folder}") as advance:
            computing = {"store": self.results.store, "progress": advance} | self.reading.reading()
            which: dict[str, Any] = {"exclude": self.exclude, "without": written, "start": advance.start}
            return find_library(model, self.folder, **which, **computing)

    def _rank(
        self,
        query: "Query",
        library: "Library",
        methods: "dict[str, Method | None]",
        fitting: "Fitting",
    ) -> "dict[str, tuple[Hit, ...]]":
        from jaxalign.eval.search import Embeds, rank, score_images
        from jaxalign.eval.tasks.projecting import image_embeddings, text_embeddings

        own = query.rows_of(library)
        if len(own) == len(library.names):
            raise JaxalignError(f"{self.folder} has no image but the query; there is nothing to find")
        terms = query.terms(fitting.model, library)
        shared, text = partial(image_embeddings, fitting.model), partial(text_embeddings, fitting.model)
        found = {}
        for title, method in methods.items():
            embeds = Embeds(shared if method is None else fitting.embed(method), shared, text)
            scores = score_images(terms, library.features, embeds, own)
            options = {"first": self.output.first, "leave_out": own}
            found[title] = rank(scores, **options, at_least=self.output.min_score)
            if not found[title]:
                (best,) = rank(scores, first=1, leave_out=own)
                say(
                    f"nothing has a score of {self.output.min_score:g}; the highest is {best.score:.3f}",
                    sys.stderr,
                )
        return found
