"""A figure with its look, and how it becomes a file."""

import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from jaxalign.errors import JaxalignError
from jaxalign.eval.drawing import drawable
from jaxalign.eval.own_images import MARK
from jaxalign.eval.tasks.runs import Run
from jaxalign.replacing import replaced_file

# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, ORANGE, GREEN, PURPLE, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#777777"
_STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # names may have dollar signs
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


# Around every function that draws: matplotlib's settings are global, and others draw with it, too.
def styled() -> Any:
    """The look of all figures, for a function that draws: `@styled()`."""
    return matplotlib.rc_context(_STYLE)


def panels(rows: int, columns: int, width: float = 3.6, height: float = 2.8) -> tuple[Figure, np.ndarray]:
    """A figure with axes `[rows, columns]`, inches each; no window and no global state."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def title(figure: Figure, text: str) -> None:
    """One line above all panels."""
    figure.suptitle(drawable(text), fontsize=11)


def task_of(run: Run) -> str:
    """The labelling, for the end of a title; empty for captions, which have none."""
    return f", {run.settings['task']}" if "task" in run.settings else ""


def legend_below(figure: Figure, axes: Any, markerscale: float = 1.0) -> None:
    """The legend of one of the panels, which all share, below them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), markerscale=markerscale)


def save(figure: Figure, file: str | os.PathLike) -> Path:
    """Write `figure` as PNG, whole or not at all; raises JaxalignError where it cannot be written."""
    path = Path(file)
    drawn = BytesIO()
    with styled():
        figure.savefig(drawn, format="png", dpi=150, metadata=MARK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path) as partial:
            partial.write_bytes(drawn.getvalue())
    except OSError as error:
        raise JaxalignError(
            f"cannot write {path} ({error.strerror or error}); choose another folder"
        ) from error
    return path


def shares(counts: np.ndarray) -> np.ndarray:
    """Counts scaled to a sum of one; zeros stay."""
    return np.asarray(counts, np.float64) / max(float(np.sum(counts)), 1.0)


def histogram(axes: Any, edges: np.ndarray, counts: np.ndarray, colour: str, label: str) -> None:
    """A filled outline of the shares of pairs."""
    axes.stairs(shares(counts), edges, fill=True, color=colour, alpha=0.35)
    axes.stairs(shares(counts), edges, color=colour, linewidth=1.2, label=label)


def occupied(edges: np.ndarray, counts: Sequence[np.ndarray], margin: float = 0.02) -> tuple[float, float]:
    """The range of the bins that hold all but a thousandth of the pairs at each end, over all `counts`."""
    low, high = [], []
    for of in counts:
        total = np.cumsum(shares(of))
        low.append(edges[np.searchsorted(total, 0.001)])
        high.append(edges[min(np.searchsorted(total, 0.999) + 1, len(edges) - 1)])
    return max(-1.0, min(low) - margin), min(1.0, max(high) + margin)
