"""Histograms of cosines: by class, by modality, by part of the spectrum, and of dogs and cats."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxalign.eval.labels import Label
from jaxalign.eval.tasks.runs import Run

from . import look
from .look import Found, number

_TOLD = {"overlap": "overlap {:.3f}", "iou": "IoU {:.3f}", "gap": "gap {:.3f}", "mAP": "mAP {:.1f}"}


@look.styled()
def draw_histograms(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """A panel for each method, or part of the spectrum (Reevaluating, figures 2, 5, 8; IsoCLIP, 3, 4, S7)."""
    panels = [(run, *panel) for run, of in found for panel in of]
    figure, axes = look.panels(len(panels), shared=True)
    for ax, (run, start, counts) in zip(axes, panels, strict=True):
        _draw(ax, run.arrays["edges"], counts)
        look.head(ax, _about(run, start, label(run)))
        ax.set(xlabel="cosine similarity", ylabel="share of the pairs")
    axes[0].set_ylim(bottom=0)
    look.legend(figure, axes[0])
    look.title(figure, f"Similarities, {about}")
    return figure


def _draw(ax: Axes, edges: np.ndarray, counts: Mapping[str, np.ndarray]) -> None:
    """Filled outlines of the shares of pairs."""
    shown = _occupied(list(counts.values()))
    for (name, of), colour in zip(counts.items(), cycle(look.SERIES), strict=False):
        bins, ends = _shares(of)[shown], edges[shown.start : shown.stop + 1]
        ax.stairs(bins, ends, fill=True, facecolor=(colour, 0.3), edgecolor=colour, linewidth=1.2, label=name)


def _shares(counts: np.ndarray) -> np.ndarray:
    """Counts scaled to a sum of one; zeros stay."""
    return counts / max(counts.sum(), 1)


def _occupied(counts: Sequence[np.ndarray]) -> slice:
    """The bins that hold all but a thousandth of the pairs at each end, over all `counts`."""
    totals = [np.cumsum(_shares(of)) for of in counts]
    low = min(int(np.searchsorted(total, 0.001)) for total in totals)
    high = max(int(np.searchsorted(total, 0.999)) for total in totals)
    return slice(low, min(high + 1, len(counts[0])))


def _about(run: Run, start: str, label: str) -> str:
    """What is in a panel, with the numbers that belong to it."""
    within = next((key for key in ("parts", "aligned") if number(run, key, start, "mAP") is not None), None)
    if start and not within:
        return start
    path = (within, start) if within else ()
    told = [form.format(n) for key, form in _TOLD.items() if (n := number(run, *path, key)) is not None]
    ends = [number(run, *path, key) for key in ("k_top", "k_bottom")]
    r = number(run, "singular_values")
    if within and r is not None and ends[0] is not None and ends[1] is not None:
        told.insert(0, f"directions {ends[0]} to {r - ends[1] - 1}")
    name = start or label
    return f"{name}: {', '.join(told)}" if told else name
