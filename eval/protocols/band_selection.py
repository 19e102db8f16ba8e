"""IsoCLIP's band, chosen on one data set and applied everywhere (table S10, figures 5, S9 and S10)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.tasks import own
from jaxalign.eval.tasks.image_retrieval import UNLABELLED
from jaxalign.eval.tasks.runs import Result

# Shares of the spectrum that are tried at each end; at r = 512 about the values of table S10.
_SHARES = {
    "image": (0, 1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 5 / 8),
    "text": (0, 1 / 256, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2),
}


def default_grid(r: int, modality: str = "image") -> tuple[int, ...]:
    """Numbers of directions to leave out at an end of a spectrum of r, from none to more than half of it.

    From r = 256 on multiples of 50 for pictures, as in the paper; captions want finer steps at the top.
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
    k_top: tuple[int, ...],
    k_bottom: tuple[int, ...],
    modality: str = "image",
    exclude_self: bool | ArrayLike = False,
    mesh: Mesh | None = None,
) -> Result:
    """mAP for every band of a grid; features, labels and mesh as in `ja.sweep_bands`.

    Returns:
      Metrics: `best` `{k_top, k_bottom, mAP}`, `none`, the mAP without leaving out anything where the grid
      has that, and `singular_values`, their number. Arrays: `k_top` `[a]`, `k_bottom` `[b]`, `mAP` `[a, b]`,
      NaN where nothing is left.

    Raises:
      JaxalignError: as `ja.sweep_bands`, or examples without label.
    """
    if (np.asarray(query_labels) == UNLABELLED).any() or (np.asarray(gallery_labels) == UNLABELLED).any():
        raise JaxalignError("some examples have no label (-1); leave them out of a band search")
    sweep = ja.sweep_bands(
        projectors,
        query,
        gallery,
        query_labels,
        gallery_labels,
        k_top=k_top,
        k_bottom=k_bottom,
        modality=modality,
        exclude_self=exclude_self,
        mesh=mesh,
    )
    top, bottom = sweep.best
    metrics = {
        "best": {"k_top": top, "k_bottom": bottom, "mAP": float(np.nanmax(sweep.mAP))},
        "none": band_map(sweep.k_top, sweep.k_bottom, sweep.mAP, (0, 0)),
        "singular_values": len(ja.decompose(projectors).s),
        "queries": len(np.asarray(query_labels)),
        "gallery": len(np.asarray(gallery_labels)),
        "queries_in_gallery": own.count(own.positions(exclude_self, len(np.asarray(query_labels)))),
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


def apply_everywhere(band: tuple[int, int], sweeps: Mapping[str, Result]) -> dict[str, dict[str, Any]]:
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
