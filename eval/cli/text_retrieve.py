"""`jaxalign text-retrieve`: captions that find captions."""

from dataclasses import dataclass, field
from typing import Annotated

from .groups import Distributed, Measuring, Processes
from .options import (
    BandOption,
    DatasetName,
    MethodNames,
    RecallDepths,
    Seed,
    SplitName,
    Steps,
    VariantOption,
    option,
)
from .printing import describe_counts, print_runs, report_runs
from .retrieve import parse_depths


@dataclass(frozen=True)
class TextRetrieve(Measuring):
    """Let captions find captions by several methods, and print mAP.

    An image's first caption is the query; its other ones are to be found.

    Methods: text-text, pre, whitened, isoclip, isoclip-auto, and ovi, which optimises each query. The gallery
    is all captions; the query itself is left out. With --variant reference it is all captions but the first
    of each image, and of Flickr30k the split is val, as in the published code.

    Examples:
      jaxalign text-retrieve
      jaxalign text-retrieve --model emoji-siglip --methods text-text isoclip --band 0 32
      jaxalign text-retrieve --dataset features:captions.npz --label-key image
      jaxalign text-retrieve --model openai/clip-vit-base-patch16 --dataset flickr30k-captions
    """

    modality = "text"  # no option: what features:PATH are of

    dataset: DatasetName = "emoji"
    methods: MethodNames = ()
    band: BandOption = None
    split: SplitName = ""
    variant: VariantOption = "paper"
    recall_at: RecallDepths = ()
    steps: Steps = None
    patches: Annotated[int | None, option("Pseudo-patches of OVI.", "P", "the backbone's, table S5")] = None
    seed: Seed = 0
    distributed: Distributed = field(default_factory=Processes)

    def run(self) -> None:
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.image_retrieval import Retrieving
        from jaxalign.eval.tasks.methods import Inverting, MethodOptions, find_methods
        from jaxalign.eval.tasks.pairs import CaptionPair, variant_split
        from jaxalign.eval.tasks.text_retrieval import measure_text_retrieval

        depths = parse_depths(self.recall_at)
        workspace, model = self.open()
        inverting = Inverting(steps=self.steps, patches=self.patches, seed=self.seed)
        options = MethodOptions(self.band, inverting=inverting)
        find_methods(self.methods, model, "text", options)
        record = workspace.find_dataset(self.dataset)
        split = variant_split(record, "captions", self.split, self.variant)
        pair = CaptionPair(workspace, model, self.dataset, split)
        retrieving = Retrieving(self.methods, options, (), self.variant, depths)
        runs = measure_text_retrieval(pair, retrieving)
        if not is_first():
            return
        counts = describe_counts(runs[0].metrics, "captions")
        print_runs(f"{model.title} on the captions of {self.dataset}: {counts}, %", runs, compared=True)
        report_runs(runs, self.results)
