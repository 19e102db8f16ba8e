import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_classifiers
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.neighbors import NearestCentroid

from jaxalign.classifiers import (
    Classifier,
    ensemble_text_weights,
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


def test_ensemble_normalizes_before_and_after_the_mean():
    # along (1, 0) and (0, 1), whatever their lengths: the diagonal
    np.testing.assert_allclose(ensemble_text_weights([[[5.0, 0], [0, 0.1]]]), [[0.5**0.5] * 2], rtol=1e-6)
    embeddings = RNG.normal(size=(4, 3, 6))
    expected = oracles_classifiers.ensemble(embeddings)
    np.testing.assert_allclose(ensemble_text_weights(embeddings), expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(ensemble_text_weights)(embeddings), expected, atol=1e-6)
    one_template = zero_shot_classifier(ensemble_text_weights(TEXT[:, None]))
    np.testing.assert_allclose(one_template(X), zero_shot_classifier(TEXT)(X), atol=1e-6)


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
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)  # a float32 inverse of a covariance


@pytest.mark.parametrize("width", [4, 9, 10, 11, 60])
def test_lda_is_the_formula_with_few_and_with_many_examples(width):
    features = np.random.default_rng(width).normal(size=(10, width))
    x = np.random.default_rng(9).normal(size=(5, width))
    got = lda_classifier(features, LABELS, normalize=False)(x)
    expected = oracles_classifiers.lda(x, features, LABELS, 3)
    # a float32 inverse of a covariance
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.long
def test_lda_in_float32_has_the_digits_of_float32():
    rng = np.random.default_rng(2)
    for shots in (2, 16):  # fewer and more examples than dimensions, near one another as CLIP's are
        labels = np.repeat(np.arange(20), shots)
        features = 2 + rng.normal(size=(20, 128))[labels] * 0.3 + 0.3 * rng.normal(size=(len(labels), 128))
        unit = oracles.normalized(features)
        expected = oracles_classifiers.lda(unit[:50], unit, labels, 20)
        got = np.asarray(lda_classifier(features, labels)(features[:50]))
        # Logits share large terms, of which the differences between the classes are left.
        assert np.abs(got - expected).max() < 1e-5 * np.abs(expected).max()
        np.testing.assert_array_equal(got.argmax(1), expected.argmax(1))


def test_lda_is_scikit_learns_with_the_shrinkage_it_amounts_to():
    labels = np.arange(12) % 3
    features = np.random.default_rng(5).normal(size=(12, 6)) + np.eye(3, 6)[labels]
    n, d = features.shape
    shrinkage = d / (n - 1 + d)
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / 3] * 3)
    expected = reference.fit(features, labels).decision_function(X) - np.log(1 / 3)
    got = np.asarray(lda_classifier(features, labels, normalize=False)(X)) - np.log(1 / 3)
    # a float32 inverse of a covariance
    np.testing.assert_allclose(got, d * (1 - shrinkage) / n * expected, rtol=1e-4, atol=1e-4)


def test_means_are_scikit_learns_centroids():
    unit = oracles.normalized(FEATURES)
    centroids = (
        NearestCentroid().fit(unit, LABELS).centroids_
    )  # its `predict` counts processors, which may fail
    kernel = prototype_classifier(FEATURES, LABELS).kernel
    np.testing.assert_allclose(kernel.T, oracles.normalized(centroids), atol=1e-6)
    # centroids of one length: the nearest is the one of the largest cosine
    around = np.concatenate([unit[:3] + 0.1, unit[:3] - 0.1])
    found = NearestCentroid().fit(around, np.tile(LABELS[:3], 2))
    distances = np.linalg.norm(oracles.normalized(X)[:, None] - found.centroids_, axis=2)
    nearest = found.classes_[distances.argmin(1)]
    ours = prototype_classifier(around, np.tile(LABELS[:3], 2), normalize=False)
    np.testing.assert_array_equal(ours.predict(X), nearest)


