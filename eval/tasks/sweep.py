"""IsoCLIP's band, found by labelled retrieval on one data set and applied everywhere (table S10, figures 5,
S9 and S10)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.examples import UNLABELLED, choose_task, count_own, positions_of, renumber_own

from .pairs import CaptionPair, ImagePair, some
from .runs import Result, Run
from .task import Column, Task
from .workspace import Workspace, model_settings

TASK = Task(
    name="band-sweep",
    title="Search for the band",
    about="mAP for every band of singular directions that IsoCLIP may keep.",
    headline="best.k_top",
    columns=(
        Column("none", "all directions"),
        Column("best.mAP", "own best"),
        Column("best.k_top", "k top"),
        Column("best.k_bottom", "k bottom"),
    ),
)
# Shares of the spectrum that are tried at each end; at r = 512 about the values of table S10.
_SHARES = {
    "image": (0, 1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8),
    "text": (0, 1 / 256, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2),
}


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

    def __post_init__(self) -> None:
        if self.max_queries is not None and self.max_queries < 1:
            raise JaxalignError(f"max_queries is {self.max_queries}; expected 1 or more")


def default_grid(r: int, modality: str = "image") -> tuple[int, ...]:
    """Numbers of directions to leave out at an end of a spectrum of r, from none to more than half of it.

    From r = 256 on multiples of 50 for images, as in the paper; captions want finer steps at the top.
    """
    if modality == "image" and r >= 256:
        return tuple(range(0, 5 * r // 8 + 1, 50))
    if r >= 256:
        return (0, 2, 5, 10, 20, *range(50, r // 2 + 51, 50))
    return tuple(sorted({round(share * r) for share in _SHARES[modality]}))


def band_sweep(
    projectors: ja.Projectors,
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    exclude_self: bool | ArrayLike = False,
    **options: Any,
) -> Result:
    """mAP for every band of a grid; all arguments are those of `ja.sweep_bands`.

    Returns:
      Metrics: `best` `{k_top, k_bottom, mAP}`, `none`, the mAP without leaving out anything where the grid
      has that, and `singular_values`, their number. Arrays: `k_top` `[a]`, `k_bottom` `[b]`, `mAP` `[a, b]`,
      NaN where nothing is left.

    Raises:
      JaxalignError: as `ja.sweep_bands`, or examples without label.
    """
    if (np.asarray(query_labels) == UNLABELLED).any() or (np.asarray(gallery_labels) == UNLABELLED).any():
        raise JaxalignError("some examples have no label (-1); leave them out of a band search")
    given = (query, gallery, query_labels, gallery_labels)
    sweep = ja.sweep_bands(projectors, *given, exclude_self=exclude_self, **options)
    top, bottom = sweep.best
    metrics = {
        "best": {"k_top": top, "k_bottom": bottom, "mAP": float(np.nanmax(sweep.mAP))},
        "none": band_map(sweep.k_top, sweep.k_bottom, sweep.mAP, (0, 0)),
        "singular_values": len(ja.decompose(projectors).s),
        "queries": len(np.asarray(query_labels)),
        "gallery": len(np.asarray(gallery_labels)),
        "queries_in_gallery": count_own(positions_of(exclude_self, len(np.asarray(query_labels)))),
    }
    return Result(metrics, {"k_top": sweep.k_top, "k_bottom": sweep.k_bottom, "mAP": sweep.mAP})


def band_map(
    k_top: np.ndarray, k_bottom: np.ndarray, scores: np.ndarray, band: tuple[int, int]
) -> float | None:
    """The mAP of `band` in a sweep's grid; None where the grid lacks it."""
    rows, columns = np.flatnonzero(k_top == band[0]), np.flatnonzero(k_bottom == band[1])
    if not rows.size or not columns.size or np.isnan(scores[rows[0], columns[0]]):
        return None
    return float(scores[rows[0], columns[0]])


def chosen_band(runs: Sequence[Run]) -> tuple[int, int]:
    """The best band of the first run."""
    best = runs[0].metrics["best"]
    return best["k_top"], best["k_bottom"]


