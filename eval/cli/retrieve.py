"""`jaxalign retrieve`: images that find images."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from jaxalign.eval.terminal import say

from .groups import Distributed, Measuring, Processes, Projection, ProjectionOptions
from .options import (
    DatasetName,
    GallerySplit,
    MethodNames,
    QuerySplit,
    RecallDepths,
    Seed,
    Steps,
    TaskNames,
    UsageError,
    VariantOption,
    YesOrNo,
    option,
)
from .printing import describe_counts, print_runs, report_runs

if TYPE_CHECKING:
    from jaxalign.eval.tasks.pairs import ImagePair
    from jaxalign.eval.tasks.runs import Run


@dataclass(frozen=True)
class Retrieve(Measuring):
    """Let images find images by several methods, and print mAP.

    Methods: image-image, pre, whitened, isoclip, isoclip-auto, pca, pca-mean, and oti, which optimises each
    query. A query that is in the gallery is left out of its own, whatever the splits are called. ROxford and
    RParis are measured by their own protocol; with --variant reference their queries are read whole and R1M
    is added where it is there, as in the published code. The gain in mAP is against the first method, with
    its standard error over the queries, and p is how often chance alone would give as much (randomization
    test).

    Examples:
      jaxalign retrieve
      jaxalign retrieve --model emoji-siglip --dataset emoji --methods image-image isoclip --band 0 64
      jaxalign retrieve --model openai/clip-vit-base-patch16 --dataset caltech101 --text-image
      jaxalign retrieve --dataset folder:photos --methods image-image pca --rank 32
      jaxalign retrieve --recall-at 5 10 --table results.tex --json -
    """

    dataset: DatasetName = "emoji-scenes"
    methods: MethodNames = ()
    tasks: TaskNames = ()
    query: QuerySplit = ""
    gallery: GallerySplit = ""
    distractors: Annotated[
        YesOrNo,
        option(
            "Add the data set's distractors (R1M).",
            default="no; with --variant reference, where they are there",
        ),
    ] = None
    text_image: Annotated[
        bool, option("Let class names, or captions, find their images as well, before and after IsoCLIP.")
    ] = False
    variant: VariantOption = "paper"
    recall_at: RecallDepths = ()
    steps: Steps = None
    seed: Seed = 0
    projection: Projection = field(default_factory=ProjectionOptions)
    distributed: Distributed = field(default_factory=Processes)

    def run(self) -> None:
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.image_retrieval import Retrieving, measure_image_retrieval
        from jaxalign.eval.tasks.methods import Inverting, find_methods
        from jaxalign.eval.tasks.pairs import ImagePair, takes_distractors, variant_split
        from jaxalign.eval.tasks.text_image import measure_text_image

        depths = parse_depths(self.recall_at)
        workspace, model = self.open()
        options = self.projection.method_options(Inverting(steps=self.steps, seed=self.seed))
        find_methods(self.methods, model, "image", options)
        record = workspace.find_dataset(self.dataset)
        query = variant_split(record, "query", self.query, self.variant)
        added = takes_distractors(record, self.distractors, self.variant, self.data.data_dir)
        pair = ImagePair(workspace, model, self.dataset, query, self.gallery, added)
        retrieving = Retrieving(self.methods, options, self.tasks, self.variant, depths)
        runs = []
        if not (self.text_image and pair.has_captions_alone):
            runs += measure_image_retrieval(pair, retrieving)
        if self.text_image:
            runs += measure_text_image(pair, retrieving)
        if not is_first():
            return
        lacking = "" if added or self.distractors is False else pair.record.distractors
        if lacking and self.variant == "reference":
            say(f"Note: {lacking} is not here; the published code adds it where it is")
        for task in pair.tasks(self.tasks):
            about = f"{model.title} on {self.dataset}" + (f", {task}" if task else "")
            print_task(about, pair, [run for run in runs if run.settings["task"] == task])
        report_runs(runs, self.results)


def parse_depths(depths: tuple[int, ...]) -> tuple[int, ...]:
    """The depths of a recall, 1 among them, each once; raises UsageError for one below 1."""
    if min(depths, default=1) < 1:
        raise UsageError(f"--recall-at is {min(depths)}; expected depths of 1 or more")
    return tuple(sorted({1, *depths}))


def print_task(about: str, pair: "ImagePair", runs: "Sequence[Run]") -> None:
    """A table of the runs of a task in which images find images, and one in which texts do."""
    texts = "captions" if pair.has_captions_alone else "names"
    for protocol, what in (("image-retrieval", ""), ("text-image", f"{texts} find images, ")):
        shown = [run for run in runs if run.protocol == protocol]
        if shown:
            print_runs(f"{about}: {what}{describe_counts(shown[0].metrics)}, %", shown, compared=True)
