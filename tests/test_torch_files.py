"""PyTorch's files: what the weights need is read, the rest is inert, and nothing reaches beyond its bytes."""

import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from pickle_programs import (
    LEGACY,
    VECTOR,
    call,
    legacy,
    mapping,
    name,
    number,
    numbers,
    program,
    recall,
    remember,
    row,
    storage,
    tensor,
    text,
    torch_zip,
)

from jaxalign.conversion import torch_pickle
from jaxalign.conversion.checkpoint_files import read_tensors
from jaxalign.conversion.torch_files import read_torch
from jaxalign.errors import JaxalignError


def read_all(path: Path) -> dict[str, np.ndarray]:
    return {key: found.read() for key, found in read_tensors(path).items()}


def one_line(path: Path, match: str) -> None:
    with pytest.raises(JaxalignError, match=match) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_file_written_by_hand_is_read(tmp_path):
    found = read_torch(torch_zip(tmp_path / "m.pt", program(mapping(w=VECTOR))))
    np.testing.assert_array_equal(found["w"].read(), [0, 1, 2, 3])


# Tensors that lie elsewhere than in their storage.

OTHER_TYPE = tensor(numbers(4), numbers(1), held=storage(4, kind="torch.HalfStorage"))
OUTSIDE = {
    "negative strides": tensor(numbers(4), numbers(-1), number(3)),
    "negative strides far": tensor(numbers(4), numbers(-(2**24))),
    "negative offset": tensor(numbers(1), numbers(1), number(-1)),
    "offset beyond": tensor(numbers(1), numbers(1), number(4)),
    "longer": tensor(numbers(5), numbers(1)),
    "wider": tensor(numbers(2, 2), numbers(3, 1)),
    "overflowing strides": tensor(numbers(2, 2), numbers(2**62, 1)),
    "beyond all bounds": tensor(numbers(2, 2), numbers(2**70, 1)),
    "huge shape": tensor(numbers(2**40, 2**40), numbers(0, 0)),
    "negative shape": tensor(numbers(-1), numbers(1)),
    "true shape": tensor(row(pickle.NEWTRUE), numbers(1)),
    "shape of text": tensor(text("4"), numbers(1)),
    "fewer strides": tensor(numbers(2, 2), numbers(1)),
    "true strides": tensor(numbers(4), row(pickle.NEWTRUE)),
    "float offset": tensor(numbers(1), numbers(1), pickle.BINFLOAT + struct.pack(">d", 0)),
    "storage of another size": tensor(numbers(4), numbers(1), held=storage(5)),
    "storage of another type": OTHER_TYPE,
    "lost storage": tensor(numbers(4), numbers(1), held=storage(4, "1")),
    "storage outside": tensor(numbers(4), numbers(1), held=storage(4, "../data/0")),
    "negative storage": tensor(numbers(4), numbers(1), held=storage(-4)),
    "huge storage": tensor(numbers(4), numbers(1), held=storage(1 << 200)),
}


@pytest.mark.parametrize("made", OUTSIDE.values(), ids=OUTSIDE)
def test_a_tensor_lies_in_its_storage(tmp_path, made):
    content = program(mapping(w=made))
    one_line(torch_zip(tmp_path / "m.pt", content), "damaged|a shape")
    if made != OTHER_TYPE:  # older files say of a storage only how many numbers it has
        one_line(legacy(tmp_path / "m.bin", content), "damaged|a shape")


def test_strides_of_axes_of_one_mean_nothing(tmp_path):
    made = tensor(numbers(1, 4), numbers(2**62, 1))
    found = read_torch(torch_zip(tmp_path / "m.pt", program(mapping(w=made, v=VECTOR))))
    np.testing.assert_array_equal(found["w"].read(), [[0, 1, 2, 3]])


def test_a_tensor_that_the_pickle_changes_is_none(tmp_path):
    """BUILD and SETITEM would be other numbers than those of the storage."""
    state = mapping(offset=number(-(2**20)), strides=numbers(-4)) + b"b"
    for change in (state, number(0) + number(7) + b"s", number(7) + b"a"):
        path = torch_zip(tmp_path / "m.pt", program(mapping(w=VECTOR + change, v=VECTOR)))
        found = read_torch(path)
        assert (found["w"].is_object, found["v"].is_object) == (True, False)
        with pytest.raises(
            JaxalignError, match=r"an object of torch\._utils\._rebuild_tensor_v2 with changes"
        ):
            found["w"].read()


@pytest.mark.parametrize("metadata", [mapping(neg=pickle.NEWTRUE), number(1)])
def test_a_tensor_that_is_the_negative_of_its_storage_is_none(tmp_path, metadata):
    hooks = (pickle.NEWFALSE, call("collections.OrderedDict"))
    plain = tensor(numbers(4), numbers(1), number(0), storage(4), *hooks, mapping())
    made = tensor(numbers(4), numbers(1), number(0), storage(4), *hooks, metadata)
    found = read_torch(torch_zip(tmp_path / "m.pt", program(mapping(w=made, v=plain))))
    assert (found["w"].is_object, found["v"].is_object) == (True, False)


