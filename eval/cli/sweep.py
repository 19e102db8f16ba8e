"""`jaxalign sweep`: the search for IsoCLIP's band."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .arguments import ALONE, DataDir, Distributed, JsonFile, OwnName, SettingsOf, UnreadablePictures
from .measuring import (
    DatasetName,
    LayoutOption,
    MaxQueries,
    ModelName,
    RunFolder,
    SplitName,
    StoreFolder,
    TaskName,
)

Grid = Annotated[
    tuple[int, ...],
    tyro.conf.arg(
        metavar="K [K ...]",
        help="Numbers of directions to try at this end.",
        help_behavior_hint="(default: in steps of 50, or of parts of a small spectrum)",
    ),
]
Others = Annotated[
    tuple[str, ...],
    tyro.conf.arg(metavar="NAME [NAME ...]", help="Data sets on which the band is tried, too."),
]


@dataclass(frozen=True)
class Sweep:
    """Search IsoCLIP's band by labelled retrieval, and draw the heat map.

    The paper chooses on Caltech101 (pictures) or COCO (captions) and applies the band everywhere: --apply-to
    says what that costs against each data set's own best band. On the embedded data sets the band is chosen
    on `train`.

    Examples:
      jaxalign sweep
      jaxalign sweep --modality text --dataset emoji
      jaxalign sweep --model openai/clip-vit-base-patch16 --dataset caltech101 --apply-to pets dtd
    """

    model: ModelName = "emoji-clip"
    spec: SettingsOf = None
    name: OwnName = None
    dataset: DatasetName = "emoji-scenes"
    modality: Annotated[Literal["image", "text"], tyro.conf.arg(help="Pictures, or captions.")] = "image"
    apply_to: Others = ()
    k_top: Grid = ()
    k_bottom: Grid = ()
    task: TaskName = ""
    query: SplitName = ""
    gallery: SplitName = ""
    max_queries: MaxQueries = None
    layout: LayoutOption = "paper"
    out: RunFolder = Path("jaxalign-runs")
    store: StoreFolder = None
    data_dir: DataDir = None
    unreadable: UnreadablePictures = "fail"
    json: JsonFile = None
    distributed: Distributed = ALONE

    def run(self) -> None:
        from jaxalign.eval.figures import draw_sweeps, save
        from jaxalign.eval.labels import dataset_label
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.band_search import Sweeping, apply_everywhere, chosen_band, measure_sweep

        from .measuring import open_workspace, percent, print_table, report_runs
        from .output import chart_file

        workspace = open_workspace(self)
        model = workspace.load_model(self.model, self.layout, spec=self.spec, name=self.name)
        record, known = workspace.find_dataset(self.dataset), set()
        others = []  # each once, however it is spelled
        for name in self.apply_to:
            other = workspace.find_dataset(name).name
            if other not in known | {record.name}:
                known.add(other)
                others.append(name)
        # On the embedded data sets the protocol's split is held out: a choice is made on the other emoji.
        split = self.query or (record.train if record.needs_no_sources and not record.in_place else "")
        sweeping = Sweeping(
            self.k_top, self.k_bottom, self.task, split, self.gallery or split, self.max_queries
        )
        elsewhere = replace(sweeping, query="", gallery="", task="")
        runs = {self.dataset: measure_sweep(workspace, model, self.dataset, self.modality, sweeping)}
        for name in others:
            runs[name] = measure_sweep(workspace, model, name, self.modality, elsewhere)
        if not is_first():
            return
        band = chosen_band(list(runs.values()))
        rows = [
            [
                name,
                percent(found["none"]),
                percent(found["chosen"]),
                percent(found["best"]["mAP"]),
                f"({found['best']['k_top']}, {found['best']['k_bottom']})",
            ]
            for name, found in apply_everywhere(band, runs).items()
        ]
        title = f"{model.title}, {self.modality}: mAP in % of the band ({band[0]}, {band[1]})"
        print_table(title, ["data set", "all directions", "this band", "own best", "own best band"], rows)
        name = chart_file(model, self.dataset, self.modality)
        found = list(runs.values())
        about = f"{model.title}, {self.modality}"
        figure = draw_sweeps(found, dataset_label(found), about, chosen=band)
        report_runs(self, found, [save(figure, self.out / f"sweep-{name}.png")])
