"""Groups of options that belong together: a command takes one whole, and help shows it under a heading."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxalign.errors import JaxalignError

from .options import BandOption, DataDir, JsonFile, OwnName, SettingsOf, TableFile, UsageError, option
from .printing import chart_name, check_folder, check_table

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.datasets.data_reading import DataReading
    from jaxalign.eval.tasks.methods import Inverting, MethodOptions
    from jaxalign.eval.tasks.runs import Run
    from jaxalign.eval.tasks.workspace import Workspace

DEFAULT_MODEL = "emoji-clip"
_NAMES_LIMIT = 16 << 20  # bytes of a file of class names


def about(group: type, title: str | None = None) -> Any:
    """Title and docstring of a group, for its heading; tyro would read the source of the class for it."""
    return tyro.conf.arg(name=title, help=group.__doc__)


def model_option(default: str) -> Any:
    """The option of the model; `default` says in words which one it is where none is named."""
    what = "A name of `jaxalign models`, a folder or a file; of features:PATH, the model that gave them."
    return option(what, "MODEL", default)


@dataclass(frozen=True)
class ModelOptions:
    """The model, and how it computes."""

    model: Annotated[str | None, model_option(f"{DEFAULT_MODEL}; of features:PATH none")] = None
    spec: SettingsOf = None
    name: OwnName = None
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"],
        option("Type that the towers compute in; features are float32, stored apart for each type."),
    ] = "float32"
    layout: Annotated[
        Literal["paper", "reference"],
        option("Projectors of SigLIP and EVA-02 as in the paper, or as in its published code."),
    ] = "paper"

    def load(self, workspace: "Workspace") -> "DualEncoder":
        """The model that these options are about."""
        name = self.model or DEFAULT_MODEL
        return workspace.load_model(name, self.layout, spec=self.spec, name=self.name, dtype=self.dtype)


@dataclass(frozen=True)
class ReadingOptions:
    """How images are read, and pass through the model."""

    unreadable: Annotated[
        Literal["fail", "leave-out"],
        option("Fate of an image that cannot be read: it ends the command, or is left out and named."),
    ] = "fail"
    batch_size: Annotated[
        int, option("Images that pass through the tower together on each device; 256 suits a GPU.", "N")
    ] = 32
    threads: Annotated[
        int, option("Threads that read, decode and resize images ahead of the tower.", "N")
    ] = 8

    def reading(self) -> dict[str, Any]:
        """What `jaxalign.eval.features.image_features` calls these options."""
        return {"unreadable": self.unreadable, "batch_size": self.batch_size, "threads": self.threads}


@dataclass(frozen=True)
class DataOptions(ReadingOptions):
    """Where data sets are, how their images are read, and pass through the model."""

    data_dir: DataDir = None


_OF_GIVEN = ("stage", "projectors", "class_texts", "class_texts_key")
# What options of one's own data are about, by how the name of a data set begins.
_HEEDED = {
    "features:": (*_OF_GIVEN, "features_key", "labels", "label_key", "label_names", "ids", "id_key"),
    **dict.fromkeys(("tfds:", "webdataset:", "huggingface:"), ("image_key", "label_key", "text_key")),
}


@dataclass(frozen=True)
class FeatureOptions:
    """What data of one's own hold: features:PATH, tfds:NAME, webdataset:PATH, huggingface:PATH."""

    stage: Annotated[
        Literal["embedding", "pre"],
        option("Stage of the features: embeddings, or what comes before the projectors (pre)."),
    ] = "embedding"
    projectors: Annotated[
        Path | None,
        option("Two kernels [d_in, d] called image and text in one file, or a checkpoint.", "FILE", "none"),
    ] = None
    class_texts: Annotated[
        str | None,
        option(
            "Embeddings of texts: PCA<- keeps their directions; class names are compared with one for each"
            " class, in the order of the labels.",
            "features:FILE",
            "none; by --model those of the names",
        ),
    ] = None
    class_texts_key: Annotated[
        str | None, option("Key or column of the class texts.", "NAME", "the one that it can only be")
    ] = None
    image_key: Annotated[
        str | None, option("Feature that is the image; none for texts alone.", "NAME", "the only one")
    ] = None
    text_key: Annotated[str | None, option("Feature that is taken for captions.", "NAME", "none")] = None
    features_key: Annotated[
        str | None, option("Key or column of the features.", "NAME", "the one that it can only be")
    ] = None
    labels: Annotated[
        str | None,
        option(
            "File of the labels, train=FILE,test=FILE of several splits, or `folders`: that of each id.",
            "FILE",
            "the features' own",
        ),
    ] = None
    label_key: Annotated[
        str | None, option("Key or column of the labels.", "NAME", "the one that it can only be")
    ] = None
    label_names: Annotated[
        Path | None, option("Names of the classes, one on a line, from label 0 on.", "FILE", "the labels")
    ] = None
    ids: Annotated[
        str | None, option("File of the ids, as of the labels.", "FILE", "the features' own, or none")
    ] = None
    id_key: Annotated[
        str | None, option("Key or column of the ids.", "NAME", "the one that it can only be")
    ] = None

    def check_unused(self, dataset: str, names: Sequence[str] = _OF_GIVEN) -> None:
        """Raise UsageError where one of these options is given that the data set does not heed."""
        for name in names:
            about = [prefix for prefix, heeded in _HEEDED.items() if name in heeded]
            if getattr(self, name) != getattr(FeatureOptions, name) and not dataset.startswith(tuple(about)):
                places = ", ".join(f"{prefix}PATH" for prefix in about)
                raise UsageError(
                    f"--{name.replace('_', '-')} is about data sets {places}; got {dataset or 'none'}"
                )

    def reading(self, dataset: str | None) -> "DataReading":
        """How files are read; raises UsageError for an option that `dataset` has no use for."""
        from jaxalign.eval.datasets.data_reading import DataReading

        names = [one.name for one in dataclasses.fields(DataReading)]
        if dataset is not None:
            self.check_unused(dataset, names)
        return DataReading(**{name: str(getattr(self, name) or "") for name in names})

    def stand_in(
        self, workspace: "Workspace", dataset: str, modality: str, model: ModelOptions = ModelOptions()
    ) -> "DualEncoder":
        """What stands for the model of the features in `dataset`, which are of images or of texts."""
        from jaxalign.eval.tasks import given

        heads = None if self.projectors is None else given.read_projectors(self.projectors)
        if dataset == "none":  # they alone are looked at
            if heads is None:
                raise UsageError(f"{self.projectors} has no two kernels called image and text; see --model")
            width = heads.image.kernel.shape[0]
        else:
            width = workspace.feature_width(workspace.find_dataset(dataset))
        key = self.class_texts_key or ""
        texts = None if self.class_texts is None else given.read_class_texts(self.class_texts, key)
        if self.projectors is not None and heads is None:
            if model.model is not None:
                raise UsageError("--projectors is a checkpoint, and --model another one; give one of both")
            model = dataclasses.replace(model, model=str(self.projectors))
            try:
                encoder = model.load(workspace)
            except JaxalignError as error:
                raise JaxalignError(
                    f"{self.projectors} has no two kernels called image and text, and is no checkpoint"
                    f" ({error}); expected either"
                ) from error
        else:
            encoder = None if model.model is None else model.load(workspace)
        also = {"heads": heads, "class_texts": texts, "encoder": encoder}
        return given.given_features(width, self.stage, modality=modality, **also)


