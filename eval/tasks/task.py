"""What there is to measure: a record for each task, which commands, the report and `paper` look up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

EACH = "*"


@dataclass(frozen=True)
class Column:
    """A column of a task's tables, on the terminal, in files and in the report.

    Attributes:
      metric: the number in a run's metrics, names joined by points where these are nested. One that ends in
        `*` stands for as many columns as there are such numbers, `recall_at_*` for those of all depths.
      title: what the column is called; a `*` in it is what the metric has in its place.
      digits: behind the point; None for three significant ones.
    """

    metric: str
    title: str
    digits: int | None = 1

    def among(self, metrics: Mapping[str, Any]) -> "list[Column]":
        """Itself if `metrics` has its number, or all that it stands for; empty where there is none."""
        if not self.metric.endswith(EACH):
            return [self] if has(metrics, self.metric) else []
        parent, _, start = self.metric.removesuffix(EACH).rpartition(".")
        own = number(metrics, parent) if parent else metrics
        counts = [key.removeprefix(start) for key in own or () if key.startswith(start)]
        return [
            replace(self, metric=self.metric.replace(EACH, count), title=self.title.replace(EACH, count))
            for count in filter(str.isdecimal, counts)
        ]


def has(metrics: Mapping[str, Any], path: str) -> bool:
    """Whether there is something under names joined by points, a None included."""
    parent, _, name = path.rpartition(".")
    found = number(metrics, parent) if parent else metrics
    return isinstance(found, Mapping) and name in found


def number(metrics: Mapping[str, Any], path: str) -> Any:
    """What `metrics` has under names joined by points; None where there is nothing."""
    found: Any = metrics
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


@dataclass(frozen=True)
class Task:
    """One question to a model, and how its answer is shown.

    Attributes:
      name: what its runs carry.
      title, about: heading and sentence of its section in the report.
      headline: the metric that a printed table means by its numbers.
      columns: of its tables; a table has those whose numbers its runs have.
      instead: the columns of runs that have all of these.
      compared: the metric in percent by which runs, or the methods within a run, are compared; empty where
        that says nothing.
      details: metrics that stand below it, and how they are called together; of several such lists the first
        of which a run has all.
    """

    name: str
    title: str
    about: str
    headline: str
    columns: tuple[Column, ...] = ()
    instead: tuple[Column, ...] = ()
    compared: str = ""
    details: tuple[tuple[tuple[str, ...], str], ...] = ()

    def columns_of(self, metrics: Sequence[Mapping[str, Any]]) -> list[Column]:
        """The columns of a table of runs with these metrics, in the order of `columns`."""
        others = self.instead and all(has(each, own.metric) for each in metrics for own in self.instead)
        found: list[Column] = []
        for own in self.instead if others else self.columns:
            every = dict.fromkeys(column for each in metrics for column in own.among(each))
            found += sorted(every, key=lambda column: (len(column.metric), column.metric))
        return found
