import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles_ranking import circle, problem, statistics
from sklearn.metrics import average_precision_score

from jaxalign.ranking.cosine_ranking import rank_statistics
from jaxalign.ranking.relevance import Relevance
from jaxalign.ranking.retrieval import average_precision, retrieval_metrics, text_retrieval_metrics

QUICK = settings(max_examples=25, deadline=None)
QUERIES, ITEMS = 3, 8  # one shape for every hypothesis example, so that XLA compiles once
TABLES = arrays(bool, (QUERIES, ITEMS))


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


def test_reference_variant_looks_one_deeper_by_hand():
    # Query 0 without itself ranks 0 1 1, R = 2: published mAP@R (1/2 + 2/3) / 2, corrected (1/2) / 2.
    features, labels = circle(0, 20, 30, 10), [1, 1, 1, 0]
    rest = {"exclude_self": True}
    relevant = np.array([[1, 1, 1, 0]] * 3 + [[0, 0, 0, 1]], bool)
    scores, own = oracles.cosine(features, features), np.eye(4, dtype=bool)
    paper = retrieval_metrics(features, features, labels, labels, **rest)
    assert paper == pytest.approx(oracles.retrieval_metrics(scores, relevant & ~own, own))
    published = retrieval_metrics(features, features, labels, labels, variant="reference", **rest)
    assert published == pytest.approx(
        oracles.retrieval_metrics(scores, relevant & ~own, own, reference_depth=1, count_empty=True)
    )
    ranks = [
        rank_statistics(*[jnp.asarray(features)] * 2, Relevance(relevant, ignored=own), extra_depth=extra)
        for extra in (0, 1)
    ]
    assert [stats.map_at_r[0] for stats in ranks] == pytest.approx([(1 / 2) / 2, (1 / 2 + 2 / 3) / 2])
    assert paper["queries_without_positives"] == published["queries_without_positives"] == 1


def test_reference_variant_differs_in_nothing_else():
    case = problem()
    assert retrieval_metrics(*case) == retrieval_metrics(*case, variant="reference")


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


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("own", ["kept", "excluded", "positions"])
def test_metrics_agree_with_the_oracle(own, variant):
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
    reference = variant == "reference"
    expected = oracles.retrieval_metrics(
        oracles.cosine(query, gallery),
        relevant if ignored is None else relevant & ~ignored,
        ignored,
        reference_depth=int(reference and ignored is not None),
        count_empty=reference,
    )
    got = retrieval_metrics(
        query, gallery, query_labels, gallery_labels, exclude_self=exclude_self, variant=variant
    )
    assert got == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("variant", ["paper", "reference"])
@pytest.mark.parametrize("own", [False, True])
def test_what_each_query_found_agrees_with_the_oracle(own, variant):
    """Most vectors are there several times, under any label: what is equal has an order, too."""
    rng = np.random.default_rng(2)
    query, gallery, query_labels, _ = problem(20, 12, classes=4)
    gallery = gallery[rng.integers(0, 12, 30)]
    gallery_labels = rng.integers(0, 3, 30)  # one label of the queries is not there
    if own:
        query, query_labels = gallery, gallery_labels
    given, options = (
        (query, gallery, query_labels, gallery_labels),
        {"exclude_self": own, "variant": variant},
    )
    found = retrieval_metrics(*given, **options, recall_at=(1, 5), per_query=True)
    each = found.pop("per_query")
    assert found == retrieval_metrics(*given, **options, recall_at=(1, 5))
    scores = np.float32(oracles.cosine(query, gallery))  # equal vectors have equal scores in either
    expected = []
    for i, row in enumerate(scores):
        ignored = np.arange(30) == i if own else None
        expected.append(
            statistics(
                row,
                query_labels[i] == gallery_labels,
                ignored,
                (1, 5),
                int(own and variant == "reference"),
                first=10,
            )
        )
    r, precision, at_r, precision_at_r, hits, _, first = map(np.array, zip(*expected, strict=True))
    np.testing.assert_array_equal(each["positives"], r)
    np.testing.assert_array_equal(each["first_results"], first)
    for name, values in {
        "mAP": precision,
        "mAP_at_R": at_r,
        "precision_at_R": precision_at_r,
        "recall_at_1": np.where(r > 0, hits[:, 0] > 0, np.nan),
        "recall_at_5": np.where(r > 0, hits[:, 1] > 0, np.nan),
    }.items():
        assert each[name].dtype == np.float32
        np.testing.assert_allclose(each[name], 100 * values, rtol=1e-6, err_msg=name)


