"""Band searches as heat maps, and the middle of the spectrum grown to either end."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxalign.eval.drawing import drawable
from jaxalign.eval.tasks.runs import Run

from .figures import BLUE, ORANGE, panels, styled, task_of, title

_MOST_NUMBERS = 15  # columns up to which every cell has its number


@styled()
def draw_sweeps(runs: Mapping[str, Run], band: tuple[int, int]) -> Figure:
    """mAP over the grid on each data set (IsoCLIP, figures 5, S9 and S10), by data set.

    The data set's own best band has a black frame, `band`, the one that was chosen, a red one.
    """
    first = next(iter(runs.values()))
    rows, columns = first.arrays["mAP"].shape
    shown = min(len(runs), 3)
    size = (max(3.4, 0.46 * columns + 1.6), max(2.8, 0.34 * rows + 1.1))
    figure, axes = panels(-(-len(runs) // shown), shown, *size)
    for ax, (name, run) in zip(axes.ravel(), runs.items(), strict=False):
        _heat_map(ax, run, band)
        best = run.metrics["best"]
        ax.set_title(drawable(f"{name}: best ({best['k_top']}, {best['k_bottom']}), mAP {best['mAP']:.1f}"))
    for ax in axes.ravel()[len(runs) :]:
        ax.set_visible(False)
    title(
        figure, f"{first.settings['model']}, {first.settings['modality']}: band ({band[0]}, {band[1]}) in red"
    )
    return figure


def _heat_map(ax: Any, run: Run, band: tuple[int, int]) -> None:
    k_top, k_bottom, scores = (run.arrays[name] for name in ("k_top", "k_bottom", "mAP"))
    ax.grid(False)
    ax.imshow(scores, cmap="viridis", aspect="auto", origin="lower")
    ax.set_xticks(range(len(k_bottom)), [str(k) for k in k_bottom])
    ax.set_yticks(range(len(k_top)), [str(k) for k in k_top])
    ax.set_xlabel("removed from the bottom (k_bottom)")
    ax.set_ylabel("removed from the top (k_top)")
    low, high = np.nanmin(scores), np.nanmax(scores)
    if len(k_bottom) <= _MOST_NUMBERS:
        for i, j in np.argwhere(~np.isnan(scores)):
            dark = scores[i, j] < low + 0.6 * (high - low)
            ax.text(
                j, i, f"{scores[i, j]:.1f}", ha="center", va="center", fontsize=7, color="w" if dark else "k"
            )
    best = run.metrics["best"]
    for (top, bottom), colour, width in (
        (band, "#D55E00", 3.5),
        ((best["k_top"], best["k_bottom"]), "k", 1.5),
    ):
        rows, columns = np.flatnonzero(k_top == top), np.flatnonzero(k_bottom == bottom)
        if rows.size and columns.size:
            frame = {"fill": False, "clip_on": False, "edgecolor": colour, "linewidth": width}
            ax.add_patch(_rectangle((columns[0] - 0.5, rows[0] - 0.5), **frame))


def _rectangle(corner: tuple[float, float], **look: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, **look)


@styled()
def draw_growth(run: Run) -> Figure:
    """mAP as the middle band takes in directions of the top, or of the bottom (IsoCLIP, figure S8)."""
    figure, axes = panels(1, 1, width=5.2, height=3.4)
    ax = axes[0, 0]
    middle = run.metrics["width"]
    for side, colour in (("top", ORANGE), ("bottom", BLUE)):
        bands = run.metrics["grown"][side]
        kept = [run.metrics["singular_values"] - b["k_top"] - b["k_bottom"] - middle for b in bands]
        ax.plot(kept, [b["mAP"] for b in bands], "o-", color=colour, label=f"towards the {side}")
    ax.axhline(
        run.metrics["parts"]["all"]["mAP"], color="k", linewidth=0.8, linestyle="--", label="whole spectrum"
    )
    ax.set_xlabel(f"directions added to the {middle} in the middle")
    ax.set_ylabel("mAP in %")
    ax.legend()
    title(figure, f"{run.settings['model']} on {run.settings['dataset']}{task_of(run)}")
    return figure
