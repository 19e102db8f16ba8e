"""Pickles read as data: plain values as they were, everything else as records, and nothing is run."""

import io
import pickle
import struct
import time
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pickle_programs import call, mapping, name, number, program, recall, remember, row, text

from jaxalign.errors import JaxalignError
from jaxalign.weights import inert_pickle
from jaxalign.weights.inert_pickle import unpickle
from jaxalign.weights.pickle_records import Called, Named, Pairs, Persistent

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(content: bytes) -> Any:
    return unpickle(io.BytesIO(content), len(content)).value


def plain(value: Any) -> Any:
    """What records stand for, where those are sets or bytes."""
    if type(value) is Pairs:
        return {plain(k): plain(v) for k, v in zip(value[::2], value[1::2], strict=True)}
    if type(value) in (list, tuple):
        return type(value)(map(plain, value))
    if type(value) is not Called:
        return value
    if value.name in ("builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset"):
        return frozenset(plain(value.elements or (value.arguments and value.arguments[0]) or ()))
    if value.name == "_codecs.encode":
        return value.arguments[0].encode(value.arguments[1])
    assert value.name == "__builtin__.bytes", value.name
    return b""


SIMPLE = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(SIMPLE, inner)
        | st.frozensets(st.integers())
    ),
)


@settings(max_examples=100, deadline=None)
@given(VALUES, st.sampled_from(PROTOCOLS))
def test_plain_values_are_what_was_pickled(value, protocol):
    assert plain(read(pickle.dumps(value, protocol))) == value
    assert plain(read(pickle._dumps(value, protocol))) == value  # as PyTorch's own pickler is, without frames


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_long_values(protocol):
    shared = [1]
    value = {"a": shared, "b": shared, "long": list(range(3000)), "text": "x" * 300, "big": 1 << 3000}
    found = read(pickle.dumps(value, protocol)).by_name()
    assert found["a"] is found["b"]
    assert found["long"] == value["long"]
    assert (found["text"], found["big"]) == (value["text"], value["big"])


def test_strings_of_python_2():
    assert read(b"S'it\\'s \\\\ \\x41\\n'\n.") == "it's \\ A\n"
    assert read(b"U\x03abc.") == "abc"
    assert read(b"U\x02\xff\x00.") == b"\xff\x00"  # bytes: it is no ASCII


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_are_records(protocol):
    found = read(pickle.dumps(OrderedDict(a=1), protocol))
    assert (found.name, found.pairs) == ("collections.OrderedDict", ["a", 1])
    found = read(pickle.dumps(defaultdict(list, {"a": 1}), protocol))
    assert (found.name, found.pairs) == ("collections.defaultdict", ["a", 1])
    assert found.arguments[0].name in ("builtins.list", "__builtin__.list")
    kind = type(Path("/etc"))
    assert (
        read(pickle.dumps(Path("/etc"), protocol)).name == f"{kind.__module__}.{kind.__name__}"
    )  # 3.13 moved it


