"""What stands for the objects that a pickle would have made: records without behaviour."""

from dataclasses import dataclass
from typing import Any

from jaxalign.errors import JaxalignError


class Pairs(list[Any]):
    """A dictionary as it was written: keys and values in turn. A key may be anything: nothing is hashed."""

    __slots__ = ()

    def by_name(self) -> dict[str, Any]:
        """The values whose keys are strings. JaxalignError where a key occurs twice."""
        found: dict[str, Any] = {}
        for name, value in zip(self[::2], self[1::2], strict=True):
            if type(name) is str:
                if name in found:
                    raise JaxalignError(f"its pickle has {name!r:.80} twice in one dictionary")
                found[name] = value
        return found


@dataclass(eq=False, slots=True, repr=False)
class Named:
    """What the pickle wants to import: module and name, joined with a dot."""

    name: str


@dataclass(eq=False, slots=True, repr=False)
class Called:
    """What a call would have given: of which function or class, with which arguments; and what came then.

    Attributes:
      function, arguments: a `Named` and a tuple, in all pickles that make sense.
      state: what it would have been given as its state.
      elements: what would have been appended or added to it.
      pairs: what would have been set in it by key.
    """

    function: Any
    arguments: Any
    state: Any = None
    elements: list[Any] | None = None
    pairs: Pairs | None = None

    @property
    def name(self) -> str:
        """Of what would have been called."""
        return self.function.name if type(self.function) is Named else "something that it computes"

    @property
    def is_untouched(self) -> bool:
        """Whether nothing came after the call."""
        return self.state is None and self.elements is None and self.pairs is None

    def arguments_of(self, *names: str) -> tuple[Any, ...] | None:
        """Its arguments, if it is an untouched call of one of `names`."""
        is_known = type(self.arguments) is tuple and self.is_untouched and self.name in names
        return self.arguments if is_known else None


@dataclass(eq=False, slots=True, repr=False)
class Persistent:
    """Something outside of the pickle, by what the pickle says of it."""

    said: Any
