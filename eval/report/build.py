"""The report of runs: a section for each task, a part of it for each model."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxalign.eval.figures import figures_of
from jaxalign.eval.labels import METHOD, flatten, full_label, model_label, show, show_name
from jaxalign.eval.report.comparisons import comparisons_of
from jaxalign.eval.report.examples import FindSplit, grids_of
from jaxalign.eval.report.page import render
from jaxalign.eval.tasks.registry import TASKS
from jaxalign.eval.tasks.runs import Run
from jaxalign.eval.written_tables import WrittenTable, in_order

if TYPE_CHECKING:
    from jaxalign.eval.demo_words import Worded
    from jaxalign.eval.paper.output import ReproducedTable

MOST_COLUMNS = 30


def build_report(
    runs: Sequence[Run],
    tables: "Sequence[ReproducedTable]" = (),
    *,
    title: str = "jaxalign report",
    introduction: str = "",
    credits: str = "",
    findings: Mapping[str, Sequence[str]] = {},
    facts: Mapping[str, Mapping[str, Any]] = {},
    words: Mapping[str, "Worded"] = {},
    find_split: FindSplit = lambda dataset, version, split: None,
    examples: int = 6,
) -> str:
    """Reproduced `tables` and all `runs` as one HTML page without external resources, everything escaped.

    A run of a task that nothing is known of is shown as a table, with whatever figures its arrays suit.

    Args:
      introduction: a sentence at the top.
      credits: to the authors of images that are shown, at the bottom.
      findings: what the numbers say, sentences under headings.
      facts: how it was measured, as far as no run says that, under the same headings.
      words: images in words, under the same headings.
      find_split: the examples of a data set's name, version and split, for images of queries and results;
        None where they are not at hand, which the report says.
      examples: so many queries of a data set are shown with their first results.
    """
    found = {run.protocol for run in runs}
    tasks = [*(task for task in TASKS if task in found), *sorted(found - TASKS.keys())]
    sections = [
        {
            "title": TASKS[task].title if task in TASKS else show_name(task).replace("-", " ").capitalize(),
            "about": TASKS[task].about if task in TASKS else "",
            "parts": _parts(in_order([run for run in runs if run.protocol == task]), find_split, examples),
        }
        for task in tasks
    ]
    return render(
        "report.html.j2",
        title=title,
        introduction=introduction,
        credits=credits,
        count=len(runs),
        seconds=sum(run.seconds for run in runs),
        findings=findings,
        facts=facts,
        words=words,
        tables=tables,
        sections=sections,
    )


def _parts(runs: Sequence[Run], find_split: FindSplit, examples: int) -> list[dict[str, Any]]:
    """What the template shows of each model."""
    label = model_label(runs)
    parts = []
    for name in dict.fromkeys(label(run) for run in runs):
        own = [run for run in runs if label(run) == name]
        grids, missing = grids_of(own, find_split, examples)
        parts.append(
            {
                "title": name,
                "comparisons": comparisons_of(own),
                "numbers": all_numbers(own),
                "figures": [drawn.figure for drawn in figures_of(own)],
                "grids": grids,
                "missing": missing,
                "notes": _notes(own),
                "facts": _facts(own),
            }
        )
    return parts


def _notes(runs: Sequence[Run]) -> list[str]:
    """What belongs beside the numbers, each sentence with the runs that it is about."""
    label = full_label(runs)
    about: dict[str, list[str]] = {}
    for run in runs:
        for note in run.notes:
            about.setdefault(note, []).append(label(run) or "run")
    return [f"{', '.join(dict.fromkeys(names))}: {note}." for note, names in about.items()]


def _facts(runs: Sequence[Run]) -> dict[str, str]:
    """The settings that all of them share, then the versions and the time."""
    every = [flatten(run.settings) for run in runs]
    shared: dict[str, str] = {
        key: show(value, most=24)
        for key, value in every[0].items()
        if key not in METHOD and all(other.get(key, key) == value for other in every)
    }
    versions: dict[str, Mapping[str, str]] = {show(run.versions, most=64): run.versions for run in runs}
    lost = {origin: len(names) for run in runs for origin, names in run.left_out.items()}
    if lost:
        shared["left out, unreadable"] = ", ".join(f"{count} of {origin}" for origin, count in lost.items())
    return shared | {
        "runs": str(len(runs)),
        "seconds": show(float(sum(run.seconds for run in runs))),
        "versions": "; ".join(versions),
    }


def all_numbers(runs: Sequence[Run]) -> list[WrittenTable]:
    """Every metric of runs of one protocol and model: a row for each run, and tables of what is nested."""
    label = full_label(runs)
    each = [(label(run) or "run", _shallow(run.metrics)) for run in runs]
    tables = [_table("Numbers of each run", "run", each)] if any(flatten(row) for _, row in each) else []
    for run in runs:
        for title, value in run.metrics.items():
            if rows := _rows_of(value):  # what `_shallow` has left out
                named = [(show_name(name), row) for name, row in rows.items()]
                tables.append(_table(", ".join(filter(None, (show_name(title), label(run)))), "", named))
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


def _table(title: str, head: str, rows: Sequence[tuple[str, Mapping[str, Any]]]) -> WrittenTable:
    flat = [(name, flatten(row)) for name, row in rows]
    columns = list(dict.fromkeys(key for _, row in flat for key in row))[:MOST_COLUMNS]
    shown = [[name, *(show(row[key]) if key in row else "" for key in columns)] for name, row in flat]
    return WrittenTable(title, [head, *map(show_name, columns)], shown)
