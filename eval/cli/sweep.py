"""`jaxalign sweep`: the search for IsoCLIP's band."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from .groups import Distributed, Measuring, Processes
from .options import (
    DatasetName,
    GallerySplit,
    MaxQueries,
    ModalityOption,
    QuerySplit,
    TaskNames,
    UsageError,
    option,
)
from .printing import chart_name, decimal, describe_method, print_table, report_runs

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.tasks.runs import Run
    from jaxalign.eval.tasks.sweep import Sweeping
    from jaxalign.eval.tasks.workspace import Workspace

Grid = Annotated[
    tuple[int, ...],
    option(
        "Numbers of directions to try at this end.",
        "K [K ...]",
        "in steps of 50, or of parts of a small spectrum",
    ),
]


@dataclass(frozen=True)
class Sweep(Measuring):
    """Search IsoCLIP's band by labelled retrieval.

    Draws the heat map of all bands that were tried. The paper chooses on Caltech101 (images) or COCO
    (captions) and applies the band everywhere: --apply-to says what that costs against each data set's own
    best band. On the embedded data sets the band is chosen on `train`. --methods are measured beside the
    band, one's own among them.

    Examples:
      jaxalign sweep
      jaxalign sweep --modality text --dataset emoji
      jaxalign sweep --model openai/clip-vit-base-patch16 --dataset caltech101 --apply-to pets dtd
      jaxalign sweep --methods pca my_method.py:centred
    """

    dataset: DatasetName = "emoji-scenes"
    modality: ModalityOption = "image"
    apply_to: Annotated[
        tuple[str, ...], option("Data sets on which the band is tried, too.", "NAME [NAME ...]", "none")
    ] = ()
    methods: Annotated[
        tuple[str, ...],
        option(
            "Methods that are measured beside the band; one's own is written module:name.",
            "METHOD [METHOD ...]",
            "none",
        ),
    ] = ()
    k_top: Grid = ()
    k_bottom: Grid = ()
    tasks: TaskNames = ()
    query: QuerySplit = ""
    gallery: GallerySplit = ""
    max_queries: MaxQueries = None
    distributed: Distributed = field(default_factory=Processes)

    def run(self) -> None:
        from jaxalign.eval.figures import figures_of, save
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.sweep import chosen_band, measure_sweep

        workspace, model = self.open()
        self._check_methods(model)
        found, charts = [], []
        for task in self.tasks or ("",):
            sweeps = self._sweeps(workspace, task)
            measure = lambda name, of: measure_sweep(workspace, model, name, self.modality, of)
            runs = {name: measure(name, of) for name, of in sweeps.items()}
            beside = {name: self._beside(workspace, model, name, of) for name, of in sweeps.items()}
            if not is_first():
                continue
            own = list(runs.values())
            band = chosen_band(own)
            about = ", ".join(filter(None, (model.title, self.modality, task)))
            print_bands(about, runs, band)
            if self.methods:
                print_beside(about, beside)
            name = chart_name(own, model, self.dataset, self.modality, task)
            file = self.results.out / f"sweep-{name}.png"
            charts += [save(drawn.figure, file) for drawn in figures_of(own, about=about)]
            found += [*own, *(run for of in beside.values() for run in of)]
        if is_first():
            report_runs(found, self.results, charts)

    def _check_methods(self, model: "DualEncoder") -> None:
        from jaxalign.eval.tasks.methods import MethodOptions, find_methods

        if self.methods and self.max_queries is not None:
            raise UsageError("--methods are measured with all queries; leave out --max-queries")
        find_methods(self.methods, model, self.modality, MethodOptions())

    def _beside(
        self, workspace: "Workspace", model: "DualEncoder", dataset: str, of: "Sweeping"
    ) -> "list[Run]":
        """Runs of `methods` with the queries and the gallery of the sweep."""
        from jaxalign.eval.tasks.image_retrieval import Retrieving, measure_image_retrieval
        from jaxalign.eval.tasks.pairs import CaptionPair, ImagePair
        from jaxalign.eval.tasks.text_retrieval import measure_text_retrieval

        if not self.methods:
            return []
        retrieving = Retrieving(self.methods, tasks=(of.task,) if of.task else ())
        if self.modality == "text":
            pair = CaptionPair(workspace, model, dataset, of.query)
            return measure_text_retrieval(pair, retrieving)
        pair = ImagePair(workspace, model, dataset, of.query, of.gallery)
        return measure_image_retrieval(pair, retrieving)

    def _sweeps(self, workspace: "Workspace", task: str) -> "dict[str, Sweeping]":
        """What is asked for, and the same on the other data sets, each once however it is spelled."""
        from jaxalign.eval.tasks.sweep import Sweeping

        record = workspace.find_dataset(self.dataset)
        others: dict[str, str] = {}
        for name in self.apply_to:
            others.setdefault(workspace.find_dataset(name).name, name)
        others.pop(record.name, None)
        # On the embedded data sets the protocol's split is held out: a choice is made on the other emoji.
        split = self.query or (record.train if record.needs_no_sources and not record.in_place else "")
        sweeping = Sweeping(self.k_top, self.k_bottom, task, split, self.gallery or split, self.max_queries)
        elsewhere = replace(sweeping, query="", gallery="", task="")
        return {self.dataset: sweeping} | dict.fromkeys(others.values(), elsewhere)


def print_beside(about: str, runs: "dict[str, list[Run]]") -> None:
    """mAP of each method on each data set."""
    first = next(iter(runs.values()))
    columns = ["data set", *(describe_method(run.settings) for run in first)]
    rows = [[name, *(decimal(run.metrics["mAP"]) for run in of)] for name, of in runs.items()]
    print_table(f"{about}: mAP in % of other methods", columns, rows)


def print_bands(about: str, runs: dict[str, Any], band: tuple[int, int]) -> None:
    """What `band` costs on each data set, against its own best one."""
    from jaxalign.eval.tasks.sweep import apply_everywhere

    rows = []
    for name, found in apply_everywhere(band, runs).items():
        best = found["best"]
        scores = map(decimal, (found["none"], found["chosen"], best["mAP"]))
        rows.append([name, *scores, f"({best['k_top']}, {best['k_bottom']})"])
    columns = ["data set", "all directions", "this band", "own best", "own best band"]
    print_table(f"{about}: mAP in % of the band ({band[0]}, {band[1]})", columns, rows)
