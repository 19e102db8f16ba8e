"""Spectra of the operators, and what their parts carry (IsoCLIP, figures 2, 3, S6 and S8)."""

from typing import Any

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.eval.datasets.examples import count_own, positions_of

from .methods import MethodOptions, find_method
from .runs import Result, Run
from .sweep import Sweeping, labelled_examples
from .task import Column, Task
from .workspace import Workspace, model_settings

SPECTRUM = Task(
    name="spectrum",
    title="Spectra",
    about="Of the operator between the two projectors, and of each projector alone.",
    headline="effective_rank",
    columns=(
        Column("singular_values", "singular values"),
        Column("largest", "largest", None),
        Column("smallest", "smallest", None),
        Column("effective_rank", "effective rank"),
    ),
)
PARTS = Task(
    name="spectral-parts",
    title="What the parts of the spectrum carry",
    about="Top, middle and bottom on their own.",
    headline="parts.middle.mAP",
    columns=tuple(Column(f"parts.{part}.mAP", part) for part in ("all", "top", "middle", "bottom")),
)


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
    exclude_self: bool | ArrayLike = False,
    width: int | None = None,
    step: int | None = None,
    **options: Any,
) -> Result:
    """What the top, the middle and the bottom carry (figure 3), and the middle grown to either end (figure
    S8).

    Args:
      width: directions in each part; by default 50, or a tenth of the spectrum where that is less.
      step: by which the middle grows; by default so that about six bands lie on each side.
      query, gallery, query_labels, gallery_labels, exclude_self, **options: of `ja.analyse_bands`.

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
    given = (query, gallery, query_labels, gallery_labels)
    found = ja.analyse_bands(projectors, *given, bands=named, exclude_self=exclude_self, **options)
    metrics = {
        "width": width,
        "singular_values": r,
        "queries_in_gallery": count_own(positions_of(exclude_self, len(np.asarray(query_labels)))),
        "parts": {name: _numbers(found[name]) for name in parts},
        "grown": {
            side: [_numbers(found[f"{side} {i}"]) for i in range(len(bands))] for side, bands in grown.items()
        },
    }
    arrays = {"edges": found["all"].histograms.edges}
    for name in parts:
        counts = found[name].histograms
        arrays |= {f"{name}_same": counts.same, f"{name}_different": counts.different}
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


def band_to_show(model: DualEncoder, band: tuple[int, int] | None) -> tuple[int, int]:
    """`band`, or the one printed for the model, or the one chosen from its spectrum."""
    printed = band or model.spec.band or None
    name = "isoclip" if printed else "isoclip-auto"
    return find_method(name, model, "image", MethodOptions(band=printed)).band or (0, 0)


def measure_spectra(workspace: Workspace, model: DualEncoder, band: tuple[int, int]) -> Run:
    """The run of the task `spectrum`, as `operator_spectra` says."""
    settings = model_settings(model) | {"band": list(band)}
    return workspace.measure(SPECTRUM.name, settings, lambda: operator_spectra(model.projectors, band))


def measure_parts(
    workspace: Workspace,
    model: DualEncoder,
    dataset: str,
    sweeping: Sweeping,
    width: int | None = None,
    step: int | None = None,
    modality: str = "image",
) -> Run:
    """The run of the task `spectral-parts` on images or captions, as `bands_of_the_spectrum` says."""
    pair, settings, examples = labelled_examples(workspace, model, dataset, modality, sweeping)
    if modality == "text":
        settings["modality"] = modality
    settings |= {"width": width, "step": step}

    def compute() -> Result:
        *given, exclude = examples()
        sizes = {"width": width, "step": step, "modality": modality}
        with workspace.stages.stage("parts", f"{model.name}: parts of the spectrum on {dataset}"):
            found = bands_of_the_spectrum(model.projectors, *given, exclude_self=exclude, **sizes)
        return pair.name_left_out(found)

    return workspace.measure(PARTS.name, settings, compute)
