"""Lists of data sets that somebody else wrote: what is no number is none, and no name is taken twice."""

import json
import os
import pickle
from pathlib import Path

import dataset_layouts as layouts
import numpy as np
import pytest
from pickle_programs import call, mapping, name, number, numbers, program, recall, remember, row, text

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import prepare
from jaxalign.eval.datasets.readers import annotations, revisited
from jaxalign.eval.datasets.readers.revisited import read_plain_pickle


def refused(act, match: str) -> None:
    with pytest.raises(JaxalignError, match=match) as caught:
        act()
    assert "\n" not in str(caught.value)


# CoOp's split files.


@pytest.fixture
def split(tmp_path):
    """Writes the file with other content, and reads it."""
    record = layouts.zhou(tmp_path)
    file = tmp_path / "caltech-101" / "split_zhou_Caltech101.json"
    rows = json.loads(file.read_text())

    def read(content=None, **changes):
        file.write_bytes(content if content is not None else json.dumps(rows | changes).encode())
        return annotations.read_split_file(record, file)

    return read


ROWS = {
    "fraction": ["x.jpg", 1.7, "cat"],
    "whole fraction": ["x.jpg", 1.0, "cat"],
    "true": ["x.jpg", True, "face"],
    "text": ["x.jpg", "0", "crab"],
    "infinity": ["x.jpg", float("inf"), "crab"],
    "not a number": ["x.jpg", float("nan"), "crab"],
    "null": ["x.jpg", None, "crab"],
    "negative": ["x.jpg", -1, "crab"],
    "huge": ["x.jpg", 10**400, "crab"],
    "no class": ["x.jpg", 0, None],
    "class of a number": ["x.jpg", 0, 3],
    "no path": [None, 0, "crab"],
    "short": ["x.jpg", 0],
    "long": ["x.jpg", 0, "crab", 1],
    "text alone": "abc",
    "object": {"path": "x.jpg"},
    "nested": [[[[[["x.jpg"]]]]], 0, "crab"],
}


@pytest.mark.parametrize("wrong", ROWS.values(), ids=ROWS)
def test_a_row_of_anything_else_is_refused(split, wrong):
    refused(lambda: split(val=[wrong]), r"lists \"train\", .*; got ")


@pytest.mark.parametrize("wrong", [None, 3, "abc", {"a": 1}, True])
def test_a_split_of_anything_else_is_refused(split, wrong):
    refused(lambda: split(val=wrong), r"lists \"train\", .*; val is ")


DOCUMENTS = {
    "deep": b"[" * 100_000,
    "deep objects": b'{"train":' * 100_000,
    "a split twice": b'{"train": [], "val": [], "test": [], "train": [["x.jpg", 0, "a"]]}',
    "many digits": b'{"train": ' + b"9" * 5000 + b"}",
    "other text": "{}".encode("utf-16"),
    "nothing": b"",
}