@pytest.mark.long
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
@pytest.mark.long
def test_a_classifier_is_a_pytree_that_fits_and_predicts_under_jit_and_vmap(fit):
    classifier = fit(FEATURES, LABELS)
    assert isinstance(classifier, Classifier)
    logits = classifier(X)
    np.testing.assert_allclose(jax.jit(lambda c, x: c(x))(classifier, X), logits, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(classifier)(X), logits, atol=1e-5)
    np.testing.assert_array_equal(classifier.predict(X), np.argmax(logits, axis=1))
    fitted = jax.jit(lambda f, y: fit(f, y, num_classes=3))(FEATURES, LABELS)
    # LDA's inverse, summed by XLA in another order
    np.testing.assert_allclose(fitted(X), logits, rtol=1e-4, atol=1e-4)
    several = jax.vmap(lambda f: fit(f, LABELS)(X))(np.stack([FEATURES, FEATURES]))
    # LDA's inverse, summed by XLA in another order
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
            LABELS * 10**12,
            {},
            r"1999999999998 of 2000000000001 classes have no example \(first: 1, 2, 3, 4, 5\); pass",
        ),
        (FEATURES, LABELS, {"num_classes": 10**12}, r"999999999997 of .* \(first: 3, 4, 5, 6, 7\); pass"),
        (FEATURES, LABELS, {"num_classes": 3.0}, r"num_classes is 3\.0; expected a whole number of 1"),
        (FEATURES, LABELS, {"num_classes": "3"}, "num_classes is '3'; expected a whole number of 1"),
        (FEATURES, LABELS, {"num_classes": -1}, "num_classes is -1; expected a whole number of 1"),
        (FEATURES, LABELS * 0, {}, "there is 1 class; expected two or more to tell apart"),
        (FEATURES * (LABELS == 0)[:, None], LABELS, {}, "features has 7 of 10 rows of zeros"),
        (FEATURES, LABELS, {"text_weights": TEXT * 0}, "text_weights has 3 of 3 rows of zeros"),
        (
            FEATURES,
            LABELS,
            {"text_weights": TEXT, "alpha": 1.5},
            r"alpha is 1\.5; expected .* 0 to 1",
        ),
        (FEATURES, LABELS, {"text_weights": TEXT, "alpha": "half"}, "alpha is 'half'; expected a number"),
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
    for embeddings, message in (
        (TEXT, r"text_embeddings have shape \(3, 6\); expected \[c, t, d\]"),
        (TEXT[None] * 0, "text_embeddings has 3 of 3 rows of zeros"),
        (np.full((1, 2, 3), np.nan), "text_embeddings has NaN or infinite values in 2 of 2 rows"),
    ):
        with pytest.raises(JaxalignError, match=message):
            ensemble_text_weights(embeddings)


@pytest.mark.parametrize("fit", FAMILY)
@pytest.mark.long
def test_one_trace_for_each_shape_under_strict_promotion(fit):
    traces = []

    @jax.jit
    def fitted(features, labels, text, alpha, x):
        traces.append(1)
        return fit(features, labels, num_classes=3, text_weights=text, alpha=alpha)(x)

    with jax.numpy_dtype_promotion("strict"):
        for alpha in (0.2, 0.7):
            expected = fit(FEATURES, LABELS, text_weights=TEXT, alpha=alpha)(X)
            # LDA's inverse, summed by XLA in another order
            np.testing.assert_allclose(
                fitted(FEATURES, LABELS, TEXT, alpha, X), expected, rtol=1e-4, atol=1e-4
            )
    assert len(traces) == 1


def test_lda_differentiates_as_its_formula_does():
    pick = jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32)

    def formula(x):
        mu = jnp.stack([x[k == LABELS].mean(0) for k in range(3)])
        z = x - mu[LABELS]
        matrix = z.T @ z + jnp.sum(z**2) / (len(x) - 1) * jnp.eye(6)
        return jnp.sum(pick * 6 * jnp.linalg.solve(matrix, mu.T))

    def fitted(x):
        return jnp.sum(pick * lda_classifier(x, LABELS, normalize=False).kernel)

    both = jnp.asarray(np.stack([FEATURES, FEATURES + 0.1 * RNG.normal(size=FEATURES.shape)]), jnp.float32)
    expected = jax.jit(jax.vmap(jax.grad(formula)))(both)
    got = jax.jit(jax.vmap(jax.grad(fitted)))(both)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)  # in float32


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about LAPACK")
def test_several_ldas_in_one_program_are_factored_one_at_a_time():
    """Batched calls of LAPACK can wait for each other for ever on XLA's threads."""
    fit = jax.jit(jax.vmap(lambda x: lda_classifier(x, LABELS).kernel))
    compiled = fit.lower(jnp.ones((3, *FEATURES.shape))).compile().as_text()
    calls = [line for line in compiled.splitlines() if "potrf" in line]
    assert calls
    assert all("f32[6,6]" in line and "f32[3,6,6]" not in line for line in calls)
