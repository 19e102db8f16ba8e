"""The papers' tables and figures as cells, and the keys of features under both layouts of the heads."""

from collections import Counter
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
from conftest import tiny_model

from jaxalign.eval.datasets import DATASETS
from jaxalign.eval.features import make_key
from jaxalign.eval.paper import TABLES, find_table, read_cells
from jaxalign.eval.paper.run import candidates
from jaxalign.eval.paper.session import _MEASURES
from jaxalign.eval.tasks.classifying import NCM, ZERO_SHOT
from jaxalign.eval.tasks.registry import TASKS


def test_every_printed_number_is_a_cell():
    shipped = {
        file.name
        for file in files("jaxalign.eval").joinpath("paper_tables").iterdir()
        if file.name.endswith(".csv")
    }
    assert {table.file for table in TABLES.values()} == shipped
    for table in TABLES.values():
        numbers = [row[c] for row in table.rows() for c in table.columns if row[c]]
        cells = [cell for cell in read_cells(table) if cell.shown]
        shown = [cell.printed for cell in cells if cell.printed is not None]
        assert Counter(shown) == Counter(map(float, numbers)), table.name
        if not numbers:  # a figure without any: each row is measured all the same
            assert len(cells) == len(table.rows()), table.name


def test_the_tables_are_those_of_the_papers():
    """All tables, and all figures but the images of ideas, of captions and of methods (1, 3, 4, 9, 10)."""
    isoclip = ["table1", "table2", "table3", "table4", *(f"tableS{i}" for i in range(5, 11))]
    isoclip += ["figure2", "figure3", "figure4", "figure5", *(f"figureS{i}" for i in range(6, 11))]
    other = ["table1", "table2", "table3", "bdd100k", "figure2", "figure5", "figure6", "figure6-methods"]
    other += ["figure7", "figure8", "appendixA"]
    expected = {f"isoclip-{name}" for name in (*isoclip, "sectionF3", "sectionH")}
    assert set(TABLES) == expected | {f"reevaluating-{name}" for name in other}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_models_and_data_sets_of_every_cell_are_known(table):
    for cell in read_cells(table):
        assert candidates(cell.backbone)
        assert cell.dataset in DATASETS or cell.members or cell.settings["protocol"] == "spectrum"
        assert cell.settings["protocol"] in _MEASURES


def test_every_task_that_a_table_prints_can_be_measured():
    assert set(_MEASURES) == {name for name, task in TASKS.items() if task.headline}


def test_a_protocol_of_a_table_is_a_task_and_its_settings(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{name},emoji-clip,emoji,1" for name in ("zero-shot", "ncm", "band-selection")]
    path.write_text("\n".join(["protocol,backbone,dataset,value", *rows]) + "\n")
    cells = read_cells(find_table(str(path)))
    assert [cell.settings for cell in cells] == [
        {"protocol": "classification", "classifiers": (ZERO_SHOT,)},
        {"protocol": "classification", "classifiers": (NCM,)},
        {"protocol": "band-sweep"},
    ]
    assert [cell.metric for cell in cells] == ["accuracy", "accuracy", "best.k_top"]


def test_printed_averages_are_means_of_their_members():
    for table in TABLES.values():
        cells = read_cells(table)
        for cell in cells:
            printed = [cells[i].printed for i in cell.members]
            if printed and None not in printed:
                # Members are rounded to 0.05 and so is the mean.
                assert cell.printed == pytest.approx(np.mean(printed), abs=0.101), cell.name


def test_shots_of_a_row_are_one_measurement():
    cells = [cell for cell in read_cells(TABLES["reevaluating-table2"]) if cell.backbone == "DINOv2"]
    assert {cell.settings["shots"] for cell in cells} == {(1, 2, 4, 8, 16)}
    last = cells[-1]
    assert last.metric == "accuracy.16"
    assert len(last.members) == 11


def test_features_are_shared_between_layouts_that_do_not_change_them():

    clip = tiny_model("emoji-clip")
    key = lambda model, modality="image", **more: make_key(model, "d", "1", "test", modality, **more).digest
    other = clip.with_layout("reference")
    assert key(clip) == key(other)
    assert key(clip, stage="oti") != key(other, stage="oti")
    tower = replace(
        clip.spec.towers.image, rope="pe", pooling="map", projection=clip.spec.towers.image.projection
    )
    pe = replace(clip, spec=replace(clip.spec, towers=replace(clip.spec.towers, image=tower)))
    assert key(pe) != key(pe.with_layout("reference"))
    assert key(pe, "text") == key(pe.with_layout("reference"), "text")
