"""Classification protocols and `jaxalign classify`: hand-computed accuracies, draws, bad input."""

import json

import numpy as np
import pytest
from PIL import Image

import jaxalign as ja
from jaxalign.classifiers import FEW_SHOT
from jaxalign.errors import JaxalignError
from jaxalign.eval.cli import main
from jaxalign.eval.tasks.classification import classify, measure_classification, nearest_class_mean
from jaxalign.eval.tasks.classifying import Classes, Classifying, FewShotSettings
from jaxalign.eval.tasks.few_shot import Pool, drawn_rows, few_shot
from jaxalign.eval.tasks.labelled import LabelledPair
from jaxalign.eval.tasks.methods import MethodOptions, find_method
from jaxalign.eval.tasks.projecting import image_embeddings
from jaxalign.eval.tasks.workspace import Workspace


@pytest.fixture(scope="module")
def clusters():
    """Training and test features `[60, 8]`, `[30, 8]` of three classes that overlap, and their labels."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 8))
    train, test = np.repeat(np.arange(3), 20), np.repeat(np.arange(3), 10)
    draw = lambda labels: (centres[labels] + 1.5 * rng.normal(size=(len(labels), 8))).astype(np.float32)
    return draw(train), train, draw(test), test, centres.astype(np.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of images: three colours as classes, two of them hard to tell apart."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(1)
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for label, colour in {"blue": (20, 40, 220), "green": (30, 200, 60), "teal": (20, 150, 130)}.items():
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(colour + rng.normal(0, 60, (20, 30, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / split / label / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def model():
    return ja.load("emoji-clip")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs", tmp_path / "store")


def test_nearest_class_mean_by_hand():
    # Means (2, 0) and (0, 1), not of unit vectors: those would be (1, 0) and (0.71, 0.71) / 2 + ...
    train = np.array([[3, 0], [1, 0], [0.5, 0.5], [-0.5, 1.5]])
    test = np.array([[1, 0.9], [1, 0.1], [0.1, 1], [1, 0.2], [0.9, 1]])
    found = nearest_class_mean(train, np.array([0, 0, 1, 1]), test, np.array([0, 0, 1, 1, 1]), 2)
    assert found.arrays["correct"].tolist() == [True, True, True, False, True]
    assert found.metrics["accuracy"] == pytest.approx(80)
    assert found.metrics["class_accuracy"] == pytest.approx((100 + 200 / 3) / 2)


def test_zero_shot_averages_the_templates_by_hand():
    # The second class's prompts average to (0, 1); by the first one alone the third image would be wrong.
    prompts = np.array([[[1, 0], [1, 0]], [[1, 1], [-1, 1]]])
    classifier = ja.zero_shot_classifier(ja.ensemble_text_weights(prompts))
    found = classify(classifier, np.array([[2, 1], [1, 1.5], [1, 0.9]]), np.array([0, 1, 0]), 2)
    assert found.arrays["correct"].tolist() == [True, True, True]


@pytest.mark.parametrize("name", FEW_SHOT)
@pytest.mark.long
def test_few_shot_is_the_librarys(name, clusters):
    x, y, test, labels, text = clusters
    settings = FewShotSettings(name, with_text=True, shots=(3,), seeds=(1, 5))
    found = few_shot(Pool(y, x), test, labels, 3, settings, text_weights=text)
    options = {"text_weights": text} | ({"text_bank": text} if name == "coder" else {})
    fit = FEW_SHOT[name].fit
    expected = ja.few_shot_accuracy(fit, x, y, test, labels, shots=(3,), seeds=(1, 5), **options)
    np.testing.assert_allclose(found.arrays["accuracy"], expected.accuracy, atol=1e-5)
    assert found.metrics["accuracy"] == pytest.approx({"3": expected.accuracy.mean()})


def test_only_drawn_examples_need_features(clusters):
    x, y, test, labels, _ = clusters
    settings = FewShotSettings("lda", shots=(2, 4))
    rows = drawn_rows(y, 3, settings)
    assert len(rows) < len(x)
    whole = few_shot(Pool(y, x), test, labels, 3, settings)
    part = few_shot(Pool(y, x[rows], rows), test, labels, 3, settings)
    np.testing.assert_array_equal(whole.arrays["accuracy"], part.arrays["accuracy"])
    with pytest.raises(JaxalignError, match=r"lacks features of examples that seed 1 draws for 2 shots"):
        few_shot(Pool(y, x[rows[:3]], rows[:3]), test, labels, 3, settings)


def test_one_shot_lda_without_texts_is_chance(clusters):
    x, y, test, labels, _ = clusters
    found = few_shot(Pool(y, x), test, labels, 3, FewShotSettings("lda", shots=(1,)))
    assert found.metrics["accuracy"]["1"] == pytest.approx(100 / 3)


def test_tuned_hyper_parameters_are_the_best_on_validation_features(clusters):
    x, y, test, labels, text = clusters
    settings = FewShotSettings("tip-adapter", with_text=True, shots=(2,), seeds=(1,))
    found = few_shot(
        Pool(y, x), test, labels, 3, settings, text_weights=text, validation=(test, labels.astype(np.int32))
    )
    plain = few_shot(Pool(y, x), test, labels, 3, settings, text_weights=text)
    assert found.metrics["accuracy"]["2"] >= plain.metrics["accuracy"]["2"]
    assert set(found.metrics["chosen"]["2"][0]) == {"alpha", "beta"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier": "lad"}, "unknown few-shot classifier 'lad'; did you mean 'lda'"),
        ({"classifier": "tip-x"}, "tip-x compares images by class names"),
        ({"shots": (0, 1)}, "shots are"),
        ({"seeds": (1, 1)}, "seeds are"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(JaxalignError, match=message):
        FewShotSettings(**options)


def test_labels_out_of_range(clusters):
    x, y, test, labels, _ = clusters
    with pytest.raises(JaxalignError, match="labels go from 0 to 2; expected 0 to 1"):
        nearest_class_mean(x, y, test, labels, 2)
    with pytest.raises(JaxalignError, match="labels go from 0 to 2; expected 0 to 1"):
        few_shot(Pool(y % 2, x), test, labels, 2, FewShotSettings())


@pytest.mark.long
def test_reference_variant_projects_unit_vectors_and_leaves_them(photos, model, workspace):
    options = MethodOptions(rank=5)
    pair = LabelledPair(workspace, model, f"folder:{photos}")
    reference = Classes(pair, Classifying(options=options, variant="reference"))
    method = find_method("pca", model, "image", options)
    pre = pair.test_pre_and_labels[0]
    plain = np.asarray(image_embeddings(model, pre))
    unit = plain / np.linalg.norm(plain, axis=1, keepdims=True)
    subspace = ja.principal_subspace(reference.fitting.subspace_texts(method), 5)
    # float32 products of vectors of about length 10, divided by it
    np.testing.assert_allclose(reference.embed(method, pre), subspace.project(unit), atol=1e-5)


@pytest.mark.long
def test_runs_are_found_again_and_hold_everything(photos, model, workspace, monkeypatch):
    pair = LabelledPair(workspace, model, f"folder:{photos}")
    few = FewShotSettings(shots=(1, 2), seeds=(1,), with_text=True)
    classifying = Classifying(("zero-shot", "ncm", "lda"), few_shot=few, augmentation=3)
    runs = measure_classification(pair, classifying)
    assert [run.protocol for run in runs] == ["classification", "classification", "few-shot"]
    settings = runs[2].settings
    assert settings["model"] == "emoji-clip"
    assert settings["augmentation"] == 3
    assert settings["version"] == pair.test.version
    assert (settings["train"], settings["test"], settings["shots"]) == ("train", "test", [1, 2])
    monkeypatch.setattr("jaxalign.eval.tasks.few_shot.few_shot", None)
    again = measure_classification(LabelledPair(workspace, model, f"folder:{photos}"), classifying)
    assert [run.digest for run in again] == [run.digest for run in runs]
    assert again[2].metrics == runs[2].metrics


@pytest.mark.long
def test_tuning_takes_the_validation_split(photos, model, workspace):
    few = FewShotSettings(shots=(2,), seeds=(1,), with_text=True)
    pair = LabelledPair(workspace, model, f"folder:{photos}")
    (run,) = measure_classification(pair, Classifying(("lda",), few_shot=few, tune=True))
    assert "alpha" in run.metrics["chosen"]["2"][0]


def test_a_label_out_of_range_names_the_image(photos, model, workspace, monkeypatch):
    load = Workspace.load_split

    def broken(self, dataset, split):
        examples = load(self, dataset, split)
        examples.labels["label"][4] = 7
        return examples

    monkeypatch.setattr(Workspace, "load_split", broken)
    with pytest.raises(
        JaxalignError, match=r"green/1\.png of .* has label 7 \(1 labels are out of range\); expected 0 to 2"
    ):
        LabelledPair(workspace, model, f"folder:{photos}")


def test_images_without_label_take_no_part(photos, model, workspace, monkeypatch):
    load = Workspace.load_split

    def partly(self, dataset, split):
        examples = load(self, dataset, split)
        examples.labels["label"][:2] = -1
        return examples

    whole = LabelledPair(workspace, model, f"folder:{photos}")
    assert len(whole.train_labels) == 12
    monkeypatch.setattr(Workspace, "load_split", partly)
    pair = LabelledPair(Workspace(None, workspace.store.with_name("other")), model, f"folder:{photos}")
    np.testing.assert_allclose(pair.test_pre_and_labels[0], whole.test_pre_and_labels[0][2:], atol=1e-5)
    assert pair.train_labels.tolist() == whole.train_labels.tolist()[2:]


def test_the_command(photos, tmp_path, capsys):
    arguments = [
        "classify",
        "--dataset",
        f"folder:{photos}",
        "--classifiers",
        "zero-shot",
        "ncm",
        "prototype",
    ]
    arguments += [
        "--shots",
        "1",
        "2",
        "--seeds",
        "1",
        "--out",
        str(tmp_path / "runs"),
        "--store",
        str(tmp_path / "store"),
    ]
    assert main([*arguments, "--json", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["runs"]
    assert [run["settings"]["classifier"] for run in found] == ["zero-shot", "ncm", "prototype"]
    text = capsys.readouterr().out
    assert f"{found[1]['metrics']['accuracy']:.1f}" in text
    assert "2 shots" in text
    assert "Note:" not in text
    where = ["--out", str(tmp_path / "runs"), "--store", str(tmp_path / "store")]
    same = ["--classifiers", "ncm", "--train", "test", "--test", "test", *where]
    assert main(["classify", "--dataset", f"folder:{photos}", *same]) == 0
    assert "Note: the images of test are classified by means" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--classifiers", "tip-x"], 2, "tip-x compares images by class names; add --with-text"),
        (["--tune"], 2, "--tune is about few-shot classifiers"),
        (["--shots", "5"], 2, "--shots is about few-shot classifiers"),
        (["--alpha", "0.4"], 2, "--alpha is about few-shot classifiers"),
        (["--with-text"], 2, "--with-text is about few-shot classifiers"),
        (["--classifiers", "knn"], 2, "see `jaxalign classify --help`"),
        (["--methods", "oti"], 1, "oti inverts queries"),
        (["--tasks", "labl"], 1, "'labl'; did you mean 'label'"),
        (["--templates", "sngle"], 1, "'sngle'; did you mean 'single'"),
        (["--test", "tset"], 1, "'tset'; did you mean 'test'"),
        (["--classifiers", "lda", "--shots", "5"], 1, "3 of 3 classes have fewer than 5 examples"),
        (["--dataset", "coco-captions"], 1, "coco-captions"),
    ],
)
def test_bad_usage_is_one_line(arguments, status, message, photos, tmp_path, capsys):
    if "--dataset" not in arguments:
        arguments = [*arguments, "--dataset", f"folder:{photos}"]
    options = [
        "--data-dir",
        str(tmp_path),
        "--out",
        str(tmp_path / "runs"),
        "--store",
        str(tmp_path / "store"),
    ]
    try:
        found = main(["classify", *arguments, *options])
    except SystemExit as stop:
        found = stop.code
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxalign: error:")]
    assert found == status
    assert len(error) == 1
    assert message in error[0]
