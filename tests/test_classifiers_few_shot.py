from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.classifiers import few_shot
from jaxalign.errors import JaxalignError

RNG = np.random.default_rng(3)
LABELS = RNG.permutation(np.repeat(np.arange(5), 9))
CENTRES = RNG.normal(size=(5, 12))
FEATURES = CENTRES[LABELS] + RNG.normal(size=(45, 12))
TEST_LABELS = RNG.integers(0, 5, 40)
TEST = CENTRES[TEST_LABELS] + RNG.normal(size=(40, 12))
TEXT, BANK = RNG.normal(size=(5, 12)), RNG.normal(size=(8, 12))
FAMILY = {
    "prototype": (ja.prototype_classifier, {}),
    "prototype with text": (ja.prototype_classifier, {"text_weights": TEXT, "alpha": 0.3}),
    "ncm": (ja.ncm_classifier, {}),
    "lda": (ja.lda_classifier, {"normalize": False}),
    "tip_adapter": (ja.tip_adapter, {"text_weights": TEXT}),
    "tip_x": (ja.tip_x, {"text_weights": TEXT}),
    "ape": (ja.ape, {"text_weights": TEXT, "channels": 7}),
    "coder": (ja.coder, {"text_weights": TEXT, "text_bank": BANK}),
}


@given(seed=st.integers(0, 2**31), shots=st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_a_draw_has_each_class_shots_times_and_no_example_twice(seed, shots):
    drawn = ja.sample_shots(LABELS, shots, seed=seed)
    np.testing.assert_array_equal(LABELS[drawn], np.repeat(np.arange(5), shots))
    assert len(set(drawn.tolist())) == 5 * shots


def test_draws_repeat_differ_by_seed_and_are_nested():
    first = ja.sample_shots(LABELS, 4, seed=1).reshape(5, 4)
    np.testing.assert_array_equal(first, ja.sample_shots(LABELS, 4, seed=1).reshape(5, 4))
    np.testing.assert_array_equal(first[:, :2], ja.sample_shots(LABELS, 2, seed=1).reshape(5, 2))
    assert not np.array_equal(first, ja.sample_shots(LABELS, 4, seed=2).reshape(5, 4))


SHORT = ("prototype with text", "ncm", "lda", "tip_adapter")  # the others take four times as long


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=() if x in SHORT else pytest.mark.long) for x in FAMILY]
)
def test_accuracy_is_that_of_one_fit_after_the_other(name):
    fit, options = FAMILY[name]
    got = ja.few_shot_accuracy(
        fit, FEATURES, LABELS, TEST, TEST_LABELS, shots=(1, 4), seeds=(1, 2, 3), **options
    )
    for (i, j), accuracy in np.ndenumerate(got.accuracy):
        drawn = ja.sample_shots(LABELS, got.shots[i], seed=got.seeds[j])
        guess = fit(FEATURES[drawn], LABELS[drawn], **options).predict(TEST)
        assert accuracy == pytest.approx(100 * np.mean(guess == TEST_LABELS))


@pytest.mark.long
def test_defaults_are_the_papers_and_lda_at_one_shot_is_chance():
    pool = np.repeat(np.arange(5), 16)
    features = CENTRES[pool] + 0.1 * RNG.normal(size=(80, 12))
    balanced = np.tile(np.arange(5), 4)
    got = ja.few_shot_accuracy(ja.lda_classifier, features, pool, CENTRES[balanced], balanced)
    assert (got.shots, got.seeds, got.accuracy.shape) == ((1, 2, 4, 8, 16), (1, 2, 3), (5, 3))
    np.testing.assert_allclose(got.accuracy[0], 20)
    assert got.accuracy[1:].min() > 90


def test_one_compilation_for_each_number_of_shots():
    run = partial(ja.few_shot_accuracy, ja.tip_adapter, FEATURES, LABELS, TEST, TEST_LABELS, shots=(2, 3))
    before = few_shot._fit._cache_size()
    with jax.numpy_dtype_promotion("strict"):
        for seeds in ((1, 2), (7, 8)):
            run(seeds=seeds, text_weights=TEXT)
    assert few_shot._fit._cache_size() == before + 2


def test_error_messages():
    with pytest.raises(
        JaxalignError, match=r"5 of 5 classes have fewer than 10 examples \(first: class 0 with 9\)"
    ):
        ja.sample_shots(LABELS, 10)
    with pytest.raises(JaxalignError, match=r"int64 of shape \(0,\); expected one class .* integers \(n,\)"):
        ja.sample_shots(LABELS[:0], 1)
    with pytest.raises(JaxalignError, match="shots is 0; expected 1 or more"):
        ja.sample_shots(LABELS, 0)
    with pytest.raises(JaxalignError, match=r"1 of 6 classes have no example \(first: 5\)"):
        ja.sample_shots(LABELS, 1, num_classes=6)
    measure = partial(ja.few_shot_accuracy, ja.tip_adapter, FEATURES, LABELS)
    with pytest.raises(JaxalignError, match="test_features has NaN or infinite values in 40 of 40 rows"):
        measure(TEST * np.nan, TEST_LABELS)
    with pytest.raises(JaxalignError, match="text_weights has 5 of 5 rows of zeros"):
        measure(TEST, TEST_LABELS, shots=(1,), text_weights=TEXT * 0)
    with pytest.raises(JaxalignError, match="labels go from 1 to 5; expected 0 to 4 for 5 classes"):
        measure(TEST, TEST_LABELS + 1)
