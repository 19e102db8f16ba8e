"""`jaxalign reproduce`: the papers' tables as cells, and a small table end to end with numbers from hand."""

import csv
import json
from dataclasses import replace

import numpy as np
import oracles
import pytest
from PIL import Image

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.cli import main
from jaxalign.eval.cli.reproduce import print_tables
from jaxalign.eval.datasets import DATASETS, load_split
from jaxalign.eval.features import FeatureStore
from jaxalign.eval.features.by_content import index_key, part_name
from jaxalign.eval.paper import (
    TABLES,
    Outcome,
    Places,
    Reproduction,
    Selection,
    Session,
    find_table,
    read_cells,
    reproduce,
)
from jaxalign.eval.paper.output import draw_figures, summary, to_csv, to_json, to_markdown
from jaxalign.eval.paper.run import missing_dataset
from jaxalign.eval.tasks.runs import read_runs
from jaxalign.eval.tasks.workspace import Workspace

# Embeddings (the first two coordinates), by split and class, in the order of the files.
QUERIES = {"cat": [(1, 0)], "dog": [(0.6, 0.8), (0, 1)]}
GALLERY = {"cat": [(1, 0.1), (0.2, 1)], "dog": [(0.1, 1), (-1, 0)]}
# cat (1, 0): cosines 0.995, 0.196 | 0.0995, -1: cats at ranks 1, 2 -> AP 1
# dog (0.6, 0.8): 0.677, 0.902 | 0.856, -0.6: dogs at ranks 2, 4 -> AP (1/2 + 2/4) / 2 = 1/2
# dog (0, 1): 0.0995, 0.981 | 0.995, 0: dogs at ranks 1, 4 -> AP (1 + 2/4) / 2 = 3/4
MAP = 100 * (1 + 1 / 2 + 3 / 4) / 3
# Class means (0.6, 0.55) and (-0.45, 0.5): cat right; (0.6, 0.8) nearer to the cats, wrong; (0, 1): cosines
# 0.676 and 0.743, right.
ACCURACY = 100 * 2 / 3


def write_split(root, split, classes):
    for label, points in classes.items():
        (root / split / label).mkdir(parents=True)
        for i in range(len(points)):
            pixels = np.full((4, 4, 3), 40 * i, np.uint8)
            pixels[0, :2, 0] = len(split), sum(label.encode()) % 256  # no two images are the same
            Image.fromarray(pixels).save(root / split / label / f"{i}.png")


@pytest.fixture(scope="module")
def model():
    return ja.load("emoji-clip")


@pytest.fixture(scope="module")
def animals(tmp_path_factory, model):
    """A folder of images, and a store that holds chosen features for them: name of the data set, store."""
    root, store = tmp_path_factory.mktemp("animals"), tmp_path_factory.mktemp("store")
    back = np.linalg.pinv(np.asarray(model.projectors.image.kernel, np.float64))
    for split, classes in (("test", QUERIES), ("train", GALLERY)):
        write_split(root, split, classes)
        embeddings = np.zeros((sum(map(len, classes.values())), len(back)))
        embeddings[:, :2] = [point for points in classes.values() for point in points]
        for layout in ("paper", "reference"):
            fill(model.with_layout(layout), load_split(f"folder:{root}", split), store, embeddings @ back)
    return f"folder:{root}", store


def fill(model, examples, store, features):
    ids = examples.images.contents
    assert len(set(ids)) == len(ids)
    part = FeatureStore.open(store, index_key(model), ids, {}, features.shape[1], part=part_name(ids))
    part.write(0, features.astype(np.float32))


def write_table(path, dataset, rows, columns="protocol,method,backbone,dataset,value"):
    path.write_text("\n".join([columns, *(row.replace("ANIMALS", dataset) for row in rows)]) + "\n")
    return path


