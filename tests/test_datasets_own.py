"""Data sets of one's own in the layouts of WebDataset and of Hugging Face's `datasets`."""

import io
import json
import re
import tarfile
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from dataset_layouts import image_bytes

import jaxalign as ja
from jaxalign import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.datasets import (
    DATASETS,
    find_dataset,
    known_datasets,
    load_split,
    loading,
    register_dataset,
)
from jaxalign.eval.datasets.data_reading import Keys, own_record
from jaxalign.eval.datasets.huggingface import huggingface_record
from jaxalign.eval.datasets.webdataset import webdataset_record
from jaxalign.eval.tasks.runs import read_runs

KEYS = Keys(label="cls", text="txt")


def write_tar(path, files, mode: Any = "w"):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def example(seed, **more):
    facts = json.dumps({"kind": seed % 3, "said": [f"shape {seed}", "it"]}).encode()
    return {
        f"a/{seed:03}.png": image_bytes(seed),
        f"a/{seed:03}.cls": b"%d\n" % (seed % 2),
        f"a/{seed:03}.txt": f"shape {seed}".encode(),
        f"a/{seed:03}.json": facts,
        **more,
    }


def of_seeds(*seeds):
    return {name: content for seed in seeds for name, content in example(seed).items()}


@pytest.fixture
def shards(tmp_path):
    """Two shards of `train`, one of `test`; images are PNG here, whatever their mode."""
    write_tar(tmp_path / "train-000.tar", of_seeds(0, 3, 4))
    write_tar(tmp_path / "train-001.tar", of_seeds(5))
    write_tar(tmp_path / "test-000.tar", of_seeds(8, 9))
    return tmp_path


def test_tar_files_of_webdataset(shards):
    record = webdataset_record(f"webdataset:{shards}", KEYS)
    assert (record.splits, record.query, record.gallery) == ({"test": 2, "train": 4}, "test", "train")
    train = load_split(record, "train")
    assert train.labels["cls"].tolist() == [0, 1, 0, 1]
    assert train.label_names["cls"] == ("0", "1")
    assert train.captions == (("shape 0",), ("shape 3",), ("shape 4",), ("shape 5",))
    assert [train.images.read_bytes(row) for row in range(4)] == [image_bytes(seed) for seed in (0, 3, 4, 5)]
    inner = load_split(
        webdataset_record(f"webdataset:{shards}", Keys(label="json.kind", text="json.said")), "test"
    )
    assert inner.labels["json.kind"].tolist() == [2, 0]
    assert inner.captions[0] == ("shape 8", "it")
    alone = load_split(webdataset_record(f"webdataset:{shards}/test-000.tar", KEYS), "test")
    assert alone.content == load_split(record, "test").content
    write_tar(shards / "more.tar", of_seeds(11))
    assert webdataset_record(f"webdataset:{shards}", KEYS).splits == {"all": 7}


