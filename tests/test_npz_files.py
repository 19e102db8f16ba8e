"""`.npz` and `.safetensors` of others: bytes of any order are read right, anything else is one line."""

import contextlib
import io
import json
import os
import struct
import warnings
import zipfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.conversion.checkpoint_files import read_tensors
from jaxalign.conversion.npz_files import read_npz, write_npz
from jaxalign.errors import JaxalignError
from jaxalign.weights import stored
from jaxalign.weights.safetensors_files import read_safetensors

RNG = np.random.default_rng(0)


def npy(array: np.ndarray, **options) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def with_header(text: bytes, content: bytes = bytes(64), version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + content


def write(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED, name: str = "x.npy") -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(name, content)
    return path


def one_line(path: Path, match: str) -> None:
    with pytest.raises(JaxalignError, match=match) as caught:
        read_tensors(path)["x"].read()
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "kind", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", ">i4", "<u2", ">i8", "|u1", "|b1"]
)
def test_arrays_are_those_that_numpy_reads(kind, order, compression, tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "PART", 7)
    x = np.asarray(RNG.normal(size=(5, 4)) * 10, kind, order=order)
    for array in (x, x[0], x[:0], x[0, 0]):
        path = write(tmp_path / "m.npz", npy(array), compression)
        found = read_npz(path)["x"]
        assert (found.shape, found.dtype) == (array.shape, np.dtype(kind).newbyteorder("=").name)
        np.testing.assert_array_equal(found.read(), np.load(path)["x"])
        for elements in (1, 3, 100):
            parts = [part.copy() for part in found.parts(elements)]
            assert all(part.dtype.isnative and part.size <= elements for part in parts)
            np.testing.assert_array_equal(np.concatenate([*parts, np.empty(0)]), array.reshape(-1))


def test_half_precision_of_two_bytes(tmp_path):
    x = RNG.normal(size=(5, 4)).astype(jnp.bfloat16)
    write_npz({"x": x}, tmp_path / "m.npz")
    np.testing.assert_array_equal(read_npz(tmp_path / "m.npz")["x"].read(), x)
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = write(tmp_path / "m.npz", npy(np.asfortranarray(x)), compression)
        np.testing.assert_array_equal(read_npz(path)["x"].read(), x)


def test_headers_of_other_writers(tmp_path):
    for text in (
        b"{'descr':'<f4','fortran_order':False,'shape':(4,4)}",
        b"{'shape': (4L, 4L), 'fortran_order': False, 'descr': '<f4', }   \n",
        b"{ 'fortran_order' : False , 'descr' : '<f4' , 'shape' : ( 4 , 4 , ) }\n",
    ):
        for version in (1, 2, 3):
            path = write(tmp_path / "m.npz", with_header(text, version=version))
            assert read_npz(path)["x"].shape == (4, 4)


def header(descr: str = "'<f4'", order: str = "False", shape: str = "(4, 4)") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


REFUSED = {
    "objects": (
        npy(np.array([{}], object), allow_pickle=True),
        r"'\|O'; expected numbers.*allow_pickle=False",
    ),
    "text": (npy(np.array(["abc"])), "'<U3'; expected numbers"),
    "bytes": (npy(np.array([b"abc"])), r"'\|S3'; expected numbers"),
    "records": (npy(np.zeros(3, [("x", "f4")])), "an array of records"),
    "complex": (npy(np.ones(3, np.complex64)), "'<c8'; expected numbers"),
    "times": (npy(np.array(["2020-01-01"], "M8[s]")), "expected numbers"),
    "long": (npy(np.ones(3, np.longdouble)), "expected numbers"),
    "order that is not said": (with_header(header("'f4'")), "'f4'; expected numbers"),
    "native order": (with_header(header("'=f4'")), "'=f4'; expected numbers"),
    "a part": (with_header(header("('<f4', (2,))")), "damaged header"),
    "negative": (with_header(header(shape="(-1, 4)")), "damaged header"),
    "no tuple": (with_header(header(shape="(16)")), "damaged header"),
    "true": (with_header(header(shape="(True, 4)")), "damaged header"),
    "float": (with_header(header(shape="(4.0, 4)")), "damaged header"),
    "huge": (with_header(header(shape=f"({2**62}, {2**62})")), "damaged header"),
    "long lengths": (with_header(header(shape=f"({2**50}, 4)")), "lengths of 0 to"),
    "huge and empty": (with_header(header(shape=f"({2**40}, {2**40}, 0)"), b""), "more than"),
    "many axes": (with_header(header(shape=f"({'1, ' * 70})"), bytes(4)), "at most 64 lengths"),
    "code": (with_header(b"__import__('os').mkdir('trace')\n"), "damaged header"),
    "deep": (with_header(b"(" * 4000 + b")" * 4000), "damaged header"),
    "long header": (with_header(header() + b" " * 20_000, version=2), "a header of 20,[0-9]+ bytes"),
    "endless header": (
        b"\x93NUMPY\2\0" + struct.pack("<I", 3_500_000_000),
        "a header of 3,500,000,000 bytes",
    ),
    "twice": (with_header(header()[:-2] + b"'shape': (4, 4), }"), "damaged header"),
    "more": (with_header(header()[:-2] + b"'x': True, }"), "damaged header"),
    "less": (with_header(b"{'descr': '<f4', 'shape': (4, 4), }"), "damaged header"),
    "too few numbers": (with_header(header(), bytes(60)), "has [0-9]+ bytes, expected"),
    "too many numbers": (with_header(header(), bytes(68)), "has [0-9]+ bytes, expected"),
    "version": (with_header(header(), version=4), "no array as NumPy saves it"),
    "nothing": (b"", "no array as NumPy saves it"),
    "other": (b"hello", "no array as NumPy saves it"),
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(("content", "match"), REFUSED.values(), ids=REFUSED)
def test_arrays_that_are_refused(content, match, compression, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(write(tmp_path / "m.npz", content, compression), match)
    assert os.listdir(tmp_path) == ["m.npz"]


def test_archives_that_are_refused(tmp_path):
    path = write(tmp_path / "m.npz", npy(np.ones(3)))
    content = bytearray(path.read_bytes())
    content[content.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    one_line(path, "'x.npy' is encrypted")
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        one_line(write(tmp_path / "m.npz", npy(np.ones(3)), compression), "'x.npy' is compressed")
    path = write(tmp_path / "m.npz", npy(np.ones(3)))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("x.npy", npy(np.zeros(3)))
    one_line(path, "two members of the same name")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_every_changed_byte_is_seen(compression, tmp_path):
    """Or without effect: the directory says most things twice."""
    x = np.arange(6.0)
    path = write(tmp_path / "m.npz", npy(x), compression)
    whole = path.read_bytes()
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 4]) + whole[i + 1 :])
        with contextlib.suppress(JaxalignError):
            assert all((tensor.read() == x).all() for tensor in read_npz(path).values())


