"""`jaxalign indicators`: the histograms and the gap that were taken for misalignment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .arguments import DataDir, JsonFile, OwnName, Seed, SettingsOf, UnreadablePictures
from .measuring import (
    BandOption,
    DatasetName,
    LayoutOption,
    MethodNames,
    ModelName,
    NamesFile,
    RankOption,
    RunFolder,
    SplitName,
    StoreFolder,
    SubspaceOption,
    TaskName,
)

View = Literal["pca", "tsne", "umap"]
Views = Annotated[
    tuple[View, ...],
    tyro.conf.arg(help="Views in two dimensions; t-SNE and UMAP need the extra `plots`."),
]


@dataclass(frozen=True)
class Indicators:
    """Draw histograms of cosines by class and by modality, and print how far they overlap.

    The papers' indicators of intra-modal misalignment (Reevaluating, figures 2, 5, 7, 8; IsoCLIP, figure
    S7). On dogs-vs-cats, also the experiment of table 1 and figure 4, with the second class as the query.

    Examples:
      jaxalign indicators
      jaxalign indicators --methods image-image pca pca-mean --views pca
      jaxalign indicators --model openai/clip-vit-base-patch16 --dataset dogs-vs-cats
      jaxalign indicators --tasks --dataset bdd100k
    """

    model: ModelName = "emoji-clip"
    spec: SettingsOf = None
    name: OwnName = None
    dataset: DatasetName = "emoji-scenes"
    methods: MethodNames = ()
    band: BandOption = None
    rank: RankOption = None
    subspace: SubspaceOption = "paper"
    class_names: NamesFile = None
    task: TaskName = ""
    split: SplitName = ""
    max_pictures: Annotated[int, tyro.conf.arg(help="At most so many pictures, evenly spaced.")] = 5000
    views: Views = ()
    dogs_cats: Annotated[
        bool, tyro.conf.arg(help="The experiment of dogs and cats on another data set of two classes.")
    ] = False
    tasks: Annotated[bool, tyro.conf.arg(help="mAP on every labelling of the same pictures.")] = False
    freedom: Annotated[
        bool, tyro.conf.arg(help="Recover image-image similarities from image-text ones (appendix A).")
    ] = False
    layout: LayoutOption = "paper"
    seed: Seed = 0
    out: RunFolder = Path("jaxalign-runs")
    store: StoreFolder = None
    data_dir: DataDir = None
    unreadable: UnreadablePictures = "fail"
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.eval.figures import figures_of, save
        from jaxalign.eval.tasks.ambiguity import measure_ambiguity
        from jaxalign.eval.tasks.degrees_of_freedom import measure_degrees_of_freedom
        from jaxalign.eval.tasks.dogs_cats import measure_dogs_cats
        from jaxalign.eval.tasks.indicators import Indicating, Indicators
        from jaxalign.eval.tasks.methods import check_methods
        from jaxalign.eval.tasks.views import measure_view

        from .measuring import method_options, open_workspace, report_runs
        from .output import chart_file

        workspace = open_workspace(self)
        model = workspace.load_model(self.model, self.layout, spec=self.spec, name=self.name)
        options = method_options(self)
        check_methods(self.methods, model, "image", options)
        indicating = Indicating(self.methods, options, self.task, self.split, self.max_pictures)
        found = Indicators(workspace, model, self.dataset, indicating)
        name = chart_file(model, self.dataset, found.task)
        by_class, by_modality = found.by_class(), found.by_modality()
        runs = [*by_class, *by_modality]
        print_classes(f"{model.title} on {self.dataset}, {found.task}", by_class)
        if by_modality:
            print_modalities(f"{model.title} on {self.dataset}", by_modality)
        if self.dogs_cats or found.pair.record.name == "dogs-vs-cats":
            runs.append(measure_dogs_cats(found))
            print_dogs_cats(runs[-1])
        if self.tasks:
            runs.append(measure_ambiguity(found))
            print_tasks(runs[-1])
        if self.freedom:
            runs.append(measure_degrees_of_freedom(found))
            print_freedom(runs[-1])
        if self.views:
            runs += [measure_view(found, view, self.seed) for view in dict.fromkeys(self.views)]
        files = [save(of.figure, self.out / f"{of.kind}-{name}.png") for of in figures_of(runs)]
        report_runs(self, runs, files)


def print_classes(about: str, runs: list[Any]) -> None:
    """How far same-class and different-class pairs overlap."""
    from .measuring import describe_method, print_table

    rows = [
        [describe_method(run.settings), *(f"{run.metrics[k]:.3f}" for k in CLASS_NUMBERS)] for run in runs
    ]
    print_table(f"{about}: cosines by class", ["method", *map(_spaced, CLASS_NUMBERS)], rows)


def print_modalities(about: str, runs: list[Any]) -> None:
    """How far image-image and image-text pairs overlap, and the gap."""
    from .measuring import describe_method, print_table

    rows = [
        [describe_method(run.settings), *(f"{run.metrics[k]:.3f}" for k in MODALITY_NUMBERS)] for run in runs
    ]
    print_table(f"{about}: cosines by modality", ["method", *map(_spaced, MODALITY_NUMBERS)], rows)


def print_dogs_cats(run: Any) -> None:
    """Table 1 of Reevaluating in a line, then figure 4 of IsoCLIP."""
    from .measuring import percent, print_table

    found = run.metrics
    shots = {f"{k}-shot": v for k, v in found["few_shot_accuracy"].items()}
    columns = ["", "image-image mAP", "text-image mAP", "zero-shot", *shots]
    values = (found["image_image_mAP"], found["text_image_mAP"], found["zero_shot_accuracy"], *shots.values())
    print_table("two classes, %", columns, [["", *map(percent, values)]])
    ks = list(next(iter(found["aligned"].values()))["precision_at"])
    rows = [
        [name, f"{of['iou']:.3f}", percent(of["mAP"]), *(percent(of["precision_at"][k]) for k in ks)]
        for name, of in found["aligned"].items()
    ]
    removed, queries = found["removed"], found["queries"]
    title = f"without {removed} pictures nearer to the other class's text, {queries} queries"
    print_table(title, ["method", "IoU", "mAP", *(f"P@{k}" for k in ks)], rows)


def print_tasks(run: Any) -> None:
    """mAP of each method on each labelling, with its change."""
    from .measuring import print_table

    tasks = list(run.metrics)
    methods = run.metrics[tasks[0]]
    rows = [[method, *(_change(run.metrics[task][method]) for task in tasks)] for method in methods]
    print_table("mAP in % on every labelling, and the change", ["method", *tasks], rows)


def print_freedom(run: Any) -> None:
    """Errors of the recovered similarities."""
    from .measuring import print_table

    found = run.metrics
    rows = [["unknowns, equations", f"{found['unknowns']}, {found['equations']}"]]
    for key, what in (("with_texts", "with the texts"), ("without_texts", "without the texts")):
        of = found[key]
        said = "too few pictures" if of is None else f"{of['largest_error']:.1e}"
        if of is not None and not of.get("converged", True):
            said += f" (not converged after {of['iterations']} iterations; it takes more pictures)"
        rows.append([f"largest error {what}", said])
    print_table("image-image cosines recovered from image-text ones", ["", ""], rows)


CLASS_NUMBERS = ("overlap", "iou", "same_mean", "different_mean")
MODALITY_NUMBERS = ("overlap", "iou", "gap", "image_image_mean", "image_text_mean", "text_text_mean")


def _spaced(name: str) -> str:
    return name.replace("iou", "IoU").replace("_mean", " mean").replace("_", "-")


def _change(numbers: dict[str, float]) -> str:
    from .measuring import signed

    change = f" ({signed(numbers['gain'])} ± {numbers['gain_error']:.1f})" if "gain" in numbers else ""
    return f"{numbers['mAP']:.1f}{change}"
