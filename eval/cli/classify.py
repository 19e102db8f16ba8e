"""`jaxalign classify`: zero-shot, nearest class mean and few-shot accuracy of a model on a data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Annotated, Literal

from .groups import Distributed, Measuring, Processes, Projection, ProjectionOptions
from .options import (
    DatasetName,
    SeedNumber,
    TaskNames,
    TestSplit,
    TrainSplit,
    UsageError,
    VariantOption,
    option,
)
from .printing import describe_method, print_runs, print_table, report_runs

if TYPE_CHECKING:
    from jaxalign.classifiers.method import FewShotMethod
    from jaxalign.eval.tasks.classifying import Classifying
    from jaxalign.eval.tasks.runs import Run

SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Classify(Measuring):
    """Classify images by class names, class means or a few images.

    Class names are zero-shot, class means ncm, a few images of each class few-shot. Class means are those of
    the whole training split. Few-shot accuracies are means over several draws; the classifiers prototype and
    lda need no class names, the others take --with-text. Each measurement becomes a run in --out, and is not
    computed again. --variant reference is about PCA<- and Tip-X in few-shot classification; ImageNet is then
    tuned on the images that are classified.

    Examples:
      jaxalign classify --tasks group
      jaxalign classify --model ViT-B/16 --dataset dtd --methods image-image isoclip
      jaxalign classify --model ViT-B/16 --dataset pets --classifiers prototype lda --methods image-image pca
      jaxalign classify --model RN50 --dataset pets --classifiers tip-x ape lda --with-text --tune --augment
      jaxalign classify --model RN50 --dataset dtd --classifiers tip-adapter --with-text --grid published
      jaxalign classify --dataset folder:photos --classifiers ncm prototype --shots 1 2
    """

    dataset: DatasetName = "emoji"
    classifiers: Annotated[
        tuple[Literal["zero-shot", "ncm", "prototype", "lda", "tip-adapter", "tip-x", "ape", "coder"], ...],
        option("Classifiers to measure; all but the first two are few-shot."),
    ] = ("zero-shot", "ncm")
    methods: Annotated[
        tuple[str, ...],
        option(
            "Methods by which all but zero-shot embed images: image-image, pre, whitened, isoclip,"
            " isoclip-auto, pca, or one's own, module:name.",
            "METHOD [METHOD ...]",
        ),
    ] = ("image-image",)
    tasks: TaskNames = ()
    train: TrainSplit = ""
    test: TestSplit = ""
    shots: Annotated[tuple[int, ...], option("Numbers of training images of each class.", "N [N ...]")] = (
        SHOTS
    )
    seeds: Annotated[tuple[SeedNumber, ...], option("Seeds of the draws, one each.", "N [N ...]")] = (1, 2, 3)
    draws: Annotated[
        Literal["ours", "published"],
        option("Rule by which a seed draws images: nested draws, or those of the published code."),
    ] = "ours"
    with_text: Annotated[bool, option("Let class names take part in few-shot classifiers.")] = False
    alpha: Annotated[float | None, option("Weight of images beside class names.", "X", "0.5")] = None
    tune: Annotated[bool, option("Search the few-shot classifiers' hyper-parameters on the split val.")] = (
        False
    )
    grid: Annotated[
        str | None,
        option(
            "Values that are searched: ours, or those of the published codes (of tip-adapter and ape for"
            " this data set, or for NAME). Implies --tune.",
            "default|published[:NAME]",
            "default",
        ),
    ] = None
    augment: Annotated[
        bool, option("Crop and flip the drawn images at random, as the published code does.")
    ] = False
    templates: Annotated[
        str, option("Prompts of class names: single (CoOp's), ensemble (CLIP's).", "NAME")
    ] = "single"
    variant: VariantOption = "paper"
    projection: Projection = field(default_factory=ProjectionOptions)
    distributed: Distributed = field(default_factory=Processes)

    def run(self) -> None:
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.classification import measure_classification
        from jaxalign.eval.tasks.labelled import LabelledPair

        classifying = self.settings()
        workspace, model = self.open()
        pairs = [
            LabelledPair(workspace, model, self.dataset, task, self.train, self.test)
            for task in self.tasks or ("",)
        ]
        found = [measure_classification(pair, classifying) for pair in pairs]
        if not is_first():
            return
        for pair, runs in zip(pairs, found, strict=True):
            print_accuracies(
                f"{model.title} on {self.dataset}, {pair.task}, {pair.num_classes} classes", runs
            )
        report_runs([run for runs in found for run in runs], self.results)

    @property
    def tuned(self) -> bool:
        """Whether hyper-parameters are searched."""
        return self.tune or self.grid is not None

    def settings(self) -> "Classifying":
        """The options as what measures takes them; raises UsageError where they contradict each other."""
        from jaxalign.eval.tasks.classifying import Classifying, FewShotSettings

        self._check()
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
            options=self.projection.method_options(),
            templates=self.templates,
            few_shot=few_shot,
            augmentation=1 if self.augment else None,
            tune=self.tuned,
            grid=self.grid or "default",
            variant=self.variant,
        )

    def _check(self) -> None:
        from jaxalign.classifiers import FEW_SHOT

        drawn = [FEW_SHOT[name] for name in self.classifiers if name in FEW_SHOT]
        asking = [method.name for method in drawn if method.needs_text]
        if not (self.classifiers and self.methods):
            raise UsageError("--classifiers and --methods need one name at least")
        if asking and not self.with_text:
            raise UsageError(f"{asking[0]} compares images by class names; add --with-text")
        if not drawn and (given := next(self._of_few_shot(), None)):
            raise UsageError(f"{given} is about few-shot classifiers; there is none among --classifiers")
        if self.tuned and not self.with_text:
            raise UsageError("tuning weighs images against class names; add --with-text")
        if self.variant == "reference" and not self._has_reference(drawn):
            raise UsageError(
                f"--variant reference is about PCA<- and Tip-X in few-shot classification; of"
                f" {', '.join(self.classifiers)} with {', '.join(self.methods)} the published code does what"
                " the papers say"
            )
        if self.variant == "reference" and self.projection.subspace != "paper":
            raise UsageError("--variant reference has a variant of PCA<- of its own; leave out --subspace")

    def _of_few_shot(self) -> "Iterator[str]":
        """The options that were given and are about few-shot classifiers alone."""
        alone = ("shots", "seeds", "draws", "with_text", "alpha", "tune", "grid", "augment")
        defaults = {field.name: field.default for field in fields(self)}
        return (f"--{name.replace('_', '-')}" for name in alone if getattr(self, name) != defaults[name])

    def _has_reference(self, drawn: "Sequence[FewShotMethod]") -> bool:
        """Whether the published code departs from the papers in what is asked for."""
        projected = any(name in ("pca", "pca-mean") for name in self.methods)
        tuned_on_test = self.dataset == "imagenet" and self.tuned
        return bool(drawn) and (projected or tuned_on_test or any(method.reference for method in drawn))


def print_accuracies(title: str, runs: "Sequence[Run]") -> None:
    """A table of the accuracies, and one of the few-shot ones by shots."""
    whole = [run for run in runs if run.protocol == "classification"]
    drawn = [run for run in runs if run.protocol == "few-shot"]
    if whole:
        print_runs(f"{title}: accuracy, %", whole, "classifier", describe_classifier)
    if drawn:
        shots = sorted({int(count) for run in drawn for count in run.metrics["accuracy"]})
        seeds = len(drawn[0].settings["seeds"])
        columns = ["classifier", *(f"{k} shot{'s' * (k > 1)}" for k in shots)]
        rows = [[describe_classifier(run), *(_accuracy(run, str(k)) for k in shots)] for run in drawn]
        what = f"{title}: mean accuracy of {seeds} draws ± deviation, %"
        grids = dict.fromkeys(run.settings["grid"] for run in drawn if run.settings["tuned"])
        print_table(what + (f", tuned on the grid {', '.join(grids)}" if grids else ""), columns, rows)


def describe_classifier(run: "Run") -> str:
    """The classifier, and the method that embeds for it."""
    settings = run.settings
    return f"{settings['classifier']}, {describe_method(settings)}" if "method" in settings else "zero-shot"


def _accuracy(run: "Run", shots: str) -> str:
    return f"{run.metrics['accuracy'][shots]:.1f} ± {run.metrics['deviation'][shots]:.1f}"
