"""`jaxalign indicators`: the histograms and the gap that were taken for misalignment."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from .groups import Measuring, Projection, ProjectionOptions
from .options import DatasetName, MethodNames, Seed, SplitName, TaskNames, option
from .printing import decimal, print_runs, print_table, report_runs, signed

if TYPE_CHECKING:
    from jaxalign.eval.tasks.indicators import Indicators as IndicatorsOf
    from jaxalign.eval.tasks.runs import Run


@dataclass(frozen=True)
class Indicators(Measuring):
    """Draw histograms of cosines by class and by modality.

    How far they overlap are the papers' indicators of intra-modal misalignment (Reevaluating, figures 2, 5,
    7, 8; IsoCLIP, figure S7). On dogs-vs-cats, also the experiment of table 1 and figure 4, with the second
    class as the query.

    Examples:
      jaxalign indicators
      jaxalign indicators --methods image-image pca pca-mean --views pca
      jaxalign indicators --model openai/clip-vit-base-patch16 --dataset dogs-vs-cats
      jaxalign indicators --ambiguity --dataset bdd100k
    """

    dataset: DatasetName = "emoji-scenes"
    methods: MethodNames = ()
    tasks: TaskNames = ()
    split: SplitName = ""
    max_images: Annotated[int, option("Largest number of images, evenly spaced.", "N")] = 5000
    views: Annotated[
        tuple[Literal["pca", "tsne", "umap"], ...],
        option("Views in two dimensions; t-SNE and UMAP need the extra `plots`."),
    ] = ()
    dogs_cats: Annotated[
        bool, option("Do the experiment of dogs and cats on another data set of two classes.")
    ] = False
    ambiguity: Annotated[bool, option("Measure mAP on every task that the data set has.")] = False
    freedom: Annotated[
        bool, option("Recover image-image similarities from image-text ones (appendix A).")
    ] = False
    seed: Seed = 0
    projection: Projection = field(default_factory=ProjectionOptions)

    def run(self) -> None:
        from jaxalign.eval.tasks.indicators import Indicating, Indicators
        from jaxalign.eval.tasks.methods import find_methods

        workspace, model = self.open()
        options = self.projection.method_options()
        find_methods(self.methods, model, "image", options)
        runs, charts = [], []
        for task in self.tasks or ("",):
            indicating = Indicating(self.methods, options, task, self.split, self.max_images)
            own = self._measure(Indicators(workspace, model, self.dataset, indicating))
            charts += self.save_figures(own, model, self.dataset, own[0].settings["task"])
            runs += own
        report_runs(runs, self.results, charts)

    def _measure(self, found: "IndicatorsOf") -> "list[Run]":
        """The runs of one task, each printed."""
        from jaxalign.eval.tasks.ambiguity import measure_ambiguity
        from jaxalign.eval.tasks.degrees_of_freedom import measure_degrees_of_freedom
        from jaxalign.eval.tasks.dogs_cats import measure_dogs_cats
        from jaxalign.eval.tasks.views import measure_view

        by_class, by_modality = found.by_class(), found.by_modality()
        runs = [*by_class, *by_modality]
        about = f"{found.model.title} on {self.dataset}"
        print_runs(f"{about}, {found.task}: cosines by class", by_class)
        if by_modality:
            print_runs(f"{about}: cosines by modality", by_modality)
        if self.dogs_cats or found.pair.record.name == "dogs-vs-cats":
            runs.append(measure_dogs_cats(found))
            print_dogs_cats(runs[-1].metrics)
        if self.ambiguity:
            runs.append(measure_ambiguity(found))
            print_ambiguity(runs[-1].metrics)
        if self.freedom:
            runs.append(measure_degrees_of_freedom(found))
            print_freedom(runs[-1].metrics)
        return runs + [measure_view(found, view, self.seed) for view in dict.fromkeys(self.views)]


def print_dogs_cats(found: Any) -> None:
    """Table 1 of Reevaluating in a line, then figure 4 of IsoCLIP."""
    shots = {f"{k}-shot": v for k, v in found["few_shot_accuracy"].items()}
    columns = ["", "image-image mAP", "text-image mAP", "zero-shot", *shots]
    values = (found["image_image_mAP"], found["text_image_mAP"], found["zero_shot_accuracy"], *shots.values())
    print_table("two classes, %", columns, [["", *map(decimal, values)]])
    ks = list(next(iter(found["aligned"].values()))["precision_at"])
    rows = [
        [name, f"{of['iou']:.3f}", decimal(of["mAP"]), *(decimal(of["precision_at"][k]) for k in ks)]
        for name, of in found["aligned"].items()
    ]
    removed, queries = found["removed"], found["queries"]
    title = f"without {removed} images nearer to the other class's text, {queries} queries"
    print_table(title, ["method", "IoU", "mAP", *(f"P@{k}" for k in ks)], rows)


def print_ambiguity(found: Any) -> None:
    """mAP of each method on each task, with its change."""

    def cell(numbers: dict[str, float]) -> str:
        change = f" ({signed(numbers['gain'])} ± {numbers['gain_error']:.1f})" if "gain" in numbers else ""
        return f"{numbers['mAP']:.1f}{change}"

    methods = next(iter(found.values()))
    rows = [[method, *(cell(numbers[method]) for numbers in found.values())] for method in methods]
    print_table("mAP in % on every task, and the change", ["method", *found], rows)


def print_freedom(found: Any) -> None:
    """Errors of the recovered similarities."""
    rows = [["unknowns, equations", f"{found['unknowns']}, {found['equations']}"]]
    for key, what in (("with_texts", "with the texts"), ("without_texts", "without the texts")):
        of = found[key]
        said = "too few images" if of is None else f"{of['largest_error']:.1e}"
        if of is not None and not of.get("converged", True):
            said += f" (not converged after {of['iterations']} iterations; it takes more images)"
        rows.append([f"largest error {what}", said])
    print_table("image-image cosines recovered from image-text ones", ["", ""], rows)
