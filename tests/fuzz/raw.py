"""Mutations of bytes, whatever they mean."""

import random
import re

from .mutant import HOSTILE_TEXTS, apply_some, pick_size


def mutate_bytes(rng: random.Random, content: bytes, other: bytes = b"") -> bytes:
    """`content` with a few of its bytes changed, or spliced with `other`."""
    if other and rng.random() < 0.1:
        return content[: rng.randint(0, len(content))] + other[rng.randint(0, len(other)) :]
    return apply_some(rng, content, _OPERATIONS, most=4)


def as_bytes(rng: random.Random, content: bytes, other: bytes) -> tuple[str, bytes]:
    """A mutation as all formats have it."""
    return "bytes", mutate_bytes(rng, content, other)


def _place(rng: random.Random, content: bytes) -> int:
    """A position; headers and directories are at the ends."""
    end = len(content)
    near = min(end, 64 if rng.random() < 0.5 else 1000)
    return rng.choice((rng.randint(0, near), end - rng.randint(0, near), rng.randint(0, end)))


def _flip(rng: random.Random, content: bytes) -> bytes:
    at = min(_place(rng, content), len(content) - 1)
    return (
        content if at < 0 else content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    )


def _overwrite(rng: random.Random, content: bytes) -> bytes:
    at, width = _place(rng, content), rng.choice((1, 2, 4, 8))
    number = (pick_size(rng) % 256**width).to_bytes(width, rng.choice(("little", "big")))
    return content[:at] + number + content[at + width :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: _place(rng, content)]


def _remove(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at + rng.randint(1, 1 + len(content) // 8) :]


def _repeat(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    piece = content[at : at + rng.randint(1, 64)]
    return content[:at] + piece * rng.choice((2, 3, 50, 1000)) + content[at:]


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = _place(rng, content)
    text = rng.choice(HOSTILE_TEXTS).encode("utf-8", "surrogatepass")
    noise = bytes(rng.randrange(256) for _ in range(rng.randint(1, 16)))
    return content[:at] + rng.choice((text, noise, bytes(rng.randint(1, 300)))) + content[at:]


def _digits(rng: random.Random, content: bytes) -> bytes:
    """Another number where one is written in digits."""
    found = list(re.finditer(rb"\d+", content[:4000]))
    if not found:
        return content
    span = rng.choice(found).span()
    number = rng.choice((str(pick_size(rng)), f"-{pick_size(rng)}", "9" * 400, "1e999", "0.5", ""))
    return content[: span[0]] + number.encode() + content[span[1] :]


_OPERATIONS = (_flip, _flip, _overwrite, _overwrite, _cut, _remove, _repeat, _insert, _digits)
