"""Measurements of splits with other classes, and of queries that are in the gallery: the right numbers."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import load_split
from jaxalign.eval.report import build_report
from jaxalign.eval.tasks.classification import measure_classification
from jaxalign.eval.tasks.classifying import Classifying, FewShotSettings
from jaxalign.eval.tasks.image_retrieval import Retrieving, measure_image_retrieval
from jaxalign.eval.tasks.labelled import LabelledPair
from jaxalign.eval.tasks.pairs import ImagePair
from jaxalign.eval.tasks.runs import read_runs
from jaxalign.eval.tasks.spectra import measure_parts
from jaxalign.eval.tasks.sweep import Sweeping, measure_sweep
from jaxalign.eval.tasks.workspace import Workspace

PLAIN = Retrieving(methods=("image-image",))


def noise(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)).save(path)


def write(root, **splits):
    """Images of a class are copies of one image: whoever compares names finds all of them."""
    for split, classes in splits.items():
        for name in classes:
            for copy in range(2):
                noise(root / split / name / f"{copy}.png", sum(map(ord, name)))
    return f"folder:{root}"


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs", tmp_path / "store")


@pytest.fixture
def photos(tmp_path):
    """Case `test` without a class of `train`: numbers of its own would be other classes'."""
    return write(tmp_path / "photos", train=("cat", "dog", "emu"), test=("dog", "emu"))


def retrieve(workspace, model, dataset, query="", gallery="", **settings):
    pair = ImagePair(workspace, model, dataset, query, gallery)
    return measure_image_retrieval(pair, replace(PLAIN, **settings))[0]


def features(model, dataset, split):
    examples = load_split(dataset, split)
    return np.asarray(model.encode_image(list(examples.images)))


# Labels mean the same on both sides.


@pytest.mark.long
def test_classes_are_compared_by_name(workspace, clip, photos):
    run = retrieve(workspace, clip, photos)
    counts = {name: run.metrics[name] for name in ("queries", "gallery", "queries_in_gallery")}
    assert counts == {"queries": 4, "gallery": 6, "queries_in_gallery": 0}
    assert run.metrics["mAP"] == run.metrics["recall_at_1"] == 100
    sweep = measure_sweep(workspace, clip, photos, "image", Sweeping((0,), (0, 2)))
    assert sweep.arrays["mAP"].tolist() == [[100, 100]]
    assert measure_parts(workspace, clip, photos, Sweeping()).metrics["parts"]["all"]["mAP"] == 100
    pair = LabelledPair(workspace, clip, photos)
    (ncm,) = measure_classification(pair, Classifying(("ncm",)))
    assert ncm.metrics["accuracy"] == 100
    assert ncm.metrics["classes"] == 3
    assert not ncm.notes


def test_a_class_that_the_other_split_lacks_is_said_or_refused(workspace, clip, tmp_path):
    dataset = write(tmp_path / "photos", train=("cat", "dog"), test=("cat", "emu"))
    run = retrieve(workspace, clip, dataset)
    assert run.metrics["mAP"] == 100
    note = "2 of 4 queries have no positive in the gallery, and take no part in the means"
    assert run.notes == [note]
    assert run.to_json()["notes"] == [note]
    assert note in build_report([run])
    pair = LabelledPair(workspace, clip, dataset)
    with pytest.raises(JaxalignError, match=r"1 of 3 classes have no image in .*/train \(emu for one\)"):
        measure_classification(pair, Classifying(("ncm",)))
    few = Classifying(("prototype",), few_shot=FewShotSettings(shots=(1,), seeds=(1,)))
    with pytest.raises(JaxalignError, match="1 of 3 classes have no image"):
        measure_classification(pair, few)


def test_names_find_the_images_of_their_class(workspace, clip, photos):
    pair = ImagePair(workspace, clip, photos)
    (_, _, prompts), labels = pair.name_prompts("label")
    assert prompts == ["a photo of a cat.", "a photo of a dog.", "a photo of a emu."]
    assert labels.tolist() == [0, 1, 2]


# A query leaves the gallery by identity.


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize(
    ("query", "gallery", "positions"),
    [
        ("test", "train+test", [6, 7, 8, 9]),
        ("train+test", "test+train", [4, 5, 6, 7, 8, 9, 0, 1, 2, 3]),
        ("train+test", "train+test", list(range(10))),
    ],
)
def test_a_query_leaves_its_gallery(query, gallery, positions, variant, workspace, clip, photos):
    run = retrieve(workspace, clip, photos, query, gallery, variant=variant)
    labels = [[name.split("/")[1] for name in load_split(photos, split).ids] for split in (query, gallery)]
    x, y = (features(clip, photos, split) for split in (query, gallery))
    expected = ja.retrieval_metrics(x, y, *labels, exclude_self=positions, variant=variant)
    for name in ("mAP", "mAP_at_R", "recall_at_1"):
        assert run.metrics[name] == pytest.approx(expected[name])
    assert run.metrics["queries_in_gallery"] == len(positions)
    own = [positions[row] for row in run.arrays["shown_queries"]]
    assert not any(at in row for at, row in zip(own, run.arrays["first_results"], strict=True))
    sweep = measure_sweep(
        workspace, clip, photos, "image", Sweeping((0,), (0,), query=query, gallery=gallery)
    )
    assert sweep.metrics["queries_in_gallery"] == len(positions)
    # percent: where two scores agree to seven digits, their order is rounding
    assert sweep.metrics["best"]["mAP"] == pytest.approx(
        ja.retrieval_metrics(x, y, *labels, exclude_self=positions)["mAP"], abs=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "gallery", "mean", "first"),
    [("test", "train+test", 6.4, 12.4), ("train+test", "test+train", 7.4, 14.0)],
)
def test_the_embedded_model_on_splits_that_overlap(query, gallery, mean, first, emoji_data_dir, tmp_path):
    workspace = Workspace(None, tmp_path / "store", emoji_data_dir)
    run = retrieve(workspace, ja.load("emoji-clip"), "emoji", query, gallery)
    assert (round(run.metrics["mAP"], 1), round(run.metrics["recall_at_1"], 1)) == (mean, first)


