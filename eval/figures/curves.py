"""Lines: accuracy against shots, inversions against their steps, precision among first results, spectra."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxalign.eval.labels import Label, band, dataset_label, find_baseline, number, vector
from jaxalign.eval.tasks.runs import Run

from . import look

_LINES = len(look.SERIES)  # in one panel; more of them would share colours
_STEPS = ("steps", "mAP_at_step")
_INTER = ("inter_modal", "singular_values")
_HEADS = ("image", "text")
_LEAST = 1e-6  # of the largest: zero has no logarithm


def has_shots(run: Run) -> bool:
    """Whether it has an accuracy for each of several `shots` `[k]`: `accuracy` `[k, ...]`."""
    shots, accuracy = vector(run, "shots"), run.arrays.get("accuracy")
    return shots is not None and accuracy is not None and len(shots) > 1 and len(accuracy) == len(shots)


@look.styled()
def draw_shots(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """Accuracy against shots, the mean over the seeds, a line for each method."""
    mean = lambda run: run.arrays["accuracy"].reshape(len(run.arrays["shots"]), -1).mean(1)
    lines = {label(run): (run.arrays["shots"], mean(run)) for run in runs}
    figure = _curves(lines, f"Accuracy against shots, {about}", "shots", "accuracy in percent")
    for ax in figure.axes:
        ax.set_xticks(np.unique(np.concatenate([shots for shots, _ in lines.values()])))
    return figure


@look.styled()
def draw_losses(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """Mean loss of the queries that were inverted at each step, once for all labellings of the same ones."""
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for run in runs:
        losses = run.arrays["losses"]
        if not any(np.array_equal(losses, other) for _, other in lines.values()):
            lines[label(run)] = (np.arange(len(losses)), losses)
    return _curves(lines, f"Inversion of the queries: loss, {about}", "step", "1 - cosine with the query")


def has_steps(run: Run) -> bool:
    steps, values = (vector(run, name) for name in _STEPS)
    return steps is not None and values is not None and steps.shape == values.shape


@look.styled()
def draw_steps(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """mAP of inverted queries against the steps, beside the queries as they are, where a run has those."""
    dataset = dataset_label([*runs, *beside])
    figure, axes = look.panels(len(runs), shared=True)
    for ax, run in zip(axes, runs, strict=True):
        steps, values = (run.arrays[name] for name in _STEPS)
        scored = [other for other in beside if other is not run and number(other, "mAP") is not None]
        baseline = find_baseline(run, [other for other in scored if dataset(other) == dataset(run)])
        level = number(run, "baseline")  # of its queries, where told
        if level is None and baseline is not None:
            level = number(baseline, "mAP")
        if level is not None:
            ax.axhline(level, color=look.INK, linewidth=1.2, label="without inversion")
        ax.plot(steps, values, color=look.SERIES[0], label=f"after {label(run)}")
        ax.set(xlabel="steps", ylabel="mAP in percent")
        ax.legend()
    axes[0].set_ylim(bottom=min(0.0, *(float(run.arrays[_STEPS[1]].min()) for run in runs)))
    look.title(figure, f"Inversion of the queries: mAP against steps, {about}")
    return figure


@look.styled()
def draw_precision(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """Precision among the first k results of each method, on a logarithmic axis (IsoCLIP, figure 4)."""
    figure = _curves(
        precision_of(runs[0]), f"Precision among the first k, {about}", "retrieved images k", "precision in %"
    )
    look.logarithmic(figure.axes[0], "x")
    return figure


def precision_of(run: Run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lines `(k, precision)` of the methods that a run compares; none where it has no such numbers."""
    lines = {}
    aligned = run.metrics.get("aligned")
    for name, of in aligned.items() if isinstance(aligned, Mapping) else ():
        found = of.get("precision_at") if isinstance(of, Mapping) else None
        points = [
            (int(k), value)
            for k in (found if isinstance(found, Mapping) else ())
            if str(k).isdecimal()
            and len(k) < 10
            and (value := number(run, "aligned", name, "precision_at", k)) is not None
        ]
        if points:
            lines[name] = tuple(np.array(points, float).T)
    return lines


