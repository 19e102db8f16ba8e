"""Spectra of the operators, and what their parts carry (IsoCLIP, figures 2, 3, S6 and S8)."""

from typing import Any

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.eval.tasks import own
from jaxalign.eval.tasks.runs import Result


def operator_spectra(projectors: ja.Projectors, band: tuple[int, int] | None = None) -> Result:
    """Singular values of the inter-modal operator and eigenvalues of both intra-modal ones (figures 2 and
    S6).

    Args:
      projectors: both heads.
      band: `(k_top, k_bottom)` whose heads are shown beside the original ones.

    Returns:
      Metrics: `singular_values` (their number), `largest`, `smallest`, `effective_rank`, `auto_band`, `band`,
      and for each head `concentration`, the share of the ten largest eigenvalues. Arrays: `inter_modal`
      `[r]`, `image`, `text`, and with a band `image_isoclip`, `text_isoclip`, eigenvalues in descending
      order.
    """
    spectrum = ja.decompose(projectors)
    s = np.asarray(spectrum.s)
    heads = {"image": projectors.image, "text": projectors.text}
    if band is not None:
        filtered = ja.isoclip(projectors, *band, spectrum)
        heads |= {"image_isoclip": filtered.image, "text_isoclip": filtered.text}
    eigenvalues = {name: np.asarray(ja.intra_modal_spectrum(head)) for name, head in heads.items()}
    metrics: dict[str, Any] = {
        "singular_values": len(s),
        "largest": float(s[0]),
        "smallest": float(s[-1]),
        "effective_rank": float(ja.effective_rank(s)),
        "auto_band": list(ja.select_band(spectrum)),
        "band": None if band is None else list(band),
        "concentration": {name: float(v[:10].sum() / v.sum()) for name, v in eigenvalues.items()},
    }
    return Result(metrics, {"inter_modal": s, **eigenvalues})


def bands_of_the_spectrum(
    projectors: ja.Projectors,
    query: ArrayLike,
    gallery: ArrayLike,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    *,
    modality: str = "image",
    exclude_self: bool | ArrayLike = False,
    width: int | None = None,
    step: int | None = None,
) -> Result:
    """What the top, the middle and the bottom carry (figure 3), and the middle grown to either end (figure
    S8).

    Args:
      query, gallery, query_labels, gallery_labels, exclude_self: as in `ja.analyse_bands`.
      width: directions in each part; by default 50, or a tenth of the spectrum where that is less.
      step: by which the middle grows; by default so that about six bands lie on each side.

    Returns:
      Metrics: `parts` and `grown` (`top` and `bottom`), each band with `k_top`, `k_bottom`, `mAP`,
      `positive_mean`, `negative_mean`. Arrays: `edges`, and for each part `PART_same` and `PART_different`,
      counts of pairs.
    """
    r = len(ja.decompose(projectors).s)
    width = max(1, min(50, r // 10)) if width is None else width
    step = max(1, r // 12) if step is None else step
    parts = {"all": (0, 0), **ja.spectral_regions(r, width)}
    grown = ja.grown_bands(r, width, step)
    named = parts | {f"{side} {i}": band for side, bands in grown.items() for i, band in enumerate(bands)}
    found = ja.analyse_bands(
        projectors,
        query,
        gallery,
        query_labels,
        gallery_labels,
        bands=named,
        modality=modality,
        exclude_self=exclude_self,
    )
    metrics = {
        "width": width,
        "singular_values": r,
        "queries_in_gallery": own.count(own.positions(exclude_self, len(np.asarray(query_labels)))),
        "parts": {name: _numbers(found[name]) for name in parts},
        "grown": {
            side: [_numbers(found[f"{side} {i}"]) for i in range(len(bands))] for side, bands in grown.items()
        },
    }
    arrays = {"edges": found["all"].histograms.edges}
    for name in parts:
        arrays |= {
            f"{name}_same": found[name].histograms.same,
            f"{name}_different": found[name].histograms.different,
        }
    return Result(metrics, arrays)


def _numbers(analysis: ja.BandAnalysis) -> dict[str, Any]:
    mean = lambda value: None if np.isnan(value) else float(value)
    return {
        "k_top": analysis.band[0],
        "k_bottom": analysis.band[1],
        "mAP": float(analysis.mAP),
        "positive_mean": mean(analysis.positive_mean),
        "negative_mean": mean(analysis.negative_mean),
    }
