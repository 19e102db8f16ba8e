"""Charts out of runs: what is drawn follows from the arrays that a run has, not from its protocol."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeGuard

import numpy as np

from jaxalign.eval.report.axes import SERIES, Chart
from jaxalign.eval.report.charts import (
    HeatMap,
    counts_chart,
    curves_chart,
    heat_map,
    inversion_chart,
    loss_chart,
    points_chart,
    spectra_chart,
    spectrum_chart,
)
from jaxalign.eval.report.comparisons import find_baseline, is_number
from jaxalign.eval.report.content import InversionTrace
from jaxalign.eval.report.labels import Label, dataset_label, full_label, method_label
from jaxalign.eval.tasks.runs import Run
from jaxalign.sweep import BandSweep

LINES = len(SERIES)  # in one chart; more of them would share colours
PAIRS = {"same": "different", "positives": "negatives"}  # histograms that belong into one chart
NAMES = {
    "same": "same class",
    "different": "different classes",
    "positives": "same class",
    "negatives": "different classes",
    "image_isoclip": "image, IsoCLIP",
    "text_isoclip": "text, IsoCLIP",
}
SPECTRA = ("inter_modal", "singular_values")
EIGENVALUES = ("image", "text", "image_isoclip", "text_isoclip")


def charts_of(runs: Sequence[Run]) -> list[Chart]:
    """All charts but heat maps of runs of one protocol and model."""
    method, dataset = method_label(runs), dataset_label(runs)
    title = full_label(runs)
    charts = list(_shots(runs, method, dataset))
    drawn: list[np.ndarray] = []
    for run in runs:
        charts += [*_spectra(run, title(run)), *_histograms(run, title(run)), *_points(run, title(run))]
        losses = run.arrays.get("losses")
        if losses is not None and not any(np.array_equal(losses, other) for other in drawn):
            drawn.append(losses)  # once for all labellings of the same queries
            charts += _losses(losses, title(run))
        scored = [r for r in runs if r is not run and is_number(r.metrics.get("mAP"))]
        same = [r for r in scored if dataset(r) == dataset(run)]
        charts += _steps(run, title(run), find_baseline(run, same))
    return charts


def heat_maps_of(runs: Sequence[Run]) -> list[HeatMap]:
    """A map for each run with `k_top` `[a]`, `k_bottom` `[b]` and `mAP` `[a, b]`."""
    label = full_label(runs)
    maps = []
    for run in runs:
        grid = [run.arrays.get(name) for name in ("k_top", "k_bottom", "mAP")]
        if any(a is None for a in grid):
            continue
        k_top, k_bottom, values = (np.asarray(a) for a in grid)
        if values.shape != (len(k_top), len(k_bottom)) or np.isnan(values).all():
            continue
        best = np.unravel_index(np.nanargmax(values), values.shape)
        band = (int(k_top[best[0]]), int(k_bottom[best[1]]))
        told = run.metrics.get("best")
        if isinstance(told, Mapping) and all(is_number(told.get(name)) for name in ("k_top", "k_bottom")):
            band = (told["k_top"], told["k_bottom"])
        maps.append(
            heat_map(f"mAP by band, {label(run)}".rstrip(", "), BandSweep(k_top, k_bottom, values, band))
        )
    return maps


def _shots(runs: Sequence[Run], method: Label, dataset: Label) -> Iterator[Chart]:
    """Accuracy against shots, the mean over the seeds: a chart for each data set and classifier."""
    lines: dict[tuple[str, str], dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for run in runs:
        shots, accuracy = run.arrays.get("shots"), run.arrays.get("accuracy")
        if shots is not None and accuracy is not None and len(shots) > 1 and len(accuracy) == len(shots):
            means = accuracy.reshape(len(shots), -1).mean(1)
            key = (str(run.settings.get("classifier", "")), dataset(run))
            lines.setdefault(key, {})[method(run)] = (shots, means)
    for key, curves in lines.items():
        name, every = ", ".join(part for part in key if part), list(curves.items())
        for start in range(0, len(every), LINES):
            part = dict(every[start : start + LINES])
            yield curves_chart(f"Accuracy against shots, {name}", "shots", "accuracy in percent", part)


def _spectra(run: Run, title: str) -> Iterator[Chart]:
    pair = lambda name: tuple(run.metrics[name]) if run.metrics.get(name) else None
    for name in SPECTRA:
        values = run.arrays.get(name)
        if _is_spectrum(values):
            head = ", ".join(part for part in ("Singular values of the inter-modal operator", title) if part)
            yield spectrum_chart(values, pair("band"), pair("auto_band"), head)
    found = {
        NAMES.get(name, name): run.arrays[name] for name in EIGENVALUES if _is_spectrum(run.arrays.get(name))
    }
    if found:
        yield spectra_chart("Eigenvalues of the intra-modal operators", found, "eigenvalue")


def _is_spectrum(values: np.ndarray | None) -> TypeGuard[np.ndarray]:
    return values is not None and values.ndim == 1 and len(values) > 0 and bool(np.isfinite(values).all())


def _histograms(run: Run, title: str) -> Iterator[Chart]:
    """One chart for each pair of counts that differ in the ending, and one of all others."""
    edges = run.arrays.get("edges")
    if edges is None or edges.ndim != 1:
        return
    counts = {
        name: values
        for name, values in run.arrays.items()
        if name != "edges" and values.shape == (len(edges) - 1,) and values.dtype.kind in "iu"
    }
    for ending, other in PAIRS.items():
        for name in [n for n in counts if n.endswith(f"_{ending}")]:
            start = name.removesuffix(f"_{ending}")
            pair = {ending: counts.pop(name), other: counts.pop(f"{start}_{other}", None)}
            shown = {NAMES[key]: value for key, value in pair.items() if value is not None}
            yield counts_chart(f"Similarities, {start}" + (f", {title}" if title else ""), edges, shown)
    if counts:
        overlap = run.metrics.get("overlap")
        head = f"Similarities, {title}" + (f": overlap {overlap:.2f}" if isinstance(overlap, float) else "")
        names = {NAMES.get(name, name.replace("_", "-")): value for name, value in counts.items()}
        yield counts_chart(head, edges, names)


def _points(run: Run, title: str) -> Iterator[Chart]:
    """Two-dimensional views: one chart for each beginning of the names of arrays `[n, 2]`."""
    views: dict[str, dict[str, np.ndarray]] = {}
    for name, values in run.arrays.items():
        if (
            values.ndim == 2
            and values.shape[1] == 2
            and len(values)
            and values.dtype.kind == "f"
            and "_" in name
        ):
            start, _, rest = name.partition("_")
            views.setdefault(start, {})[rest] = values
    kind = run.metrics.get("view", "view")
    for start, points in views.items():
        yield points_chart(f"{kind}, {start}" + (f", {title}" if title else ""), points)


def _losses(losses: np.ndarray, title: str) -> Iterator[Chart]:
    """Mean loss of the queries that were inverted, at each step."""
    if losses.ndim == 1 and len(losses) and np.isfinite(losses).all():
        yield loss_chart(title, InversionTrace(losses, np.zeros(1), np.zeros(1), 0.0))


def _steps(run: Run, title: str, baseline: Run | None) -> Iterator[Chart]:
    """mAP of inverted queries against the steps, beside the queries as they are."""
    steps, values = (run.arrays.get(name) for name in ("steps", "mAP_at_step"))
    if steps is None or values is None or steps.shape != values.shape or not len(steps):
        return
    if baseline is None:
        head = f"Inversion of the queries ({title}): mAP against steps"
        yield curves_chart(head, "steps", "mAP in percent", {f"after {title}": (steps, values)})
    else:
        yield inversion_chart(title, InversionTrace(np.zeros(1), steps, values, baseline.metrics["mAP"]))