def test_a_small_storage_is_not_spread_over_all_memory(tmp_path):
    made = tensor(numbers(10**5, 10**5), numbers(0, 0))
    one_line(
        torch_zip(tmp_path / "m.pt", program(mapping(w=made))), "have 40,000,000,000 bytes, and the file"
    )
    many = tensor(numbers(2**22), numbers(0)) + remember(0)
    content = many + b"}" + b"".join(text(str(i)) + recall(0) + b"s" for i in range(9))
    one_line(torch_zip(tmp_path / "m.pt", program(content)), "expected at most 16 times as many")


def test_views_that_lie_far_apart_are_not_read(tmp_path):
    """Two elements each, and all that lies between them would be read for every one."""
    count = 1 << 20
    made = tensor(numbers(2), numbers(count - 1), held=storage(count)) + remember(0)
    content = made + b"}" + b"".join(text(str(i)) + recall(0) + b"s" for i in range(40))
    path = torch_zip(tmp_path / "m.pt", program(content), **{"0": np.zeros(count, np.float32)})
    one_line(path, "its views reach over 167,772,160 bytes; expected at most")


# Mappings that hold each other.


def laughs(times: int) -> bytes:
    steps = [mapping(a=recall(i), b=recall(i)) + remember(i + 1) for i in range(times)]
    return VECTOR + remember(0) + b"".join(steps) + recall(times)


NESTED = {
    "held twice, sixty times": laughs(60),
    "under a usual name": mapping(model=laughs(60)),
    "holds itself": b"}" + b"q\0" + text("a") + b"h\0s",
    "holds itself as state": b"}" + b"q\0" + text("state_dict") + b"h\0s" + text("w") + VECTOR + b"s",
    "deep": (b"}" + text("a")) * 50_000 + VECTOR + b"s" * 50_000,
    "long names": text("x" * 200_000)
    + remember(1)
    + VECTOR
    + remember(0)
    + b"}"
    + recall(1)
    + b"}("
    + b"".join(text(str(i)) + recall(0) for i in range(1000))
    + b"us",
    "pairs of Python 2": b"]("
    + b"](NNe" * 10_000
    + b"Ne"
    + remember(0)
    + call("collections.OrderedDict", recall(0))
    + remember(1)
    + b"}("
    + b"".join(text(str(i)) + recall(1) for i in range(10_000))
    + b"u",
}


@pytest.mark.parametrize("content", NESTED.values(), ids=NESTED)
@pytest.mark.long
def test_shared_and_nested_mappings_end_in_one_line(tmp_path, content):
    path = torch_zip(tmp_path / "m.pt", program(content))
    one_line(path, "hold each other|tensors by name|a name of|more than 100,000 tensors")


def test_limits(tmp_path, monkeypatch):
    one_line(
        torch_zip(tmp_path / "m.pt", program(mapping(**{"x" * 1001: VECTOR}))), "a name of 1,001 characters"
    )
    monkeypatch.setattr(torch_pickle, "MOST_TENSORS", 1)
    one_line(torch_zip(tmp_path / "m.pt", program(mapping(a=VECTOR, b=VECTOR))), "more than 1 tensors")


def test_one_name_for_two_tensors(tmp_path):
    twice = b"}" + (text("w") + VECTOR + b"s") * 2
    one_line(torch_zip(tmp_path / "m.pt", program(twice)), "'w' twice")
    joined = b"}" + text("a.b") + VECTOR + b"s" + text("a") + mapping(b=VECTOR) + b"s"
    one_line(torch_zip(tmp_path / "m.pt", program(joined)), r"'a\.b' twice")


def test_a_tensor_of_the_name_of_a_wrapper(tmp_path):
    found = read_torch(torch_zip(tmp_path / "m.pt", program(mapping(w=VECTOR, model=VECTOR))))
    assert list(found) == ["w", "model"]


def test_shapes_as_old_files_have_them(tmp_path):
    made = tensor(call("torch.Size", numbers(2, 2)), numbers(2, 1))
    found = read_torch(torch_zip(tmp_path / "m.pt", program(mapping(w=made))))
    np.testing.assert_array_equal(found["w"].read(), [[0, 1], [2, 3]])


def test_two_state_dicts(tmp_path):
    content = mapping(model=mapping(w=VECTOR), state_dict=mapping(w=VECTOR))
    one_line(torch_zip(tmp_path / "m.pt", program(content)), "weights under state_dict and model")
    content = mapping(model=mapping(width=number(3)), state_dict=mapping(w=VECTOR))
    assert list(read_torch(torch_zip(tmp_path / "m.pt", program(content)))) == ["w"]


