"""Measure the cells of a table, one after the other, past those that are missing or fail."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax

from jaxalign.errors import JaxalignError, unknown_name

from .available import Missing
from .cells import Cell, Outcome, State, read_cells
from .session import Session
from .tables import Table

# What a cell may meet that leaves the others alone: bad input, a full or broken disk, memory of host or
# device.
_FAILURES = (JaxalignError, OSError, MemoryError, jax.errors.JaxRuntimeError)


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


def reproduce(table: Table, session: Session, selection: Selection | None = None) -> Reproduction:
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


def _measure(session: Session, cell: Cell) -> Outcome:
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
