import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from oracles_ranking import circle, problem, revisited

from jaxalign.errors import JaxalignError
from jaxalign.ranking.revisited import revisited_metrics


def random_truth(queries, items, seed=0):
    rng = np.random.default_rng(seed)
    truth = []
    for _ in range(queries):
        picked = rng.permutation(items)[:24]
        easy, hard = rng.integers(1, 9, 2)
        lists = {"easy": picked[:easy], "hard": picked[easy : easy + hard], "junk": picked[easy + hard :]}
        truth.append(lists | {"bbx": [0.0, 1.0, 2.0, 3.0]})
    return truth


def test_three_settings_by_hand():
    # In rank order: junk 0, other 1, easy 2, hard 3, other 4.
    gallery = circle(10, 20, 30, 40, 50)
    truth = [{"easy": [2], "hard": [3], "junk": [0]}]
    metrics = revisited_metrics(circle(0), gallery, truth)
    # easy: other, EASY, other: precision 0 before and 1/2 at its rank
    # medium: other, EASY, HARD, other: and 1/2 before, 2/3 at the second
    # hard: other, HARD, other
    assert metrics == pytest.approx(
        {
            "mAP_easy": 100 * (0 + 1 / 2) / 2,
            "mP@1_easy": 0,
            "mP@5_easy": 100 / 2,  # the last positive is second: divided by 2
            "mP@10_easy": 100 / 2,
            "queries_without_positives_easy": 0,
            "mAP_medium": 100 * ((0 + 1 / 2) / 2 + (1 / 2 + 2 / 3) / 2) / 2,
            "mP@1_medium": 0,
            "mP@5_medium": 100 * 2 / 3,
            "mP@10_medium": 100 * 2 / 3,
            "queries_without_positives_medium": 0,
            "mAP_hard": 100 / 4,
            "mP@1_hard": 0,
            "mP@5_hard": 100 / 2,
            "mP@10_hard": 100 / 2,
            "queries_without_positives_hard": 0,
        }
    )


def test_first_place_counts_precision_one_before_it():
    metrics = revisited_metrics(circle(0), circle(10, 20), [{"easy": [0], "hard": [], "junk": []}])
    assert metrics["mAP_easy"] == metrics["mP@10_easy"] == 100
    assert np.isnan(metrics["mAP_hard"])
    assert metrics["queries_without_positives_hard"] == 1


@pytest.mark.parametrize("block_size", [None, 3])
def test_metrics_agree_with_the_oracle(block_size):
    query, gallery, *_ = problem(13, 61)
    truth = random_truth(13, 50)  # the last 11 are distractors
    truth[4]["hard"] = []
    truth[5]["easy"] = np.array([], int)
    expected = revisited(oracles.cosine(query, gallery), truth)
    got = revisited_metrics(query, gallery, truth, block_size=block_size)
    assert got == pytest.approx(expected, abs=1e-5)
    assert all(type(value) in (float, int) for value in got.values())
    assert (got["queries_without_positives_hard"], got["queries_without_positives_easy"]) == (1, 1)
    half = revisited_metrics(query, jnp.asarray(gallery, jnp.float16), truth)
    assert half == pytest.approx(
        revisited(oracles.cosine(query, gallery.astype(np.float16)), truth), abs=1e-5
    )


@pytest.mark.long
def test_junk_and_the_order_of_the_gallery_do_not_matter():
    query, gallery, *_ = problem(9, 50)
    truth = random_truth(9, 50)
    expected = revisited_metrics(query, gallery, truth)
    order = np.random.default_rng(1).permutation(50)
    where = np.argsort(order)
    moved = [{name: where[entry[name]].tolist() for name in ("easy", "hard", "junk")} for entry in truth]
    assert revisited_metrics(query, gallery[order], moved) == pytest.approx(expected, rel=1e-12)
    worse = np.concatenate([gallery, query])  # nine items that are always first, and always junk
    everywhere = [entry | {"junk": [*entry["junk"], *range(50, 59)]} for entry in truth]
    assert revisited_metrics(query, worse, everywhere) == pytest.approx(expected, abs=1e-5)


QUERY, GALLERY, *_ = problem(2, 6, 3)
TRUTH = [{"easy": [0], "hard": [1], "junk": []}, {"easy": [1, 2], "hard": [], "junk": [5]}]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (TRUTH[:1], "ground_truth has 1 entries; expected one per query, 2"),
        (
            [TRUTH[0], {"ok": [1], "junk": []}],
            r"ground_truth\[1\] has no easy and no hard; expected easy, hard and junk",
        ),
        (
            [TRUTH[0], TRUTH[1] | {"junk": [2]}],
            r"ground_truth\[1\] has position 2 in two of easy, hard and junk",
        ),
        (
            [TRUTH[0], TRUTH[1] | {"junk": ["a"]}],
            r"ground_truth\[1\]\['junk'\] is <U1 of shape \(1,\); expected",
        ),
        (
            [TRUTH[0], TRUTH[1] | {"junk": [6]}],
            r"ground_truth\[1\] has positions from 1 to 6; expected 0 to 5",
        ),
        (TRUTH[0], r"ground_truth is a dict; expected a list with one mapping per query"),
    ],
)
def test_error_messages(truth, message):
    with pytest.raises(JaxalignError, match=message) as raised:
        revisited_metrics(QUERY, GALLERY, truth)
    assert "\n" not in str(raised.value)
