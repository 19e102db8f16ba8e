"""The variant `reference` against transcriptions of what the published code does, and options that do not
apply."""

import hashlib
from dataclasses import replace

import dataset_layouts as layouts
import numpy as np
import oracles
import oracles_classifiers
import oracles_published as published
import pytest
from conftest import tiny_model

import jaxalign as ja
from jaxalign.classifiers import FEW_SHOT, find_grid
from jaxalign.classifiers.method import steps
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DATASETS
from jaxalign.eval.datasets.examples import collect_captions
from jaxalign.eval.tasks.classifying import FewShotSettings
from jaxalign.eval.tasks.few_shot import Pool, draw_examples, few_shot
from jaxalign.eval.tasks.image_retrieval import Retrieving
from jaxalign.eval.tasks.methods import MethodOptions, find_method
from jaxalign.eval.tasks.pairs import takes_distractors, variant_split
from jaxalign.eval.tasks.text_retrieval import text_retrieval

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def few():
    """Shots `[12, 8]` of four classes, validation and test images, and texts, all of length one."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(4, 8))
    unit = lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    draw = lambda labels: unit(centres[labels] + 1.6 * rng.normal(size=(len(labels), 8)))
    labels, held_out = np.repeat(np.arange(4), 3), np.repeat(np.arange(4), 15)
    return draw(labels), labels, draw(held_out), draw(held_out), held_out, unit(centres + 1.3)


# Text-to-text retrieval.


def test_no_query_is_in_the_published_gallery_of_captions():
    images = RNG.permutation(np.repeat(np.arange(9), [5, 5, 6, 2, 3, 5, 7, 5, 4]))
    features = RNG.normal(size=(len(images), 6))
    expected = published.text_retrieval(features, images.tolist())
    found = ja.text_retrieval_metrics(features, images, variant="reference")
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    # more than rounding: the two variants differ
    assert found["mAP"] != pytest.approx(ja.text_retrieval_metrics(features, images)["mAP"], abs=0.1)

    rows = [np.flatnonzero(images == p).tolist() for p in dict.fromkeys(images.tolist())]
    collected = collect_captions([tuple(map(str, own)) for own in rows], [str(i) for i in range(9)])
    ordered = features[[row for own in rows for row in own]]
    measured = text_retrieval(ordered[collected.queries], ordered, collected, variant="reference").metrics
    assert {name: measured[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert (measured["queries"], measured["gallery"]) == (9, len(images) - 9)


def test_captions_that_are_all_the_first_of_their_image():
    with pytest.raises(JaxalignError, match="each of the 4 captions is the first of its image"):
        ja.text_retrieval_metrics(RNG.normal(size=(4, 3)), [1, 2, 3, 4], variant="reference")
    with pytest.raises(JaxalignError, match="unknown variant 'refrence'"):
        ja.text_retrieval_metrics(RNG.normal(size=(4, 3)), [1, 1, 2, 2], variant="refrence")
    with pytest.raises(JaxalignError, match="unknown variant 'refrence'"):
        Retrieving(variant="refrence")  # before anything is embedded


# PCA<-.


def test_the_names_of_the_published_code_are_those_of_torchhub():
    clip, hub = ja.class_names("imagenet"), ja.class_names("imagenet-torchhub")
    assert len(hub) == 1000
    assert sum(a != b for a, b in zip(clip, hub, strict=True)) == 363
    assert sum(a.lower() != b.lower() for a, b in zip(clip, hub, strict=True)) == 297
    assert (hub[4], hub[7], hub[134], hub[639], hub[-1]) == (
        "hammerhead",
        "cock",
        "crane",
        "maillot",
        "toilet tissue",
    )
    digest = hashlib.sha256("\n".join(hub).encode()).hexdigest()  # of imagenet_classes.txt at c7895df
    assert digest == "1f386e0d1cb6e28b9c2dac651c3dea6801e98ad1b41a14ce6bb1a093d72069f5"
    model = tiny_model("emoji-clip")
    texts = lambda name: find_method("pca", model, options=MethodOptions(subspace=name)).texts
    assert texts("code") == texts("readme") == hub
    assert texts("paper") == ja.class_names("imagenet", template="a photo of {}")
    own = MethodOptions(subspace="code", class_names=("cat", "dog", "apple"))
    assert find_method("pca", model, options=own).texts == ("cat", "dog", "apple")


def test_the_few_shot_subspace_is_that_of_seven_templates():
    model = tiny_model("emoji-clip")
    names = (
        "cat",
        "dog",
        "red apple",
        "blue",
        "photo of dog",
        "apple",
        "red",
        "cat on apple",
        "a dog on red",
    )
    method = find_method("pca", model, options=MethodOptions(subspace="few-shot", class_names=names))
    assert method.texts[:7] == tuple(t.replace("{}", "cat") for t in ja.imagenet_templates("subset"))
    assert method.to_json()["subspace"] == "few-shot"
    assert len(find_method("pca", model, options=MethodOptions(subspace="few-shot")).texts) == 7000
    texts = RNG.normal(size=(len(method.texts), 12)).astype(np.float32)
    pre = RNG.normal(size=(5, 32)).astype(np.float32)
    plain = np.asarray(find_method("image-image", model).fit(model)(pre))
    expected = published.few_shot_projection(plain, texts.reshape(9, 7, 12))
    # eigenvectors in float32
    np.testing.assert_allclose(method.fit(model, subspace_texts=texts)(pre), expected, atol=1e-4)


def test_features_taken_over_from_retrieval_are_never_scaled(few):
    x, labels, _, test, test_labels, _ = few
    lengths = 1 + np.arange(len(x))[:, None] / 4
    for name, oracle in (("prototype", published.prototype_accuracy), ("lda", published.lda_accuracy)):
        settings = FewShotSettings(name, shots=(3,), seeds=(1,), normalize=False)
        found = few_shot(Pool(labels, lengths * x), test * 3, test_labels, 4, settings)
        expected = oracle(lengths * x, labels, test * 3, test_labels, 4)
        assert found.metrics["accuracy"]["3"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["prototype", "lda"])
def test_few_shot_with_texts_mixes_in_halves(few, name):
    x, labels, _, test, test_labels, text = few
    settings = FewShotSettings(name, with_text=True, shots=(3,), seeds=(1,))
    found = few_shot(Pool(labels, x), test, test_labels, 4, settings, text_weights=text)
    oracle = published.prototype_accuracy if name == "prototype" else published.lda_accuracy
    assert found.metrics["accuracy"]["3"] == pytest.approx(oracle(x, labels, test, test_labels, 4, text))


def test_one_shot_lda_with_texts_is_zero_shot(few):
    x, labels, _, test, test_labels, text = few
    settings = FewShotSettings("lda", with_text=True, shots=(1,), seeds=(1, 2))
    found = few_shot(Pool(labels, x), test, test_labels, 4, settings, text_weights=text)
    zero_shot = 100 * np.mean((test @ text.T).argmax(1) == test_labels)
    assert found.metrics["accuracy"]["1"] == pytest.approx(zero_shot)


# Grids.


def test_published_grids_are_those_of_the_configs():
    tip = find_grid("published", "tip-adapter", "flowers102").axes
    assert (len(tip["alpha"]), len(tip["beta"])) == (20, 200)
    assert tip["beta"][-1] == 199 * (50 - 0.1) / 200 + 0.1
    assert find_grid("published", "tip-adapter", "pets").axes["alpha"][-1] == 19 * (3 - 0.1) / 20 + 0.1
    assert find_grid("published", "tip-adapter", "dtd@tfds").name == "published:dtd"
    tip_x = find_grid("published", "tip-x", "anything").axes
    assert [len(tip_x[name]) for name in ("alpha", "beta", "gamma")] == [20, 200, 50]
    assert (tip_x["beta"][0], tip_x["gamma"][1]) == (1, (30 - 0.1) / 50 + 0.1)
    ape = find_grid("published", "ape", "imagenet").axes
    assert [len(ape[name]) for name in ("alpha", "beta", "gamma")] == [20, 200, 5]
    assert ape["gamma"].tolist() == [0, 0.1, 0.2, 3 * 0.5 / 5, 0.4]
    assert find_grid("published", "ape", "eurosat").axes["beta"][-1] == 199 * (30 - 0.1) / 200 + 0.1
    coder = find_grid("published", "coder")
    assert ([len(axis) for axis in coder.axes.values()], coder.rounds) == ([50, 500], 3)
    alpha = find_grid("published", "lda").axes["alpha"]
    assert (len(alpha), alpha[0], alpha[-1]) == (7, pytest.approx(1e-6, rel=1e-5), 0.5)
    for method in FEW_SHOT.values():
        by_dataset = set(method.published) - {""}
        assert by_dataset <= set(DATASETS)
        assert len(by_dataset) in (0, 11)
    assert set(FEW_SHOT["ape"].published_options) == set(FEW_SHOT["ape"].published)
    assert {method.name for method in FEW_SHOT.values() if not method.published} == {"prototype"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("publshed", "lda"), "unknown grid 'publshed'; did you mean 'published'"),
        (
            ("published", "prototype", "dtd"),
            "prototype has no published grid; expected tip-adapter, ape, lda",
        ),
        (
            ("published", "tip-adapter", "emoji"),
            "depends on the data set, and there is none for emoji; say whose",
        ),
        (("published:dtdd", "ape", "emoji"), "data set with a published grid 'dtdd'; did you mean 'dtd'"),
    ],
)
def test_grids_that_do_not_exist(arguments, message):
    with pytest.raises(JaxalignError, match=message):
        find_grid(*arguments)
    assert find_grid("published:dtd", "ape", "emoji").name == "published:dtd"


def tuned(few, name, grid, **options):
    x, labels, validation, test, held_out, text = few
    settings = FewShotSettings(name, with_text=True, shots=(3,), seeds=(1,), options=options)
    found = few_shot(
        Pool(labels, x),
        test,
        held_out,
        4,
        settings,
        text_weights=text,
        validation=(validation, held_out.astype(np.int32)),
        grid=grid,
    )
    return found.metrics["chosen"]["3"][0]


def test_lda_is_tuned_as_published(few):
    x, labels, validation, _, held_out, text = few
    lda = oracles.lda_logits(validation, x, labels, 4)
    a = published.lda_weight(validation @ text.T, lda, held_out)
    assert a < 10  # below the alphas of the default grid
    found = tuned(few, "lda", find_grid("published", "lda"))
    assert found["alpha"] == pytest.approx(a / (100 + a))


@pytest.mark.long
def test_tip_adapter_is_tuned_as_published(few):
    x, labels, validation, _, held_out, text = few
    one_hot = np.eye(4)[labels]
    affinity = validation.astype(np.float64) @ x.T
    logits = lambda beta, alpha: 100 * validation @ text.T + alpha * np.exp(-beta * (1 - affinity)) @ one_hot
    expected = published.search([("beta", 0.1, 13, 200), ("alpha", 0.1, 13, 20)], logits, held_out)
    assert tuned(few, "tip-adapter", find_grid("published", "tip-adapter", "dtd")) == pytest.approx(expected)


def thinned(grid, **counts):
    """The grid with fewer values between the same ends: the slow loops take a moment."""
    ends = {name: (axis[0], axis[-1] + axis[1] - axis[0]) for name, axis in grid.axes.items()}
    return replace(grid, axes={name: steps(*ends[name], count) for name, count in counts.items()})


@pytest.mark.long
def test_coder_is_tuned_three_times_as_published(few):
    x, labels, validation, _, held_out, text = few
    arguments = (validation, x, labels, 4, text, text)
    logits = lambda beta, alpha: oracles_classifiers.coder(*arguments, alpha, beta)
    loops = [("beta", 0.1, 200, 6), ("alpha", 0.1, 20, 5)]
    expected = published.search(loops, logits, held_out, rounds=3)
    found = tuned(few, "coder", thinned(find_grid("published", "coder"), alpha=5, beta=6))
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.long
def test_ape_and_tip_x_are_tuned_as_published(few):
    x, labels, validation, _, held_out, text = few
    arguments = (validation, x, labels, 4, text)
    ape = lambda beta, alpha, gamma: oracles_classifiers.ape(*arguments, alpha, beta, gamma, 4, 0.7)
    loops = [("beta", 0.1, 30, 4), ("alpha", 0.1, 5, 3), ("gamma", 0, 1.5, 3)]
    grid = thinned(find_grid("published", "ape", "eurosat"), alpha=3, beta=4, gamma=3)
    assert tuned(few, "ape", grid) == pytest.approx(published.search(loops, ape, held_out), rel=1e-5)
    tip_x = lambda alpha, beta, gamma: oracles_classifiers.tip_x(
        *arguments, alpha, beta, gamma, 0.5, "reference"
    )
    loops = [("alpha", 0.1, 50, 3), ("beta", 1, 50, 4), ("gamma", 0.1, 30, 3)]
    grid = thinned(find_grid("published", "tip-x"), alpha=3, beta=4, gamma=3)
    found = tuned(few, "tip-x", grid, variant="reference")
    assert found == pytest.approx(published.search(loops, tip_x, held_out), rel=1e-5)


def test_ties_have_to_decide_everything(few):
    x, labels, validation, _, held_out, text = few
    classifier = ja.tip_adapter(x, labels, text_weights=text)
    axes = {"alpha": [0.0, 1e-6], "beta": [1.0, 2.0]}
    best = lambda ties: ja.search_hyperparameters(classifier, validation, held_out, ties=ties, **axes).best
    assert best(("beta", "alpha")) == {"alpha": 0.0, "beta": 1.0}
    with pytest.raises(JaxalignError, match=r"ties are \('alpha',\); expected beta among them, too"):
        best(("alpha",))


# Draws.


def test_published_draws_are_those_of_one_generator():
    labels = RNG.permutation(np.repeat(np.arange(5), [20, 3, 17, 40, 16]))
    for seed in (1, 2, 3):
        expected = published.draws(labels.tolist(), seed)
        for shots, by_class in expected.items():
            found = draw_examples(labels, shots, seed, 5, "published")
            assert found.tolist() == [row for label in range(5) for row in by_class[label]]
    with pytest.raises(JaxalignError, match="draws 1, 2, 4, 8, 16 shots; got 3"):
        draw_examples(labels, 3, 1, 5, "published")
    with pytest.raises(JaxalignError, match="unknown draws 'publshed'"):
        FewShotSettings(draws="publshed")


# Splits and distractors.


def test_splits_of_the_published_code(tmp_path):
    assert variant_split(DATASETS["roxford5k"], "query", "", "reference") == "query-uncropped"
    assert variant_split(DATASETS["roxford5k"], "query", "query", "reference") == "query"
    assert variant_split(DATASETS["rparis6k"], "query", "", "paper") == ""
    assert variant_split(DATASETS["flickr30k-captions"], "captions", "", "reference") == "val"
    assert variant_split(DATASETS["flickr30k-captions"], "captions", "", "paper") == ""
    assert variant_split(DATASETS["coco-captions"], "captions", "", "reference") == ""
    assert not takes_distractors(DATASETS["roxford5k"], None, "reference", tmp_path)
    layouts.distractors(tmp_path / "downloads" / "manual")
    assert takes_distractors(DATASETS["roxford5k"], None, "reference", tmp_path)
    assert not takes_distractors(DATASETS["roxford5k"], False, "reference", tmp_path)
    assert not takes_distractors(DATASETS["roxford5k"], None, "paper", tmp_path)
    assert not takes_distractors(DATASETS["cub"], None, "reference", tmp_path)
