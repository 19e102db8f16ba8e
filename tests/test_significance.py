"""Fisher's randomization test: against enumeration, a simple loop, and the normal approximation."""

import itertools
import math

import numpy as np
import pytest

import jaxalign as ja
from jaxalign import JaxalignError

RNG = np.random.default_rng(0)


def enumerated(scores, baseline):
    """p over all exchanges, one after the other."""
    difference = [a - b for a, b in zip(scores, baseline, strict=True)]
    signs = list(itertools.product((1, -1), repeat=len(difference)))
    found = abs(math.fsum(difference))
    sums = [abs(math.fsum(s * d for s, d in zip(sign, difference, strict=True))) for sign in signs]
    return sum(value >= found - 1e-12 for value in sums) / len(signs)


def drawn(scores, baseline, permutations, seed):
    """p as ranx computes it, a query at a time."""
    generator = np.random.default_rng(seed)
    found, as_far = abs(np.mean(scores) - np.mean(baseline)), 0
    for _ in range(permutations):
        exchanged = generator.random(len(scores)) < 0.5
        mine, other = np.where(exchanged, baseline, scores), np.where(exchanged, scores, baseline)
        as_far += abs(mine.mean() - other.mean()) >= found - 1e-12
    return as_far / permutations


@pytest.mark.parametrize("count", [1, 2, 5, 9, 13])
@pytest.mark.parametrize("digits", [0, 1, 6])
def test_few_queries_are_enumerated(count, digits):
    """With few digits there are ties, and differences of zero."""
    scores, baseline = RNG.random((2, count)).round(digits)
    assert ja.randomization_test(scores, baseline) == pytest.approx(enumerated(scores, baseline), abs=1e-12)


@pytest.mark.parametrize("gain", [0.0, 0.03, 0.06])
def test_many_queries_agree_with_a_simple_loop_and_the_normal_approximation(gain):
    baseline = RNG.random(400)
    scores = np.clip(baseline + RNG.normal(gain, 0.4, 400), 0, 1)
    p = ja.randomization_test(scores, baseline, permutations=20_000)
    error = 4 * math.sqrt(max(p * (1 - p), 1e-3) / 4000)
    assert p == pytest.approx(drawn(scores, baseline, 4000, seed=1), abs=error)
    difference = scores - baseline
    z = abs(difference.sum()) / math.sqrt((difference**2).sum())
    # four standard errors of a share of the drawn exchanges, and what the normal law is beside
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)


def test_drawing_approaches_enumeration():
    scores, baseline = RNG.random((2, 12))
    exact = ja.randomization_test(scores, baseline, permutations=4096)
    assert exact == pytest.approx(enumerated(scores, baseline), abs=1e-12)
    # five standard errors of a share of 4,095 draws are 0.039 at most
    assert ja.randomization_test(scores, baseline, permutations=4095) == pytest.approx(exact, abs=0.04)


def test_it_is_symmetric_seeded_and_never_zero():
    scores, baseline = np.ones(200), np.zeros(200)
    assert ja.randomization_test(scores, baseline, permutations=999) == 1 / 1000
    a, b = RNG.random((2, 50))
    assert ja.randomization_test(a, b) == ja.randomization_test(b, a)
    assert ja.randomization_test(a, b, seed=1) != ja.randomization_test(a, b, seed=2)
    assert ja.randomization_test(a, a) == 1


def test_queries_without_a_score_take_no_part_and_booleans_do():
    a, b = RNG.random((2, 9))
    hole = np.array([np.nan])
    assert ja.randomization_test(np.append(a, hole), np.append(b, 1.0)) == ja.randomization_test(a, b)
    right = np.array([True, True, True, False])
    assert ja.randomization_test(right, ~right) == enumerated(right * 1.0, ~right * 1.0)


def test_blocks_do_not_matter(monkeypatch):
    from jaxalign.ranking import significance

    a, b = RNG.random((2, 24))
    found = ja.randomization_test(a, b, permutations=1000)
    monkeypatch.setattr(significance, "_BLOCK", 24 * 8)
    assert ja.randomization_test(a, b, permutations=1000) == found


@pytest.mark.parametrize(
    ("scores", "options", "said"),
    [
        (np.ones(3), {}, "shape"),
        (np.ones((2, 1)), {}, "shape"),
        ([np.inf, 1.0], {}, "infinite"),
        ([np.nan, np.nan], {}, "none of the 2 queries"),
        ([1.0, 2.0], {"permutations": 0}, "permutations is 0"),
        ([1.0, 2.0], {"permutations": 1.5}, "permutations is 1.5"),
        ([1.0, 2.0], {"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_compared_is_refused(scores, options, said):
    with pytest.raises(JaxalignError, match=said):
        ja.randomization_test(scores, np.zeros(2), **options)
