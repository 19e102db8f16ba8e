import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from jaxalign import ranking
from jaxalign.errors import JaxalignError
from jaxalign.ranking import Relevance, normalize, rank_statistics
from jaxalign.retrieval import average_precision, relevance_from_labels, retrieval_metrics

QUICK = settings(max_examples=25, deadline=None)
QUERIES, ITEMS = 3, 8  # one shape for every hypothesis example, so that XLA compiles once
TABLES = arrays(bool, (QUERIES, ITEMS))
TIED_SCORES = arrays(
    np.float32, (QUERIES, ITEMS), elements=st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0])
)


def circle(*degrees):
    """Unit vectors: cosine with the first axis falls as the angle grows."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def problem(queries=37, items=53, width=8, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(queries, width)), rng.normal(size=(items, width))
    return query, gallery, rng.integers(0, classes, queries), rng.integers(0, classes, items)


def assert_statistics(got, expected, tolerance=1e-6):
    for name, a, b in zip(got._fields, got, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, err_msg=name)


# Examples worked by hand.


def test_four_items_by_hand():
    # relevance in rank order 1 0 1 0, R = 2
    metrics = retrieval_metrics(circle(0), circle(30, 10, 20, 40), [7], [7, 7, 3, 3])
    assert metrics == pytest.approx(
        {
            "mAP": 100 * (1 / 1 + 2 / 3) / 2,
            "mAP_at_R": 100 * (1 / 1) / 2,
            "precision_at_R": 50,
            "recall_at_1": 100,
            "queries_without_positives": 0,
        }
    )
    assert all(type(value) in (float, int) for value in metrics.values())


def test_reference_protocol_looks_one_deeper_by_hand():
    # Query 0 without itself ranks 0 1 1, R = 2: published mAP@R (1/2 + 2/3) / 2, corrected (1/2) / 2.
    features, labels = circle(0, 20, 30, 10), [1, 1, 1, 0]
    rest = {"exclude_self": True}
    relevant = np.array([[1, 1, 1, 0]] * 3 + [[0, 0, 0, 1]], bool)
    scores, own = oracles.cosine(features, features), np.eye(4, dtype=bool)
    paper = retrieval_metrics(features, features, labels, labels, **rest)
    assert paper == pytest.approx(oracles.retrieval_metrics(scores, relevant & ~own, own))
    published = retrieval_metrics(features, features, labels, labels, protocol="reference", **rest)
    assert published == pytest.approx(
        oracles.retrieval_metrics(scores, relevant & ~own, own, reference_depth=1, count_empty=True)
    )
    ranks = [
        rank_statistics(*[jnp.asarray(features)] * 2, Relevance(relevant, ignored=own), extra_depth=extra)
        for extra in (0, 1)
    ]
    assert [stats.map_at_r[0] for stats in ranks] == pytest.approx([(1 / 2) / 2, (1 / 2 + 2 / 3) / 2])
    assert paper["queries_without_positives"] == published["queries_without_positives"] == 1


def test_reference_protocol_differs_in_nothing_else():
    case = problem()
    assert retrieval_metrics(*case) == retrieval_metrics(*case, protocol="reference")


def test_equal_scores_put_irrelevant_items_first():
    gallery = circle(10, 10, 10)
    for labels in ([1, 0, 0], [0, 1, 0], [0, 0, 1]):
        metrics = retrieval_metrics(circle(0), gallery, [1], labels)
        assert metrics["mAP"] == pytest.approx(100 / 3)
        assert metrics["recall_at_1"] == 0


def test_zero_vectors_have_cosine_zero():
    # cosines: relevant zero vector 0, irrelevant ones 1 and -1: rank 2
    gallery = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert retrieval_metrics(circle(0), gallery, [1], [1, 0, 0])["mAP"] == pytest.approx(50)
    assert retrieval_metrics(np.zeros((1, 2)), gallery, [1], [1, 0, 0])["mAP"] == pytest.approx(100 / 3)


# Against the oracle, and properties.


@QUICK
@given(TIED_SCORES, TABLES, st.none() | TABLES, st.sampled_from([0, 1]))
def test_both_sorts_follow_the_tie_rule(scores, relevant, ignored, extra_depth):
    relevant = relevant if ignored is None else relevant & ~ignored
    by_numpy = ranking._rank_by_numpy(scores, relevant, ignored, extra_depth)
    by_xla = ranking._rank_by_xla(jnp.asarray(scores), jnp.asarray(relevant), ignored, extra_depth)
    assert_statistics(by_xla, by_numpy)
    for i in range(QUERIES):
        row = slice(i, i + 1)
        sequence = oracles.relevance_sequence(scores[i], relevant[i], None if ignored is None else ignored[i])
        np.testing.assert_allclose(by_numpy.average_precision[i], oracles.average_precision(sequence))
        if any(sequence):
            junk = None if ignored is None else ignored[row]
            expected = oracles.retrieval_metrics(scores[row], relevant[row], junk, extra_depth)
            assert 100 * by_numpy.map_at_r[i] == pytest.approx(expected["mAP_at_R"])
            assert 100 * by_numpy.precision_at_r[i] == pytest.approx(expected["precision_at_R"])
            assert 100 * by_numpy.recall_at_1[i] == expected["recall_at_1"]


@pytest.mark.parametrize("protocol", ["paper", "reference"])
@pytest.mark.parametrize("own", ["kept", "excluded", "positions"])
def test_metrics_agree_with_the_oracle(own, protocol):
    query, gallery, query_labels, gallery_labels = problem()
    exclude_self, ignored = False, None
    if own == "excluded":
        query, query_labels, exclude_self = gallery, gallery_labels, True
        ignored = np.eye(len(query), dtype=bool)
    elif own == "positions":
        exclude_self = np.random.default_rng(1).permutation(len(gallery))[: len(query)]
        query, query_labels = gallery[exclude_self], gallery_labels[exclude_self]
        ignored = exclude_self[:, None] == np.arange(len(gallery))
    relevant = query_labels[:, None] == gallery_labels
    reference = protocol == "reference"
    expected = oracles.retrieval_metrics(
        oracles.cosine(query, gallery),
        relevant if ignored is None else relevant & ~ignored,
        ignored,
        reference_depth=int(reference and ignored is not None),
        count_empty=reference,
    )
    got = retrieval_metrics(
        query, gallery, query_labels, gallery_labels, exclude_self=exclude_self, protocol=protocol
    )
    assert got == pytest.approx(expected, abs=1e-5)


def test_average_precision_agrees_with_scikit_learn():
    query, gallery, query_labels, gallery_labels = problem()
    relevant = query_labels[:, None] == gallery_labels
    scores = oracles.cosine(query, gallery)
    expected = [average_precision_score(hit, score) for hit, score in zip(relevant, scores, strict=True)]
    got = average_precision(query, gallery, relevant)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("sort", ["numpy", "xla"])
def test_blocks_equal_the_whole(sort):
    query, gallery, query_labels, gallery_labels = problem()
    query, gallery = jnp.asarray(query, jnp.float32), jnp.asarray(gallery, jnp.float32)
    relevance = relevance_from_labels(query, gallery, query_labels, gallery_labels, False)
    whole = rank_statistics(query, gallery, relevance, block_size=100, sort="numpy")
    for block_size in (1, 7, 36, 37):
        part = rank_statistics(query, gallery, relevance, block_size=block_size, sort=sort)
        assert_statistics(part, whole)


def test_rows_sorted_in_several_chunks(monkeypatch):
    case = problem()
    whole = retrieval_metrics(*case)
    for keys in (1, 120):
        monkeypatch.setattr(ranking, "_KEYS_PER_SORT", keys)
        assert retrieval_metrics(*case, block_size=10) == pytest.approx(whole)


@QUICK
@given(st.integers(0, 10**6))
def test_gallery_order_and_duplicates_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    query, gallery, query_labels, gallery_labels = problem(QUERIES, ITEMS, 3, 2, seed)
    copies = rng.integers(0, ITEMS, 2 * ITEMS)  # most vectors several times, under any label
    gallery, gallery_labels = gallery[copies], rng.integers(0, 2, 2 * ITEMS)
    gallery_labels[:2] = [0, 1]
    order = rng.permutation(2 * ITEMS)
    one = retrieval_metrics(query, gallery, query_labels, gallery_labels)
    other = retrieval_metrics(query, gallery[order], query_labels, gallery_labels[order])
    assert one == pytest.approx(other, rel=1e-12)


@QUICK
@given(TABLES)
def test_no_positives_and_all_positives(relevant):
    query, gallery, *_ = problem(QUERIES, ITEMS)
    got = np.asarray(average_precision(query, gallery, relevant))
    np.testing.assert_array_equal(np.isnan(got), ~relevant.any(axis=1))
    np.testing.assert_allclose(got[relevant.all(axis=1)], 1)
    assert np.all((got[relevant.any(axis=1)] > 0) & (got[relevant.any(axis=1)] <= 1))


def test_queries_without_positives_are_left_out_and_counted():
    query, gallery, query_labels, gallery_labels = problem()
    query_labels[:4] = 99
    with_them = retrieval_metrics(query, gallery, query_labels, gallery_labels)
    without = retrieval_metrics(query[4:], gallery, query_labels[4:], gallery_labels)
    assert with_them == pytest.approx(without | {"queries_without_positives": 4})
    published = retrieval_metrics(query, gallery, query_labels, gallery_labels, protocol="reference")
    assert published["mAP"] == pytest.approx(without["mAP"] * 33 / 37)


def test_all_positives_are_perfect():
    query, gallery, *_ = problem()
    metrics = retrieval_metrics(query, gallery, [0] * 37, [0] * 53)
    assert metrics == {
        "mAP": 100.0,
        "mAP_at_R": 100.0,
        "precision_at_R": 100.0,
        "recall_at_1": 100.0,
        "queries_without_positives": 0,
    }


def test_ignored_items_leave_the_gallery():
    query, gallery, query_labels, gallery_labels = problem()
    relevant = query_labels[:, None] == gallery_labels
    junk = np.zeros_like(relevant)
    junk[:, ::3] = True
    kept = np.arange(53) % 3 != 0
    expected = average_precision(query, gallery[kept], relevant[:, kept])
    np.testing.assert_allclose(average_precision(query, gallery, relevant, ignore=junk), expected, atol=1e-6)
    both = average_precision(gallery, gallery, np.ones((53, 53), bool), ignore=np.eye(53, dtype=bool))
    own = average_precision(gallery, gallery, np.ones((53, 53), bool), exclude_self=True)
    np.testing.assert_array_equal(both, own)


def test_scale_does_not_matter():
    query, gallery, query_labels, gallery_labels = problem()
    expected = retrieval_metrics(query, gallery, query_labels, gallery_labels)
    for scale in (1e25, 1e-25):
        got = retrieval_metrics(scale * query, gallery, query_labels, gallery_labels)
        assert got == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(normalize(jnp.array([[3e30, 4e30], [0, 0]])), [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_labels_may_be_strings_or_any_integers():
    query, gallery, query_labels, gallery_labels = problem()
    expected = retrieval_metrics(query, gallery, query_labels, gallery_labels)
    names = np.array(["cat", "dog", "a longer name", "x", "y"])
    for recode in (
        lambda x: names[x],
        lambda x: names[x].astype(object),
        lambda x: names[x].tolist(),
        lambda x: jnp.asarray(x),
        lambda x: x.astype(np.uint8) + 250,
        lambda x: -7 * x,
    ):
        assert retrieval_metrics(query, gallery, recode(query_labels), recode(gallery_labels)) == expected


# Under jax's transformations.


def test_average_precision_under_jit_and_vmap():
    query, gallery, query_labels, gallery_labels = problem()
    relevant = jnp.asarray(query_labels[:, None] == gallery_labels)
    expected = average_precision(query, gallery, relevant)
    jitted = jax.jit(lambda *x: average_precision(*x, block_size=10))(query, gallery, relevant)
    np.testing.assert_allclose(jitted, expected, atol=1e-6)
    both = jax.vmap(average_precision)(
        jnp.stack([query, query[::-1]]), jnp.stack([gallery] * 2), jnp.stack([relevant, relevant[::-1]])
    )
    np.testing.assert_allclose(both, [expected, expected[::-1]], atol=1e-6)
    some = np.arange(37)
    own = jax.jit(lambda at: average_precision(query, gallery, relevant, exclude_self=at))(some)
    np.testing.assert_allclose(own, average_precision(query, gallery, relevant, exclude_self=some), atol=1e-6)


# Errors.


def with_nan(x, row):
    x = x.copy()
    x[row, 0] = np.nan
    return x


QUERY, GALLERY, QUERY_LABELS, GALLERY_LABELS = problem(4, 6, 3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": QUERY[0]}, r"query has shape \(3,\); expected two axes, \[n, d\]"),
        ({"gallery": QUERY[:0]}, r"gallery is empty, shape \(0, 3\); expected at least one row"),
        ({"query": QUERY[:0]}, r"query is empty"),
        (
            {"query": QUERY[:, :2]},
            "query features are 2 wide, gallery features 3; expected features of one model",
        ),
        (
            {"gallery": with_nan(GALLERY, [2, 5])},
            r"gallery has NaN or infinite values in 2 of 6 rows \(first: 2, 5\); leave",
        ),
        ({"query": np.full((4, 3), np.inf)}, r"in 4 of 4 rows \(first: 0, 1, 2, 3\)"),
        ({"query_labels": [1, 2]}, r"query_labels has shape \(2,\); expected one label per row, \(4,\)"),
        ({"gallery_labels": np.ones((6, 1), int)}, r"gallery_labels has shape \(6, 1\)"),
        (
            {"gallery_labels": list("abcdef")},
            "query_labels are integers, gallery_labels are strings; expected one",
        ),
        ({"query_labels": np.ones(4)}, "query_labels has dtype float64; expected integers or strings"),
        ({"query_labels": [b"a"] * 4, "gallery_labels": ["a"] * 6}, "are bytes, gallery_labels are strings"),
        ({"query_labels": np.array(["a", 1, None, "b"], object)}, "has dtype object"),
        (
            {"query_labels": [8] * 4},
            "none of the 4 queries has a positive in the gallery; check that query and",
        ),
        ({"exclude_self": True}, "there are 4 queries and 6 gallery items; pass exclude_self=positions"),
        (
            {"exclude_self": [0, 1]},
            r"exclude_self is int64 of shape \(2,\); expected True, False, or the gallery",
        ),
        ({"exclude_self": [0, 1, 2, 6]}, "positions from 0 to 6; expected 0 to 5"),
        ({"exclude_self": [0, -1, 2, 3]}, "positions from -1 to 3"),
        ({"block_size": 0}, "block_size is 0; expected a positive number of queries, or None"),
        ({"protocol": "papers"}, "unknown protocol 'papers'; did you mean 'paper'"),
    ],
)
def test_error_messages(changes, message):
    case = {
        "query": QUERY,
        "gallery": GALLERY,
        "query_labels": QUERY_LABELS,
        "gallery_labels": GALLERY_LABELS,
    }
    with pytest.raises(JaxalignError, match=message) as raised:
        retrieval_metrics(**(case | changes))
    assert "\n" not in str(raised.value)


def test_relevance_table_errors():
    with pytest.raises(
        JaxalignError, match=r"relevant is int64 of shape \(4, 6\); expected bool of shape \(4, 6\)"
    ):
        average_precision(QUERY, GALLERY, np.ones((4, 6), int))
    with pytest.raises(
        JaxalignError, match=r"ignore is bool of shape \(6, 4\); expected bool of shape \(4, 6\)"
    ):
        average_precision(QUERY, GALLERY, np.ones((4, 6), bool), ignore=np.ones((6, 4), bool))


def test_traced_labels_say_what_to_use():
    with pytest.raises(JaxalignError, match=r"query_labels are traced.*use average_precision with relevant"):
        jax.jit(lambda labels: retrieval_metrics(QUERY, GALLERY, labels, GALLERY_LABELS))(QUERY_LABELS)
