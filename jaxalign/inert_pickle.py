"""Pickles as inert data: a reader that calls nothing, whatever a pickle names.

A pickle is a program for a machine with a stack. Here its instructions build plain values, and records of
what they would have imported, called or changed; nothing is, and nothing is hashed or compared either. Who
reads the result looks for the few records that it knows and leaves the rest alone. Time and memory are
proportional to the bytes and instructions, of which there may be so many.
"""

import gc
import pickle  # its constants
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, BinaryIO

from jaxalign.errors import JaxalignError
from jaxalign.pickle_records import Called, Named, Pairs, Persistent

LIMIT = 256 << 20  # bytes of one pickle
# In one pickle; each makes a value of some 100 bytes at most. A list of a million names has two for each.
INSTRUCTIONS = 5_000_000
_LONGEST_NAME = 256  # characters of what a pickle wants to import


@dataclass(frozen=True, eq=False, repr=False)
class Unpickled:
    """What a pickle holds.

    Attributes:
      names: all that it wants to import, each once.
      persistent: all that lies outside of it.
    """

    value: Any
    names: tuple[str, ...]
    persistent: tuple[Persistent, ...]


def unpickle(file: BinaryIO, size: int) -> Unpickled:
    """The next pickle of `file`, which has at most `size` more bytes; of protocol 0 to 5.

    Dictionaries are `Pairs`, sets are `Called`; bytearrays are bytes, and so are strings of Python 2 that are
    not ASCII.

    Raises:
      JaxalignError: a pickle that is cut off, damaged or too large, or that needs extension codes or buffers
        outside of it.
    """
    machine = _Machine(file, min(size, LIMIT))
    codes = iter(partial(file.read, 1), pickle.STOP)
    try:
        with _no_collection():
            for code in islice(codes, INSTRUCTIONS):
                _ACTIONS[code](machine)
        if next(codes, None) is not None:
            raise JaxalignError(f"its pickle has more than {INSTRUCTIONS:,} instructions, the limit")
        value = machine.stack.pop()
    except JaxalignError:
        raise
    except (KeyError, IndexError, ValueError, struct.error) as error:
        raise _damaged() from error
    return Unpickled(value, tuple(machine.names), tuple(machine.persistent))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing that is made becomes garbage; the search for it took two thirds of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _damaged() -> JaxalignError:
    return JaxalignError("its pickle is cut off, damaged or of an unknown kind")


class _Machine:
    """The state of the program. Where the file ends too early, the next instruction is none.

    Attributes:
      left: bytes that strings and lines may still take.
      stack: the values since the last MARK; `outer` has those before it, by MARK.
    """

    __slots__ = ("file", "left", "memo", "names", "outer", "persistent", "read", "size", "stack")

    def __init__(self, file: BinaryIO, size: int):
        self.file, self.read, self.size, self.left = file, file.read, size, size
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.names: dict[str, Named] = {}
        self.persistent: list[Persistent] = []

    def number(self, width: int) -> int:
        return int.from_bytes(self.read(width), "little")

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        self.left -= size
        if self.left < 0:
            raise _damaged()
        return self.read(size)

    def line(self) -> bytes:
        line = self.file.readline(self.left)
        self.left -= len(line)
        if not line.endswith(b"\n"):
            raise _damaged()
        return line[:-1]

    def close_mark(self) -> list[Any]:
        """The values since the last MARK, which leave the stack."""
        items, self.stack = self.stack, self.outer.pop()
        return items

    def name(self, module: Any, name: Any) -> Named:
        if type(module) is not str or type(name) is not str or len(module) + len(name) > _LONGEST_NAME:
            raise _damaged()
        full = f"{module}.{name}"
        if full not in self.names:
            self.names[full] = Named(full)
        return self.names[full]

    def named_lines(self) -> Named:
        return self.name(self.line().decode(), self.line().decode())

    def remember(self, index: int) -> None:
        if not 0 <= index <= self.size:  # a value takes a byte at least
            raise _damaged()
        self.memo[index] = self.stack[-1]


