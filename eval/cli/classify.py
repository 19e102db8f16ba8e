"""`jaxalign classify`: zero-shot, nearest class mean and few-shot accuracy of a model on a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .arguments import (
    ALONE,
    DataDir,
    Distributed,
    JsonFile,
    OwnName,
    SeedNumber,
    SettingsOf,
    UnreadablePictures,
)
from .measuring import (
    BandOption,
    DatasetName,
    LayoutOption,
    ModelName,
    RankOption,
    RunFolder,
    SplitName,
    StoreFolder,
    TaskName,
)

ClassifierNames = Annotated[
    tuple[Literal["zero-shot", "ncm", "prototype", "lda", "tip-adapter", "tip-x", "ape", "coder"], ...],
    tyro.conf.arg(help="Which to measure; all but the first two are few-shot."),
]
EmbeddingMethods = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="METHOD [METHOD ...]",
        help="How all but zero-shot embed pictures: image-image, pre, whitened, isoclip, isoclip-auto, pca.",
    ),
]
Counts = tyro.conf.arg(metavar="N [N ...]", help="Pictures of each class.")
Seeds = Annotated[tuple[SeedNumber, ...], tyro.conf.arg(metavar="N [N ...]", help="One for each draw.")]
Alpha = Annotated[
    float | None,
    tyro.conf.arg(
        metavar="X", help="Weight of pictures beside class names.", help_behavior_hint="(default: 0.5)"
    ),
]


@dataclass(frozen=True)
class Classify:
    """Classify pictures by class names (zero-shot), class means (ncm) or a few pictures of each class.

    Class means are those of the whole training split. Few-shot accuracies are means over several draws; the
    classifiers prototype and lda need no class names, the others take --with-text. Each measurement becomes a
    run in --out, and is not computed again.

    Examples:
      jaxalign classify --task group
      jaxalign classify --model ViT-B/16 --dataset dtd --methods image-image isoclip
      jaxalign classify --model ViT-B/16 --dataset pets --classifiers prototype lda --methods image-image pca
      jaxalign classify --model RN50 --dataset pets --classifiers tip-x ape lda --with-text --tune --augment
      jaxalign classify --model RN50 --dataset dtd --classifiers tip-adapter --with-text --grid published
      jaxalign classify --dataset folder:photos --classifiers ncm prototype --shots 1 2
    """

    model: ModelName = "emoji-clip"
    spec: SettingsOf = None
    name: OwnName = None
    dataset: DatasetName = "emoji"
    classifiers: ClassifierNames = ("zero-shot", "ncm")
    methods: EmbeddingMethods = ("image-image",)
    band: BandOption = None
    rank: RankOption = None
    task: TaskName = ""
    train: SplitName = ""
    test: SplitName = ""
    shots: Annotated[tuple[int, ...], Counts] = (1, 2, 4, 8, 16)
    seeds: Seeds = (1, 2, 3)
    draws: Annotated[
        Literal["ours", "published"],
        tyro.conf.arg(help="Which pictures a seed draws: nested draws, or those of the published code."),
    ] = "ours"
    with_text: Annotated[bool, tyro.conf.arg(help="Let class names take part in few-shot classifiers.")] = (
        False
    )
    alpha: Alpha = None
    tune: Annotated[
        bool, tyro.conf.arg(help="Search the few-shot classifiers' hyper-parameters on the split val.")
    ] = False
    grid: Annotated[
        str | None,
        tyro.conf.arg(
            metavar="default|published[:NAME]",
            help="Values that are searched: ours, or those of the published codes (of tip-adapter and ape for"
            " this data set, or for NAME). Implies --tune.",
            help_behavior_hint="(default: default)",
        ),
    ] = None
    augment: Annotated[
        bool, tyro.conf.arg(help="Crop and flip the drawn pictures at random, as the published code does.")
    ] = False
    templates: Annotated[
        str, tyro.conf.arg(metavar="NAME", help="Prompts of class names: single (CoOp's), ensemble (CLIP's).")
    ] = "single"
    protocol: Annotated[
        Literal["paper", "reference"],
        tyro.conf.arg(
            help="reference: PCA<- and Tip-X in few-shot classification as in the published code; ImageNet is"
            " then tuned on the pictures that are classified."
        ),
    ] = "paper"
    layout: LayoutOption = "paper"
    out: RunFolder = Path("jaxalign-runs")
    store: StoreFolder = None
    data_dir: DataDir = None
    unreadable: UnreadablePictures = "fail"
    json: JsonFile = None
    distributed: Distributed = ALONE

    def run(self) -> None:
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.classification import measure_classification
        from jaxalign.eval.tasks.labelled import LabelledPair

        from .measuring import open_workspace, report_runs

        classifying = self.settings()
        workspace = open_workspace(self)
        model = workspace.load_model(self.model, self.layout, spec=self.spec, name=self.name)
        pair = LabelledPair(workspace, model, self.dataset, self.task, self.train, self.test)
        runs = measure_classification(workspace, model, pair, classifying)
        if not is_first():
            return
        print_runs(f"{model.title} on {self.dataset}, {pair.task}, {pair.num_classes} classes", runs)
        report_runs(self, runs)

    def settings(self) -> Any:
        """The options as `jaxalign.eval.tasks.classifying.Classifying`."""
        from jaxalign.classifiers import FEW_SHOT
        from jaxalign.eval.tasks.classifying import Classifying, FewShotSettings

        from .measuring import method_options
        from .usage import UsageError

        asking = [name for name in self.classifiers if name in FEW_SHOT and FEW_SHOT[name].needs_text]
        if not (self.classifiers and self.methods):
            raise UsageError("--classifiers and --methods need one name at least")
        if asking and not self.with_text:
            raise UsageError(f"{asking[0]} compares pictures by class names; add --with-text")
        drawn = {name for name in FEW_SHOT if name in self.classifiers}
        tune = self.tune or self.grid is not None
        if tune and not drawn:
            raise UsageError(
                f"--{'tune' if self.tune else 'grid'} is about few-shot classifiers; there is none among"
                " --classifiers"
            )
        if self.draws != "ours" and not drawn:
            raise UsageError("--draws is about few-shot classifiers; there is none among --classifiers")
        if tune and not self.with_text:
            raise UsageError("tuning weighs pictures against class names; add --with-text")
        if self.protocol == "reference" and not self._has_reference(drawn):
            raise UsageError(
                f"--protocol reference is about PCA<- and Tip-X in few-shot classification; of"
                f" {', '.join(self.classifiers)} with {', '.join(self.methods)} the published code does what"
                " the papers say"
            )
        few_shot = FewShotSettings(
            with_text=self.with_text,
            shots=self.shots,
            seeds=self.seeds,
            draws=self.draws,
            options={} if self.alpha is None else {"alpha": self.alpha},
        )
        return Classifying(
            classifiers=self.classifiers,
            methods=self.methods,
            options=method_options(self),
            templates=self.templates,
            few_shot=few_shot,
            augmentation=1 if self.augment else None,
            tune=tune,
            grid=self.grid or "default",
            protocol=self.protocol,
        )

    def _has_reference(self, drawn: set[str]) -> bool:
        """Whether the published code departs from the papers in what is asked for; `drawn` is few-shot."""
        from jaxalign.classifiers import FEW_SHOT

        projected = any(name in ("pca", "pca-mean") for name in self.methods)
        tuned_on_test = self.dataset == "imagenet" and (self.tune or self.grid is not None)
        return bool(drawn) and (projected or tuned_on_test or any(FEW_SHOT[name].reference for name in drawn))


def print_runs(title: str, runs: Sequence[Any]) -> None:
    """A table of the accuracies, and one of the few-shot ones by shots."""
    from jaxalign.eval.tasks.few_shot import sorted_shots

    from .measuring import print_table

    whole = [run for run in runs if run.protocol == "classification"]
    drawn = [run for run in runs if run.protocol == "few-shot"]
    if whole:
        names = ("accuracy", "class_accuracy")
        rows = [[describe(run), *(f"{run.metrics[name]:.1f}" for name in names)] for run in whole]
        print_table(f"{title}: accuracy, %", ["classifier", "accuracy", "mean over classes"], rows)
    if drawn:
        shots, seeds = sorted_shots(drawn), len(drawn[0].settings["seeds"])
        columns = ["classifier", *(f"{k} shot{'s' * (k > 1)}" for k in shots)]
        rows = [[describe(run), *(_accuracy(run, str(k)) for k in shots)] for run in drawn]
        what = f"{title}: mean accuracy of {seeds} draws ± deviation, %"
        grids = dict.fromkeys(run.settings["grid"] for run in drawn if run.settings["tuned"])
        print_table(what + (f", tuned on the grid {', '.join(grids)}" if grids else ""), columns, rows)


def describe(run: Any) -> str:
    """The classifier, and the method that embeds for it."""
    from .measuring import describe_method

    settings = run.settings
    return f"{settings['classifier']}, {describe_method(settings)}" if "method" in settings else "zero-shot"


def _accuracy(run: Any, shots: str) -> str:
    return f"{run.metrics['accuracy'][shots]:.1f} ± {run.metrics['deviation'][shots]:.1f}"
