"""Lines: accuracy against shots, inversions against their steps, precision among first results, spectra."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxalign.eval.labels import Label, dataset_label, find_baseline
from jaxalign.eval.tasks.runs import Run

from . import look
from .look import Found, band, number, vector

_LINES = len(look.SERIES)  # in one panel; more of them would share colours
INTER = ("inter_modal", "singular_values")
HEADS = ("image", "text")
_LEAST = 1e-6  # of the largest: zero has no logarithm


@look.styled()
def draw_shots(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """Accuracy against shots, the mean over the seeds, a line for each method."""
    lines = {label(run): (shots, of.reshape(len(shots), -1).mean(1)) for run, (shots, of) in found}
    figure = _curves(lines, f"Accuracy against shots, {about}", "shots", "accuracy in percent")
    for ax in figure.axes:
        ax.set_xticks(np.unique(np.concatenate([shots for shots, _ in lines.values()])))
    return figure


@look.styled()
def draw_losses(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """Mean loss of the queries that were inverted at each step, once for all labellings of the same ones."""
    lines: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for run, (losses,) in found:
        if not any(np.array_equal(losses, other) for _, other in lines.values()):
            lines[label(run)] = (np.arange(len(losses)), losses)
    return _curves(lines, f"Inversion of the queries: loss, {about}", "step", "1 - cosine with the query")


@look.styled()
def draw_steps(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """mAP of inverted queries against the steps, beside the queries as they are, where a run has those."""
    dataset = dataset_label([*(run for run, _ in found), *beside])
    figure, axes = look.panels(len(found), shared=True)
    for ax, (run, (steps, values)) in zip(axes, found, strict=True):
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
    axes[0].set_ylim(bottom=min(0.0, *(float(values.min()) for _, (_, values) in found)))
    look.title(figure, f"Inversion of the queries: mAP against steps, {about}")
    return figure


@look.styled()
def draw_precision(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """Precision among the first k results of each method, on a logarithmic axis (IsoCLIP, figure 4)."""
    [(_, lines)] = found
    figure = _curves(lines, f"Precision among the first k, {about}", "retrieved images k", "precision in %")
    look.logarithmic(figure.axes[0], "x")
    return figure


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


@look.styled()
def draw_spectra(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """The inter-modal spectrum with its bands, and both intra-modal ones before and after (figures 2, S6)."""
    [(run, spectra)] = found
    inter = next((spectra[name] for name in INTER if name in spectra), None)
    heads = [name for name in HEADS if name in spectra]
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


@look.styled()
def draw_growth(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """mAP as the middle band takes in directions of the top, or of the bottom (IsoCLIP, figure S8)."""
    [(run, grown)] = found
    figure, (ax,) = look.panels(1, width=4.6, height=3.2)
    r, middle = number(run, "singular_values") or 0, number(run, "width") or 0
    for side, colour in (("top", look.TWO), ("bottom", look.ONE)):
        bands = [
            [number(run, "grown", side, i, key) for key in ("k_top", "k_bottom", "mAP")]
            for i in range(len(grown[side]))
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
