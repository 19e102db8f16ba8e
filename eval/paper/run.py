"""What of a table can be measured here, with which models, and how to get the rest; and measuring its cells,
one after the other, past those that are missing or fail."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec as find_spec_of
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets import DatasetRecord
from jaxalign.eval.datasets.records import Folder
from jaxalign.specs import find_spec
from jaxalign.weights.availability import find_model
from jaxalign.weights.checkpoint import is_model_folder

from .cells import Cell, Outcome, State, read_cells
from .tables import Table

if TYPE_CHECKING:
    from .session import Session

_SIGLIP, _SIGLIP_2 = (
    tuple(f"{name}{source}" for source in ("", "-open-clip", "-big-vision"))
    for name in ("siglip-base-patch16-224", "siglip2-base-patch16-224")
)
_DINO_3 = ("dinov3-large-patch16", "dinov3-large-patch16-256")

# Weights by preference: as the code that a paper published loads them first, then the same in other code.
BACKBONES: Mapping[str, tuple[str, ...]] = {
    # IsoCLIP
    "ViT-B/32": ("clip-vit-base-patch32",),
    "ViT-B/16": ("clip-vit-base-patch16",),
    "ViT-L/14": ("clip-vit-large-patch14",),
    "ViT-B/32-open": ("clip-vit-base-patch32-datacomp",),
    "ViT-B/16-open": ("clip-vit-base-patch16-datacomp",),
    "PE-Core-B-16": ("pe-core-base-patch16",),
    "PE-Core B/16": ("pe-core-base-patch16",),
    "EVA-02 B/16": ("eva02-clip-base-patch16",),
    "SigLIP2 B/16": (_SIGLIP_2[1], _SIGLIP_2[0], _SIGLIP_2[2]),
    "DINOv2 B/14": ("dinov2-base-meta", "dinov2-base"),
    # Reevaluating
    "CLIP B/32": ("clip-vit-base-patch32",),
    "CLIP L/14": ("clip-vit-large-patch14",),
    "CLIP ViT-L/14": ("clip-vit-large-patch14",),
    "CLIP ViT-B/16": ("clip-vit-base-patch16",),
    "CLIP": ("clip-vit-base-patch16",),
    "rn50": ("clip-rn50",),
    "SigLIP B/16": _SIGLIP,
    "SigLIP": _SIGLIP,
    "SigLIP2": _SIGLIP_2,
    "SLIP B/16": ("slip-vit-base-patch16",),
    "DINOv2": ("dinov2-base-meta", "dinov2-base"),
    "DINOv2 ViT-B/14": ("dinov2-base", "dinov2-base-meta"),
    "DINOv3 L/16": _DINO_3,
    "DINOv3 ViT-L/16": _DINO_3,
    "dinov3_vitl16": _DINO_3,
}
# What both papers print, and Reevaluating loads through transformers.
OF_REEVALUATING: Mapping[str, tuple[str, ...]] = {"SigLIP2 B/16": _SIGLIP_2}
# With registers, which the paper does not say.
OF_REFERENCE: Mapping[str, tuple[str, ...]] = {
    "DINOv2": ("dinov2-with-registers-base-meta", "dinov2-with-registers-base")
}
_PACKAGES = {"tsne": ("sklearn", "scikit-learn"), "umap": ("umap", "umap-learn")}  # of views: module, name
# What a cell may meet that leaves the others alone: bad input, a full or broken disk, memory of host or
# device.
_FAILURES = (JaxalignError, OSError, MemoryError, jax.errors.JaxRuntimeError)


@dataclass(frozen=True)
class Missing:
    """`what` cannot be measured before one has done what `advice` says."""

    what: str
    advice: str


@dataclass(frozen=True)
class Places:
    """Where models are looked for.

    Attributes:
      weights: a path by backbone, as printed or by the name of `jaxalign models`.
      download: whether models that are not here are fetched from the hub.
    """

    weights: Mapping[str, str] = field(default_factory=dict)
    download: bool = False

    def __post_init__(self) -> None:
        for name, path in self.weights.items():
            if not candidates(name):
                raise unknown_name("backbone", name, BACKBONES)
            if not Path(path).expanduser().exists():
                raise JaxalignError(f"there is no file or folder {path}, the weights of {name}")

    def find_weights(
        self, backbone: str, paper: str = "", variant: str = "paper"
    ) -> tuple[str, str | None] | Missing:
        """What `jaxalign.load` takes for a backbone, and its spec where the file does not say it.

        `paper`, `variant`: as for `candidates`.
        """
        names = candidates(backbone, paper, variant)
        for name in (backbone, *names):
            if name in self.weights:
                return _local(self.weights[name], names[0])
        if Path(backbone).expanduser().exists():
            return backbone, None
        found = [(name, find_model(find_spec(name))) for name in names]
        usable = [name for name, copy in found if copy.is_local]
        usable += [name for name, copy in found if self.download and copy.state == "hub"]
        if usable:
            return usable[0], None
        if not found:
            raise unknown_name("backbone", backbone, BACKBONES, "a folder with a model is a backbone, too")
        name, copy = found[0]
        spec = find_spec(name)
        advice = f"pass --download, or --weights '{backbone}=PATH' with {spec.source}"
        if copy.state != "hub":
            advice = f"download {spec.source} and pass --weights '{backbone}=PATH'"
        return Missing(f"model {name}", advice)


def missing_dataset(record: DatasetRecord, data_dir: Folder) -> Missing | None:
    """What a data set lacks, the optional splits of its protocol included; None where it is prepared, or can
    be."""
    used = {part for use in (record.query, record.gallery, record.train) for part in use.split("+")}
    copy = record.find_copy(data_dir, optional=bool(used & set(record.optional_splits)))
    return Missing(f"data set {record.name}", copy.advice) if copy.state == "missing" else None


def missing_packages(cell: Cell) -> list[Missing]:
    """What a cell's view needs beside this package."""
    package = _PACKAGES.get(cell.settings.get("view", ""))
    if package is None or find_spec_of(package[0]) is not None:
        return []
    return [Missing(f"package {package[1]}", "pip install 'jaxalign[plots]'")]


