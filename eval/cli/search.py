"""`jaxalign search`: one's own images that are like an image, before and after a method."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxalign.errors import JaxalignError

from .groups import (
    Model,
    ModelOptions,
    Projection,
    ProjectionOptions,
    Reading,
    ReadingOptions,
    Store,
    StoreOptions,
)
from .options import UsageError, option

if TYPE_CHECKING:
    import numpy as np

    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.search import BeforeAfter, Hit, Library
    from jaxalign.eval.tasks.methods import Method

BEFORE = "image-image"


@dataclass(frozen=True)
class Search:
    """Find the images of FOLDER that are like an image: with the model's embeddings as they are (before),
    and with a method that improves their intra-modal similarities (after).

    Both rankings come as a table and as one image, --sheet, which frames what the other ranking does not
    have. The query itself is left out where it lies in FOLDER, and so is what jaxalign has drawn. Features
    are kept by what an image is: the next search, `embed` or measurement computes only new ones, wherever
    files were moved.

    Photos are turned upright as their EXIF orientation says, the query too; commands that measure take images
    as they are stored, as the models' original code does. Linked folders are searched. Raw photos and other
    formats that are not read are counted by their endings; HEIC needs the extra heic.

    PCA<- keeps the directions of class names; --class-names FILE with what one's photos show suits it better
    than ImageNet's. The default model is a toy that has seen nothing but emoji.

    Examples:
      jaxalign search ~/photos --query ~/photos/goose.jpg
      jaxalign search ~/photos --query goose.jpg --model openai/clip-vit-base-patch16 --sheet geese.png
      jaxalign search ~/photos --query goose.jpg --method pca --rank 64 --class-names animals.txt
    """

    folder: Annotated[Path, tyro.conf.Positional, option("Images to search, subfolders included.", "FOLDER")]
    query: Annotated[Path, option("The image to search with.", "IMAGE")]
    sheet: Annotated[Path, option("Image of both rankings.", "FILE.png")] = Path("search.png")
    method: Annotated[
        str,
        option(
            "Method of the second ranking, of `jaxalign retrieve --help`; auto is isoclip where it has a"
            " band (--band, or the paper's), else pca.",
            "METHOD",
        ),
    ] = "auto"
    first: Annotated[int, option("Results of each ranking.", "N")] = 10
    model: Model = field(default_factory=ModelOptions)
    reading: Reading = field(default_factory=ReadingOptions)
    projection: Projection = field(default_factory=ProjectionOptions)
    results: Store = field(default_factory=StoreOptions)

    def run(self) -> None:
        from jaxalign.eval.search import compare
        from jaxalign.eval.tasks.methods import Method
        from jaxalign.eval.tasks.projecting import Fitting
        from jaxalign.eval.terminal import say

        from .printing import check_file, first_names, write_json

        workspace = self.results.open_workspace(self.reading)
        check_file(self.sheet)
        self._check()
        model = self.model.load(workspace)
        method = self._find_method(model)
        query, pre = read_query(model, self.query)
        library = self._find_library(model)
        fitting = Fitting(workspace, model, lambda: library.features)
        before, after = fitting.embed(Method(BEFORE, "image")), fitting.embed(method)
        own = library.position(self.query)
        if own is not None and len(library.names) == 1:
            raise JaxalignError(f"{self.folder} has no image but the query; there is nothing to find")
        found = compare(pre, library.features, before, after, first=self.first, leave_out=own)
        title = method_title(method)
        write_json(self.results.json, self._facts(model, method, library, found))
        print_hits(model, self.query, title, library, found)
        write_sheet(self.sheet, query, self.query.name, title, library, found)
        if library.left_out:
            say(f"{len(library.left_out):,} left out, unreadable: {first_names(library.left_out)}")
        say(f"Wrote {self.sheet}")

    def _check(self) -> None:
        if self.sheet.suffix.lower() != ".png":
            raise UsageError(f"--sheet is {self.sheet}; expected a file name that ends in .png")
        if self.first < 1:
            raise UsageError(f"--first is {self.first}; expected 1 or more")

    def _find_method(self, model: "DualEncoder") -> "Method":
        from jaxalign.eval.availability import find_model
        from jaxalign.eval.tasks.methods import find_method
        from jaxalign.eval.terminal import say

        if find_model(model.spec).state == "embedded":
            say(
                f"{model.name} is a toy that was trained on emoji of 48 x 48 pixels; for photos try --model"
                " openai/clip-vit-base-patch16"
            )
        name = self.method
        if name == "auto":
            name = "isoclip" if self.projection.band or model.spec.band else "pca"
        method = find_method(name, model, "image", self.projection.method_options())
        if method.inverts:
            raise UsageError(
                f"--method {name} optimises each query, which a search has no time for; take isoclip or pca"
            )
        return method

    def _find_library(self, model: "DualEncoder") -> "Library":
        from jaxalign.eval.progress import Watch
        from jaxalign.eval.search import find_library

        watch = Watch()
        with watch.shown(f"{model.name}: {self.folder}"):
            return find_library(
                model,
                self.folder,
                without=self.sheet,
                store=self.results.store,
                **self.reading.reading(),
                start=watch.start,
                progress=watch.advance,
            )

    def _facts(
        self, model: "DualEncoder", method: "Method", library: "Library", found: "BeforeAfter"
    ) -> dict[str, Any]:
        rows = lambda hits: [{"file": library.names[hit.row], "score": hit.score} for hit in hits]
        return {
            "model": model.name,
            "source": model.spec.source,
            "folder": str(library.folder),
            "query": str(self.query),
            "images": len(library.names),
            "left_out": list(library.left_out),
            "not_read": dict(library.not_read),
            "after": method.to_json(),
            "results": {"before": rows(found.before), "after": rows(found.after)},
        }


def read_query(model: "DualEncoder", file: Path) -> "tuple[Any, np.ndarray]":
    """A small copy of the image, and its pre-projection features `[d_image]`; raises JaxalignError where it
    is none."""
    import numpy as np
    from PIL import Image

    from jaxalign.eval.figures.sheet import SIDE, thumbnail
    from jaxalign.inputs.image_files import opened_image, upright
    from jaxalign.local_files import is_there

    if not is_there(file):
        raise JaxalignError(f"the query {file} is not there; expected an image file")
    with opened_image(file, f"the query {file}") as stored:
        turned = upright(stored)
        features = np.asarray(model.encode_image([turned], projected=False))[0]
        return Image.fromarray(thumbnail(turned, SIDE)), features


def method_title(method: "Method") -> str:
    """The method with what was chosen for it."""
    if method.band is not None:
        return f"{method.name}, band ({method.band[0]}, {method.band[1]})"
    if method.rank is not None:
        return f"{method.name}, rank {method.rank}"
    return method.name


def print_hits(
    model: "DualEncoder", query: Path, title: str, library: "Library", found: "BeforeAfter"
) -> None:
    """Both rankings side by side."""
    from jaxalign.eval.terminal import say

    from .printing import print_table

    def cell(hits: "tuple[Hit, ...]", i: int) -> list[str]:
        if i >= len(hits):
            return ["", ""]
        name = library.names[hits[i].row]
        return [f"{hits[i].score:.3f}", name + (" *" if hits[i].is_new else "")]

    rows = [[str(i + 1), *cell(found.before, i), *cell(found.after, i)] for i in range(len(found.before))]
    columns = ["", "cosine", f"before: {BEFORE}", "cosine", f"after: {title}"]
    print_table(f"{model.title}: {query.name} among {len(library.names):,} images", columns, rows)
    say("* not among the first of the other ranking")


def write_sheet(
    out: Path, query: Any, name: str, title: str, library: "Library", found: "BeforeAfter"
) -> None:
    """Draw both rankings, and put the file in place at once."""
    from PIL import Image

    from jaxalign.eval.figures import save
    from jaxalign.eval.figures.sheet import SIDE, Tile, draw_sheet, thumbnail
    from jaxalign.inputs.image_files import opened_image

    def cell(hit: "Hit") -> Tile:
        name = library.names[hit.row]
        with opened_image(library.folder / name, name) as image:
            return Tile(Image.fromarray(thumbnail(image, SIDE)), name, hit.score, hit.is_new)

    before, after = ([cell(hit) for hit in hits] for hits in (found.before, found.after))
    save(draw_sheet(query, name, (f"before: {BEFORE}", before), (f"after: {title}", after)), out)
