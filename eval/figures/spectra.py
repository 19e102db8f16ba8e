"""Singular values of the inter-modal operator, and eigenvalues of the intra-modal ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxalign.eval.labels import Label
from jaxalign.eval.tasks.runs import Run

from .look import INK, ONE, TWO, head, logarithmic, name_axes, panels, styled, title
from .read import band, number, vector

_INTER = ("inter_modal", "singular_values")
_HEADS = ("image", "text")
_LEAST = 1e-6  # of the largest: zero has no logarithm


def has_spectra(run: Run) -> bool:
    return any(vector(run, name) is not None for name in (*_INTER, *_HEADS))


@styled()
def draw_spectra(runs: Sequence[Run], label: Label, about: str, beside: Sequence[Run] = ()) -> Figure:
    """The inter-modal spectrum with its bands, and both intra-modal ones before and after (figures 2, S6)."""
    run = runs[0]
    inter = next((values for name in _INTER if (values := vector(run, name)) is not None), None)
    heads = [name for name in _HEADS if vector(run, name) is not None]
    figure, axes = panels((inter is not None) + len(heads))
    if inter is not None:
        _inter_modal(axes[0], run, inter)
    for ax, name in zip(axes[len(axes) - len(heads) :], heads, strict=True):
        for key, colour, kind in ((name, ONE, "as it is"), (f"{name}_isoclip", TWO, "IsoCLIP")):
            values = vector(run, key)
            if values is not None:
                # Rounding of a filtered head: directions that it removed.
                kept = values[values > values.max() * len(values) * np.finfo(np.float32).eps]
                ax.plot(kept / kept.sum(), color=colour, label=f"{kind}, {len(kept)} directions")
        logarithmic(ax, "y")
        name_axes(ax, "index", "eigenvalue, share of the sum")
        head(ax, f"intra-modal operator, {name}")
        ax.legend(loc="lower left")
    title(figure, f"Spectra, {about}")
    return figure


def _inter_modal(ax: Any, run: Run, s: np.ndarray) -> None:
    r = len(s)
    ax.plot(np.maximum(s, (s.max() or 1.0) * _LEAST), color=INK, label="singular values")
    logarithmic(ax, "y")
    for name, label, colour in (("band", "band", ONE), ("auto_band", "automatic band", TWO)):
        ends = band(run, name)
        if ends is not None:
            told = f"{label} ({ends[0]}, {ends[1]})"
            start, stop = np.clip((ends[0], r - ends[1]), 0, r) - 0.5
            ax.axvspan(start, stop, color=colour, alpha=0.16, linewidth=0, label=told)
    ax.set_xlim(-0.5, r - 0.5)
    name_axes(ax, "index", "singular value")
    rank = number(run, "effective_rank")
    head(ax, "inter-modal operator" + ("" if rank is None else f", effective rank {rank:.0f} of {r}"))
    ax.legend(loc="lower left")
