"""The examples of docs/bring_your_own.md, as a reader would run them."""

import re
import runpy
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxalign.eval import cli
from jaxalign.eval.datasets import load_split, loading
from jaxalign.eval.tasks.runs import read_runs

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "bring_your_own.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.M | re.S)
    return [text for named, text in found if named == language]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The working directory of the examples."""
    rng = np.random.default_rng(0)
    for i in range(8):
        (tmp_path / "photos" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / "ab"[i % 2] / f"{i}.png")
    for block in blocks(PAGE, "python"):
        name = block.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_a_method_of_ones_own(photos):
    (command,) = [line for block in blocks(PAGE, "") for line in block.splitlines() if "my_method.py" in line]
    assert cli.main([*shlex.split(command)[1:], "--store", "store", "--out", "runs"]) == 0
    methods = {run.settings["method"] for run in read_runs(photos / "runs")}
    assert methods == {"image-image", "my_method.py:centred"}


def test_a_data_set_of_ones_own(photos, monkeypatch):
    monkeypatch.setattr(loading, "_registered", {})
    runpy.run_path(str(photos / "my_data.py"))
    examples = load_split("mine", "all")
    assert examples.labels["kind"].tolist() == [0] * 4 + [1] * 4
    assert examples.label_names["kind"] == ("a", "b")
    assert (
        cli.main(["retrieve", "--dataset", "mine", "--methods", "image-image", "--store", "s", "--out", "r"])
        == 0
    )
