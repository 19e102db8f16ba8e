"""`jaxalign spectrum`: the spectra of the operators, and what their parts carry."""

from dataclasses import dataclass
from typing import Annotated, Any

from .groups import Measuring
from .options import BandOption, GallerySplit, MaxQueries, QuerySplit, TaskNames, option
from .printing import decimal, print_table, report_runs


@dataclass(frozen=True)
class Spectrum(Measuring):
    """Draw the spectra of a model, and measure their parts.

    Three PNG files: the singular values with the bands, and the eigenvalues of both projectors before and
    after IsoCLIP (figures 2 and S6); similarities in the top, the middle and the bottom (figure 3); mAP as
    the middle grows (figure S8).

    Examples:
      jaxalign spectrum
      jaxalign spectrum --model openai/clip-vit-base-patch16 --dataset none
      jaxalign spectrum --dataset none --stage pre --projectors heads.npz
      jaxalign spectrum --model emoji-siglip --dataset emoji --width 20
    """

    dataset: Annotated[str, option("Data set on which the parts are measured; `none` for none.", "NAME")] = (
        "emoji-scenes"
    )
    band: BandOption = None
    width: Annotated[
        int | None,
        option(
            "Directions in the top, middle and bottom part.",
            "N",
            "50, or a tenth of the spectrum where that is less",
        ),
    ] = None
    tasks: TaskNames = ()
    query: QuerySplit = ""
    gallery: GallerySplit = ""
    max_queries: MaxQueries = 1000

    def run(self) -> None:
        from jaxalign.eval.tasks.spectra import band_to_show, measure_parts, measure_spectra
        from jaxalign.eval.tasks.sweep import Sweeping

        workspace, model = self.open()
        runs = [measure_spectra(workspace, model, band_to_show(model, self.band))]
        charts = self.save_figures(runs, model)
        print_spectrum(f"{model.title}: inter-modal operator", runs[0].metrics)
        for task in () if self.dataset == "none" else self.tasks or ("",):
            sweeping = Sweeping(
                task=task, query=self.query, gallery=self.gallery, max_queries=self.max_queries
            )
            parts = measure_parts(workspace, model, self.dataset, sweeping, self.width)
            about = ", ".join(filter(None, (f"{model.title} on {self.dataset}", task)))
            print_parts(f"{about}: mAP in %, mean cosines", parts.metrics["parts"])
            charts += self.save_figures([parts], model, self.dataset, task)
            runs.append(parts)
        report_runs(runs, self.results, charts)


def print_spectrum(title: str, found: Any) -> None:
    """The numbers of an operator's spectrum, a line each."""
    rows = [
        ["singular values", f"{found['singular_values']}"],
        ["largest, smallest", f"{found['largest']:.4g}, {found['smallest']:.4g}"],
        ["effective rank", f"{found['effective_rank']:.1f}"],
        ["band", f"{tuple(found['band'])}"],
        ["automatic band", f"{tuple(found['auto_band'])}"],
    ]
    for head, share in found["concentration"].items():
        rows.append([f"ten largest eigenvalues, {head.replace('_', ', ')}", f"{share:.1%}"])
    print_table(title, ["", ""], rows)


def print_parts(title: str, parts: dict[str, Any]) -> None:
    """What the top, the middle and the bottom of a spectrum carry."""
    rows = []
    for name, found in parts.items():
        means = (decimal(found[of], 3) for of in ("positive_mean", "negative_mean"))
        rows.append([name, f"({found['k_top']}, {found['k_bottom']})", f"{found['mAP']:.1f}", *means])
    print_table(title, ["part", "band", "mAP", "same class", "different class"], rows)
