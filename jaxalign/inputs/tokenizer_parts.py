"""Which parts of a `tokenizer.json` are taken: those whose work and memory a text bounds, by name.

The Rust library behind `tokenizers` builds whatever a file asks for: patterns that backtrack for minutes,
forty replacements that each double a text, or parts that stop the process. Here are the parts that the
tokenizers of CLIP-like models are made of; all others are refused by name, before the library sees the file.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.inputs.precompiled_maps import check_precompiled

NORMALIZERS = (
    "BertNormalizer",
    "ByteLevel",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Replace",
    "Strip",
    "StripAccents",
)
PRE_TOKENIZERS = (
    "BertPreTokenizer",
    "ByteLevel",
    "CharDelimiterSplit",
    "Digits",
    "Metaspace",
    "Punctuation",
    "Split",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
)
POST_PROCESSORS = ("BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing")
DECODERS = (
    "BPEDecoder",
    "ByteFallback",
    "ByteLevel",
    "Fuse",
    "Metaspace",
    "Replace",
    "Strip",
    "WordPiece",
)
LONGEST_CHAIN = 16  # parts one after the other
LONGEST_PATTERN = 500  # characters
MOST_WORK = (
    128  # steps of a pattern at one character of a text, in all alternatives, but for one + or * in each
)
LARGEST_GROWTH = 64  # how many times longer all normalizers together may make a text, or all decoders

_CLASS = r"\\[pP]\{\^?\w{1,30}\}|\\[^0-9kgGKXRpP]"  # \p{L}, \s, \.; nothing that refers to a group
_ATOM = rf"(?:{_CLASS}|\[\^?(?:{_CLASS}|[^\]\\\[])+\]|[^\\\[\](){{}}|*+?^$])"
_BOUNDED = r"(?:\?|\{\d{1,2}(?:,\d{1,2})?\})?"
_UNBOUNDED = r"(?:[+*]|\{\d{1,2},\})"
_BRANCH = rf"(?:{_ATOM}{_BOUNDED})*(?:{_ATOM}{_UNBOUNDED}(?:{_ATOM}{_BOUNDED})*)?(?:\(\?[!=]{_ATOM}\))?"
_BRANCHES = rf"{_BRANCH}(?:\|{_BRANCH})*"
# Alternatives with at most one repetition without an end in each: none is tried within another one.
_LINEAR = re.compile(rf"(?:\(\?i:{_BRANCHES}\)\|)?{_BRANCHES}")
_PIECE = re.compile(rf"\||\(\?[i!=]:?|\)|{_ATOM}(?:(\?)|\{{(\d+)(?:,(\d*))?\}})?")  # of such a pattern

_CHAINS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "normalizer": ("normalizers", NORMALIZERS),
    "pre_tokenizer": ("pretokenizers", PRE_TOKENIZERS),
    "post_processor": ("processors", POST_PROCESSORS),
    "decoder": ("decoders", DECODERS),
}


def check_parts(values: Mapping[str, Any], where: str) -> None:
    """Raise JaxalignError, naming the part, for one of `values`, a whole `tokenizer.json`, that is not taken.

    The model itself (words and merges) is not looked at.
    """
    for name, (_, known) in _CHAINS.items():
        for part in chain(values, name, where):
            kind = part.get("type")
            if kind not in known:
                raise JaxalignError(f"{where}: {name} is a {kind!r:.60}; expected one of {', '.join(known)}")
            _check_pattern(part.get("pattern"), f"{where}: {name} {kind}")
    _check_growth(values, where)


def chain(values: Mapping[str, Any], name: str, where: str = "it") -> Iterator[Mapping[str, Any]]:
    """The parts of the normalizer, pre_tokenizer, post_processor or decoder of `values`, one after the other,
    whether nested or one alone; none for null.

    Raises:
      JaxalignError: more than `LONGEST_CHAIN`, or something that is no object.
    """
    waiting, given = [part for part in [values.get(name)] if part is not None], 0
    nested = _CHAINS[name][0]
    while waiting:
        part = waiting.pop(0)
        if not isinstance(part, Mapping):
            raise JaxalignError(f"{where}: {name} is {part!r:.60}; expected an object")
        if part.get("type") == "Sequence" and isinstance(part.get(nested), list):
            waiting = [*part[nested][: LONGEST_CHAIN + 1], *waiting]
        else:
            yield part
            given += 1
        if given + len(waiting) > LONGEST_CHAIN:
            raise JaxalignError(
                f"{where}: {name} has more parts than {LONGEST_CHAIN}; expected at most so many"
            )


def _check_pattern(pattern: Any, where: str) -> None:
    """A string that is looked for, or a regular expression that cannot backtrack for long."""
    if pattern is None:
        return
    text = pattern
    if isinstance(pattern, Mapping) and len(pattern) == 1:
        (text,) = pattern.values()
    if not isinstance(text, str) or not text or len(text) > LONGEST_PATTERN:
        raise JaxalignError(
            f"{where} has the pattern {pattern!r:.60}; expected 1 to {LONGEST_PATTERN} characters"
        )
    if isinstance(pattern, Mapping) and "Regex" in pattern and not _LINEAR.fullmatch(text):
        raise JaxalignError(
            f"{where} has the regular expression {text!r:.80}; expected alternatives of characters and"
            " classes with at most one + or * in each, as CLIP's and GPT's have, whose time a text bounds"
        )
    if isinstance(pattern, Mapping) and "Regex" in pattern and (work := _work(text)) > MOST_WORK:
        raise JaxalignError(
            f"{where} has the regular expression {text!r:.80}, which may take {work:,} steps at each"
            f" character; expected at most {MOST_WORK}"
        )


def _work(pattern: str) -> int:
    """Steps that a pattern of `_LINEAR` may take where a match begins: what is there or not, or so many
    times, is tried in all ways, one after the other."""
    work, ways, length = 0, 1, 0
    for piece in _PIECE.finditer(f"{pattern}|"):
        maybe, least, most = piece.groups()
        if piece[0] == "|":
            work, ways, length = work + ways * length, 1, 0
        elif piece[0][0] == "(" or piece[0] == ")":
            continue
        elif maybe:
            ways, length = 2 * ways, length + 1
        else:
            first = int(least or 1)
            last = int(most or first)
            ways, length = ways * (1 + abs(last - first)), length + max(first, last)
    return work


def _check_growth(values: Mapping[str, Any], where: str) -> None:
    growth, byte_levels = 1.0, 0
    for part in chain(values, "normalizer", where):
        growth *= _growth(part, f"{where}: normalizer")
        byte_levels += part.get("type") == "ByteLevel"
    for part in chain(values, "pre_tokenizer", where):
        byte_levels += part.get("type") == "ByteLevel"
    joining = math.prod(_growth(part, f"{where}: decoder") for part in chain(values, "decoder", where))
    for parts, times in {"normalizers": growth, "decoders": joining}.items():
        if times > LARGEST_GROWTH:
            raise JaxalignError(
                f"{where}: the {parts} make a text up to {times:.3g} times longer; expected at most"
                f" {LARGEST_GROWTH} times"
            )
    if byte_levels > 1:  # each would spell out the bytes of the one before
        raise JaxalignError(f"{where} has ByteLevel {byte_levels} times; expected it once")


def _growth(part: Mapping[str, Any], where: str) -> float:
    """How many times longer a text may become."""
    kind = part["type"]
    if kind == "Precompiled":
        return max(check_precompiled(part.get("precompiled_charsmap"), where), 1)
    added = part.get({"Prepend": "prepend", "Replace": "content"}.get(kind, ""), "")
    if not isinstance(added, str) or len(added) > LARGEST_GROWTH:
        raise JaxalignError(
            f"{where} {kind} adds {added!r:.60}; expected at most {LARGEST_GROWTH} characters"
        )
    if kind != "Replace":
        return 1
    pattern = part.get("pattern")
    text = pattern.get("String") if isinstance(pattern, Mapping) else pattern
    # a regular expression may match between any two characters
    return max(len(added) / len(text), 1) if isinstance(text, str) else 1 + len(added)
