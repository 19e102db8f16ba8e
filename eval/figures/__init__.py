"""One drawing function for each figure: as PNG on disk, and as a part of the page in its colours.

What is drawn of runs follows from what a run has, not from what it is called.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from jaxalign.eval import labels
from jaxalign.eval.labels import DATASET, DATASET_DETAILS, MODEL, MODEL_DETAILS, show
from jaxalign.eval.tasks.runs import Run

from . import bands, curves, histograms, scatter
from .look import Found, number, shown, vector
from .look import drawable as drawable
from .look import save as save
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
      find: what of a run is drawn; nothing where it has none of it.
      draw: of the runs of one figure with what was found, what each is called in it, what all are about, and
        the runs beside them, the figure.
      shared: settings that the runs of a figure have in common.
      alone: whether each run has a figure of its own.
      label: what tells the runs of a figure apart.
    """

    name: str
    find: Callable[[Run], Any]
    draw: Callable[[Sequence[Found], labels.Label, str, Sequence[Run]], Figure]
    shared: tuple[str, ...] = _DATASET
    alone: bool = False
    label: Callable[[Sequence[Run]], labels.Label] = labels.method_label


def figures_of(runs: Sequence[Run], without: Container[str] = (), about: str = "") -> Iterator[Drawn]:
    """All figures that there are of what `runs` have, each of runs of one task and model.

    Args:
      without: kinds that are not drawn.
      about: what their titles say the runs are about; by default model, data set and labelling.
    """
    for kind in (kind for kind in _KINDS if kind.name not in without):
        groups: dict[Any, list[Found]] = {}
        for run in runs:
            if found := kind.find(run):
                shared = tuple(show(run.settings.get(name, "")) for name in kind.shared)
                key = (run.protocol, *shared, run.digest if kind.alone else "")
                groups.setdefault(key, []).append((run, found))
        for own in groups.values():
            first = own[0][0]
            beside = [run for run in runs if run.protocol == first.protocol]
            names = [name for name in (MODEL, DATASET, "query", "modality") if name in kind.shared]
            told = [str(first.settings.get(name, "")) for name in names]
            figure = kind.draw(own, kind.label(beside), about or _about(first, kind, beside), beside)
            yield Drawn(kind.name, tuple(filter(None, told)), figure)


def _about(run: Run, kind: _Kind, beside: Sequence[Run]) -> str:
    """What all runs of a figure are about: model, data set and labelling, as far as they share these."""
    told = {name: show(run.settings.get(name, "")) for name in kind.shared}
    dataset, details = labels.dataset_label(beside)(run), ""
    if DATASET in told and dataset == told[DATASET]:  # otherwise it has them, as far as runs differ in them
        details = ", ".join(filter(None, (told["query"], told["task"])))
    where = f"{told[MODEL]} on {dataset}" if told.get(DATASET) else told[MODEL]
    return ", ".join(filter(None, (told.get("classifier"), where, details, told["modality"])))


def _shots(run: Run) -> tuple[np.ndarray, np.ndarray] | None:
    """Several `shots` `[k]`, and the accuracy for each of them, `[k, ...]`."""
    shots, accuracy = vector(run, "shots"), run.arrays.get("accuracy")
    if shots is None or accuracy is None or not 1 < len(shots) == len(accuracy):
        return None
    return shots, accuracy


def _spectra(run: Run) -> dict[str, np.ndarray]:
    """Singular values of the inter-modal operator and eigenvalues of the others, by name."""
    names = (*curves.INTER, *curves.HEADS)
    return {name: values for name in names if (values := vector(run, name)) is not None}


def _growth(run: Run) -> Mapping[str, Any] | None:
    """Bands with their mAP by the side that they grow to."""
    there = (number(run, "grown", side, 0, "mAP") is not None for side in ("top", "bottom"))
    return run.metrics["grown"] if all(there) else None


