"""`jaxalign text-retrieve`: captions that find captions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .arguments import ALONE, DataDir, Distributed, JsonFile, OwnName, Seed, SettingsOf
from .measuring import (
    BandOption,
    DatasetName,
    LayoutOption,
    MethodNames,
    ModelName,
    ProtocolOption,
    RunFolder,
    SplitName,
    StoreFolder,
)

Steps = Annotated[
    int | None,
    tyro.conf.arg(metavar="N", help="Steps of OVI.", help_behavior_hint="(default: 1000, as in the paper)"),
]
Patches = Annotated[
    int | None,
    tyro.conf.arg(
        metavar="P", help="Pseudo-patches of OVI.", help_behavior_hint="(default: the backbone's, table S5)"
    ),
]


@dataclass(frozen=True)
class TextRetrieve:
    """Find the other captions of a picture by its first one, and print mAP and its kin in percent.

    Methods: text-text, pre, whitened, isoclip, isoclip-auto, and ovi, which optimises each query. The gallery
    is all captions; the query itself is left out. With --protocol reference it is all captions but the first
    of each picture, and of Flickr30k the split is val, as in the published code.

    Examples:
      jaxalign text-retrieve
      jaxalign text-retrieve --model emoji-siglip --methods text-text isoclip --band 0 32
      jaxalign text-retrieve --model openai/clip-vit-base-patch16 --dataset flickr30k-captions
    """

    model: ModelName = "emoji-clip"
    spec: SettingsOf = None
    name: OwnName = None
    dataset: DatasetName = "emoji"
    methods: MethodNames = ()
    band: BandOption = None
    split: SplitName = ""
    protocol: ProtocolOption = "paper"
    layout: LayoutOption = "paper"
    steps: Steps = None
    patches: Patches = None
    seed: Seed = 0
    out: RunFolder = Path("jaxalign-runs")
    store: StoreFolder = None
    data_dir: DataDir = None
    json: JsonFile = None
    distributed: Distributed = ALONE

    def run(self) -> None:
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.image_retrieval import Retrieving
        from jaxalign.eval.tasks.methods import Inverting, check_methods
        from jaxalign.eval.tasks.pairs import CaptionPair, caption_split
        from jaxalign.eval.tasks.text_retrieval import measure_text_retrieval

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
        options = method_options(self, Inverting(steps=self.steps, patches=self.patches, seed=self.seed))
        check_methods(self.methods, model, "text", options)
        split = caption_split(workspace.find_dataset(self.dataset), self.split, self.protocol)
        pair = CaptionPair(workspace, model, self.dataset, split)
        retrieving = Retrieving(self.methods, options, protocol=self.protocol)
        runs = measure_text_retrieval(workspace, model, pair, retrieving)
        if not is_first():
            return
        counts = describe_counts(runs[0].metrics, "captions")
        print_table(f"{model.title} on the captions of {self.dataset}: {counts}, %", *retrieval_rows(runs))
        report_runs(self, runs)