def candidates(backbone: str, paper: str = "", variant: str = "paper") -> tuple[str, ...]:
    """Names of `jaxalign models` that a backbone may be, the preferred one first; none for an unknown one.

    `paper`: "isoclip" or "reevaluating", where a table is one of theirs.
    """
    if paper == "reevaluating" and backbone in OF_REEVALUATING:
        return OF_REEVALUATING[backbone]
    if variant == "reference" and backbone in OF_REFERENCE:
        return OF_REFERENCE[backbone]
    if backbone in BACKBONES:
        return BACKBONES[backbone]
    try:
        return (find_spec(backbone).name,)
    except JaxalignError:
        return ()


def _local(path: str, name: str) -> tuple[str, str | None]:
    """A folder of ours holds its own facts; of anything else one says what it is."""
    own = is_model_folder(Path(path).expanduser())
    return path, None if own else name


@dataclass(frozen=True)
class Reproduction:
    """A table, measured as far as that was possible.

    Attributes:
      outcomes: one for each cell, in the table's order.
      missing: what is not here, with how many cells lack it.
      variant: "reference" or "paper".
      layout: of the heads, likewise; empty for that of the variant.
    """

    table: Table
    outcomes: tuple[Outcome, ...]
    missing: tuple[tuple[Missing, int], ...]
    variant: str
    layout: str = ""

    @property
    def left_out(self) -> dict[str, Sequence[str]]:
        """Images that took no part because they cannot be read, by data set and split."""
        return {origin: names for outcome in self.outcomes for origin, names in outcome.left_out.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """All notes of the cells that are shown, in their order; tables number them from 1 on."""
        shown = [outcome for outcome in self.outcomes if outcome.cell.shown]
        return tuple(dict.fromkeys(note for outcome in shown for note in outcome.notes))

    def count(self, state: State) -> int:
        return sum(outcome.state == state for outcome in self.outcomes)

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.state == "failed"]


