"""Geometry of the report's charts; the template draws them as inline SVG, in the page's colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np

from jaxalign.eval.report.axes import (
    BOTTOM,
    LEFT,
    RIGHT,
    SERIES,
    TOP,
    WIDTH,
    Chart,
    Span,
    Tick,
    Trace,
    finite_range,
    log_axis,
    log_ticks,
    place,
    ticks,
    x_axis,
    y_axis,
)
from jaxalign.eval.report.content import InversionTrace
from jaxalign.indicators import SimilarityHistograms
from jaxalign.sweep import BandSweep

CELL, SMALL_CELL = (42, 28), (24, 18)  # width and height
MOST_LABELLED = 14  # columns of a map whose cells have room for their numbers


@dataclass(frozen=True)
class Cell:
    x: float
    y: float
    label: str
    band: str
    strength: float  # 0 for the lowest value of the map, 1 for the highest
    best: bool


@dataclass(frozen=True)
class HeatMap:
    title: str
    legend: str
    x_title: str
    y_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    cells: list[Cell]
    width: int
    height: int
    cell_width: int
    cell_height: int
    labelled: bool
    left: int = LEFT
    top: int = TOP


def spectrum_chart(
    singular_values: np.ndarray,
    band: tuple[int, int] | None,
    auto_band: tuple[int, int] | None,
    title: str = "Singular values of the inter-modal operator",
) -> Chart:
    """Singular values `[r]` on a logarithmic axis, with the bands `(k_top, k_bottom)` that are kept."""
    r = len(np.asarray(singular_values))
    chart = spectra_chart(title, {"singular values": singular_values}, "singular value")
    x = x_axis(0, max(r - 1, 1))
    spans = []
    for name, role, ends in (("chosen band", "one", band), ("automatic band", "two", auto_band)):
        if ends is not None:
            start, stop = x(ends[0] - 0.5), x(r - ends[1] - 0.5)
            start, stop = max(start, LEFT), min(stop, WIDTH - RIGHT)
            spans.append(Span(f"{name}: {ends[0]} to {r - ends[1] - 1}", start, stop - start, role))
    return replace(chart, spans=spans)


def spectra_chart(title: str, spectra: Mapping[str, np.ndarray], y_title: str) -> Chart:
    """Descending values `[r]` by name on a logarithmic axis, down to a millionth of the largest.

    A single spectrum is drawn to its end; of several, each ends where it has no more to show.
    """
    values = {name: np.asarray(v, np.float64) for name, v in spectra.items()}
    largest = max(float(v.max()) for v in values.values()) or 1.0
    floor = largest * 1e-6  # zero has no logarithm
    cut = (lambda v: np.maximum(v, floor)) if len(values) == 1 else (lambda v: v[v > floor])
    shown = {name: cut(v) for name, v in values.items()}
    low, high = min(v.min() for v in shown.values() if v.size) / 1.15, largest * 1.15
    last = max(max(len(v) for v in values.values()) - 1, 1)
    x, y = x_axis(0, last), log_axis(low, high)
    roles = ("ink",) if len(shown) == 1 else SERIES
    return Chart(
        title=title,
        x_title="index",
        y_title=y_title,
        x_ticks=ticks(0, last, x),
        y_ticks=[Tick(y(v), f"{v:g}") for v in log_ticks(low, high)],
        traces=[
            Trace(name, place(x, y, range(len(v)), v), role)
            for (name, v), role in zip(shown.items(), cycle(roles), strict=False)
        ],
    )


def histogram_chart(
    title: str,
    histograms: SimilarityHistograms,
    names: tuple[str, str] = ("different emoji", "same emoji"),
) -> Chart:
    """The cosines of different-class and same-class pairs, each scaled to sum to one."""
    counts = dict(zip(names, (histograms.different, histograms.same), strict=True))
    return counts_chart(title, histograms.edges, counts, ("two", "one"))


def counts_chart(
    title: str, edges: np.ndarray, counts: Mapping[str, np.ndarray], roles: Sequence[str] = SERIES
) -> Chart:
    """Counts of pairs `[bins]` by name over cosines `edges` `[bins + 1]`, each scaled to sum to one."""
    used = np.flatnonzero(np.sum(list(counts.values()), axis=0))
    first, last = (used[0], used[-1] + 1) if used.size else (0, len(edges) - 1)
    shares = {name: c[first:last] / max(c.sum(), 1) for name, c in counts.items()}
    edges = edges[first : last + 1]
    x = x_axis(edges[0], edges[-1])
    top = max(float(s.max()) for s in shares.values()) * 1.05 or 1.0
    y = y_axis(0, top)
    steps = np.repeat(edges, 2)  # up and down at each edge
    return Chart(
        title=title,
        x_title="cosine similarity",
        y_title="share of the pairs",
        x_ticks=ticks(edges[0], edges[-1], x),
        y_ticks=ticks(0, top, y, "{:.1%}"),
        traces=[
            Trace(name, place(x, y, steps, np.concatenate([[0], np.repeat(s, 2), [0]])), role, filled=True)
            for (name, s), role in zip(shares.items(), cycle(roles), strict=False)
        ],
    )


def curves_chart(
    title: str, x_title: str, y_title: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> Chart:
    """Lines through points `(x [k], y [k])` by name; what is not finite is left out."""
    kept = {name: np.isfinite(ys) for name, (_, ys) in curves.items()}
    lines = {
        name: (np.asarray(xs)[kept[name]], np.asarray(ys)[kept[name]]) for name, (xs, ys) in curves.items()
    }
    left, right = finite_range([xs for xs, _ in lines.values()], margin=0)
    low, high = finite_range([ys for _, ys in lines.values()])
    x, y = x_axis(left, right), y_axis(low, high)
    return Chart(
        title=title,
        x_title=x_title,
        y_title=y_title,
        x_ticks=ticks(left, right, x),
        y_ticks=ticks(low, high, y),
        traces=[
            Trace(name, place(x, y, xs, ys), role)
            for (name, (xs, ys)), role in zip(lines.items(), cycle(SERIES), strict=False)
        ],
    )


def points_chart(title: str, points: Mapping[str, np.ndarray], most: int = 600) -> Chart:
    """Points `[n, 2]` of a two-dimensional view by name; of more than `most`, so many evenly spaced ones."""
    shown = {name: p[np.linspace(0, len(p) - 1, min(len(p), most)).astype(int)] for name, p in points.items()}
    left, right = finite_range([p[:, 0] for p in shown.values()])
    low, high = finite_range([p[:, 1] for p in shown.values()])
    x, y = x_axis(left, right), y_axis(low, high)
    finite = {name: p[np.isfinite(p).all(1)] for name, p in shown.items()}
    return Chart(
        title=title,
        x_title="",
        y_title="",
        x_ticks=ticks(left, right, x),
        y_ticks=ticks(low, high, y),
        traces=[
            Trace(name, place(x, y, p[:, 0], p[:, 1]), role, dots=True)
            for (name, p), role in zip(finite.items(), cycle(SERIES), strict=False)
        ],
    )


def loss_chart(name: str, inversion: InversionTrace) -> Chart:
    """Mean loss of an inversion at each step."""
    losses = np.asarray(inversion.losses, np.float64)
    x = x_axis(0, max(len(losses) - 1, 1))
    top = losses.max() * 1.05
    y = y_axis(0, top)
    return Chart(
        title=f"Inversion of the queries ({name}): loss",
        x_title="step",
        y_title="1 - cosine with the query",
        x_ticks=ticks(0, max(len(losses) - 1, 1), x),
        y_ticks=ticks(0, top, y),
        traces=[Trace("mean loss", place(x, y, np.arange(len(losses)), losses), "one")],
        spans=[],
    )


def inversion_chart(name: str, inversion: InversionTrace) -> Chart:
    """mAP of an inversion after so many steps, beside the queries as they are."""
    steps, values = np.asarray(inversion.kept), np.asarray(inversion.precision, np.float64)
    x = x_axis(0, max(steps[-1], 1))
    top = max(values.max(), inversion.baseline, 1e-3) * 1.1
    y = y_axis(0, top)
    ends = np.array([0, max(steps[-1], 1)])
    return Chart(
        title=f"Inversion of the queries ({name}): mAP against steps",
        x_title="steps",
        y_title="mAP in percent",
        x_ticks=ticks(0, max(steps[-1], 1), x),
        y_ticks=ticks(0, top, y),
        traces=[
            Trace("without inversion", place(x, y, ends, np.full(2, inversion.baseline)), "ink"),
            Trace(f"after {name}", place(x, y, steps, values), "one"),
        ],
        spans=[],
    )


def heat_map(title: str, sweep: BandSweep) -> HeatMap:
    """mAP of every band of a sweep; the best one is marked, empty bands are left blank."""
    values = np.asarray(sweep.mAP)
    rows, columns = values.shape
    labelled = columns <= MOST_LABELLED
    width, height = CELL if labelled else SMALL_CELL
    low, high = np.nanmin(values), np.nanmax(values)
    best = (int(sweep.best[0]), int(sweep.best[1]))
    cells = [
        Cell(
            x=LEFT + j * width,
            y=TOP + i * height,
            label=f"{values[i, j]:.1f}",
            band=f"k_top {k_top}, k_bottom {k_bottom}: {values[i, j]:.2f}",
            strength=float((values[i, j] - low) / max(high - low, 1e-9)),
            best=(int(k_top), int(k_bottom)) == best,
        )
        for i, k_top in enumerate(sweep.k_top)
        for j, k_bottom in enumerate(sweep.k_bottom)
        if not np.isnan(values[i, j])
    ]
    framed = f"The framed band, ({best[0]}, {best[1]}), is the best: {high:.1f}; the lowest has {low:.1f}."
    every = 1 if labelled else 2  # ticks of narrow columns would touch
    return HeatMap(
        title=title,
        legend=framed,
        x_title="removed from the bottom (k_bottom)",
        y_title="removed from the top (k_top)",
        x_ticks=[
            Tick(LEFT + (j + 0.5) * width - 1, str(k)) for j, k in enumerate(sweep.k_bottom) if j % every == 0
        ],
        y_ticks=[Tick(TOP + (i + 0.5) * height - 1, str(k)) for i, k in enumerate(sweep.k_top)],
        cells=cells,
        width=LEFT + columns * width + RIGHT,
        height=TOP + rows * height + BOTTOM,
        cell_width=width - 2,
        cell_height=height - 2,
        labelled=labelled,
    )
