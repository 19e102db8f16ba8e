"""Runs as tables for a file: one for each task, a row for each run, of any models and data sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxalign.eval.labels import dataset_label, is_number, method_label, model_label
from jaxalign.eval.tasks import TASKS
from jaxalign.eval.tasks.runs import Run
from jaxalign.eval.tasks.task import Column, Gain, gains_of, number
from jaxalign.eval.written_tables import Cell, WrittenTable

_CHOSEN = {"k_top": ("band", 0), "k_bottom": ("band", 1), "rank": ("rank", None)}  # settings of methods
_GAINS = (Column("gain", "gain"), Column("gain_error", "its error"), Column("p_value", "p", None))


def compared_runs(runs: Sequence[Run]) -> dict[str, Gain]:
    """By digest what each run gains over the first one on its model and data set, in the order of `runs`."""
    model, dataset = model_label(runs), dataset_label(runs)
    return gains_of(runs, lambda run: (model(run), dataset(run), run.settings.get("variant")))


def run_tables(runs: Sequence[Run]) -> list[WrittenTable]:
    """The tables of `runs`, in the order of the tasks; tasks without columns, as a view's, have none.

    Columns: the model, the data set, the method with what was chosen for it, as far as runs of the task have
    these, then the task's own, and what the run gains over the first one on its model and data set.
    """
    gains = {digest: gain.to_json() for digest, gain in compared_runs(runs).items()}
    tables = []
    for task in TASKS.values():
        own = [run for run in runs if run.protocol == task.name]
        columns = task.columns_of([run.metrics for run in own])
        if own and columns:
            tables.append(
                _table(task.title, columns, own, {run.digest: gains.get(run.digest, {}) for run in own})
            )
    return tables


def _table(
    title: str, columns: Sequence[Column], runs: Sequence[Run], gains: Mapping[str, Mapping[str, Any]]
) -> WrittenTable:
    labels = {"model": model_label(runs), "data set": dataset_label(runs), "method": method_label(runs)}
    told = {name: [label(run) or None for run in runs] for name, label in labels.items()}
    told |= {name: [_chosen(run, *where) for run in runs] for name, where in _CHOSEN.items()}
    told = {name: cells for name, cells in told.items() if any(cell is not None for cell in cells)}
    compared = _GAINS if any(gains.values()) else ()
    rows: list[list[Cell]] = [
        [
            *(cells[i] for cells in told.values()),
            *(_number(run.metrics, column) for column in columns),
            *(_number(gains[run.digest], column) for column in compared),
        ]
        for i, run in enumerate(runs)
    ]
    numbers = [*columns, *compared]
    heads = [*told, *(column.title for column in numbers)]
    return WrittenTable(title, heads, rows, {column.title: column.digits for column in numbers})


def _chosen(run: Run, setting: str, at: int | None) -> int | None:
    value = run.settings.get(setting)
    return value if at is None or value is None else value[at]


def _number(metrics: Mapping[str, Any], column: Column) -> int | float | None:
    found = number(metrics, column.metric)
    return found if is_number(found) else None
