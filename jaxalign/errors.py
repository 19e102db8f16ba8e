"""The one exception that jaxalign raises for bad input."""

import difflib
from collections.abc import Iterable


class JaxalignError(ValueError):
    """Bad input: the message is one line that says what was got, what was expected, and what to do."""


def unknown_name(kind: str, got: str, known: Iterable[str], hint: str = "") -> JaxalignError:
    """The error for a name that is in no table: `kind` says of what, the nearest known names are offered."""
    known = sorted(known)
    near = difflib.get_close_matches(got, known, n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
    if hint:
        offer += f" {hint}" if near or hint.startswith("(") else f"; {hint}"
    return JaxalignError(f"unknown {kind} {got!r}; {offer}")