def test_some_queries_are_in_the_gallery_and_others_not(workspace, clip, photos):
    run = retrieve(workspace, clip, photos, "train+test", "test")
    assert run.metrics["queries_in_gallery"] == 4
    x, y = features(clip, photos, "train+test"), features(clip, photos, "test")
    labels = [[name.split("/")[1] for name in load_split(photos, s).ids] for s in ("train+test", "test")]
    exclude = np.array([-1] * 6 + [0, 1, 2, 3])[:, None]
    assert run.metrics["mAP"] == pytest.approx(
        ja.retrieval_metrics(x, y, *labels, exclude_self=exclude)["mAP"]
    )
    with pytest.raises(JaxalignError, match="4 of 10 queries are in the gallery; expected all or none"):
        retrieve(workspace, clip, photos, "train+test", "test", variant="reference")


def test_a_linked_image_leaves_with_its_query(workspace, clip, tmp_path):
    """Two names of one file, in the folders of two labels: neither is found by the other."""
    noise(tmp_path / "photos" / "cat" / "a.png", 1)
    noise(tmp_path / "photos" / "cat" / "b.png", 2)
    noise(tmp_path / "photos" / "dog" / "c.png", 3)
    (tmp_path / "photos" / "dog" / "a.png").symlink_to(tmp_path / "photos" / "cat" / "a.png")
    run = retrieve(workspace, clip, f"folder:{tmp_path / 'photos'}")
    assert run.metrics["queries_in_gallery"] == 4
    assert run.arrays["shown_queries"].tolist() == [0, 1, 2, 3]
    found = {row: set(results) for row, results in enumerate(run.arrays["first_results"].tolist())}
    assert found[0] == found[2] == {1, 3}


def test_lists_of_positives_are_about_one_gallery(workspace, clip, photos, monkeypatch):
    truth = ({"easy": [0], "hard": [], "junk": []},) * 4
    load = Workspace.load_split
    monkeypatch.setattr(
        Workspace,
        "load_split",
        lambda self, dataset, split: replace(load(self, dataset, split), ground_truth=truth, labels={}),
    )
    ImagePair(workspace, clip, photos)
    with pytest.raises(JaxalignError, match=r"positives, which are about the gallery train; got test"):
        ImagePair(workspace, clip, photos, "test", "test")


@pytest.mark.long
def test_training_images_that_are_classified_are_said_beside_the_number(workspace, clip, tmp_path):
    for label in range(3):
        for i in range(3):
            noise(tmp_path / "pics" / f"class{label}" / f"{i}.png", 10 * label + i)
    pair = LabelledPair(workspace, clip, f"folder:{tmp_path / 'pics'}")
    few = FewShotSettings(shots=(1,), seeds=(1,))
    runs = measure_classification(pair, Classifying(("zero-shot", "ncm", "prototype"), few_shot=few))
    assert [run.metrics.get("test_in_train") for run in runs] == [None, 9, 9]
    assert [len(run.notes) for run in runs] == [0, 1, 1]
    assert "9 of the 9 are among these, which flatters the accuracy" in runs[1].notes[0]
    page = build_report(read_runs(workspace.out))
    assert page.count("which flatters the accuracy") == 2
    both = LabelledPair(
        workspace, clip, write(tmp_path / "two", train=("a", "b"), test=("a", "b")), test="train+test"
    )
    (ncm,) = measure_classification(both, Classifying(("ncm",)))
    assert ncm.metrics["test_in_train"] == 4


def test_hyper_parameters_are_not_chosen_on_training_images(workspace, clip, tmp_path):
    dataset = write(tmp_path / "p", train=("a", "b"), val=("a", "b"), test=("a", "b"))
    few = FewShotSettings(shots=(1,), seeds=(1,), with_text=True)
    pair = LabelledPair(workspace, clip, dataset, train="train+val")
    with pytest.raises(JaxalignError, match=r"4 of the 4 images of .*/val are in train\+val, too"):
        measure_classification(pair, Classifying(("prototype",), few_shot=few, tune=True))
