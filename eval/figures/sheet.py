"""One image: the query, and what it finds in one or several rankings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from jaxalign.eval.thumbnails import thumbnail

from .look import RESOLUTION, drawable, fitting_lines, styled

COLUMNS = 5  # results in a row: an image that is as legible on a phone
CELL, GAP, TITLE, MARGIN = 1.7, 0.08, 0.32, 0.1  # inches
LEFT = CELL + 0.3  # of the results
SIZE, LINE = 8, 0.14  # of captions: points, and inches from line to line
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
    """The query on the left, beside it each titled block of results, one below the other.

    Rows are as high as their images and names need; no name is cut.
    """
    columns = min(COLUMNS, max(1, *(len(cells) for _, cells in blocks)))
    titles, rows, bottom = [], [], MARGIN
    for title, cells in blocks:
        titles.append((bottom, title))
        bottom += TITLE
        for start in range(0, len(cells), columns):
            row = _Row(bottom, cells[start : start + columns])
            rows.append(row)
            bottom += row.height
    asked = fitting_lines(query_name, CELL, SIZE)
    legend = ["", "framed: not among the", "first of the other ranking"] if len(blocks) > 1 else []
    under = MARGIN + TITLE + (0 if query is None else _tall(query) + GAP)
    end = under + LINE * (len(asked) + len(legend))
    figure = Figure(figsize=(LEFT + columns * CELL + MARGIN, max(bottom, end) + MARGIN))
    write(figure, MARGIN, MARGIN, 11, INK, "query", weight="bold")
    if query is not None:
        place(figure, query, MARGIN, MARGIN + TITLE, CELL - GAP)
    write(figure, MARGIN, under, SIZE, INK, *asked)
    write(figure, MARGIN, under + LINE * len(asked), SIZE, NEW, *legend)
    for top, title in titles:
        write(figure, LEFT, top, 11, INK, title, weight="bold")
    for row in rows:
        row.draw(figure)
    return figure


class _Row:
    """Tiles beside each other, from `top` inches downwards."""

    def __init__(self, top: float, tiles: Sequence[Tile]):
        self.top, self.tiles = top, tiles
        self.names = [fitting_lines(tile.name, CELL - 2 * GAP, SIZE) for tile in tiles]
        self.tall = max(_tall(tile.image) for tile in tiles) + GAP
        self.height = self.tall + LINE * (1 + max(map(len, self.names))) + GAP

    def draw(self, figure: Figure) -> None:
        for i, (tile, name) in enumerate(zip(self.tiles, self.names, strict=True)):
            x, colour = LEFT + i * CELL, NEW if tile.is_new else MUTED
            place(figure, tile.image, x, self.top, CELL - GAP, NEW if tile.is_new else None)
            write(figure, x, self.top + self.tall, SIZE, INK, *name)
            write(figure, x, self.top + self.tall + LINE * len(name), SIZE, colour, f"{tile.score:.3f}")


def _tall(image: Image.Image) -> float:
    """Inches of an image that is drawn into a square."""
    return (CELL - GAP) * min(1.0, image.height / image.width)


def place(figure: Any, image: Image.Image, x: float, y: float, side: float, frame: str | None = None) -> None:
    """Draw an image into a square whose upper left corner is `x`, `y` inches from the figure's."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes((x / width, 1 - (y + side) / height, side / width, side / height))
    axes.imshow(thumbnail(image, round(side * RESOLUTION)), interpolation="antialiased")
    axes.set(xticks=[], yticks=[], anchor="NW")
    for spine in axes.spines.values():
        spine.set_visible(frame is not None)
        spine.set_color(frame or "none")
        spine.set_linewidth(2)


def write(figure: Any, x: float, y: float, size: float, colour: str, *lines: str, **style: Any) -> None:
    """Lines of text whose upper left corner is `x`, `y` inches from the figure's."""
    width, height = figure.get_size_inches()
    look = {"fontsize": size, "color": colour, "va": "top"} | style
    figure.text(x / width, 1 - y / height, "\n".join(map(drawable, lines)), **look)
