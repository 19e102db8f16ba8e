"""Arrays in pickles: the numbers that NumPy would give, and no array of anything else."""

import io
import pickle
import struct

import numpy as np
import pytest
from pickle_programs import call, name, number, numbers, program, row, text

from jaxalign.errors import JaxalignError
from jaxalign.weights.inert_pickle import unpickle
from jaxalign.weights.pickled_arrays import as_array, number_type

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NUMBERS = (
    "b1",
    "i1",
    "u1",
    "<i2",
    ">u2",
    "<i4",
    ">i4",
    "<u8",
    ">i8",
    "<f2",
    ">f2",
    "<f4",
    ">f4",
    "<f8",
    ">f8",
)


def read(content: bytes) -> np.ndarray | None:
    return as_array(unpickle(io.BytesIO(content), len(content)).value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", NUMBERS)
def test_arrays_are_what_was_pickled(kind, protocol):
    x = np.random.default_rng(0).integers(0, 100, (3, 4)).astype(kind)
    for array in (x, np.asfortranarray(x), x[1], x[:0], x[0, 0], np.array(x[0, 0])):
        found = read(pickle.dumps(array, protocol))
        assert found is not None
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.array([{}, None], object),
        np.array(["a"]),
        np.array([b"a"]),
        np.zeros(2, [("x", "f4")]),
        np.zeros(2, np.dtype((np.void, 3))),
        np.complex64(1),
        np.longdouble(1),
        np.datetime64("2020-01-01"),
    ],
    ids=["objects", "text", "bytes", "records", "void", "complex", "long", "time"],
)
def test_arrays_of_anything_but_numbers_are_refused(array, protocol):
    with pytest.raises(JaxalignError, match=r"an array of|a damaged array"):
        read(pickle.dumps(array, protocol))


def test_subclasses_are_no_arrays():
    for array in (np.ma.masked_array([1, 2], [True, False]), np.rec.array([(1, 2)], dtype="i4,i4")):
        assert read(pickle.dumps(array)) is None


def dtype(descr: str = "f8", state: bytes | None = None) -> bytes:
    made = call("numpy.dtype", text(descr), number(0), number(1))
    return made if state is None else made + state + b"b"


def state(*changes: tuple[int, bytes]) -> bytes:
    """What NumPy pickles for little-endian numbers, with changes at some places."""
    parts = [number(3), text("<"), b"N", b"N", b"N", number(-1), number(-1), number(0)]
    for at, content in changes:
        parts[at] = content
    return row(*parts)


def from_buffer(kind: bytes, content: bytes = b"12345678", shape: bytes = numbers(1)) -> bytes:
    data = pickle.BINBYTES + struct.pack("<I", len(content)) + content
    return program(call("numpy.core.numeric._frombuffer", data, kind, shape, text("C")), 3)


def test_a_plain_state_is_read():
    content = np.array([1.5]).tobytes()
    for kind in (dtype("f8", state()), dtype("<f8")):
        found = read(from_buffer(kind, content))
        assert found is not None
        assert found.tolist() == [1.5]


PART = row(dtype("<f8"), numbers(10**8))
STATES = {
    "parts, large": state((1, text(">")), (2, PART), (5, number(8 * 10**8)), (6, number(1))),
    "parts": state((2, PART)),
    "names": state((3, row(text("x")))),
    "fields": state((4, b"}")),
    "size": state((5, number(800))),
    "alignment": state((6, number(1))),
    "flags": state((7, number(63))),
    "metadata": row(number(4), text("<"), b"N", b"N", b"N", number(-1), number(-1), number(0), b"}"),
    "true size": state((5, pickle.NEWTRUE)),
    "order": state((1, text("="))),
    "no order": state((1, b"N")),
    "short": row(number(3), text("<")),
    "number": number(3),
}


@pytest.mark.parametrize("made", STATES.values(), ids=STATES)
def test_a_type_that_is_given_more_than_an_order_is_refused(made):
    """Such types were arrays over memory that is nobody's."""
    for content in (from_buffer(dtype("f8", made)), from_buffer(dtype(">f8", made))):
        with pytest.raises(JaxalignError):
            read(content)


WRONG = {
    "too short": from_buffer(dtype("<f8"), b"1234567"),
    "too long": from_buffer(dtype("<f8"), b"123456789"),
    "negative": from_buffer(dtype("<f8"), shape=numbers(-1)),
    "huge": from_buffer(dtype("<f8"), shape=numbers(2**62, 2**62)),
    "huge and empty": from_buffer(dtype("<f8"), b"", numbers(2**40, 2**40, 0)),
    "many axes": from_buffer(dtype("<f8"), shape=numbers(*[1] * 70)),
    "true": from_buffer(dtype("<f8"), shape=row(pickle.NEWTRUE)),
    "shape": from_buffer(dtype("<f8"), shape=text("1")),
    "order unknown": from_buffer(dtype("f8")),
    "type": from_buffer(name("numpy.dtype")),
    "type of a number": from_buffer(call("numpy.dtype", number(1))),
    "type of another kind": from_buffer(call("numpy.ndarray", text("<f8"))),
    "empty scalar": program(call("numpy.core.multiarray.scalar", dtype("<f8"), b"C\0"), 3),
    "state beyond its data": program(
        call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), numbers(0), b"C\1b")
        + row(number(1), numbers(1 << 28), dtype("<f8"), pickle.NEWFALSE, b"C\x08abcdefgh")
        + b"b",
        3,
    ),
    "no state": program(
        call("numpy.core.multiarray._reconstruct", name("numpy.ndarray"), numbers(0), b"C\1b"), 3
    ),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_damaged_arrays(content):
    with pytest.raises(JaxalignError):
        read(content)


def test_an_array_that_is_changed_is_none():
    made = from_buffer(dtype("<f8"))[:-1]
    assert read(made + number(0) + number(7) + b"s.") is None
    assert read(program(call("numpy.ndarray", numbers(10**10)))) is None


@pytest.mark.parametrize(
    "descr", ["O", "<U3", "|S3", "<c8", "<f16", "<M8[s]", "f4", "=f4", "<f3", "|f4", "", "(2,)<f4"]
)
def test_simple_types_alone(descr):
    with pytest.raises(JaxalignError, match="expected numbers"):
        number_type(descr)
