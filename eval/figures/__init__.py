"""One drawing function for each figure: as PNG on disk, and as a part of the page in its colours.

What is drawn of runs follows from what a run has, not from what it is called.
"""

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from jaxalign.eval import labels
from jaxalign.eval.labels import DATASET, DATASET_DETAILS, MODEL, MODEL_DETAILS, show, vector
from jaxalign.eval.tasks.runs import Run

from . import bands, curves, histograms, scatter
from .bands import draw_sweeps as draw_sweeps
from .look import drawable as drawable
from .look import save as save
from .scatter import draw_measured as draw_measured
from .svg import to_svg as to_svg

_MODEL = (MODEL, *MODEL_DETAILS, "modality")
_DATASET = (*_MODEL, DATASET, *DATASET_DETAILS)


class Drawn(NamedTuple):
    """A figure of its kind; `about` are the model, the data set and the like, for the name of a file."""

    kind: str
    about: tuple[str, ...]
    figure: Figure


@dataclass(frozen=True)
class _Kind:
    """A kind of figure.

    Attributes:
      suits: whether a run has what is drawn.
      draw: of the runs of one figure, what each is called in it, what all are about, and the runs beside
        them, the figure.
      shared: settings that the runs of a figure have in common.
      alone: whether each run has a figure of its own.
      label: what tells the runs of a figure apart.
    """

    name: str
    suits: Callable[[Run], bool]
    draw: Callable[[Sequence[Run], labels.Label, str, Sequence[Run]], Figure]
    shared: tuple[str, ...] = _DATASET
    alone: bool = False
    label: Callable[[Sequence[Run]], labels.Label] = labels.method_label


def figures_of(runs: Sequence[Run], without: Container[str] = ()) -> Iterator[Drawn]:
    """All figures that there are of what `runs` have, each of runs of one task and model.

    Args:
      without: kinds that are not drawn.
    """
    for kind in (kind for kind in _KINDS if kind.name not in without):
        groups: dict[Any, list[Run]] = {}
        for run in filter(kind.suits, runs):
            shared = tuple(show(run.settings.get(name, "")) for name in kind.shared)
            groups.setdefault((run.protocol, *shared, run.digest if kind.alone else ""), []).append(run)
        for own in groups.values():
            beside = [run for run in runs if run.protocol == own[0].protocol]
            names = [name for name in (MODEL, DATASET, "query", "modality") if name in kind.shared]
            told = [str(own[0].settings.get(name, "")) for name in names]
            figure = kind.draw(own, kind.label(beside), _about(own[0], kind, beside), beside)
            yield Drawn(kind.name, tuple(filter(None, told)), figure)


def _about(run: Run, kind: _Kind, beside: Sequence[Run]) -> str:
    """What all runs of a figure are about: model, data set and labelling, as far as they share these."""
    told = {name: show(run.settings.get(name, "")) for name in kind.shared}
    dataset, details = labels.dataset_label(beside)(run), ""
    if DATASET in told and dataset == told[DATASET]:  # otherwise it has them, as far as runs differ in them
        details = ", ".join(filter(None, (told["query"], told["task"])))
    where = f"{told[MODEL]} on {dataset}" if told.get(DATASET) else told[MODEL]
    return ", ".join(filter(None, (told.get("classifier"), where, details, told["modality"])))


_KINDS = (
    _Kind("shots", curves.has_shots, curves.draw_shots, ("classifier", *_DATASET)),
    _Kind("spectrum", curves.has_spectra, curves.draw_spectra, _MODEL, alone=True),
    _Kind("parts", histograms.shows("parts"), histograms.draw_histograms, alone=True),
    _Kind("growth", curves.has_growth, curves.draw_growth, alone=True),
    _Kind("classes", histograms.shows("classes"), histograms.draw_histograms),
    _Kind("modalities", histograms.shows("modalities"), histograms.draw_histograms),
    _Kind("dogs-cats", histograms.shows("aligned"), histograms.draw_histograms, alone=True),
    _Kind("precision", lambda run: bool(curves.precision_of(run)), curves.draw_precision, alone=True),
    _Kind("bands", bands.has_map, bands.draw_sweeps, _MODEL, label=labels.dataset_label),
    _Kind("views", lambda run: bool(scatter.views_of(run)), scatter.draw_views),
    _Kind("losses", lambda run: vector(run, "losses") is not None, curves.draw_losses),
    _Kind("steps", curves.has_steps, curves.draw_steps),
)
