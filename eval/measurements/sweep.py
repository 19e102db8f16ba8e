"""`jaxalign sweep`: IsoCLIP's band by labelled retrieval, and what it does on other data sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.protocols.band_selection import band_sweep, default_grid
from jaxalign.eval.tasks import own
from jaxalign.eval.tasks.image_retrieval import UNLABELLED
from jaxalign.eval.tasks.pairs import CaptionPair, ImagePair
from jaxalign.eval.tasks.runs import Result, Run
from jaxalign.eval.tasks.workspace import Workspace, choose_task, model_settings


@dataclass(frozen=True)
class Sweeping:
    """What a band search does, beside model and data set.

    Attributes:
      k_top, k_bottom: the grid's axes; by default `default_grid` of the model's spectrum.
      task: labelling; by default the data set's first one.
      query, gallery: splits; by default those of the retrieval protocol. For captions `query` is the split.
      max_queries: at most so many queries, evenly spaced; all by default.
    """

    k_top: tuple[int, ...] = ()
    k_bottom: tuple[int, ...] = ()
    task: str = ""
    query: str = ""
    gallery: str = ""
    max_queries: int | None = None

    def __post_init__(self):
        if self.max_queries is not None and self.max_queries < 1:
            raise JaxalignError(f"max_queries is {self.max_queries}; expected 1 or more")


def measure_sweep(
    workspace: Workspace, model: DualEncoder, dataset: str, modality: str, sweeping: Sweeping
) -> Run:
    """The run of protocol `band-sweep` on one data set; metrics and arrays as `band_sweep` says.

    Raises:
      JaxalignError: before anything is embedded, for an unknown data set or labelling, or a grid without a
        band.
    """
    r = len(ja.decompose(model.projectors).s)
    given = (sweeping.k_top, sweeping.k_bottom)
    grids = [tuple(sorted(set(axis))) or default_grid(r, modality) for axis in given]
    if min(*grids[0], *grids[1]) < 0 or min(grids[0]) + min(grids[1]) >= r:
        raise JaxalignError(
            f"no band of the grid leaves any of the {r} singular directions of {model.name}; expected counts"
            f" of 0 or more, the smallest two with a sum below {r}"
        )
    k_top, k_bottom = (tuple(k for k in grid if k < r) for grid in grids)
    source = captions if modality == "text" else labelled_pictures
    pair, facts, examples = source(workspace, model, dataset, sweeping)
    settings = model_settings(model) | pair.settings | facts | {"modality": modality}
    settings |= {"k_top": list(k_top), "k_bottom": list(k_bottom), "max_queries": sweeping.max_queries}

    def compute() -> Result:
        query, gallery, query_labels, gallery_labels, exclude = examples()
        with workspace.stages.stage("sweep", f"{model.name}: {len(k_top) * len(k_bottom)} bands"):
            found = band_sweep(
                model.projectors,
                query,
                gallery,
                query_labels,
                gallery_labels,
                k_top=k_top,
                k_bottom=k_bottom,
                modality=modality,
                exclude_self=exclude,
                mesh=workspace.mesh,
            )
        return pair.name_left_out(found)

    return workspace.measure("band-sweep", settings, compute)


def labelled_pictures(workspace: Workspace, model: DualEncoder, dataset: str, sweeping: Sweeping) -> Any:
    """The pair, what of it is not in its own settings, and a function that gives what a protocol takes."""
    pair = ImagePair(workspace, model, dataset, sweeping.query, sweeping.gallery)
    if pair.has_ground_truth:
        raise JaxalignError(f"{dataset} has lists of positives and no labels, which a band search needs")
    task = choose_task(pair.query, sweeping.task)

    def examples() -> tuple[Any, ...]:
        query_labels, gallery_labels = pair.labels(task)
        rows = _some(np.flatnonzero(query_labels != UNLABELLED), sweeping.max_queries)
        kept = np.flatnonzero(gallery_labels != UNLABELLED)
        exclude = own.exclusion(own.renumber(pair.own, rows, kept))
        gallery = pair.gallery_pre
        if len(kept) < len(gallery):
            gallery = gallery[kept]
        return pair.query_pre[rows], gallery, query_labels[rows], gallery_labels[kept], exclude

    return pair, {"task": task}, examples


def captions(workspace: Workspace, model: DualEncoder, dataset: str, sweeping: Sweeping) -> Any:
    """The same for captions, of which one picture's have one label."""
    pair = CaptionPair(workspace, model, dataset, sweeping.query)

    def examples() -> tuple[Any, ...]:
        rows = _some(pair.captions.queries, sweeping.max_queries)
        labels = pair.captions.pictures
        return pair.pre[rows], pair.pre, labels[rows], labels, rows

    return pair, {}, examples


def _some(rows: np.ndarray, most: int | None) -> np.ndarray:
    """At most so many of `rows`, evenly spaced."""
    if most is None or len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def chosen_band(runs: Sequence[Run]) -> tuple[int, int]:
    """The best band of the first run."""
    best = runs[0].metrics["best"]
    return best["k_top"], best["k_bottom"]
