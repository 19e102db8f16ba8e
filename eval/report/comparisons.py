"""Methods beside each other: on several data sets, or on several questions to the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxalign.eval.labels import (
    BASELINES,
    dataset_label,
    find_baseline,
    full_label,
    method_label,
    method_name,
)
from jaxalign.eval.tasks.registry import TASKS
from jaxalign.eval.tasks.runs import Run, is_number
from jaxalign.eval.tasks.task import paired

Metrics = Mapping[str, Any]
# What runs of any task are compared by, and what stands below that, with what it is called together.
SCORES = tuple(dict.fromkeys(task.compared for task in TASKS.values() if task.compared))
DETAILS = dict(detail for task in TASKS.values() for detail in task.details)
SMALLEST_GAIN = 0.05  # percentage points: what rounds to 0.0 is no difference, however sure


@dataclass(frozen=True)
class Score:
    """The numbers of one method on one task, in percent; None where the task does not exist for the method.

    Attributes:
      score: mAP, or accuracy for a classifier.
      details: R-precision and recall@1 for retrieval.
      gain: difference to the baseline; None for the baseline itself and for references.
      error: standard error of that difference, paired over the queries.
    """

    score: float
    details: tuple[float, ...]
    gain: float | None
    error: float | None
    best: bool

    @property
    def signed_gain(self) -> str:
        """The gain with its sign and one decimal; empty for the baseline."""
        return "" if self.gain is None else f"{round(self.gain, 1) + 0.0:+.1f}"  # + 0.0: no "-0.0"

    @property
    def verdict(self) -> str:
        """`up` or `down` where the gain exceeds twice its error, `same` otherwise."""
        if self.gain is None or abs(self.gain) < max(SMALLEST_GAIN, 2 * (self.error or 0.0)):
            return "same"
        return "up" if self.gain > 0 else "down"


@dataclass(frozen=True)
class Row:
    method: str
    cells: list[Score | None]


@dataclass(frozen=True)
class Comparison:
    """A table of methods.

    Attributes:
      title: what it is about, for those who do not see the page.
      caption: how to read it.
      baselines: the rows that others are compared with: one, or one for each variant.
    """

    title: str
    caption: str
    columns: list[str]
    rows: list[Row]
    baselines: list[str]


def comparisons_of(runs: Sequence[Run]) -> list[Comparison]:
    """Of runs of one protocol and model; none where they have no score, or names do not tell them apart."""
    score = next((key for key in SCORES if all(is_number(run.metrics.get(key)) for run in runs)), None)
    if score is not None:
        found = _by_data_set(runs, score)
        return [] if found is None else [found]
    label = full_label(runs)
    within = [_by_question(run, label(run)) for run in runs]
    return [comparison for comparison in within if comparison is not None]


def _by_data_set(runs: Sequence[Run], score: str) -> Comparison | None:
    method, dataset = method_label(runs), dataset_label(runs)
    at = {(method(run), dataset(run)): run for run in runs}
    if len(at) < len(runs):
        return None
    baselines = list(dict.fromkeys(method(run) for run in runs if method_name(run) in BASELINES))
    entries = {}
    for (name, column), run in at.items():
        base = None
        if name not in baselines:
            base = find_baseline(run, [at.get((baseline, column)) for baseline in baselines])
        entries[name, column] = _compared(run, base, score)
    return compare("", score, entries, baselines)


def _by_question(run: Run, title: str) -> Comparison | None:
    """A run whose metrics are scores by question and method; None where they are not."""
    questions = run.metrics
    inner = [
        value for methods in questions.values() if isinstance(methods, Mapping) for value in methods.values()
    ]
    if not inner or not all(isinstance(value, Mapping) for value in [*questions.values(), *inner]):
        return None
    score = next((key for key in SCORES if all(is_number(value.get(key)) for value in inner)), None)
    if score is None:
        return None
    entries = {
        (method, question): value
        for question, methods in questions.items()
        for method, value in methods.items()
    }
    return compare(title, score, entries, [name for name, _ in entries if name in BASELINES][:1])


def compare(
    title: str, score: str, entries: Mapping[tuple[str, str], Metrics], baselines: Sequence[str]
) -> Comparison:
    """The table of metrics by method and column, `gain` and `gain_error` among them, by their `score`; the
    baselines come first."""
    columns = list(dict.fromkeys(column for _, column in entries))
    methods = list(dict.fromkeys([*baselines, *(method for method, _ in entries)]))
    shown = lambda entry: round(entry[score], 1)
    best = {
        column: max(shown(entry) for (_, other), entry in entries.items() if other == column)
        for column in columns
    }
    rows = []
    for method in methods:
        row: list[Score | None] = []
        for column in columns:
            entry = entries.get((method, column))
            first = entry is not None and len(methods) > 1 and shown(entry) == best[column]
            row.append(None if entry is None else _cell(entry, score, first))
        rows.append(Row(method, row))
    caption = _caption(score, list(entries.values()), methods, baselines)
    return Comparison(title, caption, columns, rows, list(baselines))


def _compared(run: Run, baseline: Run | None, score: str) -> Metrics:
    """The metrics, with the run's own difference to the baseline or the one over the queries of both."""
    if baseline is None or run.metrics.get("gain") is not None:
        return run.metrics
    difference = {"gain": run.metrics[score] - baseline.metrics[score], "gain_error": None}
    return {**run.metrics, **difference, **paired(run, baseline)}


def _cell(entry: Metrics, score: str, best: bool) -> Score:
    names = next((n for n in DETAILS if all(is_number(entry.get(name)) for name in n)), ())
    details = tuple(entry[name] for name in names)
    return Score(entry[score], details, entry.get("gain"), entry.get("gain_error"), best)


def _caption(score: str, entries: Sequence[Metrics], methods: Sequence[str], baselines: Sequence[str]) -> str:
    said = f"{score[:1].upper() + score[1:] if score.islower() else score} in percent"
    if baselines and len(methods) > len(baselines):
        said += (
            f" and its difference to {baselines[0].partition(' (')[0]}; a difference is coloured where it"
            " exceeds twice its standard error over the queries, where that is known"
        )
    shown = [title for names, title in DETAILS.items() if any(all(n in e for n in names) for e in entries)]
    below = f" Below it {', or for landmarks '.join(shown)}." if shown else ""
    return said + "." + below + (" ★ is the highest of a column." if len(methods) > 1 else "")