@dataclass(frozen=True)
class Selection:
    """Which cells of a table are wanted, by printed or our own names; empty for all."""

    backbones: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()

    def check(self, cells: Sequence[Cell]) -> None:
        """Raise JaxalignError for a name that no cell has."""
        for kind, wanted in self._wanted.items():
            known = {name for cell in cells for name in _names(cell, kind)}
            for name in wanted:
                if name not in known:
                    raise unknown_name(f"{kind} of this table", name, known)

    def has(self, cell: Cell) -> bool:
        """Whether a cell that is no mean is wanted."""
        return all(not names or set(names) & _names(cell, kind) for kind, names in self._wanted.items())

    @property
    def _wanted(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": self.backbones, "data set": self.datasets, "method": self.methods}


def _names(cell: Cell, kind: str) -> set[str]:
    if kind == "backbone":
        return {cell.backbone}
    if kind == "data set":
        return {cell.dataset, cell.labels.get("dataset", "")} - {""}
    told = (cell.settings, cell.labels)
    return {of.get(name, "") for of in told for name in ("method", "classifier")} - {""}


def reproduce(table: Table, session: "Session", selection: Selection | None = None) -> Reproduction:
    """Measure `table`; a run that is in the workspace's folder is not measured again.

    A cell that fails does not stop the others: its outcome says why. Raises JaxalignError for an unreadable
    table, or a selection of what it does not have.
    """
    cells = read_cells(table)
    selection = selection or Selection()
    selection.check(cells)
    wanted = [i for i, cell in enumerate(cells) if not cell.members and selection.has(cell)]
    lacking: dict[Missing, int] = {}
    outcomes: dict[int, Outcome] = {}
    before = None
    for i in _in_order(cells, wanted):
        cell = cells[i]
        absent = session.missing_for(cell)
        if absent:
            for missing in absent:
                lacking[missing] = lacking.get(missing, 0) + 1
            reason = "; ".join(f"{missing.what} is missing" for missing in absent)
            outcomes[i] = Outcome(cell, "missing", reason=reason, notes=cell.notes)
            continue
        if (cell.backbone, cell.dataset) != before:
            before = (cell.backbone, cell.dataset)
            where = f"{cell.backbone} on {cell.dataset}" if cell.dataset else cell.backbone
            session.workspace.stages.announce(f"{table.name}: {where}")
        outcomes[i] = _measure(session, cell)
    for i, cell in enumerate(cells):
        members = [outcomes[k] for k in cell.members if k in outcomes]
        if members:
            outcomes[i] = _mean(cell, members)
    ordered = tuple(outcomes[i] for i in sorted(outcomes))
    return Reproduction(table, ordered, tuple(lacking.items()), session.variant, session.used_layout)


def _measure(session: "Session", cell: Cell) -> Outcome:
    try:
        return session.measure(cell)
    except _FAILURES as error:
        reason = str(error).strip().splitlines()
        said = reason[0] if reason else type(error).__name__
        return Outcome(cell, "failed", reason=said, notes=cell.notes)


def _mean(cell: Cell, members: Sequence[Outcome]) -> Outcome:
    values = [member.value for member in members if member.value is not None]
    models = sorted({member.model for member in members if member.model})
    notes = tuple(dict.fromkeys((*cell.notes, *(note for member in members for note in member.notes))))
    if len(values) < len(cell.members):
        reason = f"{len(values)} of {len(cell.members)} members are measured"
        return Outcome(cell, "incomplete", reason=reason, model=", ".join(models), notes=notes)
    return Outcome(cell, "measured", sum(values) / len(values), model=", ".join(models), notes=notes)


def _in_order(cells: Sequence[Cell], wanted: Sequence[int]) -> list[int]:
    """One model after the other, for each one data set after the other, as they first come, by what tables
    call the protocol: a classification after its classifier."""
    backbones = {cell.backbone: i for i, cell in reversed(list(enumerate(cells)))}
    datasets = {cell.dataset: i for i, cell in reversed(list(enumerate(cells)))}
    protocol = lambda cell: cell.settings.get("classifiers", (cell.settings["protocol"],))[0]
    place = lambda cell: (backbones[cell.backbone], datasets[cell.dataset], protocol(cell))
    return sorted(wanted, key=lambda i: (*place(cells[i]), i))
