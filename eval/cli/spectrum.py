"""`jaxalign spectrum`: the spectra of the operators, and what their parts carry."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .arguments import DataDir, JsonFile, OwnName, SettingsOf, UnreadablePictures
from .measuring import (
    BandOption,
    LayoutOption,
    ModelName,
    RunFolder,
    SplitName,
    StoreFolder,
    TaskName,
)

PartsOf = Annotated[
    str, tyro.conf.arg(metavar="NAME", help="Data set on which the parts are measured; `none` for none.")
]
Width = Annotated[
    int | None,
    tyro.conf.arg(
        metavar="N",
        help="Directions in the top, middle and bottom part.",
        help_behavior_hint="(default: 50, or a tenth of the spectrum where that is less)",
    ),
]


@dataclass(frozen=True)
class Spectrum:
    """Draw the spectra of the inter-modal and the intra-modal operators, and measure the parts of the former.

    Three PNG files: the singular values with the bands, and the eigenvalues of both heads before and after
    IsoCLIP (figures 2 and S6); similarities in the top, the middle and the bottom (figure 3); mAP as the
    middle grows (figure S8).

    Examples:
      jaxalign spectrum
      jaxalign spectrum --model openai/clip-vit-base-patch16 --dataset none
      jaxalign spectrum --model emoji-siglip --dataset emoji --width 20
    """

    model: ModelName = "emoji-clip"
    spec: SettingsOf = None
    name: OwnName = None
    dataset: PartsOf = "emoji-scenes"
    band: BandOption = None
    width: Width = None
    task: TaskName = ""
    query: SplitName = ""
    gallery: SplitName = ""
    max_queries: Annotated[
        int | None, tyro.conf.arg(metavar="N", help="At most so many queries, evenly spaced; None for all.")
    ] = 1000
    layout: LayoutOption = "paper"
    out: RunFolder = Path("jaxalign-runs")
    store: StoreFolder = None
    data_dir: DataDir = None
    unreadable: UnreadablePictures = "fail"
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.eval.figures import figures_of, save
        from jaxalign.eval.tasks.band_search import Sweeping
        from jaxalign.eval.tasks.spectra import band_to_show, measure_parts, measure_spectra

        from .measuring import open_workspace, print_table, report_runs
        from .output import chart_file

        workspace = open_workspace(self)
        model = workspace.load_model(self.model, self.layout, spec=self.spec, name=self.name)
        runs = [measure_spectra(workspace, model, band_to_show(model, self.band))]
        name = chart_file(model, self.dataset)
        found = runs[0].metrics
        rows = [
            ["singular values", f"{found['singular_values']}"],
            ["largest, smallest", f"{found['largest']:.4g}, {found['smallest']:.4g}"],
            ["effective rank", f"{found['effective_rank']:.1f}"],
            ["band", f"{tuple(found['band'])}"],
            ["automatic band", f"{tuple(found['auto_band'])}"],
            *(
                [f"ten largest eigenvalues, {head.replace('_', ', ')}", f"{share:.1%}"]
                for head, share in found["concentration"].items()
            ),
        ]
        print_table(f"{model.title}: inter-modal operator", ["", ""], rows)
        if self.dataset != "none":
            sweeping = Sweeping(
                task=self.task, query=self.query, gallery=self.gallery, max_queries=self.max_queries
            )
            parts = measure_parts(workspace, model, self.dataset, sweeping, self.width)
            runs.append(parts)
            rows = [_part(part, numbers) for part, numbers in parts.metrics["parts"].items()]
            columns = ["part", "band", "mAP", "same class", "different class"]
            print_table(f"{model.title} on {self.dataset}: mAP in %, mean cosines", columns, rows)
        files = [save(of.figure, self.out / f"{of.kind}-{name}.png") for of in figures_of(runs)]
        report_runs(self, runs, files)


def _part(name: str, numbers: dict) -> list[str]:
    cosine = lambda value: "-" if value is None else f"{value:.3f}"
    return [
        name,
        f"({numbers['k_top']}, {numbers['k_bottom']})",
        f"{numbers['mAP']:.1f}",
        cosine(numbers["positive_mean"]),
        cosine(numbers["negative_mean"]),
    ]
