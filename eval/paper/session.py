"""Measures cells: which measurement each protocol is, with the settings of the papers or of their code."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import jaxalign as ja
from jaxalign.classifiers import FEW_SHOT
from jaxalign.classifiers.few_shot import SHOTS
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DatasetRecord
from jaxalign.eval.datasets.data_reading import FEATURES
from jaxalign.eval.datasets.prepared import UNCROPPED
from jaxalign.eval.tasks.classification import measure_classification
from jaxalign.eval.tasks.classifying import OURS, PUBLISHED, Classifying, FewShotSettings
from jaxalign.eval.tasks.degrees_of_freedom import measure_degrees_of_freedom
from jaxalign.eval.tasks.dogs_cats import measure_dogs_cats
from jaxalign.eval.tasks.few_shot import TASK as FEW_SHOT_TASK
from jaxalign.eval.tasks.given import given_features
from jaxalign.eval.tasks.image_retrieval import Retrieving, measure_image_retrieval
from jaxalign.eval.tasks.indicators import Indicating, Indicators
from jaxalign.eval.tasks.labelled import LabelledPair
from jaxalign.eval.tasks.methods import Inverting, MethodOptions
from jaxalign.eval.tasks.pairs import REFERENCE, CaptionPair, ImagePair, takes_distractors, variant_split
from jaxalign.eval.tasks.runs import Run, number
from jaxalign.eval.tasks.spectra import band_to_show, measure_parts, measure_spectra
from jaxalign.eval.tasks.sweep import Sweeping, default_grid, measure_sweep
from jaxalign.eval.tasks.text_image import measure_text_image
from jaxalign.eval.tasks.text_retrieval import TASK as TEXT_RETRIEVAL_TASK
from jaxalign.eval.tasks.text_retrieval import measure_text_retrieval
from jaxalign.eval.tasks.views import measure_view
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.models import ImageTowerConfig
from jaxalign.specs import find_spec
from jaxalign.weights.identity import is_known

from .cells import Cell, Outcome
from .run import Missing, Places, candidates, missing_dataset, missing_packages

D = TypeVar("D")  # data in use
_EVERY = 1 << 40  # no image is left out
# Preprocessed with SLIP's transform in the published code of retrieval, whose features its few-shot code took
# over; table 1 has code of its own.
SLIP_TRANSFORM = ("DINOv2", "DINOv3 L/16", "dinov3_vitl16")
# Whose few-shot features are taken over from retrieval: of images that are neither cropped nor flipped, and
# not scaled to length one ("merge from ctg to gda.py" in the published code).
TAKEN_OVER = ("SigLIP", "SigLIP2", "DINOv2", "dinov3_vitl16")
WITH_SLIP = ", SLIP's transform"  # behind the name of a model: its features are others
_PREPROCESSING = ("resize", "interpolation", "mean", "std", "resize_size", "pipeline")


def stand_in(workspace: Workspace, dataset: str, modality: str) -> DualEncoder:
    """What stands for the model of features of which nothing else is there: they are embeddings."""
    record = workspace.find_dataset(dataset)
    return given_features(workspace.feature_width(record), "embedding", modality=modality)


@dataclass(eq=False)
class Session:
    """Models and data sets in use: of each the last one is kept, so cells should come sorted by both.

    Attributes:
      workspace, places: where data sets, features and runs are; where models are.
      variant: "reference" for what the published code does, "paper" for what the papers say.
      distractors: whether R1M is added to all galleries of ROxford and RParis; by default as the variant
        says: by the papers for IsoCLIP's tables, by the published code where it is there.
      layout: of the heads of SigLIP, EVA-02 and Perception Encoder: "paper" or "reference", empty for that of
        the variant. The published numbers are those of the "reference".
      stand_in: gives what stands for the model of a data set `features:PATH`, of images or of texts.
      anew: digests of the runs of all cells, and whether each was measured anew.
    """

    workspace: Workspace
    places: Places
    variant: str = "paper"
    distractors: bool | None = None
    layout: str = ""
    stand_in: Callable[[Workspace, str, str], DualEncoder] = stand_in
    anew: dict[str, bool] = field(default_factory=dict, init=False)
    _model: tuple[tuple[str, str], DualEncoder] | None = field(default=None, init=False)
    _data: tuple[Any, Any] | None = field(default=None, init=False)

    def measure(self, cell: Cell) -> Outcome:
        """The cell's number; raises JaxalignError where it cannot be measured."""
        measured = _MEASURES[cell.settings["protocol"]]
        run = measured(self, cell)
        value, runs = _pick(run, cell.metric) + self._uncounted(cell, run), [run]
        if cell.minus:
            runs.append(measured(self, replace(cell, settings={**cell.settings, "method": cell.minus})))
            value -= _pick(runs[-1], cell.metric)
        self.anew = {run.digest: run.anew for run in runs} | self.anew
        lost = {origin: names for run in runs for origin, names in run.left_out.items()}
        said = dict.fromkeys((*(note for run in runs for note in run.notes), *self._notes(cell, run)))
        digests, name = tuple(run.digest for run in runs), self.model(cell).name
        return Outcome(cell, "measured", value, "", name, digests, lost, (*cell.notes, *said))

    def model(self, cell: Cell) -> DualEncoder:
        """The model of a cell; what stands for that of given features, whatever a table says they are of."""
        key, make = (cell.backbone, cell.paper), lambda: self._load(cell)
        if (dataset := cell.dataset).startswith(FEATURES):
            modality = "text" if cell.settings["protocol"] == TEXT_RETRIEVAL_TASK.name else "image"
            key, make = (dataset, modality), lambda: self.stand_in(self.workspace, dataset, modality)
        if self._model is None or self._model[0] != key:
            self._model = self._data = None  # two at a time may be too large
            self._model = (key, make())
        return self._model[1]

    def _load(self, cell: Cell) -> DualEncoder:
        """The model of a cell's backbone, with the projectors and the preprocessing of the variant."""
        found = self.places.find_weights(cell.backbone, cell.paper, self.variant)
        if isinstance(found, Missing):
            raise JaxalignError(f"{found.what} is not here; {found.advice}")
        name, spec = found
        with self.workspace.stages.stage("load", f"loading {cell.backbone}"):
            model = ja.load(name, spec=spec)
        if not is_known(model.name) and (printed := self._first_choice(cell)):
            known = find_spec(printed)  # of which the papers print bands
            spec = replace(model.spec, band=known.band or None, text_band=known.text_band or None)
            model = replace(model, spec=spec)
        if self.variant == REFERENCE and cell.backbone in SLIP_TRANSFORM:
            model = with_slip_transform(model)
        return model.with_layout(self.used_layout)

    def _first_choice(self, cell: Cell) -> str:
        """The known model that a cell's backbone is; empty for a model of one's own."""
        return next(iter(candidates(cell.backbone, cell.paper, self.variant)), "")

    def record(self, cell: Cell) -> DatasetRecord:
        """Of a cell's data set."""
        return self.workspace.find_dataset(cell.dataset)

    @property
    def used_layout(self) -> str:
        return self.layout or self.variant

    def takes_distractors(self, cell: Cell) -> bool:
        """Whether the gallery of a cell has R1M in it."""
        if not cell.dataset or not self.record(cell).distractors:
            return False
        wanted = self.distractors
        if wanted is None and (self.variant != REFERENCE or cell.settings.get("distractors") is False):
            wanted = cell.settings.get("distractors", False)
        return takes_distractors(self.record(cell), wanted, self.variant, self.workspace.data_dir)

    def missing_for(self, cell: Cell) -> list[Missing]:
        """What a cell lacks."""
        if cell.dataset.startswith(FEATURES):  # a model was needed to compute them
            return missing_packages(cell)
        weights = self.places.find_weights(cell.backbone, cell.paper, self.variant)
        records = [self.record(cell)] if cell.dataset else []
        if self.takes_distractors(cell):
            records.append(self.workspace.find_dataset(records[0].distractors))
        data = (missing_dataset(record, self.workspace.data_dir) for record in records)
        return [found for found in (weights, *data) if isinstance(found, Missing)] + missing_packages(cell)

    def _uncounted(self, cell: Cell, run: Run) -> int:
        """What a measured k_bottom lacks of the published code's, which counts a singular value of 0."""
        counted = cell.metric == "best.k_bottom" and run.metrics["best"]["k_bottom"] > 0
        return self.model(cell).spec.zero_singular_values if counted else 0

    def _notes(self, cell: Cell, run: Run) -> Iterator[str]:
        """What one has to know of the number, beside what the table says of the cell."""
        name = self.model(cell).name.removesuffix(WITH_SLIP)
        first = self._first_choice(cell)
        if first and name != first:
            yield f"measured with {name} instead of {first}"
        if "grid" in run.settings:
            tuned = f"hyper-parameters chosen on the grid {run.settings['grid']}"
            yield f"{tuned}, on the images of {run.settings['tuned_on']}"
        lacking = self.record(cell).distractors if cell.dataset else ""
        if lacking and self.variant == REFERENCE and "distractors" not in run.settings:
            yield f"without {lacking}, which the published code adds to the gallery where it is there"

    def kept(self, kind: Callable[..., D], cell: Cell, *given: Any) -> D:
        """`kind`, images or captions, of the cell's model and data set and what is `given`: as it was last
        time, or made."""
        model, key = self.model(cell), (kind, cell.backbone, cell.dataset, given)
        if self._data is None or self._data[0] != key:
            self._data = None
            self._data = (key, kind(self.workspace, model, cell.dataset, *given))
        return self._data[1]

    def options(self, cell: Cell) -> MethodOptions:
        """Options of a cell's methods."""
        settings = cell.settings
        band = (settings["k_top"], settings["k_bottom"]) if "k_top" in settings else None
        return MethodOptions(
            band=band,
            rank=settings.get("rank"),
            subspace="code" if self.variant == REFERENCE else "paper",
            inverting=Inverting(settings.get("steps") or None, settings.get("patches"), curve=()),
        )


