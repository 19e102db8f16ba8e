"""What mutations take and give."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A file of a case: `name`, relative to the folder that is read, and `content`."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Mutant:
    """A file that was changed; `kind` says how, and is what a run counts by."""

    kind: str
    part: Part


Mutate = Callable[[random.Random, bytes, bytes], tuple[str, bytes]]
"""The kind and the content that a valid content becomes; the other one is a second valid one, to splice."""

SIZES = (
    *(0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 255, 256, 999, 1000, 4095, 4096, 30_000),
    *(65_500, 2**16 - 1, 2**16, 2**20, 10**7, 2**24, 2**26, 2**27, 2**28, 2**30, 2**31 - 1, 2**31),
    *(2**32 - 1, 2**32, 2**40, 2**53, 2**61 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
"""Numbers at which a size, an offset or a count goes wrong."""

HOSTILE_TEXTS = (
    *(
        "",
        "x",
        "a\nb",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\u202egnp.exe",
        "\u2028",
        "\0",
        "\r",
        "a\tb",
        "日本",
        "é",
    ),
    *(
        "/dev/zero",
        "../../etc/passwd",
        "..",
        "/",
        "C:\\x",
        "a/b",
        "%s%n",
        "{0.__class__}",
        "$(id)",
        "<script>",
    ),
    *("nan", "-1", "1e999", "True", "null", "\ufeff", "\ud800", "🐈", "a" * 300, "ab " * 5000),
)


def pick_size(rng: random.Random) -> int:
    """One of `SIZES`, or close to one."""
    return max(rng.choice(SIZES) + rng.choice((0, 0, 0, -1, 1)), 0)


def pick_count(rng: random.Random, most: int) -> int:
    """A count of 1 to `most`, small ones as likely as large ones."""
    return round(most ** rng.random())


def apply_some(
    rng: random.Random,
    content: bytes,
    operations: Sequence[Callable[[random.Random, bytes], bytes]],
    most: int = 3,
) -> bytes:
    """One to `most` of the operations, one after the other."""
    for _ in range(rng.randint(1, most)):
        content = rng.choice(operations)(rng, content)
    return content
