"""The runs behind a reproduction as the figures that the commands draw of them."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from jaxalign.eval import plots
from jaxalign.eval.tasks.runs import Run, read_run

from .run import Reproduction

_ORDER = ("image-image", "pre", "whitened", "isoclip", "isoclip-auto", "pca", "pca-mean")


def draw_figures(folder: Path, reproduction: Reproduction) -> list[Path]:
    """Write a PNG for each figure that the runs of `reproduction` in `folder` are about; tables have none.

    Raises:
      JaxalignError: a run that is damaged, or a folder that cannot be written.
    """
    digests = dict.fromkeys(digest for outcome in reproduction.outcomes for digest in outcome.runs)
    files = []
    for (protocol, *about), runs in _grouped(_find(folder, digests)).items():
        for kind, draw in _DRAWN[protocol].items():
            name = re.sub(r"[^\w.+-]+", "_", "-".join((reproduction.table.name, kind, *filter(None, about))))
            files.append(plots.save(draw(runs), folder / f"{name}.png"))
    return files


def _find(folder: Path, digests: Iterable[str]) -> list[Run]:
    return [read_run(path) for digest in digests for path in sorted(folder.glob(f"*-{digest}.json"))]


def _grouped(runs: Iterable[Run]) -> dict[tuple[str, ...], list[Run]]:
    """The runs that share a figure: of all methods, data sets or views."""
    found: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.protocol in _DRAWN:
            shared = _SHARED.get(run.protocol, ("model", "dataset", "query", "modality"))
            own = tuple(str(run.settings.get(name, "")) for name in shared)
            found.setdefault((run.protocol, *own), []).append(run)
    return {key: sorted(group, key=_place) for key, group in found.items()}


def _place(run: Run) -> int:
    method = str(run.settings.get("method", ""))
    return _ORDER.index(method) if method in _ORDER else len(_ORDER)


def _sweeps(runs: list[Run]) -> Figure:
    """Heat maps of all data sets, with the first one's best band."""
    best = runs[0].metrics["best"]
    by_name = {str(run.settings["dataset"]): run for run in runs}
    return plots.draw_sweeps(by_name, (best["k_top"], best["k_bottom"]))


_DRAWN: Mapping[str, Mapping[str, Callable[[list[Run]], Figure]]] = {
    "spectrum": {"spectrum": lambda runs: plots.draw_spectra(runs[0])},
    "spectral-parts": {
        "parts": lambda runs: plots.draw_parts(runs[0]),
        "growth": lambda runs: plots.draw_growth(runs[0]),
    },
    "class-indicator": {"classes": plots.draw_class_histograms},
    "modality-indicator": {"modalities": plots.draw_modality_histograms},
    "dogs-cats": {"dogs-cats": lambda runs: plots.draw_dogs_cats(runs[0])},
    "band-sweep": {"bands": _sweeps},
    "view": {"views": plots.draw_views},
}
_SHARED: Mapping[str, tuple[str, ...]] = {
    "spectrum": ("model",),
    "band-sweep": ("model", "modality"),
    "view": ("model", "dataset", "query"),
}