def with_slip_transform(model: DualEncoder) -> DualEncoder:
    """`model` for images whose shortest side is resized to 224 bilinearly and whose centre is cropped.

    Reevaluating's `dino.py` imports SLIP's transform for DINOv2 and DINOv3.
    """
    slip = find_spec("slip-vit-base-patch16")
    facts = {name: getattr(slip, name) for name in _PREPROCESSING}
    towers, image = model.config, model.config.image
    if isinstance(image, ImageTowerConfig) and not image.learned_positions:  # as large as the images are
        towers = replace(towers, image=replace(image, image_size=slip.towers.image.image_size))
    return replace(model, spec=replace(model.spec, name=f"{model.name}{WITH_SLIP}", towers=towers, **facts))


def _image_retrieval(session: Session, cell: Cell) -> Run:
    named = cell.settings.get("query", "") or _cropped(session, cell)
    query = variant_split(session.record(cell), "query", named, session.variant)
    distractors = session.takes_distractors(cell)
    pair = session.kept(ImagePair, cell, query, cell.settings.get("gallery", ""), distractors)
    methods = (cell.settings.get("method", "image-image"),)
    tasks = (cell.settings["task"],) if cell.settings.get("task") else ()
    retrieving = Retrieving(methods, session.options(cell), tasks, session.variant)
    return measure_image_retrieval(pair, retrieving)[0]


