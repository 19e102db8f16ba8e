"""Texts, pictures and projected pictures in two dimensions (Reevaluating, figure 7)."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from jaxalign.eval.tasks.runs import Run

from .figures import BLUE, ORANGE, PURPLE, legend_below, panels, styled, title

_TITLES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


@styled()
def draw_views(runs: Sequence[Run]) -> Figure:
    """A row for each view; left the projection alone (eq. 11), right with the mean adjusted (eq. 12)."""
    figure, axes = panels(len(runs), 2, width=4.2, height=3.4)
    for row, run in zip(axes, runs, strict=True):
        for ax, (variant, what) in zip(row, (("plain", "eq. 11"), ("adjusted", "eq. 12")), strict=True):
            for kind, colour, label in (
                ("image", PURPLE, "pictures"),
                ("projected", BLUE, "projected pictures"),
                ("text", ORANGE, "texts"),
            ):
                points = run.arrays[f"{variant}_{kind}"]
                ax.scatter(*points.T, s=4, color=colour, alpha=0.5, linewidth=0, label=label)
            ax.set_xticks([])
            ax.set_yticks([])
            shift = run.metrics[variant]["shift"]
            ax.set_title(f"{_TITLES[run.settings['view']]}, {what}: centroids {shift:.2f} apart")
    legend_below(figure, axes[0, 0], markerscale=2.5)
    first = runs[0]
    title(figure, f"{first.settings['model']} on {first.settings['dataset']} ({first.settings['query']})")
    return figure
