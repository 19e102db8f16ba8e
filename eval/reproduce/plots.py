"""Measured beside printed as a picture."""

import io

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxalign.eval.drawing import drawable
from jaxalign.eval.own_images import MARK

from .run import Outcome, Reproduction

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")


@matplotlib.rc_context({"text.parse_math": False})  # names may have dollar signs
def draw(reproduction: Reproduction) -> bytes | None:
    """A PNG, or None where nothing was measured that is printed.

    Left, each cell at its printed and its measured number: on the diagonal they are equal. Right, the
    differences of each series, a line at their mean.
    """
    compared = [o for o in reproduction.outcomes if o.cell.shown and o.difference is not None]
    if not compared:
        return None
    series = group(compared)
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _scatter(left, series)
    _differences(right, series)
    unit = reproduction.table.unit
    left.set(
        title=drawable(reproduction.table.title), xlabel=f"printed ({unit})", ylabel=f"measured ({unit})"
    )
    right.set(title="measured less printed", xlabel=unit)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120, metadata=MARK)
    return file.getvalue()


def group(outcomes: list[Outcome]) -> dict[str, list[Outcome]]:
    """By what is no data set, no number of shots and, where there are several methods, no backbone."""
    labels = outcomes[0].cell.labels
    dropped = {"dataset", "shots", "number"}
    if "method" in labels or "classifier" in labels:
        dropped.add("backbone")
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        own = [text for name, text in outcome.cell.labels.items() if name not in dropped]
        found.setdefault(", ".join(own) or outcome.cell.backbone, []).append(outcome)
    return found


def _scatter(axes: Axes, series: dict[str, list[Outcome]]) -> None:
    for i, (name, outcomes) in enumerate(series.items()):
        printed = [o.cell.printed or 0.0 for o in outcomes]
        measured = [o.value or 0.0 for o in outcomes]
        colour = _COLOURS[i % len(_COLOURS)]
        axes.scatter(printed, measured, s=22, color=colour, label=drawable(name), alpha=0.8)
    low = min(*axes.get_xlim(), *axes.get_ylim())
    high = max(*axes.get_xlim(), *axes.get_ylim())
    axes.plot([low, high], [low, high], color="#777777", linewidth=0.8, zorder=0)
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.legend(fontsize=8, loc="upper left")


def _differences(axes: Axes, series: dict[str, list[Outcome]]) -> None:
    for i, outcomes in enumerate(series.values()):
        values = [o.difference or 0.0 for o in outcomes]
        colour = _COLOURS[i % len(_COLOURS)]
        axes.scatter(values, [i] * len(values), s=22, color=colour, alpha=0.6)
        mean = sum(values) / len(values)
        axes.plot([mean, mean], [i - 0.3, i + 0.3], color=colour, linewidth=2)
    axes.axvline(0, color="#777777", linewidth=0.8, zorder=0)
    axes.set_yticks(range(len(series)), labels=list(map(drawable, series)))
    axes.invert_yaxis()