@pytest.mark.parametrize(
    ("files", "keys", "message"),
    [
        (of_seeds(0) | {"a/001.cls": b"1"}, KEYS, "a/001 of .* has no .png; expected one of every example"),
        (of_seeds(0) | {"a/000.cls": b"-1"}, KEYS, "has the label '-1'; expected a number of 0 to 1,048,575"),
        (
            of_seeds(0) | {"a/000.cls": b"999999999"},
            KEYS,
            "has the label '999999999'; expected a number of 0",
        ),
        (of_seeds(0) | {"a/000.cls": b"\xff"}, KEYS, "has a .cls that cannot be read"),
        (of_seeds(0) | {"a/000.json": b"[1]"}, Keys(label="json.kind"), "has a .json that cannot be read"),
        (
            of_seeds(0) | {"a/000.jpg": image_bytes(1)},
            KEYS,
            "has the images jpg, png; say which",
        ),
        (of_seeds(0), Keys(label="clas"), "unknown feature of .* 'clas'; did you mean 'cls'"),
        ({"a/000.cls": b"1"}, Keys(), "has no images; say which of its features are texts"),
        (of_seeds(0) | {"a/000.PNG": image_bytes(1)}, KEYS, "has a/000.PNG twice; expected each once"),
    ],
)
def test_tar_files_that_are_not_as_they_should_be(tmp_path, files, keys, message):
    write_tar(tmp_path / "x.tar", files)
    with pytest.raises(JaxalignError, match=message.replace("(", r"\(").replace(")", r"\)")):
        load_split(webdataset_record(f"webdataset:{tmp_path}/x.tar", keys), "all")


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_in_a_tar_file_is_no_example_that_is_left_out_silently(kind, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, to in (("a.png", ""), ("b.png", "a.png")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = (kind, to) if to else (tarfile.REGTYPE, "")
            member.size = 0 if to else len(image_bytes(0))
            tar.addfile(member, None if to else io.BytesIO(image_bytes(0)))
    with pytest.raises(JaxalignError, match=r"x\.tar has b\.png, which is a link .* expected plain files"):
        webdataset_record(f"webdataset:{tmp_path}", Keys())


def test_what_is_read_where_it_is_lacks_nothing(shards, tmp_path):
    """Also for somebody who has prepared no data set."""
    copy = webdataset_record(f"webdataset:{shards}", KEYS).find_copy(tmp_path / "none")
    assert (copy.state, copy.folder) == ("prepared", shards)


def test_no_tar_files_compressed_ones_and_cut_ones(tmp_path):
    with pytest.raises(JaxalignError, match="there are no tar files"):
        webdataset_record(f"webdataset:{tmp_path}", KEYS)
    write_tar(tmp_path / "z.tar", of_seeds(0), "w:gz")
    with pytest.raises(JaxalignError, match=r"z\.tar is no plain tar file"):
        webdataset_record(f"webdataset:{tmp_path}", KEYS)
    write_tar(tmp_path / "z.tar", of_seeds(0, 1))
    examples = load_split(webdataset_record(f"webdataset:{tmp_path}", KEYS), "all")
    (tmp_path / "z.tar").write_bytes((tmp_path / "z.tar").read_bytes()[:700])
    with pytest.raises(JaxalignError, match="is cut off"):
        examples.images.read_bytes(1)


def saved(tmp_path, count=6, **more):
    datasets = pytest.importorskip("datasets", reason="the package `datasets` is not installed")
    features = {
        "photo": datasets.Image(),
        "kind": datasets.ClassLabel(names=["round", "square"]),
        "said": datasets.Value("string"),
        **more,
    }
    rows = {
        "photo": [{"bytes": image_bytes(seed), "path": None} for seed in range(count)],
        "kind": [seed % 2 for seed in range(count)],
        "said": [f"shape {seed}" for seed in range(count)],
        **{name: [0] * count for name in more},
    }
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    return datasets.DatasetDict({"train": made, "test": made.select(range(2))}), tmp_path / "saved"


def test_a_folder_of_hugging_face(tmp_path):
    made, folder = saved(tmp_path)
    made.save_to_disk(str(folder))
    record = huggingface_record(f"huggingface:{folder}", Keys(text="said"))
    assert (record.splits, record.tasks) == ({"train": 6, "test": 2}, ("kind",))
    test = load_split(record, "test")
    assert test.labels["kind"].tolist() == [0, 1]
    assert test.label_names["kind"] == ("round", "square")
    assert test.captions == (("shape 0",), ("shape 1",))
    assert [test.images.read_bytes(row) for row in range(2)] == [image_bytes(0), image_bytes(1)]
    assert np.asarray(test.images[1]).shape[:2] == (18, 24)
    made["train"].save_to_disk(str(tmp_path / "one"))
    assert huggingface_record(f"huggingface:{tmp_path}/one", Keys()).splits == {"all": 6}


@pytest.mark.parametrize(
    "shown", [{"type": "pandas"}, {"type": "arrow"}, {"type": "numpy", "columns": ["said"]}]
)
def test_the_format_in_which_rows_were_last_shown_does_not_matter(shown, tmp_path):
    made, folder = saved(tmp_path)
    made["train"].with_format(**shown).save_to_disk(str(folder))
    found = load_split(huggingface_record(f"huggingface:{folder}", Keys()), "all")
    assert found.labels["kind"].tolist() == [0, 1] * 3
    assert found.images.read_bytes(5) == image_bytes(5)


@pytest.mark.parametrize("value", [-2, 2, 3_000_000_000])
def test_a_label_of_hugging_face_without_a_name_is_refused(value, tmp_path):
    """-1 is its word for none; what is below, or beyond int32, is none of its names either."""
    made, folder = saved(tmp_path)
    column = [value, 0, 1, -1, None, 1]
    rows = made["train"].remove_columns("kind").add_column("kind", column)
    rows.save_to_disk(str(folder))
    info = folder / "dataset_info.json"
    facts = json.loads(info.read_text())
    facts["features"]["kind"] = {"names": ["round", "square"], "_type": "ClassLabel"}
    info.write_text(json.dumps(facts))
    with pytest.raises(JaxalignError, match=f"has the kind {value} and 2 names"):
        load_split(huggingface_record(f"huggingface:{folder}", Keys()), "all")


def test_damaged_folders_of_hugging_face_are_one_line(tmp_path):
    made, folder = saved(tmp_path)
    made["train"].save_to_disk(str(folder))
    name, info, state = f"huggingface:{folder}", folder / "dataset_info.json", folder / "state.json"
    facts, files = json.loads(info.read_text()), json.loads(state.read_text())
    facts["features"]["kind"]["names"] = ["round"]
    info.write_text(json.dumps(facts))
    with pytest.raises(JaxalignError, match="has the kind 1 and 1 names; expected a name for each label"):
        load_split(huggingface_record(name, Keys()), "all")
    for broken in ("[" * 100_000, json.dumps(files | {"_data_files": []}), "[]"):
        state.write_text(broken)
        with pytest.raises(JaxalignError, match="cannot be read as a data set of Hugging Face"):
            huggingface_record(name, Keys())


def test_what_is_no_folder_of_hugging_face_or_not_clear(tmp_path):
    made, folder = saved(tmp_path, other=__import__("datasets").ClassLabel(names=["a", "b"]))
    made.save_to_disk(str(folder))
    with pytest.raises(JaxalignError, match=re.escape("has the labels kind, other; say which (--label-key)")):
        huggingface_record(f"huggingface:{folder}", Keys())
    with pytest.raises(JaxalignError, match="cannot be read as a data set of Hugging Face"):
        huggingface_record(f"huggingface:{tmp_path}", Keys())
    record = huggingface_record(f"huggingface:{folder}", Keys(label="kind"))
    with pytest.raises(JaxalignError, match="unknown split"):
        load_split(record, "tests")


@pytest.mark.long
def test_keys_and_data_sets_on_the_command_line(shards, tmp_path, capsys):
    from conftest import tiny_model

    ja.save(tiny_model("emoji-clip"), tmp_path / "model")
    where = [
        "--model",
        str(tmp_path / "model"),
        "--store",
        str(tmp_path / "store"),
        "--out",
        str(tmp_path / "runs"),
    ]
    given = ["--dataset", f"webdataset:{shards}", "--methods", "image-image"]
    assert cli.main(["retrieve", *given, *where]) == 0
    (first,) = read_runs(tmp_path / "runs")
    assert (first.settings["task"], first.settings["query"], first.settings["gallery"]) == (
        "cls",
        "test",
        "train",
    )
    assert cli.main(["retrieve", *given, *where, "--label-key", "json.kind"]) == 0
    assert {run.settings["task"] for run in read_runs(tmp_path / "runs")} == {"cls", "json.kind"}
    capsys.readouterr()
    for arguments, message in (
        (
            ["--dataset", "emoji", "--label-key", "x"],
            "--label-key is about data sets features:PATH",
        ),
        ([*given, "--ids", "x"], "--ids is about data sets features:PATH; got webdataset:"),
        ([*given, "--stage", "pre"], "--stage is about data sets features:PATH; got webdataset:"),
    ):
        assert cli.main(["retrieve", *arguments, *where]) == 2
        assert message in capsys.readouterr().err


def test_a_split_that_a_record_of_ones_own_lacks_is_refused():
    opened = lambda split, *places: pytest.fail(f"{split} was opened")
    record = own_record("mine", {"all": 1}, Keys(label="kind"), opened, source="photos")
    for split, message in (("tset", "unknown split of mine 'tset'"), ("all+al", "did you mean 'all'")):
        with pytest.raises(JaxalignError, match=message):
            load_split(record, split)


def test_records_from_outside(monkeypatch, shards):
    own = replace(webdataset_record(f"webdataset:{shards}", KEYS), name="mine")
    monkeypatch.setattr(loading, "_registered", {})
    register_dataset(own)
    assert find_dataset("mine") is own
    assert len(load_split("mine", "train")) == 4
    with pytest.raises(JaxalignError, match="there is a data set 'mine' already"):
        register_dataset(own)
    with pytest.raises(JaxalignError, match="there is a data set 'emoji' already"):
        register_dataset(replace(own, name="emoji"))
    with pytest.raises(JaxalignError, match="expected a name without ':' and '@'"):
        register_dataset(replace(own, name="a:b"))
    with pytest.raises(TypeError, match="does not support item assignment"):
        DATASETS["mine"] = own  # pyright: ignore[reportIndexIssue]


class Entry:
    def __init__(self, thing):
        self.name, self.load = "entry", lambda: thing


@pytest.fixture
def entries(monkeypatch):
    """Entry points that installed packages are to have."""
    found: list[Entry] = []
    monkeypatch.setattr(loading, "entry_points", lambda group: found)
    loading._of_entry_points.cache_clear()
    yield found
    loading._of_entry_points.cache_clear()


def test_records_of_installed_packages(entries, shards):
    own = replace(webdataset_record(f"webdataset:{shards}", KEYS), name="installed")
    entries.append(Entry(own))
    assert find_dataset("installed") is own
    assert "installed" in known_datasets()


@pytest.mark.parametrize(
    ("thing", "message"),
    [("emoji", "has a data set 'emoji'; there is one"), (3, "a data set is 3; expected a DatasetRecord")],
)
def test_wrong_records_of_installed_packages(entries, thing, message):
    entries.append(Entry(DATASETS["emoji"] if thing == "emoji" else thing))
    with pytest.raises(JaxalignError, match=message):
        find_dataset("emoji")