ROWS = (
    f"image-retrieval,Image-Image,emoji-clip,ANIMALS,{MAP:.3f}",
    "ncm,Image-Image / NCM,emoji-clip,ANIMALS,60",
    "image-retrieval,isoclip,emoji-clip,ANIMALS,50",
    "ncm,image-image,emoji-clip,caltech101,91.9",
    "ncm,image-image,ViT-B/32,ANIMALS,91.9",
    "ncm,image-image,emoji-clip,Avg,75",
)


def session_of(tmp_path, store, **options):
    return Session(Workspace(tmp_path / "runs", store, tmp_path / "tfds"), Places(), **options)


@pytest.mark.long
def test_a_table_end_to_end_by_hand(animals, tmp_path):
    dataset, store = animals
    table = find_table(str(write_table(tmp_path / "small.csv", dataset, ROWS)))
    found = reproduce(table, session_of(tmp_path, store))
    by_line = found.outcomes
    assert [o.state for o in by_line] == [
        "measured",
        "measured",
        "failed",
        "missing",
        "missing",
        "incomplete",
    ]
    assert by_line[0].value == pytest.approx(MAP, abs=1e-4)  # percent, of which float32 has seven digits
    assert by_line[0].difference == pytest.approx(0, abs=1e-3)  # MAP is written with three digits
    assert by_line[1].value == pytest.approx(ACCURACY)
    assert by_line[1].difference == pytest.approx(ACCURACY - 60)
    assert "no image band for emoji-clip" in by_line[2].reason
    assert [missing.what for missing, _ in found.missing] == [
        "data set caltech101",
        "model clip-vit-base-patch32",
    ]
    assert "split_zhou_Caltech101.json" in found.missing[0][0].advice
    assert "0 of 1 members" in by_line[5].reason or "1 of 2 members" in by_line[5].reason


