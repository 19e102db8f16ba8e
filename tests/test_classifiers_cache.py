from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles_classifiers as oracles
import pytest

import jaxalign as ja
from jaxalign.errors import JaxalignError

RNG = np.random.default_rng(0)
LABELS = np.array([0, 1, 2, 0, 1, 2, 2, 0, 1, 1])
FEATURES = RNG.normal(size=(10, 6)) + np.eye(3, 6)[LABELS] * 3
TEXT, X, BANK = RNG.normal(size=(3, 6)), RNG.normal(size=(5, 6)), RNG.normal(size=(7, 6))
FAMILY = {
    "tip_adapter": partial(ja.tip_adapter, text_weights=TEXT),
    "cache alone": ja.tip_adapter,
    "tip_x": partial(ja.tip_x, text_weights=TEXT),
    "tip_x, reference": partial(ja.tip_x, text_weights=TEXT, variant="reference"),
    "ape": partial(ja.ape, text_weights=TEXT),
    "coder": partial(ja.coder, text_weights=TEXT, text_bank=BANK),
}
# Logits go up to 100, so float32 leaves about 1e-5; what is exponentiated adds its own few digits.
close = partial(np.testing.assert_allclose, rtol=1e-5, atol=5e-5)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 5.5), (2.0, 1.0), (0.0, 3.0)])
@pytest.mark.parametrize("text", [TEXT, None])
def test_tip_adapter_is_the_formula(alpha, beta, text):
    got = ja.tip_adapter(FEATURES, LABELS, text_weights=text, alpha=alpha, beta=beta)(X)
    close(got, oracles.tip_adapter(X, FEATURES, LABELS, 3, text, alpha, beta))


def test_tip_adapter_by_hand():
    # two classes on two axes; the query lies on the first: affinities 1 and exp(-2)
    classifier = ja.tip_adapter(
        np.eye(2), [0, 1], text_weights=np.eye(2)[::-1], alpha=3.0, beta=2.0, logit_scale=10
    )
    close(classifier([[5.0, 0.0]]), [[3.0, 10 + 3 * np.exp(-2)]])


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.long
def test_tip_x_is_the_formula(variant):
    values = {"alpha": 1.5, "beta": 3.0, "gamma": 2.0, "temperature": 0.7}
    got = ja.tip_x(FEATURES, LABELS, text_weights=TEXT, variant=variant, **values)(X)
    close(got, oracles.tip_x(X, FEATURES, LABELS, 3, TEXT, variant=variant, **values))


def test_tip_x_gives_equal_signatures_the_affinity_of_equals():
    classifier = ja.tip_x(np.eye(2), [0, 1], text_weights=np.eye(2), alpha=0, gamma=1, beta=4, logit_scale=0)
    close(classifier(np.eye(2)), [[1, np.exp(-4)], [np.exp(-4), 1]])


@pytest.mark.long
def test_tip_x_logits_depend_on_the_batch_only_as_published():
    for variant, same in (("paper", True), ("reference", False)):
        classifier = ja.tip_x(FEATURES, LABELS, text_weights=TEXT, variant=variant)
        assert np.allclose(classifier(X)[:2], classifier(X[:2]), rtol=1e-5) == same


@pytest.mark.parametrize("channels", [1, 3, 6])
def test_ape_is_the_formula(channels):
    values = {"alpha": 1.5, "beta": 3.0, "gamma": 0.4, "channels": channels}
    got = ja.ape(FEATURES, LABELS, text_weights=TEXT, similarity_weight=0.6, **values)(X)
    close(got, oracles.ape(X, FEATURES, LABELS, 3, TEXT, weight=0.6, **values))


def test_ape_keeps_the_channels_that_tell_classes_apart():
    # channel 0 is the same for all; 1 and 2 tell the classes apart
    features = np.array([[1.0, 1, 0], [1, 0, 1]])
    classifier = ja.ape(features, [0, 1], text_weights=features, channels=2)
    assert classifier.channel_rank[0] == 2
    criterion = oracles.ape_criterion(FEATURES, LABELS, 3, TEXT, 0.7)
    ranks = ja.ape(FEATURES, LABELS, text_weights=TEXT).channel_rank
    np.testing.assert_array_equal(ranks, np.argsort(np.argsort(-criterion)))


def test_ape_with_every_channel_and_no_difficulty_is_tip_adapter():
    refined = ja.ape(FEATURES, LABELS, text_weights=TEXT, gamma=0, channels=6)
    close(refined(X), ja.tip_adapter(FEATURES, LABELS, text_weights=TEXT)(X))


@pytest.mark.parametrize("text", [TEXT, None])
def test_coder_is_the_formula(text):
    got = ja.coder(FEATURES, LABELS, text_bank=BANK, text_weights=text, alpha=2.0, beta=8.0)(X)
    close(got, oracles.coder(X, FEATURES, LABELS, 3, text, BANK, 2.0, 8.0))


def test_coder_with_equally_near_examples():
    classifier = ja.coder([[1.0, 0], [1.0, 0]], [0, 1], text_bank=np.eye(2))
    close(classifier([[1.0, 2.0]]), [[1, 1]])


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.long
def test_under_jit_vmap_and_strict_promotion(name):
    fit = FAMILY[name]
    logits = fit(FEATURES, LABELS)(X)
    traces = []

    def fit_and_call(features, labels, x):
        traces.append(1)
        return fit(features, labels, num_classes=3)(x)

    with jax.numpy_dtype_promotion("strict"):
        compiled = jax.jit(fit_and_call)
        for scale in (1, 2):
            close(compiled(scale * FEATURES, LABELS, X), logits)
        assert len(traces) == 1
        each = jax.jit(jax.vmap(fit_and_call, in_axes=(0, None, None)))
        both = each(np.stack([FEATURES, 3 * FEATURES]), LABELS, X)
    close(both, np.stack([logits, logits]))
    classifier = fit(FEATURES, LABELS)
    close(jax.jit(lambda c, x: c(x))(classifier, X), logits)
    if name != "tip_x, reference":
        close(jax.jit(jax.vmap(classifier))(X), logits)
    np.testing.assert_array_equal(classifier.predict(X), np.argmax(logits, axis=1))


