"""Histograms of cosines: by class, by modality, by part of the spectrum, and of dogs and cats."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxalign.eval.labels import Label, number, vector
from jaxalign.eval.tasks.runs import Run

from . import look

_PAIRS = {"same": "different", "positives": "negatives"}  # endings of arrays that belong into one panel
_NAMES = {
    "same": "same class",
    "different": "different classes",
    "positives": "same class",
    "negatives": "different classes",
}
_TOLD = {"overlap": "overlap {:.3f}", "iou": "IoU {:.3f}", "gap": "gap {:.3f}", "mAP": "mAP {:.1f}"}


def shows(kind: str) -> Callable[[Run], bool]:
    """Whether a run has histograms of this kind: `parts`, `aligned`, `modalities` or `classes`."""
    return lambda run: _kind(run) == kind


def _kind(run: Run) -> str:
    """What its panels are of; empty where there are none."""
    if not any(True for _ in panels_of(run, "")):
        return ""
    told = next((key for key in ("parts", "aligned") if key in run.metrics), "classes")
    return "modalities" if "image_image" in run.arrays else told


def panels_of(run: Run, label: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Title and counts by name: of each pair that differs in the ending, and of all others together."""
    edges = vector(run, "edges")
    if edges is None:
        return
    counts = {
        name: values
        for name, values in run.arrays.items()
        if name != "edges" and values.shape == (len(edges) - 1,) and values.dtype.kind in "iu"
    }
    for ending, other in _PAIRS.items():
        for name in [name for name in counts if f"_{name}".endswith(f"_{ending}")]:
            start = name.removesuffix(ending)
            pair = {ending: counts.pop(name), other: counts.pop(f"{start}{other}", None)}
            shown = {_NAMES[key]: value for key, value in pair.items() if value is not None}
            yield _about(run, start.removesuffix("_"), label), shown
    if counts:
        yield _about(run, "", label), {name.replace("_", "-"): value for name, value in counts.items()}


@look.styled()
def draw_histograms(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """A panel for each method, or part of the spectrum (Reevaluating, figures 2, 5, 8; IsoCLIP, 3, 4, S7)."""
    found = [(run.arrays["edges"], *panel) for run in runs for panel in panels_of(run, label(run))]
    figure, axes = look.panels(len(found), shared=True)
    for ax, (edges, name, counts) in zip(axes, found, strict=True):
        _draw(ax, edges, counts)
        look.head(ax, name)
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
