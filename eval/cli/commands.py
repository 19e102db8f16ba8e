"""The commands by name."""

from collections.abc import Iterator, Mapping
from importlib import import_module


class Commands(Mapping[str, type]):
    """Frozen dataclasses by the names of commands, each imported when it is asked for: `text-retrieve` is
    `TextRetrieve` in `text_retrieve.py`."""

    def __init__(self, *names: str):
        self._names = names

    def __getitem__(self, name: str) -> type:
        if name not in self._names:
            raise KeyError(name)
        module = import_module(f".{name.replace('-', '_')}", __package__)
        return getattr(module, name.title().replace("-", ""))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


# In the order in which a newcomer meets them.
NAMES = (
    "demo convert bake models fetch datasets embed retrieve text-retrieve sweep spectrum indicators classify"
    " search duplicates export reproduce report"
)
COMMANDS: Mapping[str, type] = Commands(*NAMES.split())
