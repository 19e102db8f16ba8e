"""Band searches as heat maps."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from jaxalign.eval.labels import Label
from jaxalign.eval.tasks.runs import Run

from . import look
from .look import Found, band

MOST_NUMBERS = 15  # columns up to which every cell has its number
_CELL = (0.36, 0.25)  # inches
_SHADES = 20  # of the bar beside a map


def best_of(run: Run) -> tuple[int, int]:
    """The band that the run says is the best, or else the first of the highest mAP."""
    scores = np.where(look.shown(run.arrays["mAP"]), run.arrays["mAP"], -np.inf)
    i, j = np.unravel_index(np.argmax(scores), scores.shape)
    return band(run, "best") or (int(run.arrays["k_top"][i]), int(run.arrays["k_bottom"][j]))


@look.styled()
def draw_sweeps(found: Sequence[Found], label: Label, about: str, beside: Sequence[Run]) -> Figure:
    """mAP over the grid on each data set (IsoCLIP, figures 5, S9 and S10), one run for each.

    The data set's own best band has a solid frame, the first one's best a dashed one; the bar beside a map
    says what its shades are.
    """
    runs = [run for run, _ in found]
    chosen = best_of(runs[0])
    rows, columns = np.max([run.arrays["mAP"].shape for run in runs], axis=0)
    small = columns > MOST_NUMBERS
    size = [
        count * side * (0.5 if small else 1.0) for count, side in zip((columns, rows), _CELL, strict=True)
    ]
    figure, axes = look.panels(len(runs), 3, max(3.5, size[0] + 1.4), max(2.6, size[1] + 1.1))
    for ax, run in zip(axes, runs, strict=True):
        draw_map(ax, run)
        top, bottom = best = best_of(run)
        _frame(ax, run, best, look.TWO, "-")
        if chosen != best:
            _frame(ax, run, chosen, look.INK, (0, (3, 2)))
        scores = run.arrays["mAP"][look.shown(run.arrays["mAP"])]
        told = f"best ({top}, {bottom}) {scores.max():.{digits_of(scores)}f}, lowest {scores.min():.1f}"
        look.head(ax, f"{label(run)}: {told}" if label(run) else told)
    several = f"; dashed frame: ({chosen[0]}, {chosen[1]})" if len(runs) > 1 else ""
    look.title(figure, f"mAP in % by band, {about}; solid frame: the best{several}")
    return figure


def draw_map(ax: Axes, run: Run) -> None:
    """The cells of a run's grid, the darker the higher; empty bands are left blank."""
    k_top, k_bottom, scores = (run.arrays[name] for name in ("k_top", "k_bottom", "mAP"))
    known = scores[look.shown(scores)]
    low, spread = known.min(), max(known.max() - known.min(), 1e-9)
    numbered, digits = len(k_bottom) <= MOST_NUMBERS, digits_of(known)
    for i, j in np.argwhere(look.shown(scores)):
        strength = (scores[i, j] - low) / spread
        cell = _shade((j - 0.47, i - 0.46), 0.94, 0.92, strength)
        cell.set_gid(f"k_top {k_top[i]}, k_bottom {k_bottom[j]}: {scores[i, j]:.2f}")
        ax.add_patch(cell)
        if numbered:
            colour = look.ON_CELL if strength > 0.6 else look.INK
            size = 8 if digits == 1 else 7
            said = f"{scores[i, j]:.{digits}f}"
            ax.text(j, i, said, ha="center", va="center", fontsize=size, color=colour, in_layout=False)
    ax.grid(False)
    every = slice(None, None, 1 if numbered else 2)  # labels of narrow columns would touch
    ax.set_xticks(range(len(k_bottom))[every], [str(k) for k in k_bottom[every]])
    ax.set_yticks(range(len(k_top)), [str(k) for k in k_top])
    ax.set(xlim=(-0.6, len(k_bottom) - 0.4), ylim=(len(k_top) - 0.4, -0.6))
    ax.set(xlabel="removed from the bottom (k_bottom)", ylabel="removed from the top (k_top)")
    _draw_bar(ax, low, known.max())


def digits_of(scores: np.ndarray) -> int:
    """Digits after the point that tell the highest score from all others that are lower, at most three."""
    others = scores[scores < scores.max()]
    apart = (n for n in (1, 2) if not others.size or f"{scores.max():.{n}f}" != f"{others.max():.{n}f}")
    return next(apart, 3)


def _shade(corner: tuple[float, float], width: float, height: float, strength: float) -> Rectangle:
    return Rectangle(corner, width, height, color=look.ONE, alpha=0.05 + 0.95 * strength, linewidth=0)


def _draw_bar(ax: Axes, low: float, high: float) -> None:
    """The shades of the scores from `low` to `high`, right of the map."""
    bar, edges = ax.inset_axes((1.03, 0.0, 0.035, 1.0)), np.linspace(low, high, _SHADES + 1)
    if high > low:
        for i, (start, end) in enumerate(pairwise(edges)):
            bar.add_patch(_shade((0, start), 1, end - start, i / (_SHADES - 1)))
        bar.set_ylim(low, high)
    else:
        bar.add_patch(_shade((0, low - 0.5), 1, 1, 0))
        bar.set(ylim=(low - 0.5, low + 0.5), yticks=[low])
    bar.set(xlim=(0, 1), xticks=[], ylabel="mAP in %")
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.grid(False)


def _frame(ax: Axes, run: Run, ends: tuple[int, int], colour: str, dashes: object) -> None:
    rows, columns = (
        np.flatnonzero(run.arrays[name] == k) for name, k in zip(("k_top", "k_bottom"), ends, strict=True)
    )
    if rows.size and columns.size:
        corner = (columns[0] - 0.5, rows[0] - 0.5)
        look = {"edgecolor": colour, "linewidth": 2, "linestyle": dashes, "clip_on": False}
        ax.add_patch(Rectangle(corner, 1, 1, fill=False, **look))