@pytest.mark.long
def test_an_interrupted_table_goes_on(animals, tmp_path, monkeypatch):
    dataset, store = animals
    table = find_table(str(write_table(tmp_path / "small.csv", dataset, ROWS[:2])))

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("jaxalign.eval.tasks.classification.nearest_class_mean", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reproduce(table, session_of(tmp_path, store))
    monkeypatch.setattr("jaxalign.eval.tasks.image_retrieval.retrieval", interrupted)
    found = reproduce(table, session_of(tmp_path, store))
    assert [o.value for o in found.outcomes] == pytest.approx([MAP, ACCURACY], abs=1e-4)  # percent, as above


def test_a_failed_cell_stops_no_other(animals, tmp_path, monkeypatch):
    dataset, store = animals
    table = find_table(str(write_table(tmp_path / "small.csv", dataset, ROWS[:2])))

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxalign.eval.tasks.image_retrieval.retrieval", full)
    found = reproduce(table, session_of(tmp_path, store))
    assert [o.state for o in found.outcomes] == ["failed", "measured"]
    assert "No space left" in found.outcomes[0].reason


def stored_features(model):
    """Of queries and gallery as the store holds them: points of the plane, back through the projector."""
    back = np.linalg.pinv(np.asarray(model.projectors.image.kernel, np.float64))[:2]
    return [np.concatenate([*classes.values()]) @ back for classes in (QUERIES, GALLERY)]


def mean_precision(query, gallery):
    scores, labels = oracles.cosine(query, gallery), np.array([0, 0, 1, 1])
    pairs = zip(scores, (0, 1, 1), strict=True)
    return np.mean([oracles.average_precision(oracles.relevance_sequence(s, labels == y)) for s, y in pairs])


@pytest.mark.long
def test_averages_and_differences_of_methods(animals, model, tmp_path):
    dataset, store = animals
    rows = (
        "image-retrieval,image-image,emoji-clip,ANIMALS,,",
        "image-retrieval,image-image,emoji-clip,Avg,70,",
        "image-retrieval,pre,emoji-clip,ANIMALS,-2.3,image-image",
    )
    columns = "protocol,method,backbone,dataset,value,minus"
    table = find_table(str(write_table(tmp_path / "t.csv", dataset, rows, columns)))
    found = reproduce(table, session_of(tmp_path, store, variant="paper"))
    assert [o.state for o in found.outcomes] == ["measured"] * 3
    # percent, as above
    assert found.outcomes[1].value == found.outcomes[0].value == pytest.approx(MAP, abs=1e-4)
    assert len(found.outcomes[2].runs) == 2
    difference = 100 * mean_precision(*stored_features(model)) - MAP
    assert found.outcomes[2].value == pytest.approx(difference, abs=1e-4)  # percent, as above


def test_few_shot_cells_of_a_table(animals, tmp_path):
    dataset, store = animals
    rows = ("few-shot,prototype,no,2,emoji-clip,ANIMALS,50", "few-shot,prototype,no,1,emoji-clip,ANIMALS,50")
    columns = "protocol,classifier,projected,shots,backbone,dataset,value"
    table = find_table(str(write_table(tmp_path / "t.csv", dataset, rows, columns)))
    found = reproduce(table, session_of(tmp_path, store, variant="paper"))
    # Two shots are all there is: means of unit vectors (0.597, 0.540) and (-0.45, 0.498), as for NCM above.
    assert found.outcomes[0].value == pytest.approx(ACCURACY)
    assert found.outcomes[0].runs == found.outcomes[1].runs


OTHERS = (
    "image-retrieval,oti,,emoji-clip,ANIMALS,,,2,",
    "few-shot,,lda,emoji-clip,ANIMALS,1,yes,,yes",
    "few-shot,,prototype,emoji-clip,ANIMALS,2,no,,yes",
    "band-selection,,,emoji-clip,ANIMALS,,,,",
    "dogs-cats,,,emoji-clip,ANIMALS,,,,",
    "zero-shot,,,emoji-clip,ANIMALS,,,,",
    "text-retrieval,text-text,,emoji-clip,emoji,,,,",
    "text-retrieval,isoclip,,emoji-clip,emoji,,,,",
)


@pytest.mark.long
def test_every_protocol_gives_a_number(tmp_path, emoji_data_dir):
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label, colour in {"blue": (30, 40, 220), "green": (30, 200, 60)}.items():
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for i in range(8):
                pixels = np.clip(colour + rng.normal(0, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / label / f"{i}.png")
    columns = "protocol,method,classifier,backbone,dataset,shots,projected,steps,with_text,value"
    rows = [f"{row}," for row in OTHERS]
    table = find_table(str(write_table(tmp_path / "t.csv", f"folder:{tmp_path / 'images'}", rows, columns)))
    workspace = Workspace(tmp_path / "runs", tmp_path / "store", emoji_data_dir)
    found = reproduce(table, Session(workspace, Places()))
    assert [outcome.reason for outcome in found.outcomes[:-1]] == [""] * 7
    assert all(outcome.value is not None and outcome.value >= 0 for outcome in found.outcomes[:-1])
    assert "no text band for emoji-clip" in found.outcomes[-1].reason


# Figures: what is measured for them is drawn, too.
FIGURES = (
    "spectrum,,,,concentration.image_isoclip,",
    "spectral-parts,ANIMALS,,,grown.top.-1.mAP,",
    "spectral-parts,emoji,,text,parts.all.mAP,",
    "band-selection,ANIMALS,,,best.mAP,",
    "class-indicator,ANIMALS,image-image,,overlap,",
    "class-indicator,ANIMALS,pre,,overlap,",
    "modality-indicator,ANIMALS,pca,,gap,",
    "view,ANIMALS,,,adjusted.shift,",
    "degrees-of-freedom,ANIMALS,,,with_texts.largest_error,",
    "text-image,ANIMALS,image-image,,recall_at_1,",
    "text-image,ANIMALS,isoclip-auto,,recall_at_1,",
    "modality-indicator,ANIMALS,pre,,gap,",
    "spectral-parts,ANIMALS,,,grown.top.99.mAP,",
)


@pytest.mark.long
def test_figures_are_measured_and_drawn(animals, tmp_path, emoji_data_dir):
    dataset, store = animals
    columns = "protocol,dataset,method,modality,metric,value,backbone"
    table = find_table(
        str(write_table(tmp_path / "f.csv", dataset, [f"{row},emoji-clip" for row in FIGURES], columns))
    )
    workspace = Workspace(tmp_path / "runs", store, emoji_data_dir)
    found = reproduce(table, Session(workspace, Places()))
    assert [outcome.reason for outcome in found.outcomes[:-2]] == [""] * (len(FIGURES) - 2)
    assert "pre has no modality-indicator" in found.outcomes[-2].reason
    assert "has no number grown.top.99.mAP" in found.outcomes[-1].reason
    drawn = [path.name for path in draw_figures(tmp_path / "runs", found)]
    kinds = [name.split("-")[1] for name in drawn]
    assert sorted(kinds) == sorted(
        ["spectrum", "parts", "growth", "parts", "growth", "bands", "classes", "modalities", "views"]
    )
    assert all((tmp_path / "runs" / name).read_bytes().startswith(b"\x89PNG") for name in drawn)


def test_the_layout_of_the_heads_is_an_option(animals, tmp_path):
    """By default that of the variant; runs and tables say which."""
    dataset, store = animals
    table = find_table(str(write_table(tmp_path / "t.csv", dataset, ROWS[:1])))
    for layout, used in (("", "paper"), ("reference", "reference")):
        found = reproduce(table, session_of(tmp_path, store, layout=layout))
        assert found.outcomes[0].value == pytest.approx(MAP, abs=1e-4)  # percent, as above
        assert to_json(found)["layout"] == used
        assert ("projectors of the reference layout" in summary(found)) == (layout == "reference")
    assert {run.settings["layout"] for run in read_runs(tmp_path / "runs")} == {"paper", "reference"}


def test_selection(animals, tmp_path):
    dataset, store = animals
    table = find_table(str(write_table(tmp_path / "small.csv", dataset, ROWS)))
    session = session_of(tmp_path, store)
    assert len(reproduce(table, session, Selection(methods=("Image-Image",))).outcomes) == 1
    with pytest.raises(
        JaxalignError, match="unknown backbone of this table 'emoji-clop'; did you mean 'emoji-clip'"
    ):
        reproduce(table, session, Selection(backbones=("emoji-clop",)))


@pytest.mark.parametrize(
    ("columns", "row", "message"),
    [
        (
            "protocol,method,backbone,dataset,value,color",
            "ncm,pre,emoji-clip,emoji,1,red",
            "unknown column 'color'",
        ),
        (
            "protocol,method,backbone,dataset,value",
            "ncn,pre,emoji-clip,emoji,1",
            "line 2 .*unknown protocol 'ncn'",
        ),
        ("protocol,method,backbone,dataset,value", "ncm,pre,emoji-clip,emojy,1", "unknown data set 'emojy'"),
        (
            "protocol,method,backbone,dataset,value",
            "ncm,pre,emoji-clip,emoji,high",
            "value is 'high'; expected a number",
        ),
        ("protocol,method,backbone,dataset,value", "ncm,pre,,emoji,1", "there is no backbone"),
        ("protocol,method,backbone,dataset,value", "ncm,pre,emoji-clip,,1", "has no data set"),
        ("protocol,method,backbone,dataset,value", "ncm,pre,emoji-clip", "more or fewer columns"),
        ("protocol,method,backbone,dataset,number", "ncm,pre,emoji-clip,emoji,1", "no column value"),
        ("protocol,backbone,dataset,shots,value", "few-shot,emoji-clip,emoji,two,1", "shots is 'two'"),
        (
            "protocol,backbone,dataset,projected,value",
            "few-shot,emoji-clip,emoji,maybe,1",
            "projected is 'maybe'",
        ),
        ("protocol,backbone,dataset,value", "ncm,emoji-clip,Avg,1", "is the mean of nothing"),
    ],
)
def test_a_bad_table_is_named_with_its_line(columns, row, message, tmp_path):
    path = write_table(tmp_path / "bad.csv", "", [row], columns)
    with pytest.raises(JaxalignError, match=message):
        read_cells(find_table(str(path)))


def test_unknown_tables_and_weights(tmp_path):
    with pytest.raises(JaxalignError, match="unknown table 'isoclip-tabel1'; did you mean 'isoclip-table1'"):
        find_table("isoclip-tabel1")
    assert find_table("ISOCLIP-tables10").name == "isoclip-tableS10"
    with pytest.raises(JaxalignError, match=r"there is no file none\.csv"):
        find_table("none.csv")
    with pytest.raises(JaxalignError, match="unknown backbone 'ViT-B/31'; did you mean"):
        Places({"ViT-B/31": str(tmp_path)})
    with pytest.raises(JaxalignError, match="there is no file or folder"):
        Places({"ViT-B/32": str(tmp_path / "none")})


def test_weights_of_ones_own_stand_in_for_a_backbone(animals, model, tmp_path):
    dataset, store = animals
    ja.save(model, tmp_path / "mine")
    table = find_table(
        str(write_table(tmp_path / "small.csv", dataset, ["ncm,image-image,ViT-B/32,ANIMALS,60"]))
    )
    workspace = Workspace(tmp_path / "runs", store)
    session = Session(workspace, Places({"ViT-B/32": str(tmp_path / "mine")}))
    assert reproduce(table, session).outcomes[0].value == pytest.approx(ACCURACY)


def test_the_command_writes_everything_and_fails_at_the_end(animals, tmp_path, capsys, monkeypatch):
    dataset, store = animals
    monkeypatch.setenv("COLUMNS", "120")
    path = write_table(tmp_path / "small.csv", dataset, ROWS)
    out = tmp_path / "out"
    arguments = [
        "reproduce",
        str(path),
        "--out",
        str(out),
        "--store",
        str(store),
        "--data-dir",
        str(tmp_path / "tfds"),
    ]
    assert main([*arguments, "--json", str(tmp_path / "found.json")]) == 1
    output = capsys.readouterr()
    assert f"{ACCURACY:.2f} / 60.00 (+6.67)" in output.out
    assert "missing: data set caltech101, for 1 cells: put there:" in output.out
    assert "jaxalign: error: 1 of 6 cells failed" in output.err
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == json.loads((out / "small.json").read_text())
    assert found["summary"] == {"measured": 2, "missing": 2, "failed": 1, "incomplete": 1}
    rows = list(csv.DictReader((out / "small.csv").read_text().splitlines()))
    assert float(rows[1]["measured"]) == pytest.approx(ACCURACY)
    assert rows[3]["state"] == "missing"
    assert (out / "small.png").read_bytes().startswith(b"\x89PNG")
    assert "## Failed" in (out / "small.md").read_text()
    assert f"2 runs: 2 measured anew, in {out}" in output.out
    assert main([*arguments, "--methods", "Image-Image"]) == 0
    assert f"1 run: 1 found, in {out}" in capsys.readouterr().out


def test_where_nothing_can_be_measured_the_command_fails_and_says_what_is_missing(tmp_path, capsys):
    arguments = ["--datasets", "DTD", "--backbones", "ViT-B/32", "--data-dir", str(tmp_path)]
    assert main(["reproduce", "isoclip-table1", *arguments, "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert "missing: data set dtd, for 3 cells: put there:" in said.out
    lacking = "model clip-vit-base-patch32, data set dtd not here; how to get each is said above"
    assert said.err.splitlines()[-1] == f"jaxalign: error: no cell could be measured: {lacking}"


def test_what_only_some_splits_need_is_missing_as_well(tmp_path, monkeypatch):
    monkeypatch.delenv("JAXALIGN_SOURCE_DIR", raising=False)
    imagenet = DATASETS["imagenet"]
    images = tmp_path / "downloads" / "manual" / "imagenet" / "images"

    def wanted():
        lacking = missing_dataset(imagenet, tmp_path)
        told = "" if lacking is None else lacking.advice
        return [source.path.rpartition("/")[2] for source in imagenet.sources if source.what in told]

    assert wanted() == ["val", "train"]
    (images / "val").mkdir(parents=True)
    assert wanted() == ["train"]
    (images / "train").mkdir()
    assert missing_dataset(imagenet, tmp_path) is None


@pytest.mark.long
def test_the_list_counts_what_running_counts(tmp_path):
    """Numbers of the table itself, its means among them, and for the same variant."""
    session = Session(Workspace(tmp_path / "runs", tmp_path, tmp_path), Places(), "reference")
    listed = {row["table"]: row["cells"] for row in print_tables(session)}
    for name in ("isoclip-table1", "reevaluating-table2", "isoclip-tableS10"):
        found = reproduce(find_table(name), session)
        assert summary(found).startswith(f"0 of {listed[name]} cells measured (reference variant")


def test_names_do_not_break_markdown_or_csv(animals, tmp_path):
    dataset, store = animals
    row = '"a | b <script>",ncm,image-image,emoji-clip,ANIMALS,60'
    columns = "task,protocol,method,backbone,dataset,value"
    table = find_table(str(write_table(tmp_path / "t.csv", dataset, [row], columns)))
    found = reproduce(table, session_of(tmp_path, store))
    text = to_markdown(found)
    assert found.outcomes[0].state == "failed"
    assert "<script>" not in text
    assert "a \\| b" in text
    assert next(iter(csv.DictReader(to_csv(found).splitlines())))["task"] == "a | b <script>"


def test_a_folder_that_was_left_out_of_does_not_break_markdown(tmp_path):
    path = write_table(tmp_path / "t.csv", "", ["ViT-B/32,Caltech,60"], "backbone,dataset,value")
    (cell,) = read_cells(replace(find_table(str(path)), settings={"protocol": "image-retrieval"}))
    outcome = Outcome(cell, "measured", 59.0, left_out={"folder:<b>/all": ["a.png"]})
    text = to_markdown(Reproduction(TABLES["isoclip-table1"], (outcome,), (), "paper"))
    assert "left out: 1 of folder:&lt;b>/all" in text


def test_a_column_called_model_keeps_its_text_beside_the_model_that_was_used(tmp_path):
    path = write_table(tmp_path / "t.csv", "", ["ViT-B/32,Caltech,60"], "model,dataset,value")
    (cell,) = read_cells(replace(find_table(str(path)), settings={"protocol": "image-retrieval"}))
    found = Outcome(cell, "measured", 59.0, model="clip-vit-base-patch32")
    (row,) = csv.DictReader(
        to_csv(Reproduction(TABLES["isoclip-table1"], (found,), (), "paper")).splitlines()
    )
    assert (row["model"], row["model_used"]) == ("ViT-B/32", "clip-vit-base-patch32")


@pytest.mark.long
def test_the_list_says_how_much_is_here(tmp_path, capsys):
    arguments = ["reproduce", "--list", "--data-dir", str(tmp_path), "--json", str(tmp_path / "list.json")]
    assert main(arguments) == 0
    rows = {row["table"]: row for row in json.loads((tmp_path / "list.json").read_text())}
    assert set(rows) == set(TABLES)
    assert rows["isoclip-table1"] | {"title": ""} == {
        "table": "isoclip-table1",
        "title": "",
        "cells": 210,  # 195 and the 15 means
        "here": 0,
    }
    assert "isoclip-tableS10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "which table?"),
        (["isoclip-table1", "--weights", "ViT-B/32"], 2, "expected BACKBONE=PATH"),
        (["isoclip-table1", "--datasets", "Catlech"], 1, "did you mean 'Caltech'"),
        (["isoclip-table11"], 1, "unknown table"),
    ],
)
def test_bad_usage_is_one_line(arguments, status, message, tmp_path, capsys):
    assert main(["reproduce", *arguments, "--out", str(tmp_path)]) == status
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert message in error[0]