def test_state_dicts_of_python_2(tmp_path):
    pairs = b"](](" + text("w") + VECTOR + b"ee"
    content = program(call("collections.OrderedDict", pairs))
    for path in (torch_zip(tmp_path / "m.pt", content), legacy(tmp_path / "m.bin", content)):
        np.testing.assert_array_equal(read_torch(path)["w"].read(), [0, 1, 2, 3])


def test_a_part_of_a_storage_as_old_files_have_it(tmp_path):
    said = row(text("storage"), name("torch.FloatStorage"), text("0"), text("cpu"), number(4))
    view = said[:-1] + row(text("v"), number(2), number(2)) + b"tQ"
    content = program(mapping(w=tensor(numbers(2), numbers(1), held=view)))
    one_line(legacy(tmp_path / "m.bin", content), "a part of a storage")
    whole = program(mapping(w=tensor(numbers(2), numbers(1), held=said[:-1] + b"NtQ")))
    np.testing.assert_array_equal(read_torch(legacy(tmp_path / "m.bin", whole))["w"].read(), [0, 1])


# Archives and older files that are not as they should be.


def rewritten(path: Path, change) -> Path:
    path.write_bytes(change(bytearray(path.read_bytes())))
    return path


def encrypted(content: bytearray) -> bytearray:
    at = content.find(b"PK\1\2")
    content[at + 8] |= 1
    return content


def test_archives_of_another_kind(tmp_path):
    good = program(mapping(w=VECTOR))
    for more, match in (
        (lambda z: z.writestr("archive/data.pkl", b"\x80\x02}."), "two members of the same name"),
        (lambda z: z.writestr("archive/data/0", bytes(16)), "two members of the same name"),
        (lambda z: z.writestr("other/data.pkl", good), "no data.pkl"),
        (lambda z: z.writestr("archive/byteorder", "big"), "big-endian machine"),
        (lambda z: z.writestr("archive/byteorder", "big" * 100), "has 300 bytes; expected at most 10"),
        (lambda z: z.writestr("archive/x", b"x" * 99, zipfile.ZIP_BZIP2), "'archive/x' is compressed"),
    ):
        path = torch_zip(tmp_path / "m.pt", good)
        with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:
            warnings.simplefilter("ignore")
            more(archive)
        one_line(path, match)
    one_line(rewritten(torch_zip(tmp_path / "m.pt", good), encrypted), "'archive/data.pkl' is encrypted")
    for end in range(0, len(torch_zip(tmp_path / "m.pt", good).read_bytes()), 7):
        one_line(
            rewritten(torch_zip(tmp_path / "m.pt", good), lambda content, end=end: content[:end]), "m.pt"
        )


def test_what_is_deflated(tmp_path, monkeypatch):
    """The pickle is read within a limit; tensors are read from the file itself."""
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", program(mapping(w=VECTOR) + b"N0" * 100_000))
        archive.writestr("archive/data/0", bytes(16))
    one_line(path, "storage '0' is missing or of another size")
    monkeypatch.setattr("jaxalign.conversion.torch_files.LIMIT", 1000)
    one_line(path, "'archive/data.pkl' has 200,[0-9]+ bytes; expected at most 1,000")


def test_older_files_that_are_damaged(tmp_path):
    good = program(mapping(w=VECTOR))
    np.testing.assert_array_equal(read_torch(legacy(tmp_path / "m.bin", good))["w"].read(), [0, 1, 2, 3])
    one_line(legacy(tmp_path / "m.bin", good, count=2**63 - 1), "ends before its last storage does")
    one_line(legacy(tmp_path / "m.bin", good, count=-1), "ends before its last storage does")
    one_line(legacy(tmp_path / "m.bin", good, keys=("0", "0")), "ends before|of an unknown kind")
    one_line(legacy(tmp_path / "m.bin", good, keys=("1",)), "of an unknown kind")
    one_line(legacy(tmp_path / "m.bin", good, keys=()), "missing or of another size")
    code = program(call("os.system", text("true")))
    one_line(legacy(tmp_path / "m.bin", code, keys=()), r"asks for os\.system, .* nothing was executed")
    path = tmp_path / "m.bin"
    for content in (
        b"",
        b"text",
        b"\x80\x02K\x01.",
        LEGACY[0] + LEGACY[0],
        b"x" * 257 + b"ustar" + b"0" * 300,
    ):
        path.write_bytes(content)
        one_line(path, "damaged or no file that torch.save wrote")


def test_what_is_no_regular_file(tmp_path):
    for suffix in (".pt", ".npz", ".safetensors"):
        os.mkfifo(tmp_path / f"pipe{suffix}")
        one_line(tmp_path / f"pipe{suffix}", "is a pipe; expected a file")
        (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
        one_line(tmp_path / f"zero{suffix}", "is a device; expected a file")
        (tmp_path / f"folder{suffix}").mkdir()
        one_line(tmp_path / f"folder{suffix}", "is a folder; expected a file")
