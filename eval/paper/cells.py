"""The cells of a table: what each was printed as, and the measurement that it stands for, by our names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets import DATASETS
from jaxalign.eval.datasets.data_reading import FEATURES
from jaxalign.eval.datasets.image_folder import READINGS
from jaxalign.eval.tasks.registry import TASKS
from jaxalign.eval.tasks.spectra import SPECTRUM

from .tables import Table

AVERAGES = ("Avg", "Average")

# Protocols of a table that are a task of another name, with settings of their own.
PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    "zero-shot": {"protocol": "classification", "classifiers": ("zero-shot",)},
    "ncm": {"protocol": "classification", "classifiers": ("ncm",)},
    "band-selection": {"protocol": "band-sweep"},
}
# What a column's text means where it is not the setting itself.
BY_COLUMN: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "method": {
        "Image-Image": {"method": "image-image"},
        "Image-Image [Pre]": {"method": "pre"},
        "Image-Image (whitened projector)": {"method": "whitened"},
        "IsoCLIP": {"method": "isoclip"},
        "OTI (IT)": {"method": "oti"},
        "Text-Text": {"method": "text-text"},
        "OVI (TI)": {"method": "ovi"},
        "Original": {"method": "image-image"},
        "OTI": {"method": "oti"},
        "PCA<-": {"method": "pca"},
        "Image-Text / Zero-Shot": {"protocol": "zero-shot"},
        "Image-Image / NCM": {"protocol": "ncm", "method": "image-image"},
        "IsoCLIP / NCM": {"protocol": "ncm", "method": "isoclip"},
    },
    "classifier": {"Prototype": {"classifier": "prototype"}, "LDA": {"classifier": "lda"}},
    "inputs": {"image only": {"with_text": False}, "with text": {"with_text": True}},
    "projected": {"no": {"projected": False}, "PCA<-": {"projected": True}},
    "task": {
        "Image-Image": {"modality": "image", "dataset": "caltech101"},
        "Text-Text": {"modality": "text", "dataset": "coco-captions"},
        "weather": {"task": "weather"},
        "time of day": {"task": "time-of-day"},
    },
}
# Columns of a table that are settings of the measurement, with how their text is read.
_NUMBERS = ("shots", "patches", "k_top", "k_bottom", "rank", "steps")
_TEXTS = (
    *("protocol", "method", "dataset", "task", "split", "query", "gallery", "train", "test"),
    *("modality", "classifier", "templates", "metric", "minus", "view", "grid"),
)
_FLAGS = ("with_text", "projected", "uncropped", "distractors")
_TRUTH = {"yes": True, "no": False, "true": True, "false": False}
_ALIASES = {"model": "backbone", "num_pseudo_patches": "patches"}
_UNCOMPARED = ("latency_ms", "latency_std_ms")  # of the authors' GPU
State = Literal["measured", "missing", "failed", "incomplete"]
# What a row may call its protocol: a task that tables print, or one of those with settings of their own.
_RENAMED = {meaning["protocol"] for meaning in PROTOCOLS.values()}
_PROTOCOLS: Mapping[str, Mapping[str, Any]] = {
    **{task.name: {} for task in TASKS.values() if task.headline and task.name not in _RENAMED},
    **PROTOCOLS,
}


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
      labels: how the table names it, by column.
      backbone: as printed.
      dataset: our name; empty for a mean, and for what is about the model alone.
      settings: of the measurement: `protocol`, `method` and so on.
      metric: which number of its metrics, names joined by points.
      printed: the number in the paper; None where a table has none.
      members: positions of the cells whose mean this is.
      shown: whether it is a number of the table itself; members that the paper does not print are not.
      minus: a method whose number is taken off.
      paper: of the table, whose published code the variant "reference" is about.
      notes: what is to be known of the number.
    """

    labels: Mapping[str, str]
    backbone: str
    dataset: str
    settings: Mapping[str, Any]
    metric: str
    printed: float | None
    members: tuple[int, ...] = ()
    shown: bool = True
    minus: str = ""
    paper: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return ", ".join(label for label in self.labels.values() if label)


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
      state: `incomplete` is a mean of which a member was not measured.
      value: the measured number, or None.
      reason: why there is none.
      model: name of the model that was used.
      runs: digests of the runs.
      left_out: names of images that the runs left out because they cannot be read, by data set and split.
      notes: what is to be known of the number, the printed one included.
    """

    cell: Cell
    state: State
    value: float | None = None
    reason: str = ""
    model: str = ""
    runs: tuple[str, ...] = ()
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def difference(self) -> float | None:
        """Measured less printed."""
        if self.value is None or self.cell.printed is None:
            return None
        return self.value - self.cell.printed


def read_cells(table: Table) -> tuple[Cell, ...]:
    """All cells of a table in its order; those of which others are means before them. Raises JaxalignError
    for an unreadable table, an unknown column, protocol or data set, or a value that is no number."""
    cells: list[Cell] = []
    for number, row in enumerate(table.rows(), 2):
        for column, meaning in table.columns.items():
            try:
                cells += _expand(_cell(table, row, column, meaning), table, len(cells))
            except JaxalignError as error:
                raise JaxalignError(f"line {number} of {table.file}: {error}") from error
    return _join_shots(_fill_averages(cells))


def _cell(table: Table, row: Mapping[str, str], column: str, meaning: Mapping[str, Any]) -> Cell:
    labels = {k: v for k, v in row.items() if k not in table.columns and k not in _UNCOMPARED}
    settings = dict(table.settings) | _settings(labels) | dict(meaning)
    backbone, dataset = settings.pop("backbone", ""), settings.pop("dataset", "")
    if len(table.columns) > 1:
        labels["number"] = column
    if not backbone:
        raise JaxalignError("there is no backbone; expected a column of that name")
    protocol = settings.get("protocol", "")
    if protocol not in _PROTOCOLS:
        raise unknown_name("protocol", str(protocol), _PROTOCOLS)
    settings |= _PROTOCOLS[protocol]
    metric = settings.pop("metric", TASKS[settings["protocol"]].headline)
    if protocol == "dogs-cats" and metric == "iou":
        metric = f"aligned.{settings['method']}.iou"
    text = row[column].strip()
    try:
        printed = float(text) if text else None
    except ValueError:
        raise JaxalignError(f"{column} is {text!r}; expected a number or nothing") from None
    minus = settings.pop("minus", "")
    notes = tuple(text for own, text in table.notes if own.items() <= labels.items())
    return Cell(
        labels, backbone, dataset, settings, metric, printed, minus=minus, paper=table.paper, notes=notes
    )


def _settings(labels: Mapping[str, str]) -> dict[str, Any]:
    """The measurement that a row's columns mean."""
    found: dict[str, Any] = {}
    for column, text in labels.items():
        name = _ALIASES.get(column, column)
        if name == "dataset":
            found[name] = "" if text in (*AVERAGES, "") else _dataset(text)
        elif text in BY_COLUMN.get(name, {}):
            found |= BY_COLUMN[name][text]
        elif not text:
            continue
        elif name in _NUMBERS:
            found[name] = _whole_number(column, text)
        elif name in _FLAGS:
            if text.lower() not in _TRUTH:
                raise JaxalignError(f"{column} is {text!r}; expected yes or no")
            found[name] = _TRUTH[text.lower()]
        elif name in (*_TEXTS, "backbone"):
            found[name] = text
        else:
            raise unknown_name("column", column, (*_NUMBERS, *_TEXTS, *_FLAGS, "backbone", "value"))
    return found