# The content of strings and numbers.


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


def _signed(content: bytes) -> int:
    return int.from_bytes(content, "little", signed=True)


def _old_string(content: bytes) -> str | bytes:
    """A string of Python 2, which may have been text or bytes."""
    return content.decode() if content.isascii() else content


_DECIMAL = re.compile(rb"(-?(?:0|[1-9][0-9]{0,999}))L?")  # the time to read it is quadratic in its length
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.?))", re.DOTALL)
_ESCAPED = {b"\\": b"\\", b"'": b"'", b'"': b'"', b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def _decimal(line: bytes) -> int:
    found = _DECIMAL.fullmatch(line)
    if not found:
        raise _damaged()
    return int(found[1])


def _flag_or_decimal(line: bytes) -> int:
    return line == b"01" if line in (b"00", b"01") else _decimal(line)


def _quoted(line: bytes) -> str | bytes:
    if len(line) < 2 or line[0] != line[-1] or line[0] not in b"'\"":
        raise _damaged()
    unescape = lambda found: bytes.fromhex(found[1].decode()) if found[1] else _ESCAPED[found[2]]
    return _old_string(_ESCAPE.sub(unescape, line[1:-1]))


_SET, _FROZEN_SET = Named("builtins.set"), Named("builtins.frozenset")
_SIZED: dict[bytes, tuple[int, Callable[[bytes], Any]]] = {  # width of the size, and what the content is
    pickle.SHORT_BINSTRING: (1, _old_string),
    pickle.BINSTRING: (4, _old_string),
    pickle.SHORT_BINBYTES: (1, bytes),
    pickle.BINBYTES: (4, bytes),
    pickle.BINBYTES8: (8, bytes),
    pickle.BYTEARRAY8: (8, bytes),
    pickle.SHORT_BINUNICODE: (1, _text),
    pickle.BINUNICODE: (4, _text),
    pickle.BINUNICODE8: (8, _text),
    pickle.LONG1: (1, _signed),
    pickle.LONG4: (4, _signed),
}
_LINES: dict[bytes, Callable[[bytes], Any]] = {
    pickle.INT: _flag_or_decimal,
    pickle.LONG: _decimal,
    pickle.FLOAT: float,
    pickle.STRING: _quoted,
    pickle.UNICODE: lambda line: line.decode("raw-unicode-escape"),
}
# What instructions push.
_PUSHED: dict[bytes, Callable[[_Machine], Any]] = {
    pickle.NONE: lambda m: None,
    pickle.NEWTRUE: lambda m: True,
    pickle.NEWFALSE: lambda m: False,
    pickle.BININT: lambda m: _signed(m.read(4)),
    pickle.BININT1: lambda m: m.read(1)[0],
    pickle.BININT2: lambda m: m.number(2),
    pickle.BINFLOAT: lambda m: struct.unpack(">d", m.read(8))[0],
    **{code: lambda m, w=w, f=f: f(m.take(m.number(w))) for code, (w, f) in _SIZED.items()},
    **{code: lambda m, f=f: f(m.line()) for code, f in _LINES.items()},
    pickle.EMPTY_LIST: lambda m: [],
    pickle.EMPTY_DICT: lambda m: Pairs(),
    pickle.EMPTY_TUPLE: lambda m: (),
    pickle.EMPTY_SET: lambda m: Called(_SET, ()),
    pickle.LIST: lambda m: m.close_mark(),
    pickle.TUPLE: lambda m: tuple(m.close_mark()),
    pickle.FROZENSET: lambda m: Called(_FROZEN_SET, (m.close_mark(),)),
    pickle.DUP: lambda m: m.stack[-1],
    pickle.GET: lambda m: m.memo[_decimal(m.line())],
    pickle.BINGET: lambda m: m.memo[m.read(1)[0]],
    pickle.LONG_BINGET: lambda m: m.memo[m.number(4)],
    pickle.GLOBAL: lambda m: m.named_lines(),
    pickle.INST: lambda m: Called(m.named_lines(), tuple(m.close_mark())),
}


# What instructions do.


def _pushing(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def run(machine: _Machine) -> None:
        pushed = value(machine)  # first: closing a MARK changes the stack
        machine.stack.append(pushed)

    return run


def _joining(count: int, join: Callable[..., Any]) -> Callable[[_Machine], None]:
    """Puts one value in the place of the last `count` ones."""

    def run(machine: _Machine) -> None:
        items = machine.stack[-count:]
        if len(items) != count:
            raise _damaged()
        machine.stack[-count:] = [join(machine, *items)]

    return run


def _persist(machine: _Machine, said: Any) -> Persistent:
    found = Persistent(said)
    machine.persistent.append(found)
    return found


def _open_mark(machine: _Machine) -> None:
    machine.outer.append(machine.stack)
    machine.stack = []


def _drop(machine: _Machine) -> None:
    """The last value, or the last MARK where there is none since."""
    if machine.stack:
        machine.stack.pop()
    else:
        machine.close_mark()


def _make_dictionary(machine: _Machine) -> None:
    items = machine.close_mark()
    machine.stack.append(Pairs())
    _set(machine, items)


def _set(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is Called:
        target.pairs = target = target.pairs or Pairs()
    if type(target) is not Pairs or len(items) % 2:
        raise _damaged()
    target += items


def _add(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if type(target) is Called:
        target.elements = target = target.elements or []
    if type(target) is not list:
        raise _damaged()
    target += items


def _build(machine: _Machine) -> None:
    state, target = machine.stack.pop(), machine.stack[-1]
    if type(target) is not Called or target.state is not None:
        raise _damaged()
    target.state = state


def _call_class(machine: _Machine) -> None:
    cls, *arguments = machine.close_mark()
    machine.stack.append(Called(cls, tuple(arguments)))


_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    **{code: _pushing(value) for code, value in _PUSHED.items()},
    pickle.PROTO: lambda m: m.read(1),
    pickle.FRAME: lambda m: m.read(8),
    pickle.MARK: _open_mark,
    pickle.POP: _drop,
    pickle.POP_MARK: lambda m: m.close_mark(),
    pickle.TUPLE1: _joining(1, lambda m, *items: items),
    pickle.TUPLE2: _joining(2, lambda m, *items: items),
    pickle.TUPLE3: _joining(3, lambda m, *items: items),
    pickle.STACK_GLOBAL: _joining(2, lambda m, module, name: m.name(module, name)),
    pickle.REDUCE: _joining(2, lambda m, function, arguments: Called(function, arguments)),
    pickle.NEWOBJ: _joining(2, lambda m, cls, arguments: Called(cls, arguments)),
    pickle.NEWOBJ_EX: _joining(3, lambda m, cls, arguments, _: Called(cls, arguments)),
    pickle.OBJ: _call_class,
    pickle.PERSID: lambda m: m.stack.append(_persist(m, m.line().decode())),
    pickle.BINPERSID: _joining(1, _persist),
    pickle.DICT: _make_dictionary,
    pickle.SETITEM: lambda m: _set(m, [m.stack.pop(-2), m.stack.pop()]),
    pickle.SETITEMS: lambda m: _set(m, m.close_mark()),
    pickle.APPEND: lambda m: _add(m, [m.stack.pop()]),
    pickle.APPENDS: lambda m: _add(m, m.close_mark()),
    pickle.ADDITEMS: lambda m: _add(m, m.close_mark()),
    pickle.BUILD: _build,
    pickle.PUT: lambda m: m.remember(_decimal(m.line())),
    pickle.BINPUT: lambda m: m.remember(m.read(1)[0]),
    pickle.LONG_BINPUT: lambda m: m.remember(m.number(4)),
    pickle.MEMOIZE: lambda m: m.remember(len(m.memo)),
}
