"""A JSON object whose values are asked for by name and type."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxalign import local_files
from jaxalign.errors import JaxalignError

_MISSING: Any = object()
_LARGEST = 2**24  # no size of a tower is larger, and XLA counts bytes in 64 bits


@dataclass(frozen=True)
class JsonObject:
    """The object `values`, found at `where`, a file and the keys down to it.

    Every question takes a default for what is absent or null; without one, absence is an error. A value of
    another type is an error, too.
    """

    values: Mapping[str, Any]
    where: str

    def object(self, name: str) -> "JsonObject":
        """The object `name`, empty where there is none."""
        value = self._get(name, {}, (dict,), "an object")
        return JsonObject(value, f"{self.where}: {name}")

    def integer(self, name: str, default: Any = _MISSING) -> int:
        value = self._get(name, default, (int,), "an integer")
        if abs(value) > _LARGEST:
            raise JaxalignError(f"{self.where}: {name} is {value!r:.60}; expected at most {_LARGEST}")
        return value

    def side(self, name: str, default: int) -> int:
        """Of a square: one number, or a list of two equal ones."""
        value = self.values.get(name)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            return JsonObject({name: value[0]}, self.where).integer(name)
        return self.integer(name, default)

    def number(
        self, name: str, default: Any = _MISSING, *, least: float = 0, most: float = _LARGEST
    ) -> float:
        """A finite number from `least` to `most`."""
        value = self._get(name, default, (int, float), "a number")
        if not least <= value <= most:  # NaN is not, and an integer of any size is compared
            raise JaxalignError(
                f"{self.where}: {name} is {value!r:.60}; expected a number of {least:g} to {most:g}"
            )
        return float(value)

    def text(self, name: str, default: Any = _MISSING) -> Any:
        return self._get(name, default, (str,), "a string")

    def flag(self, name: str, default: Any = _MISSING) -> bool:
        return self._get(name, default, (bool,), "true or false")

    def channels(
        self, name: str, default: Any = _MISSING, *, least: float = -_LARGEST
    ) -> tuple[float, float, float]:
        """Three finite numbers from `least` on; one stands for three times itself."""
        value = self._get(name, default, (list, tuple, int, float), "a list of 3 numbers")
        found = value if isinstance(value, list | tuple) else [value] * 3
        if len(found) != 3 or not all(type(x) in (int, float) and least <= x <= _LARGEST for x in found):
            raise JaxalignError(
                f"{self.where}: {name} is {value!r:.60}; expected a list of 3 finite numbers, from {least:g}"
                " on"
            )
        return tuple(map(float, found))  # pyright: ignore[reportReturnType]

    def choice(self, name: str, choices: Mapping[Any, Any], default: Any = _MISSING) -> Any:
        """What `choices` has for the value."""
        value = self.values.get(name)
        if value is None and default is not _MISSING:
            return default
        if type(value) not in (str, int) or value not in choices:
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


def read_json(path: Path) -> JsonObject:
    """The object in the file `path`; raises JaxalignError where there is none."""
    values = local_files.read_json(path)
    if not isinstance(values, dict):
        raise JaxalignError(f"{path} is {values!r:.40}; expected an object")
    return JsonObject(values, str(path))
