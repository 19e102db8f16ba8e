"""Points: texts, images and projected images in two dimensions."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxalign.eval.labels import Label
from jaxalign.eval.tasks.runs import Run

from . import look
from .look import Found, number

MOST = 600  # points of a kind that are drawn; of more, so many evenly spaced ones
_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
_VARIANTS = {"plain": "eq. 11", "adjusted": "eq. 12"}
# What each is called, its marker, and its colour where classes have none.
_KINDS = {
    "image": ("images", "o", look.ONE),
    "projected": ("projected images", "^", look.TWO),
    "text": ("texts", "*", look.THREE),
}


@look.styled()
def draw_views(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """A row for each view; left the projection alone (eq. 11), right with the mean adjusted (eq. 12).

    Where a run says of which class each image is, the most frequent classes have a colour, the others none.
    """
    views = [(run, *view) for run, of in found for view in of.items()]
    figure, axes = look.panels(len(views), columns=2)
    for ax, (run, variant, points) in zip(axes, views, strict=True):
        frequent = _frequent_classes(run)
        for kind in sorted(points, key=[*_KINDS, *points].index):
            classes = _classes(run, kind, len(points[kind]))
            _draw(ax, points[kind], classes, frequent, *_KINDS.get(kind, (kind, "o", look.FOUR)))
        ax.set(xticks=[], yticks=[])
        view, shift = str(run.metrics.get("view", "view")), number(run, variant, "shift")
        told = f"{_TITLES.get(view, view)}, {_VARIANTS.get(variant, variant)}"
        look.head(ax, told if shift is None else f"{told}: centroids {shift:.2f} apart")
    look.legend(figure, axes[0])
    coloured = (
        "; in colour: the most frequent classes" if any(_frequent_classes(run) for run, _ in found) else ""
    )
    look.title(figure, f"Two dimensions, {about}{coloured}")
    return figure


def _draw(
    ax: Axes,
    points: np.ndarray,
    classes: np.ndarray,
    frequent: Sequence[int],
    label: str,
    marker: str,
    colour: str,
) -> None:
    """Points `[n, 2]` of a kind: in its colour where no class is known, or else each in that of its class."""
    every = np.linspace(0, len(points) - 1, min(len(points), MOST)).astype(int)
    points, classes = points[every], classes[every]
    if not frequent:
        return look.dots(ax, points, colour, label, marker)
    look.dots(ax, points[~np.isin(classes, frequent)], look.SIX, label, marker)
    for of, own in zip(frequent, look.SERIES, strict=False):
        if (classes == of).any():
            look.dots(ax, points[classes == of], own, marker=marker)


def _frequent_classes(run: Run) -> list[int]:
    """Classes that have a colour of their own, the most frequent first; none where the run does not say."""
    known, counts = np.unique(run.arrays.get("image_class", ()), return_counts=True)
    return known[np.argsort(-counts, kind="stable")][: len(look.SERIES) - 1].tolist()


def _classes(run: Run, kind: str, count: int) -> np.ndarray:
    """Of the points of a kind: a text is its own class."""
    known = np.arange(count) if kind == "text" else run.arrays.get("image_class", np.zeros(0, int))
    return known if len(known) == count else np.full(count, -1)
