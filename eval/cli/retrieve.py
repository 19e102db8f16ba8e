"""`jaxalign retrieve`: pictures that find pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .arguments import ALONE, DataDir, Distributed, JsonFile, OwnName, Seed, SettingsOf, UnreadablePictures
from .measuring import (
    BandOption,
    DatasetName,
    LayoutOption,
    MethodNames,
    ModelName,
    NamesFile,
    ProtocolOption,
    RankOption,
    RunFolder,
    SplitName,
    StoreFolder,
    SubspaceOption,
    WithDistractors,
)

TaskNames = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="NAME [NAME ...]", help="Labellings, each a task.", help_behavior_hint="(default: the first)"
    ),
]
Steps = Annotated[
    int | None,
    tyro.conf.arg(metavar="N", help="Steps of OTI.", help_behavior_hint="(default: 150, as in the papers)"),
]


@dataclass(frozen=True)
class Retrieve:
    """Retrieve pictures by pictures with one or several methods, and print mAP and its kin in percent.

    Methods: image-image, pre, whitened, isoclip, isoclip-auto, pca, pca-mean, and oti, which optimises each
    query. A query that is in the gallery is left out of its own, whatever the splits are called. ROxford and
    RParis are measured by their own protocol; with --protocol reference their queries are read whole and R1M
    is added where it is there, as in the published code. The gain in mAP is against the first method, with
    its standard error over the queries.

    Examples:
      jaxalign retrieve
      jaxalign retrieve --model emoji-siglip --dataset emoji --methods image-image isoclip --band 0 64
      jaxalign retrieve --model openai/clip-vit-base-patch16 --dataset caltech101 --text-image
      jaxalign retrieve --dataset folder:photos --methods image-image pca --rank 32
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
    tasks: TaskNames = ()
    query: SplitName = ""
    gallery: SplitName = ""
    distractors: Annotated[
        WithDistractors,
        tyro.conf.arg(
            help="Add the data set's distractors (R1M).",
            help_behavior_hint="(default: no; with --protocol reference, where they are there)",
        ),
    ] = None
    text_image: Annotated[
        bool,
        tyro.conf.arg(
            help="Also let class names, or captions, find their pictures, before and after IsoCLIP."
        ),
    ] = False
    protocol: ProtocolOption = "paper"
    layout: LayoutOption = "paper"
    steps: Steps = None
    seed: Seed = 0
    out: RunFolder = Path("jaxalign-runs")
    store: StoreFolder = None
    data_dir: DataDir = None
    unreadable: UnreadablePictures = "fail"
    json: JsonFile = None
    distributed: Distributed = ALONE

    def run(self) -> None:
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.image_retrieval import Retrieving, measure_image_retrieval
        from jaxalign.eval.tasks.methods import Inverting, check_methods
        from jaxalign.eval.tasks.pairs import ImagePair, query_split, takes_distractors
        from jaxalign.eval.tasks.text_image import measure_text_image
        from jaxalign.eval.terminal import say

        from .measuring import (
            describe_counts,
            method_options,
            open_workspace,
            print_table,
            report_runs,
            retrieval_rows,
        )

        workspace = open_workspace(self)
        model = workspace.load_model(self.model, self.layout, spec=self.spec, name=self.name)
        options = method_options(self, Inverting(steps=self.steps, seed=self.seed))
        check_methods(self.methods, model, "image", options)
        record = workspace.find_dataset(self.dataset)
        query = query_split(record, self.query, self.protocol)
        added = takes_distractors(record, self.distractors, self.protocol, self.data_dir)
        pair = ImagePair(workspace, model, self.dataset, query, self.gallery, added)
        retrieving = Retrieving(self.methods, options, self.tasks, self.protocol)
        runs = []
        if not (self.text_image and pair.has_captions_alone):
            runs += measure_image_retrieval(workspace, model, pair, retrieving)
        if self.text_image:
            runs += measure_text_image(workspace, model, pair, retrieving)
        if not is_first():
            return
        lacking = "" if added or self.distractors is False else pair.record.distractors
        if lacking and self.protocol == "reference":
            say(f"Note: {lacking} is not here; the published code adds it where it is")
        for task in pair.tasks(self.tasks):
            of_task = [run for run in runs if run.settings["task"] == task]
            for protocol in ("image-retrieval", "text-image"):
                shown = [run for run in of_task if run.protocol == protocol]
                if shown:
                    counts = describe_counts(shown[0].metrics)
                    about = f"{model.title} on {self.dataset}" + (f", {task}" if task else "")
                    texts = "captions" if pair.has_captions_alone else "names"
                    what = f"{texts} find pictures, " if protocol == "text-image" else ""
                    print_table(f"{about}: {what}{counts}, %", *retrieval_rows(shown))
        report_runs(self, runs)