@dataclass(frozen=True)
class ProjectionOptions:
    """What IsoCLIP and PCA<- leave out and keep."""

    band: BandOption = None
    rank: Annotated[int | None, option("Directions that PCA<- keeps.", "R", "half of the width")] = None
    subspace: Annotated[
        Literal["paper", "code", "readme"],
        option(
            "PCA<-: prompts with CLIP's class names, centred (paper); the bare names of the published"
            " code, those of pytorch/hub (code); these normalised and not centred, as in its README"
            " (readme)."
        ),
    ] = "paper"
    class_names: Annotated[
        Path | None,
        option(
            "Class names for PCA<-, one on a line.",
            "FILE",
            "the 1,000 of ImageNet that the variant of PCA<- has",
        ),
    ] = None

    def method_options(self, inverting: "Inverting | None" = None) -> "MethodOptions":
        """The options of methods, `inverting` among them; reads the class names."""
        from jaxalign.eval.tasks.methods import MethodOptions

        further = {} if inverting is None else {"inverting": inverting}
        names = None if self.class_names is None else read_names(self.class_names)
        return MethodOptions(self.band, self.rank, self.subspace, names, **further)


@dataclass(frozen=True)
class StoreOptions:
    """Where features are kept, and where results go."""

    store: Annotated[
        str | None,
        option(
            "Folder, or gs:// or s3:// URL, of the features.",
            "DIR",
            "$JAXALIGN_STORE or ~/.cache/jaxalign/features",
        ),
    ] = None
    json: JsonFile = None

    def open_workspace(self, reading: ReadingOptions, data_dir: Path | None = None) -> "Workspace":
        """The workspace of a command; what will be written is checked first."""
        from jaxalign.eval.processes import is_first
        from jaxalign.eval.tasks.workspace import Workspace

        out: Path | None = getattr(self, "out", None)  # of a command that keeps runs
        if out is not None:
            check_folder(out)
        workspace = Workspace(out, self.store, data_dir, records={}, **reading.reading())
        workspace.stages.console.quiet = not is_first()
        return workspace


@dataclass(frozen=True)
class RunOptions(StoreOptions):
    """Where features and runs are kept, and where results go."""

    out: Annotated[Path, option("Folder of the runs: what is there is not measured again.", "DIR")] = Path(
        "jaxalign-runs"
    )


