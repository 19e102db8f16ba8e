from functools import partial

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.classifiers import search
from jaxalign.errors import JaxalignError

RNG = np.random.default_rng(1)
LABELS = np.repeat(np.arange(4), 3)
CENTRES = RNG.normal(size=(4, 8))
FEATURES = CENTRES[LABELS] + RNG.normal(size=(12, 8))
VAL_LABELS = RNG.integers(0, 4, 50)
VAL = CENTRES[VAL_LABELS] + 1.5 * RNG.normal(size=(50, 8))
TEXT = CENTRES + RNG.normal(size=(4, 8))
AXES = {"alpha": [0.1, 1.0, 10.0], "beta": [0.5, 5.0], "gamma": [0.0, 0.3, 3.0], "channels": [2, 5, 8]}
FAMILY = {
    "prototype": (ja.prototype_classifier, {"alpha": [0.0, 0.2, 0.9, 1.0]}),
    "lda": (ja.lda_classifier, {"alpha": [0.0, 0.01, 0.5, 1.0]}),
    "tip_adapter": (ja.tip_adapter, {k: AXES[k] for k in ("beta", "alpha")}),
    "tip_x": (ja.tip_x, {k: AXES[k] for k in ("alpha", "beta", "gamma")}),
    "tip_x, reference": (
        partial(ja.tip_x, variant="reference"),
        {k: AXES[k] for k in ("gamma", "alpha", "beta")},
    ),
    "ape": (ja.ape, AXES),
    "coder": (partial(ja.coder, text_bank=RNG.normal(size=(9, 8))), {k: AXES[k] for k in ("alpha", "beta")}),
}


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("block_size", [None, 7])
@pytest.mark.long
def test_every_cell_is_the_accuracy_of_that_classifier(name, block_size):
    fit, axes = FAMILY[name]
    found = ja.search_hyperparameters(
        fit(FEATURES, LABELS, text_weights=TEXT), VAL, VAL_LABELS, block_size=block_size, **axes
    )
    assert list(found.axes) == list(axes)
    for cell, got in np.ndenumerate(found.accuracy):
        values = {k: axes[k][i] for k, i in zip(axes, cell, strict=True)}
        guess = fit(FEATURES, LABELS, text_weights=TEXT, **values).predict(VAL)
        assert got == pytest.approx(100 * np.mean(guess == VAL_LABELS)), values
    refit = fit(FEATURES, LABELS, text_weights=TEXT, **found.best)
    np.testing.assert_allclose(found.classifier(VAL), refit(VAL), rtol=1e-5, atol=1e-5)
    assert 100 * np.mean(refit.predict(VAL) == VAL_LABELS) == pytest.approx(found.accuracy.max())


@pytest.mark.long
def test_ties_go_to_the_least_correction():
    same = ja.tip_adapter(FEATURES, LABELS, text_weights=TEXT)
    best = ja.search_hyperparameters(same, VAL, VAL_LABELS, beta=[3.0, 1.0], alpha=[0.0, 0.0]).best
    assert best == {"beta": 1.0, "alpha": 0.0}
    refined = ja.ape(FEATURES, LABELS, text_weights=TEXT, alpha=0)
    assert ja.search_hyperparameters(refined, VAL, VAL_LABELS, channels=[3, 8, 5]).best == {"channels": 8}


def test_equal_logits_count_as_argmax_does():
    logits = np.array([[1.0, 1, 0], [1, 1, 0], [0, 1, 1], [2, 1, 3]], np.float32)
    for own in range(3):
        got = search._is_first(logits, np.full(4, own, np.int32))
        np.testing.assert_array_equal(got, logits.argmax(1) == own)


def test_one_compilation_serves_every_grid_of_a_shape():
    classifier = ja.tip_adapter(FEATURES, LABELS, text_weights=TEXT)
    before = search._count_correct._cache_size()
    with jax.numpy_dtype_promotion("strict"):
        for alphas in ([0.1, 0.2, 0.3], [1.0, 2.0, 3.0]):
            ja.search_hyperparameters(classifier, VAL, VAL_LABELS, alpha=alphas, beta=[1, 2])
    assert search._count_correct._cache_size() == before + 1


def test_error_messages():
    tip = ja.tip_adapter(FEATURES, LABELS, text_weights=TEXT)
    for classifier, options, message in (
        (tip, {}, "0 hyper-parameters to search; this classifier has beta, alpha"),
        (tip, {"gamma": [1]}, "unknown hyper-parameter 'gamma'"),
        (tip, {"alpha": []}, r"alpha has shape \(0,\); expected one or more values"),
        (tip, {"alpha": [-1]}, "alpha is -1; expected a number from 0 on"),
        (tip, {"alpha": [1], "block_size": 0}, "block_size is 0"),
        (ja.tip_adapter(FEATURES, LABELS), {"alpha": [1]}, "unknown hyper-parameter 'alpha'"),
        (ja.prototype_classifier(FEATURES, LABELS), {"alpha": [1]}, "this classifier has none"),
        (
            ja.prototype_classifier(FEATURES, LABELS, text_weights=TEXT),
            {"alpha": [2]},
            "alpha is 2; expected a number from 0 to 1",
        ),
        (ja.ape(FEATURES, LABELS, text_weights=TEXT), {"channels": [0]}, "channels is 0"),
    ):
        with pytest.raises(JaxalignError, match=message):
            ja.search_hyperparameters(classifier, VAL, VAL_LABELS, **options)
    with pytest.raises(JaxalignError, match="labels go from 1 to 4; expected 0 to 3"):
        ja.search_hyperparameters(tip, VAL, VAL_LABELS + 1, alpha=[1])
    with pytest.raises(JaxalignError, match="do not fit a classifier for width 8"):
        ja.search_hyperparameters(tip, VAL[:, :5], VAL_LABELS, alpha=[1])
