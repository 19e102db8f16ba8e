"""Pickles: valid ones changed by operation, and programs of random objects."""

import io
import pickletools
import random

from .mutant import pick_size
from .pickle_opcodes import ADMITTED, FORBIDDEN, integer, name
from .pickle_values import hostile, state, value
from .raw import mutate_bytes


def mutate_pickle(rng: random.Random, content: bytes, other: bytes = b"") -> tuple[str, bytes]:
    """The kind and the content of what the valid pickle `content` becomes."""
    kind = rng.choice(
        ("bytes", "insert", "insert", "build", "build", "integer", "integer", "name", "shuffle", "program")
    )
    if kind == "bytes":
        return kind, mutate_bytes(rng, content, other)
    if kind == "program":
        return kind, b"\x80" + bytes([rng.choice((2, 4, 5))]) + value(rng, rng.randint(1, 5)) + b"."
    steps = split(content)
    for _ in range(rng.choice((1, 1, 2))):
        _CHANGES[kind](rng, steps)
    return kind, b"".join(steps)


def mutate_pickles(rng: random.Random, content: bytes, other: bytes = b"") -> tuple[str, bytes]:
    """The same for one of several pickles in a row, as in PyTorch's older files, or for what follows them."""
    parts, file = [], io.BytesIO(content)
    while content[file.tell() : file.tell() + 1] == b"\x80":
        start = file.tell()
        for _ in pickletools.genops(file):
            pass
        parts.append(content[start : file.tell()])
    parts.append(content[file.tell() :])
    at = rng.randrange(len(parts)) if rng.random() < 0.4 else parts.index(max(parts[:-1], key=len))
    if at == len(parts) - 1:
        kind, parts[at] = "numbers", mutate_bytes(rng, parts[at], other)
    else:
        kind, parts[at] = mutate_pickle(rng, parts[at], other)
    return kind, b"".join(parts)


def split(content: bytes) -> list[bytes]:
    """The operations of a valid pickle, without the frames of protocol 4: their lengths would be wrong."""
    starts = [(opcode.name, position) for opcode, _, position in pickletools.genops(content)]
    ends = [position for _, position in starts[1:]] + [len(content)]
    return [content[start:end] for (kind, start), end in zip(starts, ends, strict=True) if kind != "FRAME"]


def _insert(rng: random.Random, steps: list[bytes]) -> None:
    """An object where there was none, or in place of one; a following POP takes some of them away again."""
    at = rng.randint(1, len(steps) - 1)
    fragment = hostile(rng) if rng.random() < 0.7 else value(rng, 3)
    if rng.random() < 0.5:
        steps.insert(at, fragment + rng.choice((b"", b"0")))
    elif steps[at][:1] in _PUSHES:
        steps[at] = fragment


def _build(rng: random.Random, steps: list[bytes]) -> None:
    """A state for what a call has made."""
    calls = [i for i, step in enumerate(steps) if step[:1] in (b"R", b"\x81", b"}", b"Q")]
    if calls:
        at = rng.choice(calls)
        steps.insert(at + 1, state(rng) + b"b")


def _integers(rng: random.Random, steps: list[bytes]) -> None:
    numbers = [i for i, step in enumerate(steps) if step[:1] in (b"K", b"M", b"J", b"\x8a", b"I", b"L")]
    if numbers:
        size = pick_size(rng)
        steps[rng.choice(numbers)] = integer(rng.choice((size, -size, -1, 2, 4, 0)))


def _names(rng: random.Random, steps: list[bytes]) -> None:
    names = [i for i, step in enumerate(steps) if step[:1] in (b"c", b"\x93")]
    if names:
        at = rng.choice(names)
        chosen = rng.choice((ADMITTED, FORBIDDEN))
        steps[at] = (b"00" if steps[at] == b"\x93" else b"") + name(rng.choice(chosen))


def _shuffle(rng: random.Random, steps: list[bytes]) -> None:
    at, other = rng.randrange(len(steps)), rng.randrange(len(steps))
    match rng.randrange(4):
        case 0:
            del steps[at]
        case 1:
            steps.insert(other, steps[at])
        case 2:
            steps[at], steps[other] = steps[other], steps[at]
        case _:
            steps.insert(at, bytes([rng.randrange(256)]))


_PUSHES = (b"K", b"M", b"J", b"X", b"\x8c", b"N", b"\x88", b"\x89", b")", b"]", b"}", b"G", b"C", b"U", b"h")
_CHANGES = {"insert": _insert, "build": _build, "integer": _integers, "name": _names, "shuffle": _shuffle}