@pytest.mark.parametrize("name", FAMILY)
def test_the_order_of_examples_does_not_matter(name):
    order = RNG.permutation(10)
    close(FAMILY[name](FEATURES[order], LABELS[order])(X), FAMILY[name](FEATURES, LABELS)(X))


def test_many_features_are_classified_in_blocks():
    classifier = ja.tip_adapter(FEATURES, LABELS, text_weights=TEXT)
    many = np.tile(X, (900, 1))
    close(classifier(many), np.tile(classifier(X), (900, 1)))


def test_many_classes_are_summed_another_way():
    labels = np.arange(600) % 300
    features = RNG.normal(size=(600, 8))
    got = ja.tip_adapter(features, labels)(RNG.normal(size=(4, 8)) * 0 + features[:4])
    close(got, oracles.tip_adapter(features[:4], features, labels, 300, None, 1, 5.5))


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": FEATURES * np.inf}, "features has NaN or infinite values in 10 of 10 rows"),
        (
            {"features": FEATURES * (np.arange(10) > 1)[:, None]},
            r"features has 2 of 10 rows of zeros \(first: 0, 1\)",
        ),
        ({"labels": LABELS[:9]}, r"shape \(9,\); expected one class index .* \(10,\)"),
        ({"labels": LABELS * 0}, "there is 1 class; expected two or more"),
        ({"num_classes": 4}, r"1 of 4 classes have no example \(first: 3\)"),
        ({"alpha": -1}, "alpha is -1; expected a number from 0 on"),
        ({"alpha": np.nan}, "alpha is nan; expected a number from 0 on"),
        ({"beta": "sharp"}, "beta is 'sharp'; expected a number"),
        ({"beta": np.inf}, "beta is inf"),
    ],
)
def test_error_messages(name, changes, message):
    arguments = {"features": FEATURES, "labels": LABELS} | changes
    with pytest.raises(JaxalignError, match=message):
        FAMILY[name](**arguments)


def test_every_few_shot_classifier_is_called_alike():
    """`text_weights` may be left out: a cache of images, or one line that says what is missing."""
    close(
        ja.coder(FEATURES, LABELS, text_weights=TEXT)(X),
        ja.coder(FEATURES, LABELS, text_weights=TEXT, text_bank=TEXT)(X),
    )
    for fit, message in (
        (ja.tip_x, "text_weights is None; Tip-X"),
        (ja.ape, "text_weights is None; APE"),
        (ja.coder, "text_bank and text_weights are None"),
    ):
        with pytest.raises(JaxalignError, match=message):
            fit(FEATURES, LABELS)


def test_error_messages_of_one_method():
    for fit in (ja.tip_x, ja.ape):
        with pytest.raises(JaxalignError, match="text_weights is None"):
            fit(FEATURES, LABELS, text_weights=None)
        with pytest.raises(JaxalignError, match="gamma is -2"):
            fit(FEATURES, LABELS, text_weights=TEXT, gamma=-2)
    with pytest.raises(JaxalignError, match=r"text_weights have shape \(2, 6\); expected \(3, 6\)"):
        ja.tip_adapter(FEATURES, LABELS, text_weights=TEXT[:2])
    with pytest.raises(JaxalignError, match="text_bank is 5 wide, the features 6"):
        ja.coder(FEATURES, LABELS, text_bank=BANK[:, :5])
    with pytest.raises(JaxalignError, match="channels is 7; expected a number from 1 to 6"):
        ja.ape(FEATURES, LABELS, text_weights=TEXT, channels=7)
    with pytest.raises(JaxalignError, match=r"channels is 2\.5; expected a whole number"):
        ja.ape(FEATURES, LABELS, text_weights=TEXT, channels=2.5)
    with pytest.raises(JaxalignError, match=r"similarity_weight is 1\.2; expected a number from 0 to 1"):
        ja.ape(FEATURES, LABELS, text_weights=TEXT, similarity_weight=1.2)
    with pytest.raises(JaxalignError, match="unknown variant 'papr'; did you mean 'paper'"):
        ja.tip_x(FEATURES, LABELS, text_weights=TEXT, variant="papr")
    with pytest.raises(JaxalignError, match="temperature is 0"):
        ja.tip_x(FEATURES, LABELS, text_weights=TEXT, temperature=0)
    with pytest.raises(JaxalignError, match=r"shape \(5, 4\) do not fit a classifier for width 6"):
        ja.coder(FEATURES, LABELS, text_bank=BANK)(X[:, :4])


def test_a_feature_of_zeros_has_cosine_zero_with_everything():
    got = ja.tip_adapter(FEATURES, LABELS, text_weights=TEXT, alpha=1.0, beta=2.0)(np.zeros((1, 6)))
    close(got, np.exp(-2) * np.bincount(LABELS)[None])
    assert jnp.isfinite(ja.ape(FEATURES, LABELS, text_weights=TEXT)(np.zeros((1, 6)))).all()
