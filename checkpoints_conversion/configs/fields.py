"""Tables that say of every field of a configuration file what becomes of it.

A field is used (a reader asks for it), without effect (with the reason), or has one supported value. Any
other value, and a field that no table knows, is an error that names it: nothing that may change a result is
ignored.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxalign.errors import JaxalignError

from .json_object import JsonObject

_NAMED = 5  # problems in one message


@dataclass(frozen=True)
class Used:
    """A reader asks for it; null, where it may be, stands for the default."""

    may_be_null: bool = False


@dataclass(frozen=True)
class WithoutEffect:
    """It changes nothing here, because of `reason`."""

    reason: str


@dataclass(frozen=True)
class Only:
    """It may be there with one of `values`: no other is supported."""

    values: tuple[Any, ...]


Field = Used | WithoutEffect | Only
Table = Mapping[str, Field]


def used(*names: str) -> Table:
    """Fields that a reader asks for."""
    return dict.fromkeys(names, Used())


def used_or_null(*names: str) -> Table:
    """The same, where null stands for the default."""
    return dict.fromkeys(names, Used(may_be_null=True))


def without_effect(reason: str, *names: str) -> Table:
    """Fields that change nothing, because of `reason`."""
    return dict.fromkeys(names, WithoutEffect(reason))


def only(*values: Any, fields: tuple[str, ...]) -> Table:
    """Fields that have one of `values`, or are absent."""
    return dict.fromkeys(fields, Only(values))


def check_fields(config: JsonObject, table: Table) -> None:
    """Raise JaxalignError, naming fields, for those that `table` does not know or whose values it refuses."""
    problems = []
    for name, value in config.values.items():
        field = table.get(name)
        if field is None:
            near = difflib.get_close_matches(name[:60], table, n=1, cutoff=0.8)
            hint = f"did you mean {near[0]!r}?" if near else "take it out of the file if it changes nothing"
            problems.append(f"unknown field {name[:60]!r}; {hint}")
        elif isinstance(field, Only) and not any(_equal(value, known) for known in field.values):
            known = " or ".join(map(_json, field.values)) or "none"
            problems.append(f"{name} is {_json(value)}; expected {known}, nothing else is supported")
        elif field == Used() and value is None:
            problems.append(f"{name} is null; expected a value")
        if len(problems) == _NAMED:
            break
    if problems:
        raise JaxalignError(f"{config.where}: {'; '.join(problems)}")


def _equal(value: Any, known: Any) -> bool:
    """Equal in JSON: 1 and 1.0 are, true and 1 are not."""
    return value == known and (type(value) is bool) == (type(known) is bool)


def _json(value: Any) -> str:
    names = {None: "null", True: "true", False: "false"}
    return names[value] if value is None or isinstance(value, bool) else f"{value!r:.60}"