def _curves(lines: Mapping[str, tuple[np.ndarray, np.ndarray]], about: str, x: str, y: str) -> Figure:
    """Lines through points `(x [k], y [k])` by name, not too many of them in a panel."""
    every = list(lines.items())
    parts = [dict(every[start : start + _LINES]) for start in range(0, len(every), _LINES)]
    figure, axes = look.panels(len(parts), shared=True)
    for ax, part in zip(axes, parts, strict=True):
        for (name, (xs, ys)), colour, dashes in zip(part.items(), look.SERIES, look.DASHES, strict=False):
            kept = look.shown(np.asarray(ys))
            ax.plot(np.asarray(xs)[kept], np.asarray(ys)[kept], color=colour, linestyle=dashes, label=name)
        ax.set(xlabel=x, ylabel=y)
        if len(parts) > 1:
            ax.legend()
    if len(parts) == 1:
        look.legend(figure, axes[0])
    look.title(figure, about)
    return figure


def has_spectra(run: Run) -> bool:
    return any(vector(run, name) is not None for name in (*_INTER, *_HEADS))


@look.styled()
def draw_spectra(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """The inter-modal spectrum with its bands, and both intra-modal ones before and after (figures 2, S6)."""
    run = runs[0]
    inter = next((values for name in _INTER if (values := vector(run, name)) is not None), None)
    heads = [name for name in _HEADS if vector(run, name) is not None]
    figure, axes = look.panels((inter is not None) + len(heads))
    if inter is not None:
        _inter_modal(axes[0], run, inter)
    for ax, name in zip(axes[len(axes) - len(heads) :], heads, strict=True):
        for key, colour, kind in ((name, look.ONE, "as it is"), (f"{name}_isoclip", look.TWO, "IsoCLIP")):
            values = vector(run, key)
            if values is not None:
                # Rounding of a filtered head: directions that it removed.
                kept = values[values > values.max() * len(values) * np.finfo(np.float32).eps]
                ax.plot(kept / kept.sum(), color=colour, label=f"{kind}, {len(kept)} directions")
        look.logarithmic(ax, "y")
        ax.set(xlabel="index", ylabel="eigenvalue, share of the sum")
        look.head(ax, f"intra-modal operator, {name}")
        ax.legend(loc="lower left")
    look.title(figure, f"Spectra, {about}")
    return figure


def _inter_modal(ax: Any, run: Run, s: np.ndarray) -> None:
    r = len(s)
    ax.plot(np.maximum(s, (s.max() or 1.0) * _LEAST), color=look.INK, label="singular values")
    look.logarithmic(ax, "y")
    for name, label, colour in (("band", "band", look.ONE), ("auto_band", "automatic band", look.TWO)):
        ends = band(run, name)
        if ends is not None:
            told = f"{label} ({ends[0]}, {ends[1]})"
            start, stop = np.clip((ends[0], r - ends[1]), 0, r) - 0.5
            ax.axvspan(start, stop, color=colour, alpha=0.16, linewidth=0, label=told)
    ax.set_xlim(-0.5, r - 0.5)
    ax.set(xlabel="index", ylabel="singular value")
    rank = number(run, "effective_rank")
    look.head(ax, "inter-modal operator" + ("" if rank is None else f", effective rank {rank:.0f} of {r}"))
    ax.legend(loc="lower left")


def has_growth(run: Run) -> bool:
    return all(number(run, "grown", side, 0, "mAP") is not None for side in ("top", "bottom"))


@look.styled()
def draw_growth(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """mAP as the middle band takes in directions of the top, or of the bottom (IsoCLIP, figure S8)."""
    run = runs[0]
    figure, (ax,) = look.panels(1, width=4.6, height=3.2)
    r, middle = number(run, "singular_values") or 0, number(run, "width") or 0
    for side, colour in (("top", look.TWO), ("bottom", look.ONE)):
        bands = [
            [number(run, "grown", side, i, key) for key in ("k_top", "k_bottom", "mAP")]
            for i in range(len(run.metrics["grown"][side]))
        ]
        k_top, k_bottom, scores = np.array(bands, float).T  # what is no number is NaN, and not drawn
        ax.plot(r - k_top - k_bottom - middle, scores, color=colour, label=f"towards the {side}")
    whole = number(run, "parts", "all", "mAP")
    if whole is not None:
        ax.axhline(whole, color=look.INK, linewidth=0.8, linestyle="--", label="whole spectrum")
    ax.set(xlabel=f"directions added to the {middle} in the middle", ylabel="mAP in %")
    look.legend(figure, ax)
    look.title(figure, f"The middle grown to either end, {about}")
    return figure
