"""How structs show themselves in a notebook or a terminal: one line, arrays by type and shape."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jax.core import Tracer

_NAMED = 6  # keys of a mapping, or items of a sequence


def brief_repr(self: Any) -> str:
    """`Spectrum(u=float32 [256, 128], s=float32 [128], vt=float32 [128, 128])`: the struct's `__repr__`."""
    shown = ((of.name, getattr(self, of.name)) for of in dataclasses.fields(self) if of.repr)
    return f"{type(self).__name__}({', '.join(f'{name}={brief(value)}' for name, value in shown)})"


def brief(value: Any) -> str:
    """A value in a few words: an array's type and shape, a mapping's keys, a sequence's beginning."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        if value.shape == () and not isinstance(value, Tracer):
            return f"{value.item()!r:.12}"
        return f"{value.dtype} [{', '.join(map(str, value.shape))}]"
    if isinstance(value, Mapping):
        return f"{{{_first(map(str, value), len(value))}}}"
    if isinstance(value, tuple | list) and len(value) > _NAMED:
        return f"({_first(map(brief, value), len(value))})"
    return repr(value)


def _first(texts: Any, count: int) -> str:
    """The first ones, and how many more there are."""
    shown = [text for text, _ in zip(texts, range(_NAMED), strict=False)]
    more = [f"... {count - _NAMED:,} more"] if count > _NAMED else []
    return ", ".join(shown + more)