def apply_everywhere(band: tuple[int, int], sweeps: Mapping[str, Result | Run]) -> dict[str, dict[str, Any]]:
    """What a band that was chosen on one data set does on each, by data set.

    Returns:
      `none`: mAP of the whole spectrum; `chosen`: mAP of `band`; `best`: the data set's own best band with
      its mAP; `regret`: what choosing on the data set itself would add. None where a grid lacks the band.
    """
    found = {}
    for name, sweep in sweeps.items():
        chosen = band_map(sweep.arrays["k_top"], sweep.arrays["k_bottom"], sweep.arrays["mAP"], band)
        best = sweep.metrics["best"]
        regret = None if chosen is None else best["mAP"] - chosen
        found[name] = {"none": sweep.metrics["none"], "chosen": chosen, "best": best, "regret": regret}
    return found


def measure_sweep(
    workspace: Workspace, model: DualEncoder, dataset: str, modality: str, sweeping: Sweeping
) -> Run:
    """The run of this task on one data set, as `band_sweep` says; raises JaxalignError, before anything is
    embedded, for an unknown data set or labelling, or a grid without a band."""
    r = len(ja.decompose(model.projectors).s)
    given = (sweeping.k_top, sweeping.k_bottom)
    grids = [tuple(sorted(set(axis))) or default_grid(r, modality) for axis in given]
    if min(*grids[0], *grids[1]) < 0 or min(grids[0]) + min(grids[1]) >= r:
        raise JaxalignError(
            f"no band of the grid leaves any of the {r} singular directions of {model.name}; expected counts"
            f" of 0 or more, the smallest two with a sum below {r}"
        )
    k_top, k_bottom = (tuple(k for k in grid if k < r) for grid in grids)
    pair, facts, examples = labelled_examples(workspace, model, dataset, modality, sweeping)
    settings = facts | {"modality": modality, "k_top": list(k_top), "k_bottom": list(k_bottom)}

    def compute() -> Result:
        *given, exclude = examples()
        grid = {"k_top": k_top, "k_bottom": k_bottom, "modality": modality, "mesh": workspace.mesh}
        with workspace.stages.stage("sweep", f"{model.name}: {len(k_top) * len(k_bottom)} bands"):
            found = band_sweep(model.projectors, *given, exclude_self=exclude, **grid)
        return pair.name_left_out(found)

    return workspace.measure(TASK.name, settings, compute)


def labelled_examples(
    workspace: Workspace, model: DualEncoder, dataset: str, modality: str, sweeping: Sweeping
) -> tuple[ImagePair | CaptionPair, dict[str, Any], Callable[[], tuple[Any, ...]]]:
    """Images or captions with a label: the pair, settings of its run, and what gives features and labels.

    The latter are queries, gallery, their labels, and what `exclude_self` takes. One image's captions have
    one label.
    """
    facts = model_settings(model)
    limit = {"max_queries": sweeping.max_queries}
    if modality == "text":
        captions = CaptionPair(workspace, model, dataset, sweeping.query)

        def read_captions() -> tuple[Any, ...]:
            rows, labels = some(captions.captions.queries, sweeping.max_queries), captions.captions.images
            return captions.pre[rows], captions.pre, labels[rows], labels, rows

        return captions, facts | captions.settings | limit, read_captions
    pair = ImagePair(workspace, model, dataset, sweeping.query, sweeping.gallery)
    if pair.has_ground_truth:
        raise JaxalignError(f"{dataset} has lists of positives and no labels, which a band search needs")
    task = choose_task(pair.query, sweeping.task)

    def read_images() -> tuple[Any, ...]:
        query_labels, gallery_labels = pair.labels(task)
        rows = some(np.flatnonzero(query_labels != UNLABELLED), sweeping.max_queries)
        kept = np.flatnonzero(gallery_labels != UNLABELLED)
        exclude = renumber_own(pair.own, rows, kept)
        gallery = pair.gallery_pre if len(kept) == len(pair.gallery_pre) else pair.gallery_pre[kept]
        return pair.query_pre[rows], gallery, query_labels[rows], gallery_labels[kept], exclude

    return pair, facts | pair.settings | limit | {"task": task}, read_images
