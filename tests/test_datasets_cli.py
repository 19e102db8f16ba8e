"""`jaxalign datasets`: what is there, what is missing, and where to put it."""

import json

import dataset_layouts as layouts
import pytest

from jaxalign.eval import cli
from jaxalign.eval.datasets import DATASETS, catalogue


@pytest.fixture
def few(monkeypatch, tmp_path):
    """A small Aircraft in the place of the real one, in the source folder."""
    record = layouts.aircraft(tmp_path / "raw")
    monkeypatch.setattr(catalogue, "DATASETS", {**DATASETS, "aircraft": record})
    return ["--data-dir", str(tmp_path / "tfds"), "--source-dir", str(tmp_path / "raw")]


def run(*arguments, capsys) -> str:
    assert cli.main(["datasets", *arguments]) == 0
    return capsys.readouterr().out


def test_what_to_put_where(few, tmp_path, capsys):
    (tmp_path / "raw" / "caltech-101" / "101_ObjectCategories").mkdir(parents=True)
    said = run("caltech101", "imagenet", *few, capsys=capsys)
    folder = tmp_path / "raw" / "caltech-101"
    assert f"  there: {folder / '101_ObjectCategories'}\n" in said
    assert f"  put: the splits to {folder / 'split_zhou_Caltech101.json'}\n       from https://drive" in said
    assert "  or: caltech101@tfds reads the images of TFDS's own caltech101:3.0.2" in said
    assert "imagenet/images/train, only for the split train\n" in said
    assert "'a photo of a {}.' (single 1, ensemble 80, subset 7)" in said


def test_preparing_and_what_is_said_before_and_after(few, tmp_path, capsys):
    target = tmp_path / "rows.json"
    for arguments, state in ((), "ready"), (("--prepare",), "prepared"), ((), "prepared"):
        said = run(*arguments, "aircraft", *few, "--json", str(target), capsys=capsys)
        row = next(row for row in json.loads(target.read_text()) if row["name"] == "aircraft")
        assert row["available"] == state
        assert row["prepared"] == (state == "prepared")
        assert row["sources"][0]["there"]
        if not arguments:
            assert row["folder"] in said
    assert (tmp_path / "tfds" / "jaxalign_aircraft" / "1.0.0" / "dataset_info.json").is_file()


def test_the_source_folder_of_the_environment(few, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("JAXALIGN_SOURCE_DIR", str(tmp_path / "raw"))
    assert "ready to be prepared" in run("aircraft", *few[:2], capsys=capsys)
    monkeypatch.delenv("JAXALIGN_SOURCE_DIR")
    folder = tmp_path / "tfds" / "downloads" / "manual" / "fgvc_aircraft"
    assert f"to {folder}\n" in run("aircraft", *few[:2], capsys=capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["aircrafts"], "unknown data set 'aircrafts'; did you mean 'aircraft'"),
        (
            ["--prepare", "cub"],
            "cub is not prepared, and its data are not there: put the folder of this name",
        ),
    ],
)
def test_failures_are_one_line(arguments, message, few, capsys):
    assert cli.main(["datasets", *arguments, *few]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert message in said.err
