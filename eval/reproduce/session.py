"""Measures cells: which measurement each protocol is, with the settings of the papers or of their code."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jaxalign as ja
from eval.datasets import find_dataset
from eval.measurements.classify import NCM, ZERO_SHOT, Classifying, measure_classification
from eval.measurements.indicators import Indicating, Indicators
from eval.measurements.labelled import LabelledPair
from eval.measurements.pairs import CaptionPair, ImagePair
from eval.measurements.retrieve import (
    Retrieving,
    measure_image_retrieval,
    measure_text_image,
    measure_text_retrieval,
)
from eval.measurements.spectra import band_to_show, measure_parts, measure_spectra
from eval.measurements.sweep import Sweeping, measure_sweep
from eval.measurements.workspace import Workspace
from eval.protocols.few_shot import FewShotSettings
from eval.protocols.methods import Inverting, MethodOptions
from eval.runs import Run
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.identity import is_known
from jaxalign.specs import find_spec

from .available import Missing, Places, candidates
from .cells import Cell
from .printed_names import REFERENCE_BANDS

_EVERY = 1 << 40  # no picture is left out


@dataclass(frozen=True)
class Measured:
    """A number, the name of the model that gave it, the runs that it comes from, and what they left out."""

    value: float
    model: str
    runs: tuple[str, ...]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(eq=False)
class Session:
    """Models and data sets in use: of each the last one is kept, so cells should come sorted by both.

    Attributes:
      workspace: where features and runs are.
      places: where models and data sets are.
      protocol: "reference" for what the published code does, "paper" for what the papers say.
      distractors: whether R1M is added to all galleries of ROxford and RParis; under the protocol "paper" it
        is added for the tables whose paper says so (IsoCLIP's, while its published code does not).
      layout: of the heads of SigLIP, EVA-02 and Perception Encoder: "paper" or "reference", empty for that of
        the protocol. The published numbers are those of the "reference".
    """

    workspace: Workspace
    places: Places
    protocol: str = "reference"
    distractors: bool = False
    layout: str = ""
    _model: tuple[str, DualEncoder] | None = field(default=None, init=False)
    _data: tuple[Any, Any] | None = field(default=None, init=False)

    def measure(self, cell: Cell) -> Measured:
        """The cell's number; raises JaxalignError where it cannot be measured."""
        run = self._run(cell, cell.settings)
        value, runs = _pick(run, cell.metric), [run]
        if cell.minus:
            runs.append(self._run(cell, {**cell.settings, "method": cell.minus}))
            value -= _pick(runs[-1], cell.metric)
        lost = {origin: names for run in runs for origin, names in run.left_out.items()}
        return Measured(value, self.model(cell.backbone).name, tuple(run.digest for run in runs), lost)

    def model(self, backbone: str) -> DualEncoder:
        """The model of a backbone, with the projectors of the protocol."""
        if self._model is None or self._model[0] != backbone:
            found = self.places.find_weights(backbone)
            if isinstance(found, Missing):
                raise JaxalignError(f"{found.what} is not here; {found.advice}")
            self._model = self._data = None  # two at a time may be too large
            name, spec = found
            with self.workspace.stages.stage("load", f"loading {backbone}"):
                model = ja.load(name, spec=spec)
            if not is_known(model.name):
                model = _with_printed_bands(model, backbone)
            self._model = (backbone, model.with_layout(self.used_layout))
        return self._model[1]

    @property
    def used_layout(self) -> str:
        return self.layout or self.protocol

    def takes_distractors(self, cell: Cell) -> bool:
        """Whether the gallery of a cell has R1M in it."""
        wanted = self.distractors or (self.protocol == "paper" and cell.settings.get("distractors", False))
        return wanted and bool(cell.dataset) and bool(find_dataset(cell.dataset).distractors)

    def missing_for(self, cell: Cell) -> list[Missing]:
        """What a cell lacks."""
        lacking = self.places.missing_for(cell)
        if self.takes_distractors(cell):
            more = self.places.missing_dataset(find_dataset(cell.dataset).distractors)
            lacking += [more] if more is not None else []
        return lacking

    def _run(self, cell: Cell, settings: Mapping[str, Any]) -> Run:
        return _MEASURES[settings["protocol"]](self, cell, settings)

    def kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """`make()`, or what it gave for the same `key` last time."""
        if self._data is None or self._data[0] != key:
            self._data = None
            self._data = (key, make())
        return self._data[1]

    def options(self, cell: Cell, settings: Mapping[str, Any]) -> MethodOptions:
        """Options of the methods."""
        reference = self.protocol == "reference"
        band = (settings["k_top"], settings["k_bottom"]) if "k_top" in settings else None
        if band is None and self.used_layout == "reference":
            band = REFERENCE_BANDS.get(cell.backbone)
        steps = settings.get("steps") or (1000 if settings.get("method") == "ovi" else 150)
        return MethodOptions(
            band=band,
            rank=settings.get("rank"),
            subspace="code" if reference else "paper",
            inverting=Inverting(steps, settings.get("patches"), curve=(steps,)),
        )


def _with_printed_bands(model: DualEncoder, backbone: str) -> DualEncoder:
    """`model` with the bands that the papers print for a backbone, whose weights it is by the user's word."""
    for name in candidates(backbone)[:1]:
        record = find_spec(name)
        spec = replace(model.spec, band=record.band or None, text_band=record.text_band or None)
        return replace(model, spec=spec)
    return model


def _image_retrieval(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    model, record = session.model(cell.backbone), find_dataset(cell.dataset)
    query = settings.get("query", "")
    if settings.get("uncropped") and session.protocol == "reference" and record.query == "query":
        query = "query-uncropped"  # as IsoCLIP's code reads them
    distractors = session.takes_distractors(cell)
    key = ("images", cell.backbone, cell.dataset, query, settings.get("gallery", ""), distractors)
    pair = session.kept(
        key,
        lambda: ImagePair(
            session.workspace, model, cell.dataset, query, settings.get("gallery", ""), distractors
        ),
    )
    retrieving = Retrieving(
        methods=(settings.get("method", "image-image"),),
        options=session.options(cell, settings),
        tasks=(settings["task"],) if settings.get("task") else (),
        protocol=session.protocol,
    )
    return measure_image_retrieval(session.workspace, model, pair, retrieving)[0]


def _text_retrieval(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    model, split = session.model(cell.backbone), settings.get("split", "")
    if not split and session.protocol == "reference" and cell.dataset.startswith("flickr30k"):
        split = "val"  # the published code's default; tables 2 and S5 print the same numbers
    key = ("captions", cell.backbone, cell.dataset, split)
    pair = session.kept(key, lambda: CaptionPair(session.workspace, model, cell.dataset, split))
    retrieving = Retrieving(
        methods=(settings.get("method", "text-text"),),
        options=session.options(cell, settings),
        protocol=session.protocol,
    )
    return measure_text_retrieval(session.workspace, model, pair, retrieving)[0]


def _classification(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    model, protocol = session.model(cell.backbone), settings["protocol"]
    splits = tuple(settings.get(name, "") for name in ("task", "train", "test"))
    pair = session.kept(
        ("labelled", cell.backbone, cell.dataset, splits),
        lambda: LabelledPair(session.workspace, model, cell.dataset, *splits),
    )
    classifying = Classifying(
        classifiers=(ZERO_SHOT if protocol == "zero-shot" else NCM,),
        methods=(settings.get("method", "image-image"),),
        options=session.options(cell, settings),
        templates=settings.get("templates", "single"),
        protocol=session.protocol,
    )
    if protocol == "few-shot":
        classifying = replace(
            classifying,
            classifiers=(settings.get("classifier", "prototype"),),
            methods=("pca" if settings.get("projected") else settings.get("method", "image-image"),),
            few_shot=FewShotSettings(
                with_text=settings.get("with_text", False), shots=settings.get("shots", (1, 2, 4, 8, 16))
            ),
            augmentation=1 if session.protocol == "reference" else None,
        )
    return measure_classification(session.workspace, model, pair, classifying)[0]


def _text_image(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    model = session.model(cell.backbone)
    pair = session.kept(
        ("text-image", cell.backbone, cell.dataset),
        lambda: ImagePair(session.workspace, model, cell.dataset),
    )
    method = settings.get("method", "image-image")
    retrieving = Retrieving((method,), session.options(cell, settings), text_image=True)
    return measure_text_image(session.workspace, model, pair, retrieving)[
        -1 if method != "image-image" else 0
    ]


def _spectrum(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    model = session.model(cell.backbone)
    band = band_to_show(model, session.options(cell, settings).band)
    return measure_spectra(session.workspace, model, band)


def _spectral_parts(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    model = session.model(cell.backbone)
    sweeping = Sweeping(query=settings.get("split", ""), gallery=settings.get("split", ""))
    modality = settings.get("modality", "image")
    return measure_parts(session.workspace, model, cell.dataset, sweeping, modality=modality)


def _indicators(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    model, protocol = session.model(cell.backbone), settings["protocol"]
    methods = (settings.get("method", "image-image"),)
    options, split = session.options(cell, settings), settings.get("split", "")
    key = ("indicators", cell.backbone, cell.dataset, split, methods, options)
    indicating = Indicating(methods, options, split=split)
    found = session.kept(key, lambda: Indicators(session.workspace, model, cell.dataset, indicating))
    if protocol == "degrees-of-freedom":
        return found.freedom()
    if protocol == "view":
        return found.view(settings.get("view", "pca"))
    runs = found.by_class() if protocol == "class-indicator" else found.by_modality()
    if not runs:
        raise JaxalignError(
            f"{methods[0]} has no {protocol} with {model.name}; expected a method beside texts"
        )
    return runs[0]


def _band_selection(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    modality = settings.get("modality", "image")
    model = session.model(cell.backbone)
    return measure_sweep(session.workspace, model, cell.dataset, modality, Sweeping())


def _dogs_cats(session: Session, cell: Cell, settings: Mapping[str, Any]) -> Run:
    model = session.model(cell.backbone)
    methods = ("image-image", "isoclip") if "method" in settings else ("image-image",)
    indicating = Indicating(methods, session.options(cell, settings), max_pictures=_EVERY)
    return Indicators(session.workspace, model, cell.dataset, indicating).dogs_and_cats()


_MEASURES: Mapping[str, Callable[[Session, Cell, Mapping[str, Any]], Run]] = {
    "image-retrieval": _image_retrieval,
    "text-retrieval": _text_retrieval,
    "zero-shot": _classification,
    "ncm": _classification,
    "few-shot": _classification,
    "band-selection": _band_selection,
    "dogs-cats": _dogs_cats,
    "text-image": _text_image,
    "spectrum": _spectrum,
    "spectral-parts": _spectral_parts,
    "class-indicator": _indicators,
    "modality-indicator": _indicators,
    "degrees-of-freedom": _indicators,
    "view": _indicators,
}


def _pick(run: Run, path: str) -> float:
    """The number at `path` of a run's metrics; raises JaxalignError for one that is not there."""
    found: Any = run.metrics
    for name in path.split("."):
        if isinstance(found, list) and re.fullmatch(r"-?\d+", name):
            at = int(name)
            found = found[at] if -len(found) <= at < len(found) else None
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(found, int | float):
        raise JaxalignError(
            f"the measurement {run.protocol} has no number {path}; expected one of its metrics"
        )
    return float(found)
