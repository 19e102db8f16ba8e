"""`jaxalign reproduce` with the variant `reference`: which models, images and grids, and what it notes."""

import json
from dataclasses import replace

import dataset_layouts as layouts
import numpy as np
import oracles
import oracles_published as published
import oracles_ranking
import pytest
from conftest import random_params, tiny_model
from PIL import Image

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.cli import main
from jaxalign.eval.datasets import DATASETS, load_split, prepare
from jaxalign.eval.paper import TABLES, Places, Session, find_table, read_cells, reproduce
from jaxalign.eval.paper.cells import Outcome
from jaxalign.eval.paper.output import cell_text, read_tables, to_json, to_markdown, write_files
from jaxalign.eval.paper.run import Reproduction, candidates
from jaxalign.eval.paper.session import with_slip_transform
from jaxalign.eval.tasks.methods import MethodOptions, find_method
from jaxalign.eval.tasks.runs import read_runs
from jaxalign.eval.tasks.spectra import operator_spectra
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.models import TwoTowersConfig


def cells_of(name, **labels):
    return [cell for cell in read_cells(TABLES[name]) if labels.items() <= cell.labels.items()]


# Bands.


def test_the_band_of_siglip_2_is_that_of_the_layout():
    for name in ("", "-open-clip", "-big-vision"):
        spec = ja.find_spec(f"siglip2-base-patch16-224{name}")
        assert spec.band == (350, 50)
        assert spec.with_layout("reference").band == (350, 49)
        assert spec.with_layout("reference").with_layout("paper") == spec
    for name in ("ViT-B/16", "PE-Core-B-16", "EVA02-B-16"):
        spec = ja.find_spec(name)
        assert spec.with_layout("reference").band == spec.band
    assert not ja.find_spec("emoji-siglip").with_layout("reference").band
    with pytest.raises(JaxalignError, match="unknown layout 'refrence'"):
        spec.with_layout("refrence")


def published_isoclip(image, text, k_top, k_bottom):
    """`get_projection_layers` and `apply_iso` of IsoCLIP for SigLIP 2: heads `[d, d]` with their biases as
    last rows, and all d + 1 singular values."""
    w_image, w_text = (np.vstack(head).T for head in (image, text))
    u, s, _ = np.linalg.svd(w_image.T @ w_text, full_matrices=False)
    assert len(s) == len(image[0]) + 1
    kept = u[:, k_top : len(s) - k_bottom]
    return (w_image @ kept @ kept.T).T


def test_the_band_leaves_what_the_published_code_leaves():
    rng = np.random.default_rng(0)
    heads = [(rng.normal(size=(12, 12)), rng.normal(size=(1, 12))) for _ in range(2)]
    ours = ja.Projectors(*(ja.Projector(kernel, bias[0]) for kernel, bias in heads))
    spec = replace(ja.find_spec("siglip2-base-patch16-224"), band=(3, 5))
    x = rng.normal(size=(7, 12))
    expected = np.hstack([x, np.ones((7, 1))]) @ published_isoclip(*heads, *spec.band)
    found = ja.isoclip(ours, *spec.with_layout("reference").band).image(x)
    np.testing.assert_allclose(found, expected, atol=1e-4)  # a float32 decomposition against one in float64


