"""`jaxalign report`, the first results that it shows, and the tables of `reproduce` in it."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.datasets import load_split
from jaxalign.eval.paper.cells import Cell, Outcome
from jaxalign.eval.paper.output import read_tables, to_json
from jaxalign.eval.paper.run import Missing, Reproduction
from jaxalign.eval.paper.tables import Table
from jaxalign.eval.report import prepared_splits
from jaxalign.eval.tasks import image_retrieval
from jaxalign.eval.tasks.runs import Run, write_run

SETTINGS = {"model": "tiny", "dataset": "cub", "method": "image-image"}


def oracle_first_results(query, gallery, rows, own, depth):
    """Every gallery item by its cosine, one query at a time, in float64."""
    q, g = (x.astype(np.float64) / np.linalg.norm(x, axis=1, keepdims=True) for x in (query, gallery))
    found = []
    for i in rows:
        scored = [(-(q[i] @ g[j]), j) for j in range(len(g)) if own is None or j != own[i]]
        found.append([j for _, j in sorted(scored)[:depth]])
    return found


@pytest.mark.parametrize("own", [None, "self", "positions"])
def test_first_results_are_the_nearest(own):
    rng = np.random.default_rng(1)
    query, gallery = rng.normal(size=(70, 8)), rng.normal(size=(90, 8))
    if own == "self":
        query = gallery[:90]
    position = None if own is None else np.arange(90) if own == "self" else rng.integers(0, 90, 70)
    exclude = False if own is None else True if own == "self" else position
    labels = np.zeros(len(query), int), np.zeros(len(gallery), int)
    found = image_retrieval.retrieval(query, gallery, *labels, exclude_self=exclude, shown=True).arrays
    rows = found["shown_queries"]
    np.testing.assert_array_equal(rows, np.arange(len(query)))
    assert found["first_results"].tolist() == oracle_first_results(query, gallery, rows, position, 10)


def test_equals_keep_their_order_and_few_queries_are_evenly_spaced(monkeypatch):
    monkeypatch.setattr(image_retrieval, "SHOWN", 3)
    gallery, labels = np.array([[1.0, 0], [0, 1], [2, 0], [3, 0], [0, -1]]), np.zeros(5, int)
    found = image_retrieval.retrieval(gallery, gallery, labels, labels, exclude_self=True, shown=True).arrays
    assert found["shown_queries"].tolist() == [0, 2, 4]
    assert found["first_results"].tolist() == [[2, 3, 1, 4], [0, 3, 1, 4], [0, 2, 3, 1]]


def test_first_results_without_labels_are_positions_among_all():
    """What has no label takes no part; ROxford and RParis show whatever is nearest, junk included."""
    gallery, labels = np.array([[1.0, 0], [1, 0.1], [1, 0.2], [1, 0.3]]), np.array([0, -1, 0, 0])
    found = image_retrieval.retrieval(gallery, gallery, labels, labels, exclude_self=True, shown=True).arrays
    assert found["shown_queries"].tolist() == [0, 2, 3]
    assert found["first_results"].tolist() == [[2, 3], [3, 0], [2, 0]]
    truth = [{"easy": [3], "hard": [], "junk": [0]}]
    found = image_retrieval.landmark_retrieval(gallery[:1], gallery, truth, shown=True)
    assert found.arrays["first_results"].tolist() == [[0, 1, 2, 3]]
    assert found.metrics == image_retrieval.landmark_retrieval(gallery[:1], gallery, truth).metrics


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    write_run(folder, Run("image-retrieval", SETTINGS, {"mAP": 12.5}, {"average_precision": np.ones(3)}, 1.0))
    write_run(folder, Run("something-new", {"x": "<b>"}, {"y": 1.0}))
    return folder


def test_the_page_lies_beside_the_runs_unless_told_otherwise(runs, tmp_path, capsys):
    assert cli.main(["report", str(runs), "--json", str(tmp_path / "r.json")]) == 0
    page = (runs / "report.html").read_text()
    assert "12.5" in page
    assert "Something new" in page
    assert "2 runs and 0 printed tables, written to" in capsys.readouterr().out
    told = json.loads((tmp_path / "r.json").read_text())
    assert told == {
        "report": str(runs / "report.html"),
        "runs": 2,
        "protocols": {"image-retrieval": 1, "something-new": 1},
        "tables": [],
    }
    assert cli.main(["report", str(runs), "--page", str(tmp_path / "p.html"), "--title", "<i>"]) == 0
    assert "<title>&lt;i&gt;</title>" in (tmp_path / "p.html").read_text()
    assert cli.main(["report", str(runs)]) == 0  # its own page does not get in the way
    assert sorted(p.name for p in runs.iterdir() if p.suffix not in (".json", ".npz")) == ["report.html"]


def fail(arguments, capsys):
    """The one line that a failing command says."""
    assert cli.main(["report", *map(str, arguments)]) == 1
    said = capsys.readouterr().err.splitlines()
    return next(line for line in said if "error" in line)


def test_what_cannot_be_reported_is_one_line(runs, tmp_path, capsys):
    assert "there is no folder" in fail([tmp_path / "none"], capsys)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "metrics.json").write_text("{}")
    message = fail([tmp_path / "empty"], capsys)
    assert "there are no runs in" in message
    assert "jaxalign retrieve --out" in message
    assert "it is a folder" in fail([runs, "--page", tmp_path], capsys)
    assert "there is no folder" in fail([runs, "--page", tmp_path / "a" / "b.html"], capsys)
    assert "it is a folder" in fail([runs, "--json", tmp_path], capsys)
    assert not (runs / "report.html").exists()


def test_a_damaged_run_is_named_and_an_earlier_page_stays(runs, capsys):
    assert cli.main(["report", str(runs)]) == 0
    before = (runs / "report.html").read_bytes()
    path = next(runs.glob("image-retrieval-*.npz"))
    path.write_bytes(path.read_bytes()[:40])
    message = fail([runs], capsys)
    assert path.name in message
    assert "run again" in message
    assert (runs / "report.html").read_bytes() == before


def reproduction():
    cell = lambda method, printed, **more: Cell(
        {"method": method, "backbone": "B/<32>", "dataset": "cub"}, "B/32", "cub", {}, "mAP", printed, **more
    )
    outcomes = (
        Outcome(cell("Image-Image", 22.9), "measured", 23.4, model="tiny", runs=("ab",)),
        Outcome(cell("IsoCLIP", 25.0), "failed", reason="no <space>"),
        Outcome(cell("hidden", None, shown=False), "measured", 1.0),
    )
    missing = ((Missing("data set pets", "put it there"), 3),)
    return Reproduction(Table("t1", "Table <1>", "x.csv", "mAP, %", {}), outcomes, missing, "reference")


def test_a_printed_table_comes_back_as_it_was_measured(tmp_path):
    (tmp_path / "t1.json").write_text(json.dumps(to_json(reproduction())))
    (tmp_path / "other.json").write_text("[1]")
    (table,) = read_tables(tmp_path)
    assert table.title == "Table <1>"
    assert table.summary.startswith(
        "1 of 2 cells measured (reference variant), mean absolute difference 0.50"
    )
    assert table.missing == ["data set pets (3 cells): put it there"]
    assert table.failed == ["Image-Image, B/<32>, cub: no <space>".replace("Image-Image", "IsoCLIP")]
    (part,) = table.parts
    assert part.title == "B/<32>"
    assert part.columns == ["dataset", "Image-Image", "IsoCLIP"]
    assert part.rows == [["cub", "23.4 / 22.9 (+0.5)", "failed / 25.0"]]
    assert cli.main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "23.4 / 22.9 (+0.5)" in page
    assert "B/&lt;32&gt;" in page


def test_a_table_of_an_earlier_program_is_shown_as_such(tmp_path):
    content = to_json(reproduction())
    del content["results"]
    (tmp_path / "t1.json").write_text(json.dumps(content))
    (table,) = read_tables(tmp_path)
    assert table.summary.startswith("Measured by an earlier program, whose numbers may differ. 1 of 2 cells")


def test_a_table_has_what_belongs_beside_its_numbers(tmp_path):
    whole = reproduction()
    told = replace(whole.outcomes[0], notes=("beside the <number>",))
    content = to_json(replace(whole, outcomes=(told, *whole.outcomes[1:])))
    (tmp_path / "t1.json").write_text(json.dumps(content))
    (table,) = read_tables(tmp_path)
    assert table.notes == ["[1] beside the <number>"]
    assert cli.main(["report", str(tmp_path)]) == 0
    assert "beside the &lt;number&gt;" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ('{"format": "jaxalign-table", "version": 9}', "is jaxalign-table version 9; expected version 1"),
        ('{"format": "jaxalign-table", "version": 1, "cells": [3]}', "is damaged"),
        ('{"format": "jaxalign-table", "version": 1, "cells": [], "missing": []}', "is damaged"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, content, message):
    (tmp_path / "t1.json").write_text(content)
    with pytest.raises(JaxalignError, match=rf"t1\.json.*{message}"):
        read_tables(tmp_path)


def test_images_come_from_prepared_copies_of_the_same_version_only(tmp_path):
    find = prepared_splits(tmp_path)
    assert find("emoji", "1.0.0", "test") is None  # embedded, but a report prepares nothing
    assert list(tmp_path.iterdir()) == []
    assert find("no such data set", "1.0.0", "test") is None
    folder = tmp_path / "photos" / "cat"
    folder.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    name = f"folder:{folder.parent}"
    assert find(name, "another", "all") is None
    assert len(find(name, load_split(name, "all").version, "all")) == 1


@pytest.fixture
def measured(tmp_path):
    """What the measuring commands write about three classes of two copies of an image each."""
    images, out = tmp_path / "twins & more", tmp_path / "runs"
    for seed, label in enumerate(("apple", "cat", "<dog>")):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 26, 3), np.uint8)
        (images / label).mkdir(parents=True)
        for copy in range(2):
            Image.fromarray(pixels).save(images / label / f"{copy}.png")
    ja.save(tiny_model("emoji-clip"), tmp_path / "tiny")
    model, data = ["--model", tmp_path / "tiny"], ["--dataset", f"folder:{images}"]
    place = ["--out", out, "--store", tmp_path / "store"]
    methods = ["--methods", "image-image", "isoclip", "--band", "1", "2"]
    for command in (
        ["retrieve", *model, *data, *methods, "--text-image"],
        ["sweep", *model, *data, "--k-top", "0", "2", "--k-bottom", "0", "3"],
        ["indicators", *model, *data, "--methods", "image-image"],
    ):
        assert cli.main([str(argument) for argument in (*command, *place)]) == 0
    return out


def test_what_the_commands_measure_is_drawn(measured, capsys):
    assert cli.main(["report", str(measured)]) == 0
    page = (measured / "report.html").read_text()
    for heading in (
        "Image retrieval",
        "Names find images",
        "Search for the band",
        "Similarities by",
    ):
        assert f"<h2>{heading}" in page
    for title in ("Similarities", "mAP in % by band"):
        assert f"<figcaption>{title}, tiny-emoji-clip" in page
    # Each query's first result is its copy, under every method.
    assert page.count("&lt;dog&gt;") >= 6
    assert "<dog>" not in page
    queries = page.count('<span class="quiet">query</span>')
    assert queries > 0
    assert page.count('class="result label"') == 2 * queries
    assert "1 to 1 relevant among the first 5" in page


@pytest.mark.long
def test_names_that_are_no_utf8_are_shown_escaped(tmp_path, capsys):
    """A class folder and a file whose names are bytes of no encoding."""
    folder = os.fsencode(tmp_path / "photos")
    for name, seed in ((b"caf\xe9", 1), (b"d\xff", 2)):
        os.makedirs(os.path.join(folder, name))
        for copy in range(2):
            pixels = np.random.default_rng(seed + 10 * copy).integers(0, 256, (24, 24, 3), np.uint8)
            file = Path(os.fsdecode(os.path.join(folder, name, b"x\xfe%d.png" % copy)))
            Image.fromarray(pixels).save(file)
    where = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "runs")]
    dataset = f"folder:{tmp_path / 'photos'}"
    assert cli.main(["retrieve", "--dataset", dataset, "--methods", "image-image", "pre", *where]) == 0
    assert cli.main(["report", str(tmp_path / "runs")]) == 0
    assert "written to" in capsys.readouterr().out
    page = (tmp_path / "runs" / "report.html").read_text(encoding="utf-8")
    assert "caf\\udce9" in page


def test_runs_of_an_earlier_program_are_counted_and_left_out(tmp_path, capsys):
    run = Run("image-retrieval", SETTINGS, {"mAP": 12.5})
    write_run(tmp_path, run)
    write_run(tmp_path, replace(run, results=1, metrics={"mAP": 77.125}))
    assert cli.main(["report", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "of an earlier program, whose numbers may differ, and left out: 1 run\n" in said
    assert "77.1" not in (tmp_path / "report.html").read_text()


@pytest.mark.long
def test_images_of_a_gallery_of_another_version_are_found(tmp_path, capsys):
    for seed, name in enumerate(("train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    where = ["--store", str(tmp_path / "store"), "--out", str(tmp_path / "runs")]
    dataset = f"folder:{tmp_path / 'photos'}"
    assert cli.main(["retrieve", "--dataset", dataset, "--methods", "image-image", "pre", *where]) == 0
    assert cli.main(["report", str(tmp_path / "runs")]) == 0
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "were not on the machine" not in page
    assert "Queries and their first results" in page