def _whole_number(column: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise JaxalignError(f"{column} is {text!r}; expected a whole number") from None


def _dataset(printed: str) -> str:
    """Our name of a data set that a paper prints; our own names and `folder:PATH` are themselves."""
    for record in DATASETS.values():
        if printed in (record.name, record.printed):
            return record.name
    if printed.startswith((*READINGS, FEATURES)) or printed.removesuffix("@tfds") in DATASETS:
        return printed
    known = [record.printed for record in DATASETS.values() if record.printed]
    raise unknown_name("data set", printed, [*DATASETS, *known])


def _expand(cell: Cell, table: Table, start: int) -> list[Cell]:
    """The cell; where it is a mean over data sets that the table does not print, those first."""
    if cell.printed is None and len(table.columns) > 1:
        return []  # the paper has none: no text tower
    if not table.datasets:
        return [cell]
    own = [
        replace(cell, labels={**cell.labels, "dataset": dataset}, dataset=dataset, printed=None, shown=False)
        for dataset in table.datasets
    ]
    members = tuple(range(start, start + len(own)))
    return [*own, replace(cell, members=members)]


def _fill_averages(cells: Sequence[Cell]) -> list[Cell]:
    """Printed averages get the cells of their row as members."""
    rows: dict[tuple, list[int]] = {}
    for i, cell in enumerate(cells):
        if cell.dataset and "dataset" in cell.labels and cell.shown:
            rows.setdefault(_row_of(cell), []).append(i)
    filled = []
    for cell in cells:
        if cell.labels.get("dataset") in AVERAGES:
            members = tuple(rows.get(_row_of(cell), ()))
            if not members:
                raise JaxalignError(
                    f"{cell.name} is the mean of nothing; expected rows of data sets beside it"
                )
            cell = replace(cell, members=members)
        elif not cell.dataset and not cell.members and cell.settings["protocol"] != SPECTRUM.name:
            raise JaxalignError(f"{cell.name} has no data set; expected a column of that name")
        filled.append(cell)
    return filled


def _row_of(cell: Cell) -> tuple:
    return tuple((k, v) for k, v in cell.labels.items() if k != "dataset")


def _join_shots(cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Few-shot cells that differ in the number of shots alone become one measurement of all of them."""
    shots: dict[tuple, set[int]] = {}
    for cell in cells:
        if "shots" in cell.settings:
            shots.setdefault(_without_shots(cell), set()).add(cell.settings["shots"])
    joined = []
    for cell in cells:
        if "shots" in cell.settings:
            together = tuple(sorted(shots[_without_shots(cell)]))
            metric = f"{cell.metric}.{cell.settings['shots']}"
            settings = {**cell.settings, "shots": together}
            cell = replace(cell, settings=settings, metric=metric)
        joined.append(cell)
    return tuple(joined)


def _without_shots(cell: Cell) -> tuple:
    rest = {k: v for k, v in cell.settings.items() if k != "shots"}
    return (cell.backbone, cell.dataset, tuple(sorted(rest.items())))
