"""Singular values of the inter-modal operator, and eigenvalues of the intra-modal ones."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxalign.eval.tasks.runs import Run

from .figures import BLUE, GREEN, GREY, ORANGE, panels, styled, title


@styled()
def draw_spectra(run: Run) -> Figure:
    """The inter-modal spectrum with its bands, and both intra-modal ones before and after (figures 2, S6)."""
    figure, axes = panels(1, 3, width=4.2, height=3.2)
    _inter_modal(axes[0, 0], run)
    for ax, head in zip(axes[0, 1:], ("image", "text"), strict=True):
        for name, colour, label in ((head, BLUE, "as it is"), (f"{head}_isoclip", ORANGE, "IsoCLIP")):
            values = np.asarray(run.arrays[name], np.float64)
            # Rounding of a filtered head: directions that it removed.
            kept = values[values > values[0] * len(values) * np.finfo(np.float32).eps]
            ax.plot(kept / kept.sum(), color=colour, label=f"{label}, {len(kept)} directions")
        ax.set_yscale("log")
        ax.set_xlabel("index")
        ax.set_ylabel("eigenvalue, scaled to a sum of 1")
        ax.set_title(f"intra-modal operator, {head}")
        ax.legend()
    title(figure, str(run.settings["model"]))
    return figure


def _inter_modal(ax: Any, run: Run) -> None:
    s = np.asarray(run.arrays["inter_modal"], np.float64)
    r = len(s)
    ax.plot(np.maximum(s, s[0] * 1e-6), color="k", label="singular values")
    ax.set_yscale("log")
    for name, colour, (top, bottom) in (
        ("band", GREEN, run.metrics["band"] or (0, 0)),
        ("automatic band", GREY, run.metrics["auto_band"]),
    ):
        label = f"{name} ({top}, {bottom})"
        ax.axvspan(top - 0.5, r - bottom - 0.5, color=colour, alpha=0.18, linewidth=0, label=label)
    ax.set_xlabel("index")
    ax.set_ylabel("singular value")
    ax.set_title(f"inter-modal operator, effective rank {run.metrics['effective_rank']:.0f} of {r}")
    ax.legend()
