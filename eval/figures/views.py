"""Texts, images and projected images in two dimensions (Reevaluating, figure 7)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxalign.eval.labels import Label
from jaxalign.eval.tasks.runs import Run

from .look import SERIES, dots, head, legend, panels, styled, title
from .read import number

MOST = 600  # points of a kind that are drawn; of more, so many evenly spaced ones
_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_VARIANTS = {"plain": "eq. 11", "adjusted": "eq. 12"}
_KINDS = {"image": "images", "projected": "projected images", "text": "texts"}


def views_of(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """Points `[n, 2]` by variant and kind, which the names of its arrays are made of."""
    views: dict[str, dict[str, np.ndarray]] = {}
    for name, values in run.arrays.items():
        start, _, rest = name.partition("_")
        if rest and values.ndim == 2 and values.shape[1] == 2 and len(values) and values.dtype.kind == "f":
            views.setdefault(start, {})[rest] = values
    return views


@styled()
def draw_views(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """A row for each view; left the projection alone (eq. 11), right with the mean adjusted (eq. 12)."""
    found = [(run, *view) for run in runs for view in views_of(run).items()]
    figure, axes = panels(len(found), columns=2)
    for ax, (run, variant, points) in zip(axes, found, strict=True):
        kinds = [*_KINDS, *(kind for kind in points if kind not in _KINDS)]
        for i, kind in enumerate(kind for kind in kinds if kind in points):
            every = np.linspace(0, len(points[kind]) - 1, min(len(points[kind]), MOST)).astype(int)
            dots(ax, points[kind][every], SERIES[i % len(SERIES)], _KINDS.get(kind, kind))
        ax.set_xticks([])
        ax.set_yticks([])
        view, shift = str(run.metrics.get("view", "view")), number(run, variant, "shift")
        told = f"{_TITLES.get(view, view)}, {_VARIANTS.get(variant, variant)}"
        head(ax, told if shift is None else f"{told}: centroids {shift:.2f} apart")
    legend(figure, axes[0])
    title(figure, f"Two dimensions, {about}")
    return figure