def test_per_query_values_are_traced_and_end_where_the_gallery_does():
    query, gallery, query_labels, gallery_labels = problem(5, 8, classes=2)
    relevant = query_labels[:, None] == gallery_labels
    own = np.arange(5)
    options = {"relevant": relevant, "exclude_self": own, "per_query": True}
    plain = retrieval_metrics(query, gallery, **options)["per_query"]
    traced = jax.jit(lambda q, g: retrieval_metrics(q, g, **options)["per_query"])(query, gallery)
    for name, values in plain.items():
        np.testing.assert_allclose(traced[name], values, rtol=1e-5, err_msg=name)
    assert plain["first_results"].shape == (5, 8)
    assert (plain["first_results"][:, -1] == -1).all()
    assert not (plain["first_results"] == own[:, None]).any()


def test_average_precision_agrees_with_scikit_learn():
    query, gallery, query_labels, gallery_labels = problem()
    relevant = query_labels[:, None] == gallery_labels
    scores = oracles.cosine(query, gallery)
    expected = [average_precision_score(hit, score) for hit, score in zip(relevant, scores, strict=True)]
    got = average_precision(query, gallery, relevant)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)


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
    published = retrieval_metrics(query, gallery, query_labels, gallery_labels, variant="reference")
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
        assert got == pytest.approx(expected, abs=1e-4)  # percent, of which float32 has seven digits


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


def test_recall_at_several_depths():
    # relevance in rank order 0 0 1 1
    metrics = retrieval_metrics(circle(0), circle(30, 10, 20, 40), [7], [7, 3, 3, 7], recall_at=(1, 2, 3, 4))
    assert [metrics[f"recall_at_{k}"] for k in (1, 2, 3, 4)] == [0, 0, 100, 100]
    assert set(metrics) >= {"mAP", "mAP_at_R", "precision_at_R", "queries_without_positives"}
    query, gallery, query_labels, gallery_labels = problem()
    order = np.argsort(-oracles.cosine(query, gallery), axis=1)
    for k in (1, 5, 53):
        expected = 100 * np.mean(
            [(gallery_labels[row[:k]] == q).any() for row, q in zip(order, query_labels, strict=True)]
        )
        got = retrieval_metrics(query, gallery, query_labels, gallery_labels, recall_at=[k])
        assert got[f"recall_at_{k}"] == pytest.approx(expected)


@pytest.mark.parametrize("exclude_self", [False, True])
def test_labels_tables_and_lists_are_one_thing(exclude_self):
    _, gallery, _, labels = problem()
    relevant = labels[:, None] == labels
    junk = np.random.default_rng(2).random(relevant.shape) < 0.1
    expected = retrieval_metrics(gallery, gallery, labels, labels, ignore=junk, exclude_self=exclude_self)
    lists, junk_lists = ([np.flatnonzero(row).tolist() for row in x] for x in (relevant, junk))
    for form in (
        relevant,
        relevant.tolist(),
        jnp.asarray(relevant),
        lists,
        np.array([*map(np.array, lists)], object),
    ):
        got = retrieval_metrics(gallery, gallery, relevant=form, ignore=junk_lists, exclude_self=exclude_self)
        assert got == pytest.approx(expected)


def test_lists_may_be_empty_or_repeat_themselves():
    query, gallery, *_ = problem(3, 6, 4)
    got = average_precision(query, gallery, [[], [2, 2, 5], [0]], ignore=[[], [], []])
    table = np.zeros((3, 6), bool)
    table[1, [2, 5]] = table[2, 0] = True
    np.testing.assert_array_equal(got, average_precision(query, gallery, table))


