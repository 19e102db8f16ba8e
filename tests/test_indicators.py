import jax
import numpy as np
import oracles
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.indicators import (
    ModalityHistograms,
    SimilarityHistograms,
    effective_rank,
    histogram_overlap,
    modality_gap,
    modality_histograms,
    similarity_histograms,
)

RNG = np.random.default_rng(0)
FEATURES, OTHER = RNG.normal(size=(23, 5)), RNG.normal(size=(9, 5))
LABELS, OTHER_LABELS = RNG.integers(0, 3, 23), RNG.integers(0, 3, 9)


@pytest.mark.parametrize("block_size", [1, 7, 23, 256])
def test_each_pair_is_counted_once(block_size):
    histograms = similarity_histograms(FEATURES, LABELS, bins=17, block_size=block_size)
    same, different = oracles.class_histograms(FEATURES, LABELS, 17)
    np.testing.assert_array_equal(histograms.same, same)
    np.testing.assert_array_equal(histograms.different, different)
    np.testing.assert_allclose(histograms.edges, np.linspace(-1, 1, 18))
    assert histograms.same.sum() + histograms.different.sum() == 23 * 22 / 2


def test_two_sets_count_all_their_pairs():
    histograms = similarity_histograms(FEATURES, LABELS, OTHER, OTHER_LABELS, bins=10, block_size=8)
    scores, same = oracles.cosine(FEATURES, OTHER), LABELS[:, None] == OTHER_LABELS
    for got, mask in ((histograms.same, same), (histograms.different, ~same)):
        np.testing.assert_array_equal(got, np.histogram(scores[mask], bins=10, range=(-1, 1))[0])


def test_cosines_of_one_and_minus_one_fall_in_the_outer_bins():
    histograms = similarity_histograms([[1, 1, 1], [3, 3, 3], [-2, -2, -2]], ["a", "a", "b"], bins=4)
    np.testing.assert_array_equal(histograms.same, [0, 0, 0, 1])
    np.testing.assert_array_equal(histograms.different, [2, 0, 0, 0])


def test_overlap_by_hand():
    # shares 1/4 3/4 0 and 1/2 0 1/2: minima 1/4, maxima 7/4
    histograms = SimilarityHistograms(np.linspace(-1, 1, 4), np.array([1, 3, 0]), np.array([5, 0, 5]))
    assert histogram_overlap(histograms) == pytest.approx(1 / 4)
    assert histogram_overlap(histograms, kind="iou") == pytest.approx(1 / 7)
    equal = SimilarityHistograms(histograms.edges, np.array([1, 2, 3]), np.array([2, 4, 6]))
    assert histogram_overlap(equal) == histogram_overlap(equal, kind="iou") == pytest.approx(1)


@pytest.mark.parametrize("block_size", [1, 7, 256])
def test_modality_histograms_count_pairs_of_each_kind(block_size):
    histograms = modality_histograms(FEATURES, OTHER, bins=13, block_size=block_size)
    expected = {
        "image_image": oracles.cosine(FEATURES, FEATURES)[np.triu_indices(23, 1)],
        "image_text": oracles.cosine(FEATURES, OTHER).ravel(),
        "text_text": oracles.cosine(OTHER, OTHER)[np.triu_indices(9, 1)],
    }
    for name, cosines in expected.items():
        np.testing.assert_array_equal(getattr(histograms, name), np.histogram(cosines, 13, (-1, 1))[0])


def test_overlap_between_modalities():
    counts = ([1, 3, 0], [5, 0, 5], [0, 0, 7])
    histograms = ModalityHistograms(np.linspace(-1, 1, 4), *map(np.array, counts))
    assert histogram_overlap(histograms) == pytest.approx(1 / 4)
    assert histogram_overlap(histograms, between=("image_text", "text_text"), kind="iou") == pytest.approx(
        0.5 / 1.5
    )
    with pytest.raises(JaxalignError, match="unknown histogram 'image_txt'; did you mean 'image_text'"):
        histogram_overlap(histograms, between=("image_txt", "text_text"))
    one_text = modality_histograms(FEATURES, OTHER[:1])
    with pytest.raises(JaxalignError, match="no pair in the histogram 'text_text'; expected two embeddings"):
        histogram_overlap(one_text, between=("image_text", "text_text"))


def test_modality_gap_is_the_distance_of_centroids():
    expected = np.linalg.norm(oracles.normalized(FEATURES).mean(0) - oracles.normalized(OTHER).mean(0))
    assert modality_gap(FEATURES, OTHER) == pytest.approx(expected, abs=1e-6)
    assert jax.jit(modality_gap)(FEATURES, OTHER) == pytest.approx(expected, abs=1e-6)
    stacked = jax.vmap(modality_gap)(np.stack([FEATURES] * 2), np.stack([OTHER] * 2))
    np.testing.assert_allclose(stacked, expected, atol=1e-6)
    assert modality_gap([[2.0, 0.0]], [[-3.0, 0.0]]) == 2


def test_effective_rank_counts_equal_directions():
    assert effective_rank([2.0] * 5 + [0.0] * 3) == pytest.approx(5, rel=1e-6)
    assert effective_rank([4.0, 0.0]) == 1
    np.testing.assert_allclose(jax.vmap(effective_rank)(np.eye(3)), 1)


def test_error_messages():
    for changes, message in (
        ({"bins": 0}, "bins is 0 and block_size 256; expected 1 or more of each"),
        ({"block_size": 0}, "block_size 0"),
        ({"other": OTHER}, "other and other_labels belong together; pass both or neither"),
        ({"labels": LABELS[:4]}, r"has shape \(4,\); expected one label per row, \(23,\)"),
        ({"features": FEATURES[0]}, "expected two axes"),
    ):
        with pytest.raises(JaxalignError, match=message):
            similarity_histograms(**({"features": FEATURES, "labels": LABELS} | changes))
    one_class = similarity_histograms(FEATURES, [0] * 23)
    with pytest.raises(JaxalignError, match="no pair in the histogram 'different'; expected two classes"):
        histogram_overlap(one_class)
    with pytest.raises(JaxalignError, match="unknown kind 'iuo'; did you mean 'iou'"):
        histogram_overlap(one_class, kind="iuo")
    with pytest.raises(JaxalignError, match="image embeddings are 5 wide, text embeddings 4"):
        modality_gap(FEATURES, OTHER[:, :4])
