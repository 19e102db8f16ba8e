"""`jaxalign models` and `jaxalign datasets`: what they list, and that it is whole on every terminal."""

import dataclasses
import json
import math

import pytest

from jaxalign.eval import cli
from jaxalign.eval.cli.models import count_parameters
from jaxalign.eval.datasets import DATASETS
from jaxalign.specs import MODELS, spec_to_json
from jaxalign.weights.availability import Availability, find_model
from jaxalign.weights.tensors import expected_shapes


@pytest.mark.long
def test_models_lists_every_model(capsys, tmp_path):
    target = tmp_path / "models.json"
    assert cli.main(["models", "--json", str(target)]) == 0
    said = capsys.readouterr().out
    rows = json.loads(target.read_text())
    assert [row["name"] for row in rows] == list(MODELS)
    for row in rows:
        assert row["name"] in said
        spec = MODELS[row["name"]]
        assert row["parameters"] > 1e6
        assert row["embedding_width"] == spec.towers.image.embedding_width
        assert row["context"] == spec.context
        assert row["local"] == (row["available"] in ("embedded", "cached"))
        assert row["local"] or row["advice"]
    by_name = {row["name"]: row for row in rows}
    assert by_name["emoji-clip"]["available"] == "embedded"
    assert by_name["clip-vit-base-patch16"]["band"] == [200, 50]
    assert by_name["clip-vit-base-patch16"]["text_band"] == [10, 50]
    assert "200, 50" in said


def test_models_prints_every_fact_of_the_models_it_is_given(capsys, tmp_path):
    target = tmp_path / "models.json"
    assert cli.main(["models", "ViT-B-16.pt", "dinov2-base", "--json", str(target)]) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    clip, dino = lines[: lines.index([])], lines[lines.index([]) + 1 :]
    assert (clip[0][0], dino[0][0]) == ("clip-vit-base-patch16", "dinov2-base")
    spec = MODELS["clip-vit-base-patch16"]
    facts = dict(clip[1:])
    for tower in ("image", "text"):
        for field in dataclasses.fields(getattr(spec.towers, tower)):
            assert f"{tower}.{field.name}" in facts
    assert {"image.activation": "quick_gelu", "text.norm_epsilon": "1e-05"}.items() <= facts.items()
    assert {"band": "200, 50", "interpolation": "bicubic", "context": "77"}.items() <= facts.items()
    for field in dataclasses.fields(spec):
        assert field.name in ("name", "towers", "formats") or field.name in facts
    assert not any(key.startswith("text.") for key in dict(dino[1:-1]))
    assert [row["spec"] for row in json.loads(target.read_text())] == json.loads(
        json.dumps([spec_to_json(MODELS[name]) for name in ("clip-vit-base-patch16", "dinov2-base")])
    )
    assert cli.main(["models", "dinov2-bse"]) == 1
    assert "did you mean 'dinov2-base'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["emoji-siglip", "clip-rn50", "dinov2-with-registers-base"])
def test_parameters_are_counted_in_one_block_for_all(name):
    towers = MODELS[name].towers
    every = expected_shapes(towers).values()
    assert count_parameters(towers) == sum(math.prod(shape) for shape in every)


def test_a_model_in_the_hub_s_cache_is_local(monkeypatch, tmp_path):
    spec = MODELS["clip-vit-base-patch32"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshots = tmp_path / f"models--{spec.hub_ids[0].replace('/', '--')}" / "snapshots"
    other, pinned = snapshots / ("0" * 40), snapshots / (spec.revision or "1" * 40)
    other.mkdir(parents=True)
    (other / "model.safetensors").touch()
    refused = find_model(spec)
    assert (refused.state, refused.is_local) == ("hub", False)  # of another revision
    assert 'jaxalign.load("clip-vit-base-patch32") downloads it' in refused.advice
    pinned.mkdir()
    (pinned / "config.json").touch()
    assert find_model(spec).state == "hub"  # without weights
    (pinned / "model.safetensors").touch()
    assert find_model(spec) == Availability("cached", pinned)
    assert "download https://dl.fbaipublicfiles.com" in find_model(MODELS["slip-vit-base-patch16"]).advice


@pytest.mark.parametrize("command", ["models", "datasets"])
@pytest.mark.parametrize("columns", ["50", "80", "130", ""])
@pytest.mark.long
def test_lists_are_whole_on_every_terminal(command, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", raising=False)
    assert cli.main([command]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    records = MODELS if command == "models" else DATASETS
    unbroken = "".join(said.split())
    if columns:
        assert max(map(len, lines)) <= int(columns)
    if columns not in ("130",):  # there the last column goes over several lines
        assert all("".join(record.source.split()) in unbroken for record in records.values())
    for name, record in records.items():
        (line,) = [line for line in lines if line.split()[:1] == [name]]  # each name begins one line
        assert columns or record.licence in line  # for grep


def test_what_is_classified_is_a_labelling_of_the_data_set():
    for record in DATASETS.values():
        assert record.classified in ("", *record.tasks)
    assert DATASETS["emoji"].classified == "group"  # no emoji is in both splits


def test_datasets_lists_every_data_set(capsys, tmp_path):
    target = tmp_path / "datasets.json"
    (tmp_path / "emoji" / "1.0.0").mkdir(parents=True)
    assert cli.main(["datasets", "--data-dir", str(tmp_path), "--json", str(target)]) == 0
    said = capsys.readouterr().out
    rows = {row["name"]: row for row in json.loads(target.read_text())}
    assert list(rows) == list(DATASETS)
    assert all(name in said for name in rows)
    assert [rows["emoji"]["prepared"], rows["emoji-scenes"]["prepared"]] == [True, False]
    assert rows["emoji-scenes"]["available"] == "ready"
    assert rows["caltech101"]["available"] == "missing"
    assert rows["caltech101"]["advice"].startswith("put there: ")
    assert rows["emoji"]["splits"] == {"train": 8088, "test": 2148}
