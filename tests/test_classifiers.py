import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxalign.classifiers import (
    Classifier,
    lda_classifier,
    ncm_classifier,
    prototype_classifier,
    zero_shot_classifier,
)
from jaxalign.errors import JaxalignError
from jaxalign.projectors import Projector

RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 2, 0, 1, 2, 2, 0, 1, 1])
FEATURES = RNG.normal(size=(10, 6)) + np.eye(3, 6)[LABELS] * 3
TEXT, X = RNG.normal(size=(3, 6)), RNG.normal(size=(5, 6))
FAMILY = [prototype_classifier, ncm_classifier, lda_classifier]


def means(features):
    return np.stack([features[k == LABELS].mean(0) for k in range(3)])


def test_zero_shot_is_the_cosine():
    np.testing.assert_allclose(zero_shot_classifier(TEXT)(X), oracles.cosine(X, TEXT), atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_prototype_is_the_cosine_with_class_means(normalize):
    used = oracles.normalized(FEATURES) if normalize else FEATURES
    got = prototype_classifier(FEATURES, LABELS, normalize=normalize)(X)
    np.testing.assert_allclose(got, oracles.cosine(X, means(used)), atol=1e-6)


def test_ncm_averages_before_the_projection():
    head = Projector(jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32), jnp.ones(4))
    project = lambda x: x @ np.asarray(head.kernel, np.float64) + 1
    got = ncm_classifier(FEATURES, LABELS, projector=head)(X)
    np.testing.assert_allclose(got, oracles.cosine(project(X), project(means(FEATURES))), atol=1e-6)
    np.testing.assert_allclose(
        ncm_classifier(FEATURES, LABELS)(X), oracles.cosine(X, means(FEATURES)), atol=1e-6
    )


@pytest.mark.parametrize("normalize", [True, False])
def test_lda_is_the_formula(normalize):
    prepare = oracles.normalized if normalize else (lambda x: x)
    got = lda_classifier(FEATURES, LABELS, normalize=normalize)(X)
    expected = oracles.lda_logits(prepare(X), prepare(FEATURES), LABELS, 3)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_lda_at_one_example_a_class_is_chance():
    for features in (FEATURES[:3], np.repeat(FEATURES[:3], 3, axis=0)):
        classifier = lda_classifier(features, np.arange(3).repeat(len(features) // 3))
        np.testing.assert_allclose(classifier(X), np.full((5, 3), np.log(1 / 3)), rtol=1e-6)
        balanced = np.tile(np.eye(3, 6), (4, 1))
        accuracy = np.mean(classifier.predict(balanced) == np.tile(np.arange(3), 4))
        assert accuracy == pytest.approx(1 / 3)
    with_text = lda_classifier(FEATURES[:3], np.arange(3), text_weights=TEXT)
    np.testing.assert_array_equal(with_text.predict(X), zero_shot_classifier(TEXT).predict(X))


@pytest.mark.parametrize("fit", FAMILY)
def test_text_mixes_into_the_logits(fit):
    alone, text = fit(FEATURES, LABELS)(X), zero_shot_classifier(TEXT)(X)
    for options, alpha in (({}, 0.5), ({"alpha": 0.3}, 0.3)):
        mixed = fit(FEATURES, LABELS, text_weights=TEXT, **options)(X)
        np.testing.assert_allclose(mixed, alpha * alone + (1 - alpha) * text, atol=1e-5)


@pytest.mark.parametrize("fit", FAMILY)
def test_a_classifier_is_a_pytree_that_fits_and_predicts_under_jit_and_vmap(fit):
    classifier = fit(FEATURES, LABELS)
    assert isinstance(classifier, Classifier)
    logits = classifier(X)
    np.testing.assert_allclose(jax.jit(lambda c, x: c(x))(classifier, X), logits, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(classifier)(X), logits, atol=1e-5)
    np.testing.assert_array_equal(classifier.predict(X), np.argmax(logits, axis=1))
    fitted = jax.jit(lambda f, y: fit(f, y, num_classes=3))(FEATURES, LABELS)
    np.testing.assert_allclose(fitted(X), logits, rtol=1e-4, atol=1e-4)
    several = jax.vmap(lambda f: fit(f, LABELS)(X))(np.stack([FEATURES, FEATURES]))
    np.testing.assert_allclose(several[1], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fit", FAMILY)
@pytest.mark.parametrize(
    ("features", "labels", "options", "message"),
    [
        (FEATURES[0], LABELS, {}, r"features has shape \(6,\); expected two axes"),
        (FEATURES * np.nan, LABELS, {}, "features has NaN or infinite values in 10 of 10 rows"),
        (FEATURES, LABELS[:9], {}, r"labels are int64 of shape \(9,\); expected one class index .* \(10,\)"),
        (FEATURES, LABELS * 1.0, {}, "labels are float64"),
        (FEATURES, LABELS - 1, {}, "labels go from -1 to 1; expected 0 to 1 for 2 classes"),
        (FEATURES, LABELS, {"num_classes": 2}, "labels go from 0 to 2; expected 0 to 1 for 2 classes"),
        (FEATURES, LABELS, {"num_classes": 5}, r"2 of 5 classes have no example \(first: 3, 4\); pass"),
        (
            FEATURES,
            LABELS,
            {"text_weights": TEXT[:2]},
            r"text_weights have shape \(2, 6\); expected \(3, 6\)",
        ),
        (
            FEATURES,
            LABELS,
            {"text_weights": TEXT[:, :5]},
            r"text_weights have shape \(3, 5\); expected \(3, 6\)",
        ),
    ],
)
def test_error_messages(fit, features, labels, options, message):
    with pytest.raises(JaxalignError, match=message):
        fit(features, labels, **options)


def test_calling_errors():
    with pytest.raises(JaxalignError, match=r"shape \(5, 4\) do not fit a classifier for width 6"):
        zero_shot_classifier(TEXT)(X[:, :4])
    with pytest.raises(JaxalignError, match=r"labels are traced.*pass num_classes"):
        jax.jit(lambda y: prototype_classifier(FEATURES, y)(X))(LABELS)
