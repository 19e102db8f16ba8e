"""All the numbers of runs, as tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxalign.eval.labels import flatten, full_label, show, show_name
from jaxalign.eval.tasks.runs import Run

MOST_COLUMNS = 30


@dataclass(frozen=True)
class PlainTable:
    """Numbers as text; the first column, with `corner` above it, names the row."""

    title: str
    corner: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def all_numbers(runs: Sequence[Run]) -> list[PlainTable]:
    """Every metric of runs of one protocol and model: a row for each run, and tables of what is nested."""
    label = full_label(runs)
    name = {id(run): label(run) or "run" for run in runs}
    flat = {id(run): flatten(_shallow(run.metrics)) for run in runs}
    columns = list(dict.fromkeys(key for run in runs for key in flat[id(run)]))[:MOST_COLUMNS]
    tables = []
    if columns:
        rows = [(name[id(run)], [_show(flat[id(run)], key) for key in columns]) for run in runs]
        tables.append(PlainTable("Numbers of each run", "run", [show_name(c) for c in columns], rows))
    for run in runs:
        for title, value in run.metrics.items():
            if rows := _rows_of(value):  # what `_shallow` has left out
                tables.append(_table(", ".join(n for n in (show_name(title), label(run)) if n), rows))
    return tables


def _shallow(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What fits into one row: numbers, texts, and mappings to those."""
    kept: dict[str, Any] = {}
    for name, value in metrics.items():
        if not _rows_of(value):
            kept[name] = value
        elif isinstance(value, Mapping):
            kept[name] = {key: item for key, item in value.items() if not _is_table(item)}
    return kept


def _rows_of(value: Any) -> dict[str, Mapping[str, Any]]:
    """The rows of a table that `value` is; empty where it is none."""
    if isinstance(value, list | tuple):
        value = {str(i + 1): item for i, item in enumerate(value)}
    if not isinstance(value, Mapping):
        return {}
    found: dict[str, Mapping[str, Any]] = {}
    for key, item in value.items():
        if isinstance(item, list | tuple) and _is_table(item):
            found |= {f"{key} {i + 1}": v for i, v in enumerate(item)}
        elif isinstance(item, Mapping):
            found[str(key)] = item
    return found


def _is_table(item: Any) -> bool:
    """A mapping, or a list of them."""
    if isinstance(item, list | tuple):
        return bool(item) and all(isinstance(value, Mapping) for value in item)
    return isinstance(item, Mapping)


def _table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> PlainTable:
    flat = {name: flatten(row) for name, row in rows.items()}
    columns = list(dict.fromkeys(key for row in flat.values() for key in row))[:MOST_COLUMNS]
    shown = [(show_name(n), [_show(row, key) for key in columns]) for n, row in flat.items()]
    return PlainTable(title, "", [show_name(c) for c in columns], shown)


def _show(row: Mapping[str, Any], key: str) -> str:
    return show(row[key]) if key in row else ""