class Runs:
    """Pickles into a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_are_not_made(tmp_path, protocol):
    trace = tmp_path / "trace"
    found = read(pickle.dumps({"x": [Runs(Path.mkdir, trace)]}, protocol))
    assert type(found.by_name()["x"][0]) is Called
    assert not trace.exists()


MKDIR = {
    "REDUCE": lambda path: call("os.mkdir", text(path)),
    "STACK_GLOBAL": lambda path: text("os") + text("mkdir") + b"\x93" + row(text(path)) + b"R",
    "INST": lambda path: b"(" + text(path) + b"ios\nmkdir\n",
    "OBJ": lambda path: b"(" + name("os.mkdir") + text(path) + b"o",
    "NEWOBJ": lambda path: name("os.mkdir") + row(text(path)) + b"\x81",
    "NEWOBJ_EX": lambda path: name("os.mkdir") + row(text(path)) + b"}\x92",
    "BUILD": lambda path: call("os.mkdir") + mapping(path=text(path)) + b"b",
    "dotted": lambda path: call("os.path.os.mkdir", text(path)),
    "computed": lambda path: call("builtins.getattr", name("os"), text("mkdir")) + row(text(path)) + b"R",
}


@pytest.mark.parametrize("instruction", MKDIR)
def test_no_instruction_calls(tmp_path, instruction):
    trace = tmp_path / "trace"
    found = unpickle(io.BytesIO(content := program(MKDIR[instruction](str(trace)), 4)), len(content))
    assert type(found.value) is Called
    assert any("os" in wanted or "getattr" in wanted for wanted in found.names)
    assert not trace.exists()


def test_what_is_done_to_records_is_kept_apart():
    made = call("a.B", number(1))
    found = read(
        program(made + mapping(x=number(2)) + b"b" + number(3) + b"a" + text("k") + number(4) + b"s")
    )
    assert (found.name, found.arguments, found.elements, found.pairs) == ("a.B", (1,), [3], ["k", 4])
    assert found.state == ["x", 2]
    assert not found.is_untouched
    assert found.arguments_of("a.B") is None
    assert read(program(made)).arguments_of("a.B") == (1,)
    found = unpickle(io.BytesIO(content := program(text("there") + b"Q")), len(content))
    assert type(found.value) is Persistent
    assert found.persistent == (found.value,)


DAMAGED = {
    "empty": b"",
    "nothing": b".",
    "no stop": b"]",
    "unknown": b"\xff.",
    "extension": b"\x82\x01.",
    "outside buffer": b"\x80\x05\x97.",
    "stack below a mark": b"](00.",
    "append below a mark": b"](" + number(1) + b"a.",
    "no mark": b"]e.",
    "odd dictionary": b"(" + number(1) + b"d.",
    "append to a number": number(1) + number(2) + b"a.",
    "set in a list": b"]" + number(0) + number(2) + b"s.",
    "add to a dictionary": b"}" + number(0) + b"a.",
    "state of a list": b"]]b.",
    "state of a class": name("a.B") + b"}b.",
    "two states": call("a.B") + b"}b}b.",
    "memory never filled": recall(3) + b".",
    "memory beyond the file": b"]r" + struct.pack("<I", 10**9) + b".",
    "negative memory": b"]p-1\n.",
    "length beyond the file": b"\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "negative length": b"T" + struct.pack("<i", -1) + b"x.",
    "negative number length": b"\x8b" + struct.pack("<i", -5) + b"x.",
    "bytes beyond the file": b"\x96" + struct.pack("<Q", 10**15) + b"x.",
    "no UTF-8": b"X\x01\x00\x00\x00\xff.",
    "long decimal": b"L" + b"9" * 5000 + b"L\n.",
    "octal decimal": b"I010\n.",
    "open string": b"S'abc\n.",
    "odd escape": b"S'\\q'\n.",
    "global without name": b"cos\n",
    "global of numbers": number(1) + number(2) + b"\x93.",
    "global of a very long name": text("m" * 300) + text("x") + b"\x93.",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_pickles(content):
    with pytest.raises(JaxalignError, match="its pickle is cut off, damaged or of an unknown kind"):
        read(content)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_cut(protocol):
    content = pickle.dumps({"a": [1, 2.5, "x", b"y", (1, 2), 1 << 70], "b": OrderedDict(c=None)}, protocol)
    for end in range(len(content)):
        with pytest.raises(JaxalignError):
            read(content[:end])


def doubled(times: int, first: bytes, join: bytes) -> bytes:
    """A value that holds the one before twice, and so on."""
    steps = [recall(i) + recall(i) + join + remember(i + 1) for i in range(times)]
    return first + remember(0) + b"".join(steps) + recall(times)


BOMBS = {
    "hash of a key": program(b"}" + doubled(60, b")", b"\x86") + number(1) + b"s"),
    "element of a set": program(b"\x8f(" + doubled(60, b")", b"\x86") + b"\x90", 4),
    "what lies outside": program(doubled(60, b")", b"\x86") + b"Q"),
    "deep tuples": program(b")" + b"\x85" * 200_000),
    "deep lists": program(b"]" * 200_000 + b"a" * 199_999),
    "deep dictionaries": program((b"}" + text("a")) * 100_000 + number(1) + b"s" * 100_000),
    "deep calls": program(
        name("a.B") + remember(0) + b")" + (remember(1) + recall(0) + recall(1) + b"R\x85") * 50_000
    ),
    "holds itself": program(b"]" + b"q\x00h\x00a"),
    "open marks": program(b"(" * 200_000 + b"N"),
}


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_nested_and_shared_values_take_time_as_their_bytes(content):
    start = time.process_time()
    value = read(content)
    del value
    assert time.process_time() - start < 5


def test_the_number_of_instructions_is_bounded(monkeypatch):
    monkeypatch.setattr(inert_pickle, "INSTRUCTIONS", 1000)
    assert read(b"]" + b"N0" * 499 + b".") == []
    with pytest.raises(JaxalignError, match="more than 1,000 instructions"):
        read(b"]" + b"N0" * 500 + b".")


def test_one_name_twice_in_a_dictionary():
    assert Pairs(["a", 1, 2, 3]).by_name() == {"a": 1}
    with pytest.raises(JaxalignError, match="'a' twice in one dictionary"):
        read(program(b"(" + (text("a") + number(1)) * 2 + b"d")).by_name()


def test_names_are_records():
    assert type(read(pickle.dumps(OrderedDict))) is Named
