"""Measured beside printed."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure

from .look import INK, LINE, SERIES, dots, name_axes, panels, styled, title, wrapped

Series = Mapping[str, Sequence[tuple[float, float]]]


@styled()
def draw_measured(series: Series, about: str, unit: str) -> Figure:
    """Pairs of a printed and a measured number, by name.

    Left, each pair: on the diagonal they are equal. Right, the differences of each series, a line at their
    mean.
    """
    figure, (left, right) = panels(2, width=4.6, height=max(4.0, 0.25 * len(series) + 1))
    for i, (pairs, colour) in enumerate(zip(series.values(), cycle(SERIES), strict=False)):
        printed, measured = np.array(pairs, float).T
        difference = measured - printed
        dots(left, np.stack([printed, measured], 1), colour)
        dots(right, np.stack([difference, np.full(len(difference), i)], 1), colour)
        right.plot([difference.mean()] * 2, [i - 0.3, i + 0.3], color=colour, linewidth=2)
    ends = min(left.get_xlim()[0], left.get_ylim()[0]), max(left.get_xlim()[1], left.get_ylim()[1])
    left.plot(ends, ends, color=LINE, linewidth=0.8, zorder=0)
    left.set(xlim=ends, ylim=ends, aspect="equal")
    name_axes(left, f"printed ({unit})", f"measured ({unit})")
    right.axvline(0, color=INK, linewidth=0.8, zorder=0)
    right.set_yticks(range(len(series)), labels=[wrapped(name, 2.5) for name in series])
    right.invert_yaxis()
    name_axes(right, f"measured less printed ({unit})", "")
    title(figure, about)
    return figure
