"""Methods by name, and retrieval protocols: against hand-computed rankings and slow float64 formulas."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from oracles_ranking import circle

import jaxalign as ja
from jaxalign import JaxalignError
from jaxalign.eval.datasets.examples import collect_captions
from jaxalign.eval.tasks.image_retrieval import landmark_retrieval, retrieval
from jaxalign.eval.tasks.methods import (
    METHODS,
    Inverting,
    Method,
    MethodOptions,
    default_methods,
    find_method,
)
from jaxalign.eval.tasks.projecting import image_embeddings, text_embeddings
from jaxalign.eval.tasks.task import paired_gain
from jaxalign.eval.tasks.text_image import names_find_images
from jaxalign.eval.tasks.text_retrieval import text_retrieval
from jaxalign.models import ImageTowerConfig

NAMES = ("cat", "dog", "red apple", "blue", "photo of dog", "apple", "red", "cat on apple")
RNG = np.random.default_rng(0)


def images(model, count=7):
    side = model.config.image.image_size
    return RNG.random((count, side, side, 3)).astype(np.float32)


def features(model, count=7):
    pixels = images(model, count)
    pre = model.apply_image(model.params, pixels, projected=False)
    return np.asarray(pre), np.asarray(model.apply_image(model.params, pixels))


@pytest.mark.parametrize("layout", ["paper", "reference"])
def test_embeddings_out_of_stored_features_are_the_models(model, layout):
    model = model.with_layout(layout)
    pre, expected = features(model)
    np.testing.assert_allclose(image_embeddings(model, pre), expected, rtol=1e-5, atol=1e-5)
    texts = ["a photo of a cat", "dog", "red apple"]
    pre = model.encode_text(texts, projected=False)
    np.testing.assert_allclose(text_embeddings(model, pre), model.encode_text(texts), rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_the_perception_encoders_reference_feature_still_gives_its_embedding(siglip):
    """There the stored feature is the pooled one, before the residual MLP, and a linear head follows that."""
    from conftest import random_params

    spec = siglip.spec
    image = replace(spec.towers.image, projection=spec.towers.text.projection, rope="pe", class_token=True)
    assert isinstance(image, ImageTowerConfig)
    towers = replace(spec.towers, image=image)
    model = replace(siglip, spec=replace(spec, towers=towers), params=random_params(towers))
    for layout in ("paper", "reference"):
        of_layout = model.with_layout(layout)
        pre, expected = features(of_layout)
        # a float32 tower by way of its linear head, summed in another order
        np.testing.assert_allclose(image_embeddings(of_layout, pre), expected, rtol=1e-4, atol=1e-5)


def test_features_of_another_width(clip):
    with pytest.raises(JaxalignError, match=r"features have shape \(3, 5\); expected \[n, 32\]"):
        image_embeddings(clip, np.zeros((3, 5)))
    with pytest.raises(JaxalignError, match=r"expected \[n, 20\]"):
        text_embeddings(clip, np.zeros((3, 32)))


OPTIONS = MethodOptions(band=(2, 3), rank=3, class_names=NAMES)


def embedded(name, model, pre, options=OPTIONS, modality="image"):
    method = find_method(name, model, modality, options)
    texts = model.encode_text(method.texts) if method.texts else None
    return np.asarray(method.fit(model, subspace_texts=texts, gallery=pre)(pre))


def test_each_method_is_its_formula(model):
    pre, plain = features(model)
    heads = model.projectors
    image, text = (oracles.homogeneous(h.kernel, h.bias) for h in (heads.image, heads.text))
    rows = oracles.homogeneous(pre.T, np.ones(len(pre))).T if heads.image.bias is not None else pre
    texts = np.asarray(model.encode_text([f"a photo of {name}" for name in NAMES]))
    unit = oracles.normalized(plain)
    expected = {
        "image-image": plain,
        "pre": pre,
        "whitened": rows @ oracles.polar(image),
        "isoclip": rows @ oracles.isoclip(image, text, 2, 3)[0],
        "pca": oracles.pca_projection(plain, texts, 3),
        "pca-mean": oracles.pca_projection(unit, texts, 3, mean=unit.mean(0)),
    }
    for name, x in expected.items():
        # Cosines in float32 of features whose scale differs by orders between methods.
        np.testing.assert_allclose(
            oracles.cosine(embedded(name, model, pre), embedded(name, model, pre)),
            oracles.cosine(x, x),
            atol=3e-5,
            err_msg=name,
        )


def test_variants_of_the_text_subspace(clip):
    pre, plain = features(clip)
    bare = np.asarray(clip.encode_text(NAMES))
    for name, options in (("code", {}), ("readme", {"center": False, "normalize": True})):
        found = embedded("pca", clip, pre, replace(OPTIONS, subspace=name))
        expected = oracles.pca_projection(plain, bare, 3, **options)
        # eigenvectors in float32, relative to the largest value
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    prompts = find_method("pca", clip, options=OPTIONS).texts
    assert prompts[0] == "a photo of cat"


def test_text_methods(model):
    texts = ["a photo of a cat", "dog", "red apple", "a blue dog"]
    pre = np.asarray(model.encode_text(texts, projected=False))
    heads = model.projectors
    assert set(METHODS["text"]) >= {"text-text", "isoclip", "ovi"}
    np.testing.assert_allclose(
        embedded("text-text", model, pre, modality="text"), model.encode_text(texts), rtol=1e-5, atol=1e-5
    )
    expected = ja.isoclip(heads, 2, 3).text(pre)
    np.testing.assert_allclose(embedded("isoclip", model, pre, modality="text"), expected)


def test_the_papers_band_is_the_default(clip):
    printed = replace(clip, spec=replace(clip.spec, band=(4, 1), text_band=(0, 2)))
    assert find_method("isoclip", printed).band == (4, 1)
    assert find_method("isoclip", printed, "text").band == (0, 2)
    assert find_method("isoclip", printed, options=OPTIONS).band == (2, 3)
    assert "isoclip" in default_methods(printed, "image", MethodOptions())
    assert "isoclip" not in default_methods(clip, "image", MethodOptions())
    assert "isoclip" in default_methods(clip, "image", OPTIONS)
    assert find_method("isoclip-auto", clip).band == ja.select_band(ja.decompose(clip.projectors))


def test_what_a_method_depends_on_is_in_its_settings(clip):
    settings = lambda name, **options: find_method(name, clip, options=replace(OPTIONS, **options)).to_json()
    assert settings("isoclip") == {"method": "isoclip", "band": [2, 3]}
    assert settings("pca") != settings("pca", class_names=NAMES[:-1])
    assert settings("pca") != settings("pca", subspace="code")
    assert settings("pca")["rank"] == 3
    assert settings("oti") == {
        "method": "oti",
        "steps": 150,
        "seed": 0,
        "curve": [0, 15, 30, 45, 60, 75, 90, 105, 120, 135, 150],
    }
    assert settings("oti", inverting=Inverting(steps=3, seed=2))["curve"] == [0, 1, 2, 3]
    ovi = find_method("ovi", clip, "text", OPTIONS).to_json()
    assert (ovi["steps"], ovi["patches"]) == (1000, clip.spec.inversion_patches)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("isoclipp", OPTIONS, "unknown image method 'isoclipp'; did you mean 'isoclip'"),
        ("isoclip", MethodOptions(), "prints no image band for tiny-emoji-clip; pass one"),
        ("isoclip", MethodOptions(band=(6, 6)), r"the band \(6, 6\) leaves none of the 12"),
        ("isoclip", MethodOptions(band=(-1, 6)), "expected two counts of 0 or more"),
        ("pca", MethodOptions(rank=9, class_names=NAMES), "rank of PCA<- is 9; expected 1 to 7"),
        ("pca", MethodOptions(subspace="papre"), "unknown variant of PCA<- 'papre'; did you mean 'paper'"),
        ("ovi", OPTIONS, "unknown image method 'ovi'"),
        ("oti", MethodOptions(inverting=Inverting(steps=0)), "steps and patches are 0 and"),
    ],
)
def test_bad_methods(clip, name, options, message):
    with pytest.raises(JaxalignError, match=message):
        find_method(name, clip, "image", options)


def test_what_fit_needs(clip):
    pre, _ = features(clip)
    method = find_method("pca-mean", clip, options=OPTIONS)
    with pytest.raises(JaxalignError, match="got 0 text embeddings; expected those of its 8 texts"):
        method.fit(clip)
    with pytest.raises(JaxalignError, match="pass the gallery's features"):
        method.fit(clip, subspace_texts=clip.encode_text(method.texts))
    assert Method("pre", "image").fit(clip)(pre).shape == pre.shape


# A query at 0 degrees: the gallery in the order of its cosines is a, b, a, b, a.
GALLERY = circle(10, 20, 30, 40, 50)
LABELS = np.array([0, 1, 0, 1, 0])


def test_hand_computed_retrieval():
    found = retrieval(circle(0, 0), GALLERY, np.array([0, 1]), LABELS)
    # a: (1/1 + 2/3 + 3/5) / 3; b: (1/2 + 2/4) / 2
    expected = np.array([100 * (1 + 2 / 3 + 3 / 5) / 3, 50.0])
    np.testing.assert_allclose(found.arrays["average_precision"], expected, rtol=1e-6)
    assert found.metrics["mAP"] == pytest.approx(expected.mean())
    assert found.metrics["precision_at_R"] == pytest.approx(100 * (2 / 3 + 1 / 2) / 2)
    assert found.metrics["mAP_at_R"] == pytest.approx(100 * ((1 + 2 / 3) / 3 + (1 / 2) / 2) / 2)
    assert found.metrics["recall_at_1"] == 50.0
    counts = ("queries", "gallery", "queries_without_positives", "unlabelled_queries", "unlabelled_gallery")
    assert [found.metrics[name] for name in counts] == [2, 5, 0, 0, 0]


@pytest.mark.parametrize("variant", ["paper", "reference"])
def test_retrieval_is_the_librarys(variant):
    x, labels = RNG.normal(size=(40, 6)), RNG.integers(0, 5, 40)
    labels[0] = 77  # a query without positives
    found = retrieval(x, x, labels, labels, exclude_self=True, variant=variant)
    expected = ja.retrieval_metrics(x, x, labels, labels, exclude_self=True, variant=variant)
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected)
    precision = found.arrays["average_precision"]
    assert np.isnan(precision[0])
    assert np.isfinite(precision[1:]).all()


def test_unlabelled_examples_are_left_out_and_counted():
    x, labels = RNG.normal(size=(30, 6)), RNG.integers(0, 3, 30)
    labels[[4, 9, 20]] = -1
    kept = labels != -1
    found = retrieval(x, x, labels, labels, exclude_self=True)
    expected = retrieval(x[kept], x[kept], labels[kept], labels[kept], exclude_self=True)
    assert found.metrics["mAP"] == expected.metrics["mAP"]
    assert (found.metrics["unlabelled_queries"], found.metrics["queries"]) == (3, 27)
    rows = np.array([5, 4, 25])  # positions of queries in the gallery; one of them has no label
    found = retrieval(x[rows], x, labels[rows], labels, exclude_self=rows)
    at = np.searchsorted(np.flatnonzero(kept), [5, 25])
    expected = retrieval(x[[5, 25]], x[kept], labels[[5, 25]], labels[kept], exclude_self=at)
    assert found.metrics["mAP"] == expected.metrics["mAP"]
    with pytest.raises(JaxalignError, match="has a label; choose another task"):
        retrieval(x, x, labels, np.full(30, -1))
    with pytest.raises(JaxalignError, match="unknown variant 'papers'; did you mean 'paper'"):
        retrieval(x, x, labels, labels, variant="papers")


def test_landmarks_go_by_their_own_protocol():
    truth = [{"easy": [0], "hard": [2], "junk": [1]}]
    found = landmark_retrieval(circle(0), GALLERY, truth).metrics
    # Easy: item 0 is first. Medium: 0 and 2, second once the junk is gone. Hard: 2, first without 0 and 1.
    assert (found["mAP"], found["mAP_easy"], found["mAP_medium"], found["mAP_hard"]) == (100, 100, 100, 100)
    found = landmark_retrieval(circle(0), GALLERY, [{"easy": [1], "hard": [], "junk": []}]).metrics
    assert found["mAP_easy"] == pytest.approx(25)  # the trapezoid from (0, 0) to (1, 1/2)
    assert found["mAP_hard"] is None
    assert (found["queries"], found["gallery"]) == (1, 5)


def test_names_without_images_are_left_out():
    found = names_find_images(circle(0, 90, 60), GALLERY, np.array([0, 7, 1]), LABELS)
    assert found.metrics["queries"] == 2
    with pytest.raises(JaxalignError, match="none of the texts has an image"):
        names_find_images(circle(0), GALLERY, np.array([9]), LABELS)


def test_hand_computed_captions():
    captions = collect_captions([("a", "b"), ("c", "d"), ("c", "d"), ()], ["x", "y", "z", "w"])
    assert captions.texts == ("a", "b", "c", "d")  # z has y's captions
    assert captions.ids == ("x#0", "x#1", "y#0", "y#1")
    assert captions.images.tolist() == [0, 0, 1, 1]
    assert captions.queries.tolist() == [0, 2]
    # From a at 0: b at 30 is second, c at 20 first. From c at 20: b (10), a (20), d at 50 (30) is third.
    x = circle(0, 30, 20, 50)
    found = text_retrieval(x[captions.queries], x, captions)
    np.testing.assert_allclose(found.arrays["average_precision"], [50, 100 / 3], rtol=1e-6)
    expected = ja.text_retrieval_metrics(x, captions.images)
    assert found.metrics["mAP"] == pytest.approx(expected["mAP"])
    with pytest.raises(JaxalignError, match="has no captions"):
        collect_captions([(), ()], ["x", "y"])


def test_paired_gain():
    found = paired_gain(np.array([3.0, 5.0, np.nan, 4.0]), np.array([1.0, 1.0, 2.0, 4.0]))
    assert found["gain"] == 2.0  # of 2, 4 and 0
    assert found["gain_error"] == pytest.approx(2 / 3**0.5)
    assert paired_gain(np.ones(1), np.zeros(1)) == {"gain": 1.0, "gain_error": 0.0}


def test_an_image_only_model_has_what_needs_no_text(clip):
    towers = replace(clip.spec.towers, text=None)
    spec = replace(clip.spec, towers=towers, tokens=None, start_token=None, pad_token=None)
    alone = replace(clip, spec=spec, params={"img": clip.params["img"]}, tokenizer=None)
    assert default_methods(alone, "image", MethodOptions()) == ("image-image", "pre")
    pre = jnp.asarray(features(clip)[0])
    assert find_method("whitened", alone).fit(alone)(pre).shape == (7, 12)
    for name in ("isoclip", "pca", "oti"):
        with pytest.raises(JaxalignError, match="text tower"):
            find_method(name, alone, "image", OPTIONS)