@dataclass(frozen=True)
class MeasuringOptions(RunOptions):
    """Where features and runs are kept, and where results go."""

    table: TableFile = None

    def open_workspace(self, reading: ReadingOptions, data_dir: Path | None = None) -> "Workspace":
        check_table(self.table)
        return super().open_workspace(reading, data_dir)


Model = Annotated[ModelOptions, about(ModelOptions, "model")]
Reading = Annotated[ReadingOptions, about(ReadingOptions, "image")]
Data = Annotated[DataOptions, about(DataOptions, "data and image")]
Given = Annotated[FeatureOptions, about(FeatureOptions, "own data")]
Projection = Annotated[ProjectionOptions, about(ProjectionOptions, "band and subspace")]
Store = Annotated[StoreOptions, about(StoreOptions, "result")]
Runs = Annotated[RunOptions, about(RunOptions, "result")]
Measured = Annotated[MeasuringOptions, about(MeasuringOptions, "result")]


@dataclass(frozen=True)
class Embedding:
    """What all commands take that need a model's features of data."""

    model: Model = ModelOptions()
    data: Data = DataOptions()
    given: Given = FeatureOptions()
    results: Store = StoreOptions()

    def open(self) -> "tuple[Workspace, DualEncoder]":
        """The workspace and the model."""
        workspace = self.results.open_workspace(self.data, self.data.data_dir)
        dataset: str = getattr(self, "dataset", "")
        workspace = dataclasses.replace(workspace, reading=self.given.reading(dataset))
        if dataset.startswith("features:") or (dataset == "none" and self.given.projectors is not None):
            modality: str = getattr(self, "modality", "image")
            return workspace, self.given.stand_in(workspace, dataset, modality, self.model)
        self.given.check_unused(dataset)
        return workspace, self.model.load(workspace)


@dataclass(frozen=True)
class Measuring(Embedding):
    """What all commands take that measure, and keep the runs."""

    results: Measured = MeasuringOptions()

    def save_figures(self, runs: "Sequence[Run]", model: "DualEncoder", *parts: str) -> list[Path]:
        """Draw what there is to see of `runs` as files beside them; `parts` are for the names of these."""
        from jaxalign.eval.figures import figures_of, save

        name = chart_name(runs, model, *parts)
        return [save(of.figure, self.results.out / f"{of.kind}-{name}.png") for of in figures_of(runs)]


@dataclass(frozen=True)
class Processes:
    """How this process takes part in a run of several, each on its own devices."""

    distributed: Annotated[
        bool,
        option(
            "Share the work with the other processes of a TPU pod, SLURM step or Open MPI job, or with"
            " those that the next three options name; --store and --out are folders that all of them see."
        ),
    ] = False
    coordinator: Annotated[
        str | None, option("Host of process 0, with a free port.", "HOST:PORT", "found out")
    ] = None
    num_processes: Annotated[int | None, option("Number of all processes.", "N", "found out")] = None
    process_id: Annotated[
        int | None, option("Number of this process, from 0 to N - 1.", "I", "found out")
    ] = None
    lost_after: Annotated[
        int,
        option(
            "Seconds to wait for the others to begin, and without a sign of life after which a process is"
            " lost, and all end.",
            "SECONDS",
        ),
    ] = 100

    def check(self) -> None:
        """Raise UsageError for numbers and addresses that no network could make right."""
        from jaxalign.eval.rendezvous import parse_address

        if self.lost_after < 1:
            raise UsageError(f"--lost-after is {self.lost_after}; expected 1 or more seconds")
        count, own = self.num_processes, self.process_id
        if count is not None and count < 1:
            raise UsageError(f"--num-processes is {count}; expected 1 or more")
        if own is not None and not 0 <= own < (count or 1 << 31):
            most = f"to {count - 1}, one less than there are" if count else "or more"
            raise UsageError(f"--process-id is {own}; expected 0 {most}")
        if self.coordinator is not None:
            try:
                parse_address(self.coordinator)
            except JaxalignError as error:
                raise UsageError(str(error)) from error


Distributed = Annotated[Processes, about(Processes, "distributed")]


def read_names(file: Path) -> tuple[str, ...]:
    """The lines of a file, without empty ones; raises JaxalignError for a file with less than two."""
    from jaxalign.local_files import decode_text, read_limited

    try:
        text = decode_text(read_limited(file, _NAMES_LIMIT))
    except UnicodeDecodeError as error:
        raise JaxalignError(f"{file} is no UTF-8 text; expected class names, one on a line") from error
    except JaxalignError as error:
        raise JaxalignError(f"class names: {error}; expected a text file, a name on a line") from error
    names = tuple(line for line in map(str.strip, text.splitlines()) if line)
    if len(names) < 2:
        raise JaxalignError(f"{file} has {len(names)} class names; expected two or more, one on a line")
    return names
