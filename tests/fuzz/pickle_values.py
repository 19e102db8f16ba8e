"""Objects in pickles: plain ones of any depth, and tensors, arrays and states that claim what cannot be."""

import random
import struct

from .mutant import HOSTILE_TEXTS, pick_count, pick_size
from .pickle_attacks import ATTACKS, Fragment, doubling
from .pickle_opcodes import ADMITTED, integer, name, name_from_stack, text, tuple_of

_KEYS = ("imlist", "qimlist", "gnd", "bbx", "easy", "hard", "junk", "state_dict")
_ATTRIBUTES = (
    *("storage", "offset", "shape", "strides", "key", "dtype", "count", "name", "data", "state", "args"),
    *("__class__", "__dict__", "__reduce__", "__init__", "__setstate__", "__call__", "__defaults__"),
    *("__code__", "__globals__", "__getattr__", "__hash__", "keys"),
)


def value(rng: random.Random, depth: int = 3) -> bytes:
    """Any object, made of objects."""
    if depth <= 0 or rng.random() < 0.3:
        return rng.choice(_LEAVES)(rng)
    inside = [value(rng, depth - 1) for _ in range(rng.randint(0, 4))]
    some = lambda: value(rng, depth - 1)
    return rng.choice(
        (
            lambda: tuple_of(*inside),
            lambda: b"](" + b"".join(inside) + b"e",
            lambda: b"(" + b"".join(inside) + b"l",
            lambda: b"}(" + b"".join(key(rng) + x for x in inside) + b"u",
            lambda: b"(" + b"".join(key(rng) + x for x in inside) + b"d",
            lambda: b"\x8f(" + b"".join(key(rng) for _ in inside) + b"\x90",
            lambda: b"(" + b"".join(key(rng) for _ in inside) + b"\x91",
            lambda: some() + b"q" + bytes([rng.randrange(8)]),
            lambda: some() + b"\x94",
            lambda: some() + b"20",
            lambda: name(rng.choice(ADMITTED)) + tuple_of(*inside) + b"R",
            lambda: name(rng.choice(ADMITTED)) + tuple_of(*inside) + b"\x81",
            lambda: name(rng.choice(ADMITTED)) + tuple_of(*inside) + b"}\x92",
            lambda: name_from_stack(rng.choice(ADMITTED)) + tuple_of(*inside) + b"R",
            lambda: b"(" + name(rng.choice(ADMITTED)) + b"".join(inside) + b"o",
            lambda: some() + state(rng) + b"b",
            lambda: tensor(rng),
            lambda: array(rng),
            lambda: hostile(rng),
        )
    )()


def key(rng: random.Random) -> bytes:
    """What may be a key of a mapping."""
    return rng.choice((_text, _text, _text, _integer, lambda rng: b"h" + bytes([rng.randrange(8)]), _tuple))(
        rng
    )


def state(rng: random.Random) -> bytes:
    """What BUILD gives an object: attributes of our records and of Python's classes, or a dtype's state."""
    numbers = lambda: tuple_of(*(integer(_any_integer(rng)) for _ in range(rng.randint(0, 3))))
    attribute = lambda: rng.choice(
        (numbers, numbers, lambda: integer(_any_integer(rng)), lambda: value(rng, 0))
    )()
    attributes = (
        b"}(" + b"".join(text(rng.choice(_ATTRIBUTES)) + attribute() for _ in range(rng.randint(1, 3))) + b"u"
    )
    offset = text("offset") + integer(rng.choice((0, -(2**20), 1, 2**62)))
    window = b"}(" + text("strides") + numbers() + offset + b"u"
    return rng.choice((attributes, window, b"N" + attributes + b"\x86", dtype_state(rng), value(rng, 1)))