def test_half_precision_galleries_are_accepted():
    query, gallery, query_labels, gallery_labels = problem()
    for dtype in (jnp.float16, jnp.bfloat16):
        half = jnp.asarray(gallery, dtype)
        expected = retrieval_metrics(query, half.astype(jnp.float32), query_labels, gallery_labels)
        assert retrieval_metrics(query, half, query_labels, gallery_labels) == expected
    half = gallery.astype(np.float16)
    assert retrieval_metrics(query, half, query_labels, gallery_labels)["mAP"] == pytest.approx(
        retrieval_metrics(query, half.astype(float), query_labels, gallery_labels)["mAP"]
    )


# Text to text.


def test_first_caption_finds_the_others_by_hand():
    # Images a, b, a, b, a: caption 0 asks for 2 and 4, caption 1 for 3.
    captions = circle(0, 90, 10, 80, 70)
    metrics = text_retrieval_metrics(captions, list("ababa"))
    # from 0 without itself: 2 (a), 4 (a), 3, 1; from 1: 3 (b), 4, 2, 0
    assert metrics["mAP"] == pytest.approx(100)
    # from 0 without itself: 3, 2 (a), 4 (a), 1; from 1: 4, 2, 3 (b), 0
    metrics = text_retrieval_metrics(circle(0, 90, 20, 10, 70), list("ababa"))
    assert metrics["mAP"] == pytest.approx(100 * ((1 / 2 + 2 / 3) / 2 + 1 / 3) / 2)


def test_text_retrieval_agrees_with_the_oracle():
    rng = np.random.default_rng(0)
    captions, images = rng.normal(size=(40, 6)), rng.permutation(np.repeat(np.arange(9), 5)[:40])
    first = [int(np.flatnonzero(images == p)[0]) for p in dict.fromkeys(images.tolist())]
    own = np.zeros((len(first), 40), bool)
    own[np.arange(len(first)), first] = True
    relevant = images[first][:, None] == images
    expected = oracles.retrieval_metrics(oracles.cosine(captions[first], captions), relevant & ~own, own)
    assert text_retrieval_metrics(captions, images) == pytest.approx(expected, abs=1e-5)
    names = np.array([f"{p}.jpg" for p in images])
    assert text_retrieval_metrics(captions, names, block_size=2) == pytest.approx(expected, abs=1e-5)


# Under jax's transformations.


@pytest.mark.long
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


def test_metrics_under_jit_and_vmap():
    query, gallery, query_labels, gallery_labels = problem()
    query_labels[:2] = 99
    for variant in ("paper", "reference"):
        metrics = lambda q, variant=variant: retrieval_metrics(
            q, gallery, query_labels, gallery_labels, recall_at=(1, 3), variant=variant
        )
        expected = metrics(query)
        got = jax.jit(metrics)(query)
        assert {name: float(value) for name, value in got.items()} == pytest.approx(expected, rel=1e-6)
        stacked = jax.jit(jax.vmap(metrics))(jnp.stack([query, 3 * query]))
        np.testing.assert_allclose(stacked["mAP"], expected["mAP"], rtol=1e-6)
    lost = jax.jit(lambda q: retrieval_metrics(q, gallery, [99] * 37, gallery_labels))(query)
    assert np.isnan(lost["mAP"])
    assert lost["queries_without_positives"] == 37


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:.*unsafe cast from uint64")  # inside ranx, of its own integers
def test_metrics_agree_with_ranx():
    ranx = pytest.importorskip("ranx", reason="the other implementation of average precision")
    query, gallery, query_labels, gallery_labels = problem(20, 30)
    scores, relevant = oracles.cosine(query, gallery), query_labels[:, None] == gallery_labels
    qrels = {f"q{i}": {f"g{j}": 1 for j in np.flatnonzero(row)} for i, row in enumerate(relevant)}
    run = {f"q{i}": {f"g{j}": float(x) for j, x in enumerate(row)} for i, row in enumerate(scores)}
    expected = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), ["map", "r-precision", "hit_rate@5"])
    got = retrieval_metrics(query, gallery, query_labels, gallery_labels, recall_at=(5,))
    ours = [got[name] / 100 for name in ("mAP", "precision_at_R", "recall_at_5")]
    assert ours == pytest.approx(list(expected.values()), abs=1e-6)