def test_a_member_that_inflates_to_more_than_it_says(tmp_path):
    """The directory says how much is read, and what is read is what it says."""
    path = write(tmp_path / "m.npz", npy(np.zeros(100_000)), zipfile.ZIP_DEFLATED)
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\1\2") + 24
    content[at : at + 4] = struct.pack("<I", 128 + 80)
    path.write_bytes(content)
    one_line(path, "Bad CRC-32|has 208 bytes")


def test_a_small_file_does_not_become_a_large_model(tmp_path):
    path = write(tmp_path / "m.npz", npy(np.zeros(1 << 25, np.float32)), zipfile.ZIP_DEFLATED)
    one_line(path, "have 134,217,728 bytes, and the file .* save it uncompressed")


def test_a_very_large_directory(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxalign.conversion.zip_members._AT_ONCE", 1000)
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        for i in range(100):
            archive.writestr(f"{i}.npy", npy(np.ones(1)))
    one_line(tmp_path / "m.npz", "a part of [0-9,]+ bytes; expected at most 1,000")


# Headers of safetensors.


def safetensors(path: Path, header: object, content: bytes = bytes(16)) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


def entry(**changes) -> dict:
    return {"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | changes}


HEADERS = {
    "float shape": (entry(shape=[4.0]), "something else than lengths"),
    "huge shape": (entry(shape=[10**400] * 5), "something else than lengths"),
    "many axes": (entry(shape=[1] * 100_000), "at most 64 lengths"),
    "huge and empty": (entry(shape=[2**40, 2**40, 0], data_offsets=[0, 0]), "more than"),
    "beyond": (entry(data_offsets=[16, 32]), "lacks bytes"),
    "reversed": (entry(data_offsets=[16, 0]), "lacks bytes"),
    "true": (entry(data_offsets=[False, 16]), "lacks bytes"),
    "three": (entry(data_offsets=[0, 8, 16]), "lacks bytes"),
    "float8": (entry(dtype="F8_E4M3"), "'x' is 'F8_E4M3'; expected F16, BF16 or F32"),
    "list": (entry(dtype=["F32"]), r"'x' is \['F32'\]; expected"),
    "deep": (b'{"x":' * 10_000, "cut off or damaged"),
    "deep lists": (b'{"x":' + b"[" * 100_000, "cut off or damaged"),
    "many digits": (b'{"x":' + b"9" * 5000 + b"}", "cut off or damaged"),
    "long name": (
        b'{"' + b"n" * 2000 + b'":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        "2,000 characters",
    ),
}


@pytest.mark.parametrize(("header", "match"), HEADERS.values(), ids=HEADERS)
def test_headers_that_are_refused(header, match, tmp_path):
    one_line(safetensors(tmp_path / "m.safetensors", header), match)


def test_a_header_beyond_the_limit_is_not_read(tmp_path):
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write((40 << 20).to_bytes(8, "little"))
        file.truncate(50 << 20)
    one_line(path, "a header of 41,943,040 bytes")


def test_names_reach_nobody_but_escaped(tmp_path):
    name = "\x1b[31mRED\nline\u202e"
    path = safetensors(tmp_path / "m.safetensors", {name: entry(dtype="I4")["x"]})
    with pytest.raises(JaxalignError) as caught:
        read_safetensors(path)
    assert str(caught.value).isprintable()
