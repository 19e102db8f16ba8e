"""The one exception that jaxalign raises for bad input."""

import difflib
import re
from collections.abc import Iterable

# Control characters, which a terminal would obey, line ends, what reverses the order of a text, and half
# surrogates, which stand for bytes of file names that are no UTF-8.
_LONGEST = 2000  # characters of a message; a name that comes from a file may have millions
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class JaxalignError(ValueError):
    """Bad input: the message is one line that says what was got, what was expected, and what to do."""

    def __str__(self) -> str:
        text = printable(super().__str__())
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"


def printable(text: str) -> str:
    """`text` as one line that can be written anywhere: names that come from files may hold anything."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def unknown_name(kind: str, got: str, known: Iterable[str], hint: str = "") -> JaxalignError:
    """The error for a name that is in no table: `kind` says of what, the nearest known names are offered."""
    known = sorted(known)
    near = difflib.get_close_matches(got, known, n=3, cutoff=0.5)
    offer = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(known)}"
    if hint:
        offer += f" {hint}" if near or hint.startswith("(") else f"; {hint}"
    return JaxalignError(f"unknown {kind} {got!r}; {offer}")
