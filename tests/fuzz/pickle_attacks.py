"""Fragments of pickles that attack their reader; each leaves one object on the stack."""

import random
import struct
from collections.abc import Callable

from .mutant import pick_count, pick_size
from .pickle_opcodes import FORBIDDEN, integer, name, name_from_stack, text, tuple_of

Fragment = Callable[[random.Random], bytes]
SENTINEL = "executed"  # the file that a payload creates in the current folder if it is run
DEEPEST = 300_000

_CALLS = (
    ("posix system", f"touch {SENTINEL}"),
    ("os system", f"touch {SENTINEL}"),
    ("subprocess check_output", f"touch {SENTINEL}"),
    ("builtins exec", f"open('{SENTINEL}', 'w')"),
    ("builtins eval", f"open('{SENTINEL}', 'w')"),
    ("os mkdir", SENTINEL),
    ("posix mkdir", SENTINEL),
    ("__torch__.posix mkdir", SENTINEL),
    ("builtins __import__", "this"),
    ("numpy.testing._private.utils runstring", f"open('{SENTINEL}', 'w')"),
)


def payload(rng: random.Random) -> bytes:
    """A call that creates the file `SENTINEL` where it is made."""
    function, argument = rng.choice(_CALLS)
    module, _, attribute = function.partition(" ")
    getattr_ = name("builtins getattr") + tuple_of(
        name("builtins __import__") + tuple_of(text("os")) + b"R", text("mkdir")
    )
    return rng.choice(
        (
            lambda: name(function) + text(argument) + b"\x85R",
            lambda: name_from_stack(function) + text(argument) + b"\x85R",
            lambda: (
                b"(S'" + argument.replace("'", '"').encode() + b"'\ni" + f"{module}\n{attribute}\n".encode()
            ),
            lambda: b"(" + name(function) + text(argument) + b"o",
            lambda: name(function) + text(argument) + b"\x85\x81",
            lambda: name(function) + text(argument) + b"\x85}\x92",
            lambda: getattr_ + b"R" + text(SENTINEL) + b"\x85R",
            lambda: name(rng.choice(FORBIDDEN)) + text(argument) + b"\x85R",
            lambda: name(rng.choice(FORBIDDEN)),
            lambda: name("collections OrderedDict") + b")R}" + text("__reduce__") + name(function) + b"sb",
            lambda: rng.choice((b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00")),
        )
    )()


def nesting(rng: random.Random) -> bytes:
    """One object within another, many times."""
    n = pick_count(rng, DEEPEST)
    return rng.choice(
        (
            lambda: b"]" * n + b"a" * (n - 1),
            lambda: b"(" * n + b"t" * n,
            lambda: b")" + b"\x85" * n,
            lambda: (b"}" + text("a")) * n + b"N" + b"s" * n,
            lambda: b"]" + b"\x85" * n,
            lambda: (name("collections OrderedDict") + b"(") * (n // 9) + b"tR" * (n // 9) + b"N" * (n < 9),
        )
    )()


def doubling(rng: random.Random) -> bytes:
    """A tuple of twice the one before it, again and again: few bytes, a hash or a text without end."""
    n = rng.randint(2, 60)
    steps = (
        b"h" + bytes([100 + i]) + b"h" + bytes([100 + i]) + b"\x86q" + bytes([101 + i]) for i in range(n)
    )
    return b"()q\x64" + b"".join(steps) + b"1h" + bytes([100 + n])


def colliding(rng: random.Random) -> bytes:
    """Numbers with one hash, as keys: each is compared with all before it."""
    n = pick_count(rng, 40_000)
    keys = (integer(i * (2**61 - 1)) for i in range(n))
    if rng.random() < 0.5:
        return b"}(" + b"".join(k + b"N" for k in keys) + b"u"
    return b"(" + b"".join(keys) + b"\x91"


def circle(rng: random.Random) -> bytes:
    """What holds itself."""
    return rng.choice(
        (
            b"]q\xc8h\xc8a",
            b"}q\xc8X\x01\0\0\0ah\xc8s",
            b"]q\xc8(h\xc8h\xc8e",
            b"}q\xc8(X\x01\0\0\0bh\xc8\x85u",
        )
    )


def long_memo(rng: random.Random) -> bytes:
    """A place in the memo that all places before it are made for."""
    place = rng.choice((10**9, 2**28, 2**27, 2**26, 2**31 - 1, 2**32 - 1, 70_000))
    return b"]" + rng.choice((b"r" + struct.pack("<I", place), b"p" + str(place).encode() + b"\n"))


def long_claim(rng: random.Random) -> bytes:
    """A length that is far more than what follows."""
    n = min(pick_size(rng), 2**64 - 1)
    short, long = struct.pack("<I", n % 2**32), struct.pack("<Q", n)
    some = b"x" * 8
    return (
        rng.choice(
            (
                b"X" + short,
                b"\x8d" + long,
                b"B" + short,
                b"\x8e" + long,
                b"\x96" + long,
                b"\x8b" + short,
                b"T" + short,
            )
        )
        + some
    )


def long_number(rng: random.Random) -> bytes:
    """Digits without end, or what is no number."""
    digits = b"9" * pick_count(rng, 10**6)
    return rng.choice(
        (
            b"I" + digits + b"\n",
            b"L" + digits + b"L\n",
            b"F" + rng.choice((digits, b"nan", b"inf", b"1e999", b"x")) + b"\n",
            b"G" + struct.pack(">d", rng.choice((float("nan"), float("inf"), -0.0, 1e308))),
            b"\x8b" + struct.pack("<I", len(digits)) + digits,
        )
    )


def broken(rng: random.Random) -> bytes:
    """An operation on what is not there."""
    return rng.choice(
        (b"P0\n", b"g99\n", b"h\xff", b"j\xff\xff\xff\xff", b"\x97", b"\x98", b"U\xff", b"\x80\xff")
    )


ATTACKS: tuple[Fragment, ...] = (
    *(payload, nesting, doubling, colliding, circle, long_memo, long_claim, long_number, broken),
    lambda rng: b"}" + doubling(rng) + b"Ns",
    lambda rng: b"\x8f(" + doubling(rng) + b"\x90",
)