def _cropped(session: Session, cell: Cell) -> str:
    """The split of the queries, where a table says whether they are whole; empty where it does not."""
    uncropped, query = cell.settings.get("uncropped"), session.record(cell).query
    if uncropped is None:
        return ""
    if query != "query":
        raise JaxalignError(
            f"uncropped is about queries with boxes, which {cell.dataset} has not; leave it out"
        )
    return f"{query}{UNCROPPED}" if uncropped else query


def _text_retrieval(session: Session, cell: Cell) -> Run:
    named = cell.settings.get("split", "")
    split = variant_split(session.record(cell), "captions", named, session.variant)
    pair = session.kept(CaptionPair, cell, split)
    methods = (cell.settings.get("method", "text-text"),)
    retrieving = Retrieving(methods, session.options(cell), variant=session.variant)
    return measure_text_retrieval(pair, retrieving)[0]


def _classification(session: Session, cell: Cell) -> Run:
    splits = tuple(cell.settings.get(name, "") for name in ("task", "train", "test"))
    pair = session.kept(LabelledPair, cell, *splits)
    classifying = Classifying(
        classifiers=cell.settings.get("classifiers", ()),
        methods=(cell.settings.get("method", "image-image"),),
        options=session.options(cell),
        templates=cell.settings.get("templates", "single"),
        variant=session.variant,
    )
    if cell.settings["protocol"] == FEW_SHOT_TASK.name:
        classifying = _few_shot(session, cell, classifying)
    return measure_classification(pair, classifying)[0]