def _precision(run: Run) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Lines `(k, precision)` of the methods that a run compares."""
    lines = {}
    aligned = run.metrics.get("aligned")
    for name, of in aligned.items() if isinstance(aligned, Mapping) else ():
        found = of.get("precision_at") if isinstance(of, Mapping) else None
        points = [
            (int(k), value)
            for k in (found if isinstance(found, Mapping) else ())
            if str(k).isdecimal()
            and len(k) < 10
            and (value := number(run, "aligned", name, "precision_at", k)) is not None
        ]
        if points:
            lines[name] = tuple(np.array(points, float).T)
    return lines


def _grid(run: Run) -> bool:
    """Whether it has `k_top` `[a]`, `k_bottom` `[b]` and `mAP` `[a, b]`."""
    top, bottom, scores = vector(run, "k_top"), vector(run, "k_bottom"), run.arrays.get("mAP")
    if top is None or bottom is None or scores is None or scores.dtype.kind not in "iuf":
        return False
    return scores.shape == (len(top), len(bottom)) and bool(shown(scores).any())


def _views(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """Points `[n, 2]` by variant and kind, which the names of its arrays are made of."""
    views: dict[str, dict[str, np.ndarray]] = {}
    for name, values in run.arrays.items():
        start, _, rest = name.partition("_")
        if rest and values.ndim == 2 and values.shape[1] == 2 and len(values) and values.dtype.kind == "f":
            views.setdefault(start, {})[rest] = values
    return views


def _vectors(*names: str) -> Callable[[Run], list[np.ndarray]]:
    """Finds arrays `[n]` of these names, all of one length."""

    def find(run: Run) -> list[np.ndarray]:
        found = [values for name in names if (values := vector(run, name)) is not None]
        return found if len(found) == len(names) and len(set(map(len, found))) == 1 else []

    return find


# Endings of arrays that belong into one panel, and what they are called there.
_PAIRS = (
    {"same": "same class", "different": "different classes"},
    {"positives": "same class", "negatives": "different classes"},
)


def _panels(kind: str, run: Run) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Histograms of a kind, `parts`, `aligned`, `modalities` or `classes`: counts by name, of each pair that
    differs in the ending with how its names start, and of all others together."""
    told = next((key for key in ("parts", "aligned") if key in run.metrics), "classes")
    edges, panels = vector(run, "edges"), []
    if edges is None or kind != ("modalities" if "image_image" in run.arrays else told):
        return []
    counts = {
        name: values
        for name, values in run.arrays.items()
        if name != "edges" and values.shape == (len(edges) - 1,) and values.dtype.kind in "iu"
    }
    for pair in _PAIRS:
        ending, other = pair
        for name in [name for name in counts if f"_{name}".endswith(f"_{ending}")]:
            start = name.removesuffix(ending)
            found = {pair[end]: counts.pop(f"{start}{end}", None) for end in (ending, other)}
            panels.append((start.removesuffix("_"), {k: v for k, v in found.items() if v is not None}))
    if counts:
        panels.append(("", {name.replace("_", "-"): values for name, values in counts.items()}))
    return panels


_KINDS = (
    _Kind("shots", _shots, curves.draw_shots, ("classifier", *_DATASET)),
    _Kind("spectrum", _spectra, curves.draw_spectra, _MODEL, alone=True),
    _Kind("parts", partial(_panels, "parts"), histograms.draw_histograms, alone=True),
    _Kind("growth", _growth, curves.draw_growth, alone=True),
    _Kind("classes", partial(_panels, "classes"), histograms.draw_histograms),
    _Kind("modalities", partial(_panels, "modalities"), histograms.draw_histograms),
    _Kind("dogs-cats", partial(_panels, "aligned"), histograms.draw_histograms, alone=True),
    _Kind("precision", _precision, curves.draw_precision, alone=True),
    _Kind("bands", _grid, bands.draw_sweeps, _MODEL, label=labels.dataset_label),
    _Kind("views", _views, scatter.draw_views),
    _Kind("losses", _vectors("losses"), curves.draw_losses),
    _Kind("steps", _vectors("steps", "mAP_at_step"), curves.draw_steps),
)
