"""The look of all figures, on paper and on the page, what of a run they show, and how one becomes a file."""

import os
import textwrap
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import LogLocator, NullLocator

from jaxalign.errors import JaxalignError, printable
from jaxalign.eval.files import MARK, write_whole
from jaxalign.eval.tasks.runs import Run, inner, is_number

Found = tuple[Run, Any]  # a run, and what of it a figure is made of
LARGEST = 1e30  # what can be drawn

# By the names that the page's style sheet has for them, light there and on paper, others in the dark.
COLOURS = {
    "ink": "#1c2330",
    "quiet": "#5c6675",
    "line": "#dde1e7",
    "on-cell": "#ffffff",
    "one": "#2563c9",
    "two": "#c2570c",
    "three": "#0f766e",
    "four": "#8a2fa8",
    "five": "#8a6d00",
    "six": "#55606e",
}
INK, QUIET, LINE, ON_CELL, *SERIES = COLOURS.values()
ONE, TWO, THREE, FOUR, FIVE, SIX = SERIES
DASHES = ("-", "-", (0, (4, 2)), (0, (1, 1.5)), (0, (1, 1.5)), (0, (4, 2)))  # those are alike to some eyes
TITLE = "title"
DPI = 96  # pixels of the page in an inch
RESOLUTION = 150  # of files
_LETTERS, _MOST_LINES = 14, 3  # in an inch; of a title or of a name in a legend
_LINES = ("axes.spines.top", "axes.spines.right", "legend.frameon")  # that are left out, with all ticks
_TICKS = ("xtick.bottom", "xtick.minor.bottom", "ytick.left", "ytick.minor.left")
_STYLE: Any = {
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), "none"),
    "savefig.facecolor": "white",
    **dict.fromkeys(("font.size", "axes.titlesize"), 9),
    "legend.fontsize": 8,
    "text.color": INK,
    "text.parse_math": False,  # names may have dollar signs
    **dict.fromkeys(("axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), QUIET),
    **dict.fromkeys((*_LINES, *_TICKS), False),
    **dict.fromkeys(("axes.axisbelow", "axes.grid"), True),
    "grid.color": LINE,
    "grid.linewidth": 0.6,
}


# Around every function that draws: matplotlib's settings are global, and others draw with it, too.
def styled() -> Any:
    """The look of all figures, for a function that draws: `@styled()`."""
    return matplotlib.rc_context(_STYLE)


def drawable(text: str) -> str:
    """`text` as one line; of characters that the font lacks, the codes: two names never look the same."""
    font = _font()
    return "".join(c if font.get_char_index(ord(c)) else f"U+{ord(c):04X}" for c in printable(text))


def fitting_lines(text: str, inches: float, size: float) -> list[str]:
    """All of `text` as `drawable`, in lines that are at most so wide in letters of so many points."""
    font, lines, used = _font(), [""], 0.0
    font.set_size(size, 72)
    for c in drawable(text):
        width = font.load_char(ord(c)).linearHoriAdvance / 65536 / 72
        if used + width > inches and lines[-1]:
            lines.append("")
            used = 0.0
        lines[-1] += c
        used += width
    return lines


@cache
def _font() -> Any:
    return get_font(findfont(FontProperties()))


def panels(
    count: int, columns: int = 3, width: float = 3.5, height: float = 2.6, shared: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes, inches each, so many in a row; no window and no global state.

    Panels that are compared have `shared` scales.
    """
    rows = -(-count // columns)
    columns = -(-count // rows)
    figure = Figure(figsize=(width * columns, height * rows), dpi=DPI, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=shared, sharey=shared).ravel())
    for ax in axes:
        ax.tick_params(labelbottom=True, labelleft=True)  # also of those whose scale another one has
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def title(figure: Figure, text: str) -> None:
    """What the figure is about: above all panels, and on the page its caption."""
    figure.set_label(text)
    figure.suptitle(wrapped(text, figure.get_figwidth(), 0.8), fontsize=10, gid=TITLE)


def head(ax: Axes, text: str) -> None:
    """The title of a panel."""
    place, figure = ax.get_subplotspec(), cast(Figure, ax.get_figure(root=True))
    columns = place.get_gridspec().ncols if place is not None else 1
    ax.set_title(wrapped(text, figure.get_figwidth() / columns, 0.85))


def logarithmic(ax: Axes, name: str) -> None:
    """Powers of ten, or where they are fewer than three also 2 and 5 times those, as plain numbers."""
    ax.set(**{f"{name}scale": "log"})
    axis = getattr(ax, f"{name}axis")
    low, high = axis.get_data_interval()
    several = low > 0 and high >= 1000 * low
    axis.set_major_locator(LogLocator(subs=(1,) if several else (1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, place: f"{value:g}")


def legend(figure: Figure, axes: Axes) -> None:
    """The legend of one of the panels, which all share, below them."""
    handles, labels = axes.get_legend_handles_labels()
    texts = [wrapped(label, figure.get_figwidth(), 0.9) for label in labels]
    widest = max(len(line) for text in texts for line in text.splitlines())
    columns = int(figure.get_figwidth() * _LETTERS / (widest + 7))
    ncols = min(max(columns, 1), len(texts))
    figure.legend(handles, texts, loc="outside lower center", ncols=ncols)


def wrapped(text: str, inches: float, share: float = 1.0) -> str:
    """As many lines of `text` as can be shown, each so wide."""
    width = max(int(inches * _LETTERS * share), 12)
    return textwrap.fill(drawable(text), width, max_lines=_MOST_LINES, placeholder=" …")


def shown(values: np.ndarray) -> np.ndarray:
    """Which of `values` an axis can show."""
    return np.abs(values) < LARGEST  # NaN is not


def number(run: Run, *names: str | int) -> float | None:
    """The metric of these nested `names`; None where it is no finite number."""
    value = inner(run.metrics, names)
    return value if is_number(value) and abs(value) < LARGEST else None


def band(run: Run, name: str) -> tuple[int, int] | None:
    """The band `(k_top, k_bottom)`, as a list or with names."""
    for keys in ((0, 1), ("k_top", "k_bottom")):
        ends = [number(run, name, key) for key in keys]
        if all(isinstance(end, int) for end in ends):
            return ends[0], ends[1]  # type: ignore[return-value]
    return None


def vector(run: Run, name: str) -> np.ndarray | None:
    """An array `[n]` of numbers that is not empty; None where there is none."""
    values = run.arrays.get(name)
    if values is None or values.ndim != 1 or not len(values) or values.dtype.kind not in "iuf":
        return None
    return values if (np.abs(values) < LARGEST).all() else None


def dots(ax: Axes, points: np.ndarray, colour: str, label: str = "", marker: str = "o") -> None:
    """Points `[n, 2]`."""
    style = {"markersize": 4 if marker == "o" else 6, "markeredgewidth": 0, "alpha": 0.55}
    ax.plot(*points[shown(points).all(1)].T, marker, color=colour, label=label, **style)


def save(figure: Figure, file: str | os.PathLike[str]) -> Path:
    """Write `figure` as PNG, whole or not at all; raises JaxalignError where it cannot be written."""
    path = Path(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(path, png(figure))
    except OSError as error:
        raise JaxalignError(
            f"cannot write {path} ({error.strerror or error}); choose another folder"
        ) from error


def png(figure: Figure) -> bytes:
    """`figure` as PNG."""
    drawn = BytesIO()
    with styled():
        figure.savefig(drawn, format="png", dpi=RESOLUTION, metadata=MARK)
    return drawn.getvalue()
