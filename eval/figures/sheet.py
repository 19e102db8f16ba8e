"""One image: the query, and what it finds in one or several rankings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from jaxalign.eval.thumbnails import thumbnail

from .look import RESOLUTION, drawable, styled

COLUMNS = 5  # results in a row: an image that is as legible on a phone
CELL, CAPTION, TITLE = 1.7, 0.44, 0.32  # inches
LONGEST = 23  # characters of a file name that are shown
INK, MUTED, NEW = "#1c1c1e", "#6b6b70", "#c2410c"
SIDE = round(CELL * RESOLUTION)  # pixels that an image may have on the sheet


@dataclass(frozen=True)
class Tile:
    """An image, at most `SIDE` pixels are shown of it, with its caption; `is_new` frames it."""

    image: Image.Image
    name: str
    score: float
    is_new: bool


@styled()
def draw_sheet(query: Image.Image | None, query_name: str, *blocks: tuple[str, Sequence[Tile]]) -> Figure:
    """The query on the left, beside it each titled block of results, one below the other."""
    rows = [-(-len(cells) // COLUMNS) for _, cells in blocks]
    height = max(sum(rows), 1) * (CELL + CAPTION) + len(blocks) * TITLE + 0.15
    width = (COLUMNS + 1) * CELL + 0.45
    figure = Figure(figsize=(width, height))
    left, top = CELL + 0.3, 0.1
    if query is not None:
        place(figure, query, 0.1, top + TITLE, CELL)
    write(figure, 0.1, top, 11, INK, "query", weight="bold")
    write(figure, 0.1, top + TITLE + CELL + 0.05, 8, INK, shorten(query_name))
    if len(blocks) > 1:
        legend = ("framed: not among the", "first of the other ranking")
        write(figure, 0.1, top + TITLE + CELL + 0.35, 8, NEW, *legend)
    for (title, cells), count in zip(blocks, rows, strict=True):
        write(figure, left, top, 11, INK, title, weight="bold")
        top += TITLE
        for i, cell in enumerate(cells):
            x = left + (i % COLUMNS) * CELL
            y = top + (i // COLUMNS) * (CELL + CAPTION)
            place(figure, cell.image, x, y, CELL - 0.08, NEW if cell.is_new else None)
            write(figure, x, y + CELL - 0.05, 8, INK, shorten(cell.name))
            write(figure, x, y + CELL + 0.1, 8, NEW if cell.is_new else MUTED, f"{cell.score:.3f}")
        top += count * (CELL + CAPTION)
    return figure


def place(figure: Any, image: Image.Image, x: float, y: float, side: float, frame: str | None = None) -> None:
    """Draw an image into a square whose upper left corner is `x`, `y` inches from the figure's."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((x / width, 1 - (y + side) / height, side / width, side / height))
    axes.imshow(thumbnail(image, round(side * RESOLUTION)), interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_anchor("NW")
    for spine in axes.spines.values():
        spine.set_visible(frame is not None)
        spine.set_color(frame or "none")
        spine.set_linewidth(2)


def write(figure: Any, x: float, y: float, size: float, colour: str, *lines: str, **style: Any) -> None:
    """Lines of text whose upper left corner is `x`, `y` inches from the figure's."""
    width, height = figure.get_size_inches()
    figure.text(
        x / width,
        1 - y / height,
        "\n".join(map(drawable, lines)),
        fontsize=size,
        color=colour,
        va="top",
        **style,
    )


def shorten(name: str) -> str:
    """The end of a file name, which tells more than its beginning."""
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