def dtype_state(rng: random.Random) -> bytes:
    """With a subarray, fields, an item size or flags that the dtype does not have."""
    count = pick_count(rng, 10**8)
    within = tuple_of(dtype(rng), tuple_of(integer(count)))
    size = integer(rng.choice((8 * count, 8 * count, 0, -1, 2**31 - 1)))
    flags = b"K" + bytes([rng.choice((0, 0, 63, 255))])
    part = rng.choice((within, within, b"N"))
    return tuple_of(b"K\x03", text(rng.choice("<>|=")), part, b"N", b"N", size, b"K\x01", flags)


def dtype(rng: random.Random) -> bytes:
    codes = ("<f8", ">f4", "i8", "O8", "V8", "S5", "U3", "M8", "b1", "c16", "f8,f4", "O", "V0")
    code = rng.choice((">f8", rng.choice(codes)))  # NumPy's own, in the machine's order, cannot be changed
    return name("numpy dtype") + tuple_of(text(code), b"\x89", b"\x88") + b"R"


def array(rng: random.Random) -> bytes:
    """An array or a number of NumPy's, in one of the ways in which they are pickled."""
    core = rng.choice(("numpy.core", "numpy._core"))
    built = dtype(rng) + (dtype_state(rng) + b"b" if rng.random() < 0.5 else b"")
    shape = tuple_of(*(integer(_any_integer(rng)) for _ in range(rng.randint(0, 3))))
    content = b"C\x1012345678abcdefgh"
    whole = rng.random() < 0.3
    buffer = b"\x96" + struct.pack("<Q", 8) + b"12345678"
    return rng.choice(
        (
            name(f"{core}.multiarray scalar") + tuple_of(built, b"C\x0812345678") + b"R",
            name(f"{core}.numeric _frombuffer") + tuple_of(buffer, built, shape, text("C")) + b"R",
            name(f"{core}.multiarray _reconstruct")
            + tuple_of(name("numpy ndarray"), b"K\x00\x85", b"C\x01b")
            + b"R"
            + tuple_of(b"K\x01", b"K\x02\x85" if whole else shape, built, b"\x89", content)
            + b"b",
            name("numpy ndarray") + tuple_of(shape) + b"R",
            built,
        )
    )


def storage(rng: random.Random) -> bytes:
    """The persistent id of a storage."""
    kind = name(
        f"torch {rng.choice(('Float', 'Half', 'Double', 'Byte', 'Bool', 'Complex', 'BFloat16'))}Storage"
    )
    where = rng.choice((lambda: text(str(rng.randrange(4))), lambda: value(rng, 1), lambda: doubling(rng)))()
    return tuple_of(text("storage"), kind, where, text("cpu"), integer(_any_integer(rng))) + b"Q"


def tensor(rng: random.Random) -> bytes:
    """A tensor whose window may lie outside of its storage."""
    numbers = lambda: tuple_of(*(integer(_any_integer(rng)) for _ in range(rng.randint(0, 3))))
    arguments = tuple_of(storage(rng), integer(_any_integer(rng)), numbers(), numbers(), b"\x89", b"N")
    return name("torch._utils _rebuild_tensor_v2") + arguments + b"R"


def hostile(rng: random.Random) -> bytes:
    """One of the fragments that attack a reader."""
    return rng.choice((*ATTACKS, storage, tensor, array))(rng)


def _any_integer(rng: random.Random) -> int:
    return rng.choice((0, 1, 1, 2, 2, 3, 4, -1, pick_size(rng), -pick_size(rng)))


def _text(rng: random.Random) -> bytes:
    return text(rng.choice((*HOSTILE_TEXTS, *_KEYS)))


def _integer(rng: random.Random) -> bytes:
    return integer(_any_integer(rng))


def _tuple(rng: random.Random) -> bytes:
    return tuple_of(_integer(rng), _text(rng))


_LEAVES: tuple[Fragment, ...] = (
    *(_text, _text, _integer, _integer, storage),
    lambda rng: rng.choice(
        (b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f", b"C\x03abc", b"U\x03abc", b"T\2\0\0\0ab")
    ),
    lambda rng: b"G" + struct.pack(">d", rng.choice((0.5, -1.0, 1e300, float("nan"), float("inf")))),
    lambda rng: name(rng.choice(ADMITTED)),
)