def _few_shot(session: Session, cell: Cell, classifying: Classifying) -> Classifying:
    """`classifying` with what is asked of a few-shot cell, and what the published code feeds it."""
    settings = cell.settings
    classifier, with_text = settings.get("classifier", "prototype"), settings.get("with_text", False)
    reference, dataset = session.variant == REFERENCE, cell.dataset.removesuffix("@tfds")
    tuned = reference and settings.get("tuned_as_published", False) and FEW_SHOT[classifier].published
    grid = settings.get("grid") or (PUBLISHED if tuned and with_text else "")
    options: Mapping[str, Any] = {}
    if tuned and session.model(cell).require_text().projection == FEW_SHOT[classifier].published_width:
        options = FEW_SHOT[classifier].published_options[dataset]
    templates = settings.get("templates", "subset" if reference and dataset == "imagenet" else "single")
    return replace(
        classifying,
        classifiers=(classifier,),
        methods=("pca" if settings.get("projected") else settings.get("method", "image-image"),),
        few_shot=FewShotSettings(
            with_text=with_text,
            shots=settings.get("shots", SHOTS),
            options=options,
            draws=PUBLISHED if reference and cell.paper else OURS,
        ),
        templates=templates,
        augmentation=1 if reference and cell.backbone not in TAKEN_OVER else None,
        unit=not (reference and cell.backbone in TAKEN_OVER),
        tune=bool(grid),
        grid=grid or "default",
    )


def _text_image(session: Session, cell: Cell) -> Run:
    method = cell.settings.get("method", "image-image")
    retrieving = Retrieving((method,), session.options(cell))
    runs = measure_text_image(session.kept(ImagePair, cell), retrieving)
    return runs[-1 if method != "image-image" else 0]


def _spectrum(session: Session, cell: Cell) -> Run:
    model = session.model(cell)
    return measure_spectra(session.workspace, model, band_to_show(model, session.options(cell).band))


def _spectral_parts(session: Session, cell: Cell) -> Run:
    split, modality = cell.settings.get("split", ""), cell.settings.get("modality", "image")
    given = (session.workspace, session.model(cell), cell.dataset, Sweeping(query=split, gallery=split))
    return measure_parts(*given, modality=modality)


def _indicators(session: Session, cell: Cell) -> Run:
    protocol = cell.settings["protocol"]
    methods = (cell.settings.get("method", "image-image"),)
    options, split = session.options(cell), cell.settings.get("split", "")
    found = session.kept(Indicators, cell, Indicating(methods, options, split=split))
    if protocol == "degrees-of-freedom":
        return measure_degrees_of_freedom(found)
    if protocol == "view":
        return measure_view(found, cell.settings.get("view", "pca"))
    runs = found.by_class() if protocol == "class-indicator" else found.by_modality()
    if not runs:
        raise JaxalignError(
            f"{methods[0]} has no {protocol} with {found.model.name}; expected a method beside texts"
        )
    return runs[0]


def _band_search(session: Session, cell: Cell) -> Run:
    model, modality, sweeping = session.model(cell), cell.settings.get("modality", "image"), Sweeping()
    if zeros := model.spec.zero_singular_values:  # the bands that the published code tries
        grid = default_grid(len(ja.decompose(model.projectors).s), modality)
        sweeping = Sweeping(k_bottom=tuple(max(k - zeros, 0) for k in grid))
    return measure_sweep(session.workspace, model, cell.dataset, modality, sweeping)


def _dogs_cats(session: Session, cell: Cell) -> Run:
    methods = ("image-image", "isoclip") if "method" in cell.settings else ("image-image",)
    indicating = Indicating(methods, session.options(cell), max_images=_EVERY)
    return measure_dogs_cats(session.kept(Indicators, cell, indicating))


_MEASURES: Mapping[str, Callable[[Session, Cell], Run]] = {
    "image-retrieval": _image_retrieval,
    "text-retrieval": _text_retrieval,
    "text-image": _text_image,
    "classification": _classification,
    "few-shot": _classification,
    "band-sweep": _band_search,
    "dogs-cats": _dogs_cats,
    "spectrum": _spectrum,
    "spectral-parts": _spectral_parts,
    "class-indicator": _indicators,
    "modality-indicator": _indicators,
    "degrees-of-freedom": _indicators,
    "view": _indicators,
}


def _pick(run: Run, path: str) -> float:
    """The number at `path` of a run's metrics; raises JaxalignError for one that is not there."""
    found = number(run.metrics, path)
    if not isinstance(found, int | float):
        raise JaxalignError(
            f"the measurement {run.protocol} has no number {path}; expected one of its metrics"
        )
    return float(found)
