import numpy as np
import oracles
import pytest

import jaxalign as ja
from jaxalign.dogs_versus_cats import dogs_versus_cats
from jaxalign.errors import JaxalignError

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat([0, 1], [30, 27]))
FEATURES = RNG.normal(size=(57, 6)) + np.eye(2, 6)[LABELS]
TEXT = np.eye(2, 6) + RNG.normal(size=(2, 6))


def precision(scores, hits, k):
    """One query; among equal scores the misses come first."""
    ranked = sorted((-score, hit) for score, hit in zip(scores, hits, strict=True))
    return np.mean([hit for _, hit in ranked[:k]])


@pytest.mark.parametrize("text", [TEXT, None])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.long
def test_precision_and_histograms_of_dogs(text, tied):
    # four signs have cosines of -1, -0.5, 0, 0.5 and 1, exactly: most are equal to many others
    features = np.sign(FEATURES[:, :4]) if tied else FEATURES
    text = text if text is None else text[:, : features.shape[1]]
    got = dogs_versus_cats(features, LABELS, text, ks=(1, 3, 20), bins=12)
    scores = oracles.cosine(features, features)
    dogs = LABELS == 1
    if text is not None:
        nearest = oracles.cosine(features, text)
        dogs &= nearest[:, 1] > nearest[:, 0]
        assert got.removed == (LABELS == 1).sum() - dogs.sum()
    assert got.queries == dogs.sum()
    kept = dogs | (LABELS == 0)
    positives, negatives, expected = [], [], {1: [], 3: [], 20: []}
    for i in np.flatnonzero(dogs):
        others = kept & (np.arange(57) != i)
        positives += [scores[i, j] for j in np.flatnonzero(dogs) if j > i]
        negatives += list(scores[i, LABELS == 0])
        for k, values in expected.items():
            values.append(precision(scores[i, others].round(6), LABELS[others] == 1, k))
    for counts, values in ((got.positives, positives), (got.negatives, negatives)):
        np.testing.assert_array_equal(counts, np.histogram(np.clip(values, -1, 1), 12, (-1, 1))[0])
    assert got.precision_at == pytest.approx({k: 100 * np.mean(v) for k, v in expected.items()})
    shares = [c / c.sum() for c in (got.positives, got.negatives)]
    assert got.iou == pytest.approx(np.minimum(*shares).sum() / np.maximum(*shares).sum())


@pytest.mark.long
def test_table_1_is_retrieval_and_classification_of_all_images():
    got = dogs_versus_cats(FEATURES, LABELS, TEXT, ks=(1,))
    within = ja.retrieval_metrics(FEATURES, FEATURES, LABELS, LABELS, exclude_self=True)
    assert got.image_image_mAP == within["mAP"]
    assert got.text_image_mAP == ja.retrieval_metrics(TEXT, FEATURES, [0, 1], LABELS)["mAP"]
    guess = oracles.cosine(FEATURES, TEXT).argmax(1)
    assert got.zero_shot_accuracy == pytest.approx(100 * np.mean(guess == LABELS))
    without = dogs_versus_cats(FEATURES, LABELS, ks=(1,))
    assert without.text_image_mAP is None
    assert without.zero_shot_accuracy is None
    assert without.image_image_mAP == within["mAP"]
    assert without.removed == 0


@pytest.mark.long
def test_few_shot_draws_leave_the_image_itself_out():
    # two images a class: at one shot the own class is represented by the other one of the two
    features = np.array([[1.0, 0], [0.6, 0.8], [0, 1.0], [0.8, -0.6]])
    got = dogs_versus_cats(features, [0, 0, 1, 1], shots=(1, 50), ks=(1,))
    # image 0 has cosine 0.6 with its own class, 0 or 0.8 with the other; image 1 the same; 2 and 3 have -0.6
    # with their own and more with the other
    assert got.few_shot_accuracy[1] in (0, 25, 50)
    # with many shots the other class is its mean, which is nearer to all four
    assert got.few_shot_accuracy[50] == 0


@pytest.mark.long
def test_few_shot_is_the_expected_accuracy_of_prototypes():
    labels = np.arange(4000) % 2
    features = RNG.normal(size=(4000, 3)) + 2 * np.eye(2, 3)[labels]
    got = dogs_versus_cats(features, labels, shots=(1, 8), ks=(1,), seed=3).few_shot_accuracy
    unit = oracles.normalized(features)
    for shots in (1, 8):
        drawn = 2 * RNG.integers(0, 2000, (4000, shots, 2)) + [0, 1]
        means = oracles.normalized(unit[drawn].mean(1))
        right = np.einsum("ncd,nd->nc", means, unit).argmax(1) == labels
        # two samples of 4000 coins: five standard deviations
        assert got[shots] == pytest.approx(100 * np.mean(right), abs=100 * 5 * (2 * 0.25 / 4000) ** 0.5)


@pytest.mark.long
def test_a_separated_task_is_perfect():
    features = np.repeat(np.eye(2), 4, axis=0) + 0.01 * RNG.normal(size=(8, 2))
    got = dogs_versus_cats(features, np.repeat([0, 1], 4), np.eye(2), ks=(1, 3, 7))
    assert (got.image_image_mAP, got.text_image_mAP, got.zero_shot_accuracy) == (100, 100, 100)
    assert got.few_shot_accuracy == {1: 100, 16: 100}
    assert got.precision_at == pytest.approx({1: 100, 3: 100, 7: 300 / 7})
    assert got.iou == 0


def test_error_messages():
    for arguments, options, message in (
        ((FEATURES, LABELS, TEXT[:, :5]), {}, r"text_embeddings have shape \(2, 5\); expected \(2, 6\)"),
        ((FEATURES, LABELS), {"query_class": 2}, "query_class is 2 of 2 classes"),
        ((FEATURES, LABELS * 0), {"query_class": 0}, "query_class is 0 of 1 classes; expected two classes"),
        ((FEATURES[:3], [0, 0, 1]), {}, "class 1 has one image; expected two or more"),
        ((FEATURES, LABELS), {"ks": (1, 57)}, "k is 57; expected 1 to 56"),
        ((FEATURES, LABELS), {"shots": (0,)}, r"shots are \(0,\)"),
        ((FEATURES * np.nan, LABELS), {}, "features has NaN or infinite values in 57 of 57 rows"),
        ((-np.eye(2)[LABELS], LABELS, np.eye(2)), {}, "0 images of class 1 are left as queries"),
    ):
        with pytest.raises(JaxalignError, match=message):
            dogs_versus_cats(*arguments, **options)