@pytest.mark.parametrize("content", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_of_anything_else_is_refused(split, content):
    refused(lambda: split(content), r"caltech101: .* is not valid JSON .*get the file again")


def test_a_mark_at_the_start_is_no_part_of_it(split):
    rows = {"train": [["x.jpg", 0, "a"]], "val": [], "test": []}
    splits, names = split(b"\xef\xbb\xbf" + json.dumps(rows).encode())
    assert (splits["train"], names) == ([("x.jpg", 0)], ("a",))


def test_a_pipe_is_not_read(tmp_path):
    record = layouts.zhou(tmp_path)
    os.mkfifo(tmp_path / "pipe.json")
    refused(lambda: annotations.read_split_file(record, tmp_path / "pipe.json"), "caltech101: .* is a pipe")


# The other lists.


def changed(root: Path, file: str, change) -> None:
    content = json.loads((root / file).read_text())
    change(content)
    (root / file).write_text(json.dumps(content))


def karpathy(key, value):
    return lambda content: content["images"][0].update({key: value})


OTHERS = {
    "caption": (layouts.karpathy, annotations.read_karpathy, karpathy("sentences", [{"raw": None}])),
    "captions": (layouts.karpathy, annotations.read_karpathy, karpathy("sentences", None)),
    "file": (layouts.karpathy, annotations.read_karpathy, karpathy("filename", 3)),
    "split": (layouts.karpathy, annotations.read_karpathy, karpathy("split", ["train"])),
    "nocaps caption": (
        layouts.nocaps,
        annotations.read_nocaps,
        lambda content: content["annotations"][0].update(caption=3),
    ),
    "nocaps id": (
        layouts.nocaps,
        annotations.read_nocaps,
        lambda content: content["annotations"][0].update(image_id=True),
    ),
    "nocaps ids": (
        layouts.nocaps,
        annotations.read_nocaps,
        lambda content: content["images"].append(content["images"][0] | {"file_name": "other.jpg"}),
    ),
    "frame": (layouts.bdd100k, annotations.read_bdd100k, lambda content: content[0].update(name=None)),
    "species": (
        layouts.inat2021_mini,
        annotations.read_inaturalist,
        lambda content: content["categories"][0].update(name=None, common_name=None),
    ),
    "species id": (
        layouts.inat2021_mini,
        annotations.read_inaturalist,
        lambda content: content["annotations"][0].update(category_id=True),
    ),
    "image": (
        layouts.inat2021_mini,
        annotations.read_inaturalist,
        lambda content: content["images"][0].update(file_name=["x"]),
    ),
    "annotations": (
        layouts.inat2021_mini,
        annotations.read_inaturalist,
        lambda content: content["annotations"].append(content["annotations"][0] | {"category_id": 1}),
    ),
}


@pytest.mark.parametrize(("write", "read", "change"), OTHERS.values(), ids=OTHERS)
def test_lists_with_values_of_another_type(write, read, change, tmp_path):
    record = write(tmp_path)
    file = next(path for path in sorted(tmp_path.rglob("*.json")))
    changed(tmp_path, str(file.relative_to(tmp_path)), change)
    refused(lambda: read(record, tmp_path), f"{record.name}: .* is not what was expected")


# Ground truth, which is pickled.


@pytest.fixture
def truth(tmp_path):
    """Writes the ground truth with changes in its first query, and reads it."""
    record = layouts.revisited(tmp_path)
    file = tmp_path / "roxford5k" / "gnd_roxford5k.pkl"
    stored = pickle.loads(file.read_bytes())

    def read(protocol: int = 2, top=None, **changes):
        gnd = [stored["gnd"][0] | changes, *stored["gnd"][1:]]
        file.write_bytes(pickle.dumps(stored | {"gnd": gnd} | (top or {}), protocol))
        return revisited.read(record, tmp_path)

    return read


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_positions_and_boxes_of_every_kind_of_number(truth, protocol):
    for easy in ([2], np.array([2]), np.array([2], ">i2"), [np.int64(2)], np.array([2.0]), [2.0], (2,)):
        content = truth(protocol, easy=easy, bbx=np.array([1, 2, 3, 4], ">f4"))
        assert content.ground_truth["query"][0]["easy"] == [2]
        assert content.splits["query"][0].box == (1, 2, 3, 4)


WRONG = {
    "infinite": {"easy": [float("inf")]},
    "infinite in an array": {"easy": np.array([np.inf])},
    "not a number": {"easy": [float("nan")]},
    "fraction": {"easy": [0.9]},
    "fraction in an array": {"easy": np.array([0.9])},
    "negative": {"easy": [-1]},
    "negative fraction": {"easy": [-0.5]},
    "beyond": {"junk": [3]},
    "true": {"hard": [True]},
    "true in an array": {"hard": np.array([True])},
    "text": {"easy": ["0"]},
    "text alone": {"easy": "0"},
    "bytes": {"easy": b"\x00"},
    "number": {"easy": 0},
    "null": {"easy": None},
    "dictionary": {"easy": {}},
    "nested": {"easy": [[0]]},
    "two axes": {"easy": np.array([[0]])},
    "huge": {"easy": [10**400]},
    "huge box": {"bbx": [0, 0, 10**400, 1]},
    "infinite box": {"bbx": [0, 0, float("inf"), 1]},
    "box of text": {"bbx": ["0", "0", "1", "1"]},
    "box of truth": {"bbx": [False, 0, True, 1]},
    "short box": {"bbx": [0, 0, 1]},
    "no box": {"bbx": None},
    "no names": {"top": {"imlist": "abc"}},
    "a name of a number": {"top": {"imlist": ["a", 3, "c"]}},
    "no name": {"top": {"qimlist": ["a", None]}},
    "no queries": {"top": {"gnd": 3}},
    "a query of text": {"top": {"gnd": ["a", "b"]}},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_ground_truth_of_anything_else_is_refused(truth, changes):
    refused(lambda: truth(**changes), "roxford5k: .* is not what was expected")


def doubled(times: int) -> bytes:
    steps = [b"]" + (recall(i) + b"a") * 2 + remember(i + 1) for i in range(times)]
    return number(1) + remember(0) + b"".join(steps) + recall(times)


SHARED = b"(" + recall(0) * 1000 + b"l"
REFUSED = {
    "code": (call("os.system", text("true")), r"asks for os\.system"),
    "code as an instruction": (b"(" + text("true") + b"ios\nsystem\n", r"asks for os\.system"),
    "class": (name("os.system"), r"asks for os\.system"),
    "empty array": (call("numpy.ndarray", numbers(10**15)), r"asks for numpy\.ndarray"),
    "other files": (text("x") + b"Q", "asks for data of other files"),
    "set": (b"\x8f", r"asks for builtins\.set"),
    "lists doubled": (doubled(60), "hold each other"),
    "holds itself": (b"]q\0h\0a", "hold each other"),
    "deep": (b"]" * 100_000 + b"a" * 99_999, "hold each other"),
    "deep tuples": (b")" + b"\x85" * 100_000, "hold each other"),
    "key of a tuple": (b"}" + row(number(1)) + number(1) + b"s", "keys are no strings"),
    "key twice": (b"}" + (text("a") + number(1) + b"s") * 2, "'a' twice"),
    "array of text": (pickle.dumps(np.array(["a"]), 2)[2:-1], "an array of"),
    "encoded text often": (
        call("_codecs.encode", text("x" * 100_000), text("latin1")) + remember(0) + SHARED,
        "hold each other",
    ),
    "array often": (pickle.dumps(np.zeros(20_000), 2)[2:-1] + remember(0) + SHARED, "hold each other"),
    "number that cannot be printed": (b"\x8b\x88\x13\0\0" + b"\x7f" * 5000, "a number of 39,999 bits"),
    "memory": (b"]r\x00\xca\x9a\x3b", "cut off, damaged"),
}


@pytest.mark.parametrize(("content", "match"), REFUSED.values(), ids=REFUSED)
def test_pickles_of_more_than_plain_data(content, match, tmp_path):
    file = tmp_path / "gnd.pkl"
    file.write_bytes(program(content, 4))
    refused(lambda: read_plain_pickle(file), rf"gnd\.pkl is refused: .*{match}")


def test_plain_data(tmp_path):
    plain = {"a": [1, 2.5, None, True, "x", b"y", (1, 2)], "b": {"c": []}}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "gnd.pkl").write_bytes(pickle.dumps(plain, protocol))
        expected = plain | {"a": [*plain["a"][:-1], [1, 2]]}
        assert read_plain_pickle(tmp_path / "gnd.pkl") == expected
    (tmp_path / "gnd.pkl").write_bytes(program(mapping(a=number(1))))
    assert read_plain_pickle(tmp_path / "gnd.pkl") == {"a": 1}


def test_a_pickle_beyond_the_limit_and_a_pipe(tmp_path, monkeypatch):
    monkeypatch.setattr(revisited, "LIMIT", 100)
    (tmp_path / "gnd.pkl").write_bytes(pickle.dumps("x" * 200))
    refused(lambda: read_plain_pickle(tmp_path / "gnd.pkl"), "(more than|at most) 100")
    os.mkfifo(tmp_path / "pipe.pkl")
    refused(lambda: read_plain_pickle(tmp_path / "pipe.pkl"), "is a pipe; expected a file")


def test_nothing_is_prepared_from_a_list_that_is_wrong(tmp_path):
    record = layouts.zhou(tmp_path)
    file = tmp_path / "caltech-101" / "split_zhou_Caltech101.json"
    file.write_text(file.read_text().replace('"x.jpg", 2,', '"x.jpg", 2.5,'))
    refused(lambda: prepare(record, tmp_path / "tfds", tmp_path), r"caltech101: .*; got \['x.jpg', 2.5,")
    assert not list((tmp_path / "tfds").rglob("*.array_record*"))
