"""What a search has found, as a table, paths, JSON, one image or a page."""

import os
import sys
import tempfile
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxalign.eval.terminal import say

from .printing import print_table, told_left_out, write_paths

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.search import Hit, Library, Query
    from jaxalign.eval.tasks.methods import Method

    from .search import OutputOptions

BEFORE = "image-image"
NEW = "not among the first of the other ranking"


@dataclass(frozen=True)
class Found:
    """A search and its results.

    Attributes:
      method: of the last ranking; None where no similarity between images takes part.
      rankings: by title; one, or before and after.
    """

    model: "DualEncoder"
    library: "Library"
    query: "Query"
    method: "Method | None"
    rankings: "dict[str, tuple[Hit, ...]]"

    @property
    def title(self) -> str:
        return f"{self.query} among {len(self.library.names):,} images"

    @property
    def score(self) -> str:
        """What the scores are."""
        if self.query.images and self.query.texts:
            return "standard score"
        return "cosine" if len(self.query.images) + len(self.query.texts) == 1 else "mean cosine"

    def is_new(self, hit: "Hit", ranking: str) -> bool:
        """Whether another ranking has it not among its first ones."""
        others = [hits for title, hits in self.rankings.items() if title != ranking]
        return any(hit.row not in [other.row for other in hits] for hits in others)

    def to_json(self) -> dict[str, Any]:
        rows = lambda hits: [{"file": self.library.names[hit.row], "score": hit.score} for hit in hits]
        found = [rows(hits) for hits in self.rankings.values()]
        query = [{"image": image.path or "-", "weight": weight} for image, weight in self.query.images]
        query += [{"text": text, "weight": weight} for text, weight in self.query.texts]
        return {
            "model": self.model.name,
            "source": self.model.spec.source,
            "folder": os.path.join(os.getcwd(), self.library.folder),
            "query": query,
            "images": len(self.library.names),
            "left_out": list(self.library.left_out),
            "not_read": dict(self.library.not_read),
            "method": self.method and self.method.to_json(),
            "score": self.score,
            "results": found[0] if len(found) == 1 else dict(zip(("before", "after"), found, strict=True)),
        }


def show(found: Found, output: "OutputOptions") -> None:
    """Print paths or a table, and write what else was asked for."""
    if output.paths_alone:
        paths = [found.library.path(hit.row) for hits in found.rankings.values() for hit in hits]
        write_paths(paths, b"\0" if output.null else b"\n")
    else:
        print_hits(found)
    if output.sheet is not None:
        write_sheet(found, output.sheet)
    if output.page is not None or output.open:
        page = output.page or Path(tempfile.mkdtemp(prefix="jaxalign-"), "search.html")
        write_results_page(found, page)
        if output.open and not webbrowser.open(page.absolute().as_uri()):
            say(f"no browser could be started; open {page} in one", sys.stderr)
    if found.library.left_out:
        say(told_left_out(found.library.left_out))
    for file in (output.sheet, output.page):
        if file is not None:
            say(f"Wrote {file}")


def print_hits(found: Found) -> None:
    """One ranking, or two side by side."""
    titles, names = list(found.rankings), found.library.names
    rows = []
    for i in range(max(map(len, found.rankings.values()))):
        cells = [str(i + 1)]
        for title, hits in found.rankings.items():
            hit = hits[i] if i < len(hits) else None
            new = " *" if hit and found.is_new(hit, title) else ""
            cells += ["", ""] if hit is None else [f"{hit.score:.3f}", names[hit.row] + new]
        rows.append(cells)
    columns = ["", *(column for title in titles for column in (found.score, title))]
    print_table(f"{found.model.title}: {found.title}", columns, rows, left=1)
    if len(titles) > 1:
        say(f"* {NEW}")


def write_sheet(found: Found, out: Path) -> None:
    """Draw the rankings, and put the file in place at once."""
    from PIL import Image

    from jaxalign.eval.figures import save
    from jaxalign.eval.figures.sheet import SIDE, Tile, draw_sheet
    from jaxalign.eval.thumbnails import thumbnail
    from jaxalign.inputs.image_files import opened_image

    def tile(hit: "Hit", ranking: str) -> Tile:
        name = found.library.names[hit.row]
        with opened_image(found.library.folder / name, name) as image:
            small = Image.fromarray(thumbnail(image, SIDE))
        return Tile(small, name, hit.score, found.is_new(hit, ranking))

    blocks = [(title, [tile(hit, title) for hit in hits]) for title, hits in found.rankings.items()]
    images = [Image.fromarray(image.small) for image, _ in found.query.images]
    save(draw_sheet(images[0] if images else None, str(found.query), *blocks), out)


def write_results_page(found: Found, out: Path) -> None:
    """The rankings as a page, the images of the query above them."""
    from jaxalign.eval.search.page import Shown, file_uri, show_files, write_page

    asked = []
    for image, weight in found.query.images:
        note = "query" if weight == 1 else f"query, {weight:+g}"
        asked.append(Shown(image.name, note, image.path and file_uri(image.path), image.small))
    sections = [("", asked)] if asked else []
    for title, hits in found.rankings.items():
        files = []
        for hit in hits:
            note = f"{hit.score:.3f}{' *' if found.is_new(hit, title) else ''}"
            files.append((found.library.path(hit.row), found.library.names[hit.row], note))
        sections.append((title, show_files(files)))
    lines = [f"{found.model.title}, {found.score}"] + ([f"* {NEW}"] if len(found.rankings) > 1 else [])
    lost = found.library.left_out
    write_page(out, found.title, lines, sections, [told_left_out(lost)] if lost else [])
