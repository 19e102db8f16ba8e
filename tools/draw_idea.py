"""Draws `docs/idea.png`: what IsoCLIP looks at and keeps, from the weights of the embedded emoji-clip.

    python tools/draw_idea.py

The spectrum is emoji-clip's own. The band is drawn where the idea can be seen; a band that helps is searched
(`jaxalign sweep`).
"""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

import jaxalign as ja

PAGE = Path(__file__).parents[1] / "docs" / "idea.png"
K_TOP, K_BOTTOM = 8, 20
IMAGE, TEXT, SHARED, LEFT_OUT = "#c2571a", "#1f6f8b", "#3b7a3b", "#b9b9b9"


def main() -> None:
    projectors = ja.load("emoji-clip").projectors
    operator = np.asarray(ja.inter_modal_operator(projectors))
    spectrum = np.asarray(ja.decompose(projectors).s)
    figure = Figure(figsize=(12, 3.9), layout="constrained")
    towers, psi, singular = figure.subplots(1, 3, width_ratios=(1.25, 0.75, 1.5))
    draw_towers(towers)
    draw_operator(psi, operator)
    draw_spectrum(singular, spectrum)
    figure.savefig(PAGE, dpi=120, facecolor="white")
    print(f"wrote {PAGE}")


def draw_towers(axes: Axes) -> None:
    """Two towers, their projectors, and the product of these."""
    axes.set(xlim=(0, 10), ylim=(0, 10), title="two towers meet in two matrices")
    axes.axis("off")
    for x, colour, name, matrix in ((0.3, IMAGE, "image", "$W_i$"), (6.3, TEXT, "text", "$W_t$")):
        for y, label in ((0.4, f"{name} tower"), (3.6, f"projector {matrix}")):
            box = FancyBboxPatch(
                (x, y), 3.4, 1.5, boxstyle="round,pad=0.1", facecolor=colour, edgecolor="none"
            )
            axes.add_patch(box)
            axes.text(x + 1.7, y + 0.75, label, color="white", ha="center", va="center", fontsize=9)
        axes.annotate("", (x + 1.7, 3.4), (x + 1.7, 2.1), arrowprops={"arrowstyle": "->", "color": colour})
        tip = (4.0, 7.0) if name == "image" else (6.0, 7.0)
        axes.add_patch(FancyArrowPatch((x + 1.7, 5.3), tip, arrowstyle="->", color=colour, mutation_scale=10))
    axes.text(5, 7.6, "similarity $= f_i^T\\,W_i^T W_t\\,f_t$", ha="center", fontsize=12)
    axes.text(5, 9.0, "$\\Psi = W_i^T W_t$", ha="center", fontsize=14, color=SHARED)


def draw_operator(axes: Axes, operator: np.ndarray) -> None:
    """The operator as it is, all of its numbers."""
    most = float(np.quantile(abs(operator), 0.995))
    axes.imshow(operator, cmap="RdBu_r", vmin=-most, vmax=most, interpolation="nearest", aspect="auto")
    axes.set(xticks=[], yticks=[], title="$\\Psi$")
    axes.set_ylabel(f"{operator.shape[0]} image features", color=IMAGE)
    axes.set_xlabel(f"{operator.shape[1]} text features", color=TEXT)


def draw_spectrum(axes: Axes, spectrum: np.ndarray) -> None:
    """Singular values; what lies in the band is kept."""
    rank = len(spectrum)
    places = np.arange(rank)
    kept = (places >= K_TOP) & (places < rank - K_BOTTOM)
    axes.bar(places, spectrum, width=0.9, color=np.where(kept, SHARED, LEFT_OUT))
    axes.axvspan(K_TOP - 0.5, rank - K_BOTTOM - 0.5, color=SHARED, alpha=0.1, linewidth=0)
    most = spectrum[0] * 1.22
    axes.set(xlim=(-1, rank), ylim=(0, most), xlabel="singular direction", ylabel="singular value")
    axes.set_title("its spectrum, and the band that IsoCLIP keeps")
    middle = (K_TOP + rank - K_BOTTOM) / 2
    axes.text(middle, most * 0.93, "the band: images and texts agree", color=SHARED, ha="center", va="top")
    for x, name in ((K_TOP / 2, "k_top"), (rank - K_BOTTOM / 2, "k_bottom")):
        axes.text(x, most * 0.98, f"{name}\nleft out", color="#666666", ha="center", va="top", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    matplotlib.rcParams["mathtext.fontset"] = "cm"
    main()