def square_siglip():
    """As the tiny SigLIP, with towers of one width, as the published code needs them."""
    model = tiny_model("emoji-siglip")
    towers = replace(model.config, text=replace(model.config.text, width=32))
    return replace(model, spec=replace(model.spec, towers=towers, band=(3, 5)), params=random_params(towers))


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A folder of images of two classes, and the folder of the square SigLIP."""
    root = tmp_path_factory.mktemp("colours")
    for seed in range(12):
        split, which = ("train", seed) if seed < 8 else ("test", seed - 8)
        layouts.write_image(root / "images" / split / ("cat", "dog")[which % 2] / f"{which}.png", seed)
    ja.save(square_siglip(), root / "siglip")
    return f"folder:{root / 'images'}", str(root / "siglip")


@pytest.mark.long
def test_every_command_takes_the_band_of_the_layout(colours, tmp_path):
    dataset, model = colours
    where = ["--model", model, "--layout", "reference", "--store", str(tmp_path / "store")]
    where += ["--out", str(tmp_path / "runs")]
    commands = (
        ["retrieve", "--dataset", dataset, "--methods", "isoclip"],
        ["classify", "--dataset", dataset, "--classifiers", "ncm", "--methods", "isoclip"],
        ["indicators", "--dataset", dataset, "--methods", "isoclip", "image-image"],
        ["spectrum", "--dataset", "none"],
    )
    for command in commands:
        assert main([*command, *where]) == 0
    bands = {tuple(run.settings["band"]) for run in read_runs(tmp_path / "runs") if "band" in run.settings}
    assert bands == {(3, 4)}
    paper = Workspace(store=tmp_path / "store").load_model(model)
    assert find_method("isoclip", paper).band == (3, 5)
    assert operator_spectra(paper.projectors, (3, 5)).metrics["band"] == [3, 5]


@pytest.mark.long
def test_a_band_search_counts_as_the_published_code_does(colours, tmp_path):
    """Its k_bottom of 3 leaves two directions of ours; the table compares 3 with 3."""
    dataset, model = colours
    table = tmp_path / "t.csv"
    rows = [f"band-selection,{model},{dataset},best.{axis},1" for axis in ("k_top", "k_bottom")]
    table.write_text("\n".join(["protocol,backbone,dataset,metric,value", *rows]) + "\n")
    session = Session(Workspace(tmp_path / "runs", tmp_path / "store"), Places(), "reference")
    found = reproduce(find_table(str(table)), session)
    assert [outcome.reason for outcome in found.outcomes] == ["", ""]
    (run,) = read_runs(tmp_path / "runs")
    best = run.metrics["best"]["k_bottom"]
    assert found.outcomes[1].value == (best + 1 if best else 0)
    assert run.settings["k_bottom"] == [0, 1, 3, 5, 7, 11, 15, 19]


# Models.


def test_each_paper_has_the_models_of_its_code():
    first = lambda backbone, paper, variant="reference": candidates(backbone, paper, variant)[0]
    assert (
        first("SigLIP2 B/16", "isoclip") == first("SigLIP2 B/16", "") == "siglip2-base-patch16-224-open-clip"
    )
    assert first("SigLIP2 B/16", "reevaluating") == "siglip2-base-patch16-224"
    assert (
        first("SigLIP", "reevaluating") == first("SigLIP B/16", "reevaluating") == "siglip-base-patch16-224"
    )
    assert first("SigLIP2", "reevaluating") == "siglip2-base-patch16-224"
    assert first("DINOv2", "reevaluating") == "dinov2-with-registers-base-meta"
    assert first("DINOv2", "reevaluating", "paper") == "dinov2-base-meta"
    assert first("DINOv2 ViT-B/14", "reevaluating") == "dinov2-base"
    assert first("DINOv2 B/14", "isoclip") == "dinov2-base-meta"
    papers = {cell.paper for table in TABLES.values() for cell in read_cells(table)}
    assert papers == {"isoclip", "reevaluating"}


def test_transformers_siglip_is_transformers_in_everything():
    for backbone in ("SigLIP B/16", "SigLIP2 B/16"):
        spec = ja.find_spec(candidates(backbone, "reevaluating")[0])
        assert spec.pipeline == "transformers"
        assert (spec.towers.image.activation, spec.towers.text.activation) == ("gelu_tanh", "gelu_tanh")
        assert spec.cleaning in ("siglip", "lower")


def test_dino_sees_images_through_slips_transform():
    """Against `Resize(224)`, `CenterCrop(224)`, `ToTensor` and `Normalize` of torchvision."""
    transforms = pytest.importorskip("torchvision.transforms", reason="the extra `reference`")
    published = transforms.Compose(
        [
            transforms.Resize(224),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in ((300, 257), (230, 400))
    ]
    expected = np.stack([published(image).permute(1, 2, 0).numpy() for image in images])
    for name in ("dinov2-with-registers-base-meta", "dinov3-large-patch16", "dinov3-large-patch16-256"):
        model = with_slip_transform(DualEncoder(ja.find_spec(name), {}))
        assert model.name == f"{name}, SLIP's transform"
        np.testing.assert_allclose(model.image_processor(images), expected, atol=1e-6)


class Loaded(Session):
    """A session whose places hold one tiny model for all backbones."""

    def with_tiny(self, monkeypatch):
        monkeypatch.setattr(
            "jaxalign.eval.paper.session.ja.load", lambda name, spec=None: tiny_model("emoji-clip")
        )
        monkeypatch.setattr(Places, "find_weights", lambda self, *arguments: ("tiny", None))
        return self


@pytest.mark.long
def test_only_retrieval_and_what_took_its_features_over_has_slips_transform(monkeypatch, tmp_path):
    expected = {
        "DINOv3 L/16": True,
        "DINOv2": True,
        "dinov3_vitl16": True,
        "DINOv3 ViT-L/16": False,
        "DINOv2 ViT-B/14": False,
        "CLIP B/32": False,
    }
    for variant in ("reference", "paper"):
        session = Loaded(Workspace(tmp_path), Places(), variant).with_tiny(monkeypatch)
        for backbone, transformed in expected.items():
            (cell, *_) = [
                cell
                for name, table in TABLES.items()
                if name.startswith("reevaluating")
                for cell in read_cells(table)
                if cell.backbone == backbone
            ]
            name = session.model(cell).name
            assert name.endswith(", SLIP's transform") == (transformed and variant == "reference"), backbone


# Few-shot.


def asked(monkeypatch, session, cell):
    """The `Classifying` that a cell is measured with."""
    caught = []

    def catch(pair, classifying):
        caught.append(classifying)
        raise JaxalignError("caught")

    monkeypatch.setattr("jaxalign.eval.paper.session.measure_classification", catch)
    monkeypatch.setattr("jaxalign.eval.paper.session.LabelledPair", lambda *arguments: None)
    with pytest.raises(JaxalignError, match="caught"):
        session.measure(cell)
    return caught[0]


@pytest.mark.long
def test_what_few_shot_cells_are_fed(monkeypatch, tmp_path):
    session = Loaded(Workspace(tmp_path), Places(), "reference").with_tiny(monkeypatch)
    one = lambda name, **labels: next(c for c in cells_of(name, **labels) if c.dataset and not c.members)
    clip = asked(monkeypatch, session, one("reevaluating-table2", backbone="CLIP", projected="PCA<-"))
    assert (clip.augmentation, clip.unit, clip.few_shot.draws, clip.tune) == (1, True, "published", False)
    assert (clip.variant, clip.methods) == ("reference", ("pca",))
    siglip = asked(monkeypatch, session, one("reevaluating-table2", backbone="SigLIP2"))
    assert (siglip.augmentation, siglip.unit) == (None, False)
    figure = lambda classifier: asked(
        monkeypatch, session, one("reevaluating-figure6-methods", classifier=classifier)
    )
    for classifier in ("tip-x", "coder", "ape", "LDA"):
        found = figure(classifier)
        assert (found.tune, found.grid) == (True, "published"), classifier
    assert not figure("Prototype").tune
    supplement = asked(
        monkeypatch, session, one("reevaluating-figure6", inputs="with text", classifier="LDA")
    )
    assert (supplement.tune, supplement.few_shot.with_text, supplement.templates) == (False, True, "single")
    imagenet = next(c for c in read_cells(TABLES["reevaluating-figure6-methods"]) if c.dataset == "imagenet")
    assert asked(monkeypatch, session, imagenet).templates == "subset"
    paper = Loaded(Workspace(tmp_path), Places(), "paper").with_tiny(monkeypatch)
    tip_x = one("reevaluating-figure6-methods", classifier="tip-x")
    plain = asked(monkeypatch, paper, tip_x)
    assert (plain.tune, plain.few_shot.draws, plain.augmentation, plain.unit) == (False, "ours", None, True)
    own = replace(tip_x, settings={**tip_x.settings, "grid": "default"})
    assert asked(monkeypatch, paper, own).tune
    model = session.model(tip_x)
    towers = TwoTowersConfig(
        replace(model.config.image, projection=1024), replace(model.config.text, projection=1024)
    )
    session._model = (session._model[0], replace(model, spec=replace(model.spec, towers=towers)))
    options = asked(
        monkeypatch, session, one("reevaluating-figure6-methods", classifier="ape")
    ).few_shot.options
    assert options == {"channels": 500, "similarity_weight": 0.7}


# Notes.


def test_one_shot_lda_with_texts_is_noted_beside_its_18_cells(tmp_path):
    cells = read_cells(TABLES["reevaluating-figure6"])
    noted = [cell for cell in cells if cell.notes]
    assert len(noted) == 18
    assert {(c.labels["shots"], c.labels["inputs"], c.labels["classifier"]) for c in noted} == {
        ("1", "with text", "LDA")
    }
    assert {cell.labels["projected"] for cell in noted} == {"no", "PCA<-"}
    assert [cell.printed for cell in noted if cell.dataset == "caltech101"] == [5.27, 5.27]
    outcomes = [
        Outcome(noted[0], "measured", 71.5, model="clip-rn50", notes=noted[0].notes),
        *(Outcome(cell, "missing", reason="model", notes=cell.notes) for cell in noted[1:]),
    ]
    found = Reproduction(TABLES["reevaluating-figure6"], tuple(outcomes), (), "reference")
    assert cell_text(outcomes[0], 2, found.notes) == "71.50 / 5.27 (+66.23) [1]"
    assert len(found.notes) == 1
    text = to_markdown(found)
    assert "71.50 / 5.27 (+66.23) \\[1]" in text
    assert "one-shot LDA with texts is zero-shot accuracy" in text
    content = to_json(found)
    assert content["cells"][0]["notes"] == list(found.notes) == content["notes"]
    write_files(tmp_path, found, json.loads(json.dumps(content)))
    (table,) = read_tables(tmp_path)
    assert table.notes == [f"[1] {found.notes[0]}"]
    assert "one-shot LDA" in (tmp_path / "reevaluating-figure6.csv").read_text()
    assert main(["report", str(tmp_path)]) == 0
    assert "one-shot LDA with texts is zero-shot accuracy" in (tmp_path / "report.html").read_text()


# ROxford and RParis.


@pytest.fixture
def oxford(tmp_path):
    """ROxford with and without distractors: prepared folders, and a table with a cell of it."""
    records = [layouts.revisited(tmp_path / "raw"), layouts.distractors(tmp_path / "raw")]
    for seed, name in enumerate(sorted((tmp_path / "raw" / "revisitop1m").rglob("*.jpg"))):
        layouts.write_image(name, 100 + seed)  # other images than those of ROxford
    prepare(records[0], tmp_path / "alone", tmp_path / "raw")
    for record in records:
        prepare(record, tmp_path / "both", tmp_path / "raw")
    known = dict(DATASETS) | {record.name: record for record in records}
    ja.save(tiny_model("emoji-clip"), tmp_path / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxalign.eval.datasets.catalogue.DATASETS", known)
        yield tmp_path


@pytest.mark.long
def test_landmarks_as_the_published_code_has_them(oxford, capsys):
    options = ["--model", str(oxford / "model"), "--store", str(oxford / "store"), "--methods", "image-image"]
    command = ["retrieve", "--dataset", "roxford5k", "--variant", "reference", *options]
    runs = {}
    for name, more in (("both", []), ("both", ["--distractors", "no"]), ("alone", [])):
        out = oxford / f"{name}{len(more)}"
        assert main([*command, *more, "--data-dir", str(oxford / name), "--out", str(out)]) == 0
        (runs[name, len(more)],) = read_runs(out)
    assert capsys.readouterr().out.count("Note: revisitop1m is not here") == 1
    model = ja.load(oxford / "model")
    encode = lambda split, dataset="roxford5k": np.asarray(
        model.encode_image(list(load_split(dataset, split, oxford / "both").images))
    )
    truth = load_split("roxford5k", "query", oxford / "both").ground_truth
    gallery = encode("gallery")
    for key, items in (
        (("both", 0), np.concatenate([gallery, encode("distractors", "revisitop1m")])),
        (("both", 2), gallery),
        (("alone", 0), gallery),
    ):
        expected = oracles_ranking.revisited(oracles.cosine(encode("query-uncropped"), items), truth)
        run = runs[key]
        assert run.metrics["mAP"] == pytest.approx(expected["mAP_easy"])
        assert (run.settings["query"], run.metrics["gallery"]) == ("query-uncropped", len(items))
        assert ("distractors" in run.settings) == (len(items) > 3)


@pytest.mark.parametrize("variant", ["reference", "paper"])
@pytest.mark.long
def test_landmarks_of_a_table(oxford, variant):
    rows = ["yes,", "no,", ",yes", ",no"] if variant == "reference" else [",yes", ",no"]
    table = oxford / "t.csv"
    lines = [f"image-retrieval,image-image,{oxford / 'model'},ROxford,50,{row}" for row in rows]
    table.write_text(
        "\n".join(["protocol,method,backbone,dataset,value,distractors,uncropped", *lines]) + "\n"
    )
    workspace = Workspace(oxford / "runs", oxford / "store", oxford / "both")
    found = reproduce(find_table(str(table)), Session(workspace, Places(), variant))
    assert [outcome.reason for outcome in found.outcomes] == [""] * len(rows)
    by_digest = {run.digest: run for run in read_runs(oxford / "runs")}
    made = [by_digest[outcome.runs[0]] for outcome in found.outcomes]
    assert [run.settings["query"] for run in made][-2:] == ["query-uncropped", "query"]
    added = ["distractors" in run.settings for run in made]
    assert added == ([True, False, True, True] if variant == "reference" else [False, False])
    noted = [any("without revisitop1m" in note for note in outcome.notes) for outcome in found.outcomes]
    assert noted == [variant == "reference" and not own for own in added]


# What a task does not have.


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        (["classify", "--variant", "reference"], 2, "--variant reference is about PCA<- and Tip-X"),
        (["classify", "--classifiers", "lda", "--variant", "reference"], 2, "of lda with image-image"),
        (["classify", "--grid", "published"], 2, "--grid is about few-shot classifiers"),
        (["classify", "--draws", "published"], 2, "--draws is about few-shot classifiers"),
        (["classify", "--classifiers", "lda", "--grid", "published"], 2, "add --with-text"),
        (
            ["classify", "--classifiers", "prototype", "--with-text", "--grid", "published"],
            1,
            "prototype has no published grid",
        ),
        (
            ["classify", "--classifiers", "tip-adapter", "--with-text", "--grid", "published"],
            1,
            "the published grid of tip-adapter depends on the data set",
        ),
        (
            ["classify", "--classifiers", "lda", "--with-text", "--draws", "published", "--shots", "3"],
            1,
            "the published code draws 1, 2, 4, 8, 16 shots; got 3",
        ),
        (["retrieve", "--subspace", "few-shot"], 2, "--subspace"),
        (["retrieve", "--distractors", "maybe"], 2, "expected yes or no"),
        (["retrieve", "--distractors", "yes"], 1, "has no distractors"),
    ],
)
def test_what_a_task_does_not_have_is_refused_by_name(command, status, message, photos, tmp_path, capsys):
    where = ["--dataset", photos, "--model", "emoji-clip", "--out", str(tmp_path / "runs")]
    assert main([*command, *where, "--store", str(tmp_path / "store")]) == status
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxalign: error:")]
    assert len(said) == 1
    assert message in said[0]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for seed in range(24):
        split = ("train", "val", "test")[seed % 3]
        layouts.write_image(root / split / ("cat", "dog")[seed % 2] / f"{seed}.png", seed)
    return f"folder:{root}"


def test_captions_alone_have_no_reference_variant(tmp_path, capsys):
    record = layouts.karpathy(tmp_path / "raw", "flickr30k")
    prepare(record, tmp_path / "tfds", tmp_path / "raw")
    ja.save(tiny_model("emoji-clip"), tmp_path / "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxalign.eval.datasets.catalogue.DATASETS", dict(DATASETS) | {record.name: record})
        where = ["--model", str(tmp_path / "model"), "--data-dir", str(tmp_path / "tfds"), "--out"]
        command = ["retrieve", "--dataset", "flickr30k", "--text-image", "--variant", "reference"]
        assert main([*command, *where, str(tmp_path / "runs"), "--store", str(tmp_path / "store")]) == 1
        assert "captions that find images have no reference variant" in capsys.readouterr().err


@pytest.mark.long
def test_classify_says_which_grid_it_searched(photos, tmp_path, capsys):
    options = ["--model", "emoji-clip", "--store", str(tmp_path / "store"), "--out", str(tmp_path / "runs")]
    few = ["--with-text", "--shots", "1", "--seeds", "1"]
    command = ["classify", "--dataset", photos, "--classifiers", "lda", "tip-adapter", *few, *options]
    assert main([*command, "--grid", "published:dtd"]) == 0
    assert "tuned on the grid published, published:dtd" in " ".join(capsys.readouterr().out.split())
    runs = {run.settings["classifier"]: run.settings for run in read_runs(tmp_path / "runs")}
    assert (runs["lda"]["grid"], runs["lda"]["tuned_on"], runs["lda"]["tuned"]) == ("published", "val", True)
    assert runs["tip-adapter"]["grid"] == "published:dtd"
    assert main(["report", str(tmp_path / "runs")]) == 0
    assert "published:dtd" in (tmp_path / "runs" / "report.html").read_text()


@pytest.mark.long
def test_few_shot_pca_of_the_published_code_in_a_command(photos, tmp_path):
    """Projected unit vectors stay as they are, and the subspace is ImageNet's in seven templates."""
    ja.save(tiny_model("emoji-clip"), tmp_path / "model")
    options = [
        "--model",
        str(tmp_path / "model"),
        "--store",
        str(tmp_path / "store"),
        "--out",
        str(tmp_path / "runs"),
    ]
    command = [
        "classify",
        "--dataset",
        photos,
        "--classifiers",
        "prototype",
        "--methods",
        "pca",
        "--seeds",
        "1",
    ]
    assert main([*command, "--shots", "2", "--variant", "reference", "--draws", "published", *options]) == 0
    (run,) = read_runs(tmp_path / "runs")
    assert (run.settings["subspace"], run.settings["normalize"]) == ("few-shot", False)
    assert (run.settings["texts"].split()[0], run.settings["draws"]) == ("7000", "published")

    model = ja.load(tmp_path / "model")
    texts = find_method("pca", model, options=MethodOptions(subspace="few-shot")).texts
    prompts = np.asarray(model.encode_text(texts)).reshape(1000, 7, -1)
    train, test = (load_split(photos, split) for split in ("train", "test"))
    unit = lambda examples: oracles.normalized(model.encode_image(list(examples.images)))
    x, y = (published.few_shot_projection(unit(of), prompts) for of in (train, test))
    labels = train.labels["label"]
    rows = [row for own in published.draws(labels.tolist(), 1)[2].values() for row in own]
    expected = published.prototype_accuracy(x[rows], labels[rows], y, test.labels["label"], 2)
    assert run.metrics["accuracy"]["2"] == pytest.approx(expected)
