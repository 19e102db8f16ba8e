"""Geometry of the report's charts; the template draws them as inline SVG, in the page's colours."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxalign.indicators import SimilarityHistograms
from jaxalign.sweep import BandSweep

WIDTH, HEIGHT = 480, 260
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 14, 44  # margins around the plot, for ticks and titles
CELL_WIDTH, CELL_HEIGHT = 42, 28


@dataclass(frozen=True)
class Tick:
    at: float
    label: str


@dataclass(frozen=True)
class Trace:
    """A line, or a filled area; `role` is the CSS class that colours it."""

    name: str
    points: str
    role: str
    filled: bool = False


@dataclass(frozen=True)
class Span:
    """A vertical stripe over part of the x axis, such as a band."""

    name: str
    x: float
    width: float
    role: str


@dataclass(frozen=True)
class Chart:
    title: str
    x_title: str
    y_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    traces: list[Trace]
    spans: list[Span]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Cell:
    x: float
    y: float
    label: str
    strength: float  # 0 for the lowest value of the map, 1 for the highest
    best: bool


@dataclass(frozen=True)
class HeatMap:
    title: str
    x_title: str
    y_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    cells: list[Cell]
    width: int
    height: int
    left: int = LEFT
    top: int = TOP
    cell_width: int = CELL_WIDTH - 2
    cell_height: int = CELL_HEIGHT - 2


def spectrum_chart(
    singular_values: np.ndarray, band: tuple[int, int] | None, auto_band: tuple[int, int] | None
) -> Chart:
    """Singular values `[r]` on a logarithmic axis, with the bands `(k_top, k_bottom)` that are kept."""
    s = np.asarray(singular_values, np.float64)
    r = len(s)
    shown = np.maximum(s, s[0] * 1e-6)  # zero has no logarithm
    low, high = shown.min() / 1.15, shown.max() * 1.15
    x, y = _axis(0, r - 1, LEFT, WIDTH - RIGHT), _log_axis(low, high)
    spans = []
    for name, role, ends in (("chosen band", "one", band), ("automatic band", "two", auto_band)):
        if ends is not None:
            start, stop = x(ends[0] - 0.5), x(r - ends[1] - 0.5)
            start, stop = max(start, LEFT), min(stop, WIDTH - RIGHT)
            spans.append(Span(f"{name}: {ends[0]} to {r - ends[1] - 1}", start, stop - start, role))
    return Chart(
        title="Singular values of the inter-modal operator",
        x_title="index",
        y_title="singular value",
        x_ticks=_ticks(0, r - 1, x),
        y_ticks=[Tick(y(v), f"{v:g}") for v in _log_ticks(low, high)],
        traces=[Trace("singular values", _points(x, y, np.arange(r), shown), "ink")],
        spans=spans,
    )


def histogram_chart(title: str, histograms: SimilarityHistograms) -> Chart:
    """The cosines of same-class and different-class pairs, each scaled to sum to one."""
    edges, counts = histograms.edges, (histograms.different, histograms.same)
    used = np.flatnonzero(sum(counts))
    first, last = used[0], used[-1] + 1
    shares = [c[first:last] / max(c.sum(), 1) for c in counts]
    edges = edges[first : last + 1]
    x = _axis(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    top = max(s.max() for s in shares) * 1.05
    y = _axis(0, top, HEIGHT - BOTTOM, TOP)
    steps = np.repeat(edges, 2)  # up and down at each edge
    heights = [np.concatenate([[0], np.repeat(s, 2), [0]]) for s in shares]
    return Chart(
        title=title,
        x_title="cosine similarity",
        y_title="share of the pairs",
        x_ticks=_ticks(edges[0], edges[-1], x),
        y_ticks=_ticks(0, top, y, "{:.1%}"),
        traces=[
            Trace("different emoji", _points(x, y, steps, heights[0]), "two", filled=True),
            Trace("same emoji", _points(x, y, steps, heights[1]), "one", filled=True),
        ],
        spans=[],
    )


def loss_chart(losses: np.ndarray) -> Chart:
    """Mean loss `[steps]` of the inversion."""
    losses = np.asarray(losses, np.float64)
    x = _axis(1, max(len(losses), 2), LEFT, WIDTH - RIGHT)
    top = losses.max() * 1.05
    y = _axis(0, top, HEIGHT - BOTTOM, TOP)
    return Chart(
        title="Inversion of the queries to text (OTI)",
        x_title="step",
        y_title="1 - cosine with the image",
        x_ticks=_ticks(1, max(len(losses), 2), x),
        y_ticks=_ticks(0, top, y),
        traces=[Trace("mean loss", _points(x, y, np.arange(1, len(losses) + 1), losses), "one")],
        spans=[],
    )


def heat_map(title: str, sweep: BandSweep) -> HeatMap:
    """mAP of every band of a sweep; the best one is marked, empty bands are left blank."""
    values = np.asarray(sweep.mAP)
    low, high = np.nanmin(values), np.nanmax(values)
    cells = [
        Cell(
            x=LEFT + j * CELL_WIDTH,
            y=TOP + i * CELL_HEIGHT,
            label=f"{values[i, j]:.1f}",
            strength=float((values[i, j] - low) / max(high - low, 1e-9)),
            best=(int(k_top), int(k_bottom)) == tuple(sweep.best),
        )
        for i, k_top in enumerate(sweep.k_top)
        for j, k_bottom in enumerate(sweep.k_bottom)
        if not np.isnan(values[i, j])
    ]
    rows, columns = values.shape
    return HeatMap(
        title=title,
        x_title="removed from the bottom (k_bottom)",
        y_title="removed from the top (k_top)",
        x_ticks=[Tick(LEFT + (j + 0.5) * CELL_WIDTH - 1, str(k)) for j, k in enumerate(sweep.k_bottom)],
        y_ticks=[Tick(TOP + (i + 0.5) * CELL_HEIGHT - 1, str(k)) for i, k in enumerate(sweep.k_top)],
        cells=cells,
        width=LEFT + columns * CELL_WIDTH + RIGHT,
        height=TOP + rows * CELL_HEIGHT + BOTTOM,
    )


def _axis(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """The linear map of `[low, high]` to pixels `[start, stop]`."""
    scale = (stop - start) / ((high - low) or 1)
    return lambda value: float(start + (value - low) * scale)


def _log_axis(low: float, high: float) -> Callable[[float], float]:
    linear = _axis(math.log(low), math.log(high), HEIGHT - BOTTOM, TOP)
    return lambda value: linear(math.log(value))


def _points(x: Callable[[float], float], y: Callable[[float], float], xs: np.ndarray, ys: np.ndarray) -> str:
    return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(xs, ys, strict=True))


def _ticks(low: float, high: float, place: Callable[[float], float], form: str = "{:g}") -> list[Tick]:
    """About six ticks at multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 6 or 1
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    values = [
        round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]
    return [Tick(place(v), form.format(v)) for v in values]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = [10.0**p for p in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    ticks = [v for v in powers if low <= v <= high]
    if len(ticks) < 3:
        ticks = [m * p for p in powers for m in (1, 2, 5) if low <= m * p <= high]
    return ticks
