"""A JSON object whose values are asked for by name and type."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError

_MISSING: Any = object()
_LARGEST = 2**24  # no size of a tower is larger, and XLA counts bytes in 64 bits


@dataclass(frozen=True)
class JsonFacts:
    """The object `values`, found at `where`, a file and the keys down to it.

    Every question takes a default for what is absent or null; without one, absence is an error. A value of
    another type is an error, too.
    """

    values: Mapping[str, Any]
    where: str

    def object(self, name: str) -> "JsonFacts":
        """The object `name`, empty where there is none."""
        value = self._get(name, {}, (dict,), "an object")
        return JsonFacts(value, f"{self.where}: {name}")

    def integer(self, name: str, default: Any = _MISSING) -> int:
        value = self._get(name, default, (int,), "an integer")
        if abs(value) > _LARGEST:
            raise JaxalignError(f"{self.where}: {name} is {value}; expected at most {_LARGEST}")
        return value

    def number(self, name: str, default: Any = _MISSING) -> float:
        return float(self._get(name, default, (int, float), "a number"))

    def text(self, name: str, default: Any = _MISSING) -> Any:
        return self._get(name, default, (str,), "a string")

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        return self._get(name, default, (bool,), "true or false")

    def channels(self, name: str, default: Any = _MISSING) -> tuple[float, float, float]:
        value = self._get(name, default, (list, tuple), "a list of 3 numbers")
        if len(value) != 3 or any(type(x) not in (int, float) for x in value):
            raise JaxalignError(f"{self.where}: {name} is {value!r:.60}; expected a list of 3 numbers")
        return tuple(map(float, value))  # pyright: ignore[reportReturnType]

    def choice(self, name: str, choices: Mapping[Any, Any], default: Any = _MISSING) -> Any:
        """What `choices` has for the value."""
        value = self.values.get(name)
        if value is None and default is not _MISSING:
            return default
        if not isinstance(value, str | int) or value not in choices:
            known = ", ".join(map(repr, choices))
            raise JaxalignError(f"{self.where}: {name} is {value!r:.60}; expected one of {known}")
        return choices[value]

    def _get(self, name: str, default: Any, kinds: tuple[type, ...], expected: str) -> Any:
        value = self.values.get(name)
        if value is None and default is not _MISSING:
            return default
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise JaxalignError(f"{self.where}: {name} is {value!r:.60}; expected {expected}")
        return value


def read_json(path: Path) -> JsonFacts:
    """The object in the file `path`; raises JaxalignError where there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise JaxalignError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise JaxalignError(f"{path} is {values!r:.40}; expected an object")
    return JsonFacts(values, str(path))
