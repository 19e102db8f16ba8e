"""Models of the user's own in the commands: every table, run and report says which they are."""

import dataclasses
import json
import re

import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image
from test_report import make_run

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.cli.printing import chart_name
from jaxalign.eval.demo import run as demo
from jaxalign.eval.paper import Cell, Places, Session
from jaxalign.eval.tasks.runs import read_runs
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.specs import find_spec

METHODS = ("--methods", "image-image")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two files of big_vision, in different folders, of one name and with different weights."""
    model = tiny_model("emoji-siglip")
    paths = [tmp_path_factory.mktemp(name) / "mine.npz" for name in ("first", "second")]
    for path, factor in zip(paths, (1, 2), strict=True):
        image = model.params["img"] | {"embedding": _times(model.params["img"]["embedding"], factor)}
        ja.save(dataclasses.replace(model, params=model.params | {"img": image}), path)
    return paths


def _times(tree, factor):
    return {name: leaf * factor for name, leaf in tree.items()}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        for seed in range(2):
            pixels = np.random.default_rng(seed).integers(0, 256, (20, 26, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{seed}.png")
    return f"folder:{folder}"


def jaxalign(capsys, *arguments, status=0):
    """What the command says, on standard output, or on standard error where it fails."""
    assert cli.main([str(a) for a in arguments]) == status
    said = capsys.readouterr()
    return said.err if status else said.out


@pytest.mark.long
def test_two_models_of_one_name_are_told_apart(two, images, tmp_path, capsys):
    runs, store = tmp_path / "runs", tmp_path / "store"
    for path in two:
        options = ("--dataset", images, *METHODS, "--out", runs, "--store", store)
        said = jaxalign(capsys, "retrieve", "--model", path, "--name", "cats", *options)
        assert f"cats({path})" in "".join(said.split())  # over several lines of a terminal
    found = read_runs(runs)
    assert len({run.digest for run in found}) == 2
    assert {(run.settings["model"], run.settings["source"]) for run in found} == {
        ("cats", str(path)) for path in two
    }
    jaxalign(capsys, "report", runs, "--page", tmp_path / "report.html")
    report = (tmp_path / "report.html").read_text()
    for path in two:
        assert f"cats ({path})" in report
    assert len({chart_name(found, ja.load(path, name="cats"), "spectrum") for path in two}) == 2


def test_charts_of_other_runs_are_other_files():
    model = ja.load("emoji-clip")
    named = {chart_name([make_run(method)], model, "x", "") for method in ("pca", "pca-mean", "pca")}
    assert len(named) == 2
    assert all(re.fullmatch("emoji-clip-x-[0-9a-f]{8}", name) for name in named)


def test_settings_and_names_that_do_not_fit(two, images, tmp_path, capsys):
    command = ("retrieve", "--model", two[0], "--dataset", images, *METHODS, "--out", tmp_path)
    said = jaxalign(capsys, *command, "--name", "emoji-clip", status=1)
    assert "name is 'emoji-clip', which is a known model's" in said
    said = jaxalign(capsys, *command, "--spec", "siglop-base-patch16-224", status=1)
    assert "unknown model 'siglop-base-patch16-224'; did you mean 'siglip-base-patch16-224'" in said


def test_embeddings_say_where_their_model_is_from(two, images, tmp_path, capsys):
    folder, file = images.removeprefix("folder:"), tmp_path / "x.json"
    command = ("embed", "--dataset", f"folder:{folder}", "--model", two[0], "--name", "cats", "--json", file)
    jaxalign(capsys, *command, "--store", tmp_path / "store")
    said = json.loads(file.read_text())
    assert (said["model"], said["source"]) == ("cats", str(two[0]))


def test_the_demo_takes_each_model_once(two, tmp_path):
    with pytest.raises(JaxalignError, match=r"two models are mine\.npz \(.*first.*\); expected each once"):
        demo(tmp_path / "out", [str(two[0]), str(two[0])])


def test_reproduced_cells_have_the_bands_that_are_printed_for_their_backbone(two, monkeypatch):
    """`--weights` says which backbone a file is; its bands are the papers' for that, its name the file's."""
    monkeypatch.setattr(Places, "find_weights", lambda *_: (str(two[0]), None))
    cell = Cell({}, "ViT-B/32", "caltech101", {"protocol": "image-retrieval"}, "mAP", None)
    found = Session(Workspace(), Places()).model(cell)
    record = find_spec("clip-vit-base-patch32")
    assert (found.spec.band, found.spec.text_band) == (record.band, record.text_band)
    assert (found.name, found.spec.licence, ja.load(two[0]).spec.band) == ("mine.npz", "unknown", None)
