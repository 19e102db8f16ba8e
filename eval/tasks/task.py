"""What there is to measure: a record for each task, which commands, the report and `paper` look up."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of a task's tables, on the terminal and in the report.

    Attributes:
      metric: the number in a run's metrics, names joined by points where these are nested.
      title: what the column is called.
    """

    metric: str
    title: str


@dataclass(frozen=True)
class Task:
    """One question to a model, and how its answer is shown.

    Attributes:
      name: what its runs carry.
      title, about: heading and sentence of its section in the report.
      headline: the metric that a printed table means by its numbers.
      columns: of its tables.
    """

    name: str
    title: str
    about: str
    headline: str
    columns: tuple[Column, ...] = ()
