import json
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles_ranking import problem, statistics, table

from jaxalign import features
from jaxalign.errors import JaxalignError
from jaxalign.features import normalize
from jaxalign.ranking import cosine_ranking, scores
from jaxalign.ranking.cosine_ranking import rank_statistics, rank_statistics_of_each
from jaxalign.ranking.rank_order import order_keys, statistics_by_numpy, statistics_by_xla
from jaxalign.ranking.relevance import Relevance, check_table, relevance_from_labels

QUICK = settings(max_examples=50, deadline=None)
QUERIES, ITEMS = 3, 8  # one shape for every hypothesis example, so that XLA compiles once
TABLES = arrays(bool, (QUERIES, ITEMS))
TIED_SCORES = arrays(
    np.float32,
    (QUERIES, ITEMS),
    elements=st.sampled_from([-1.0, -0.5, -1e-45, -0.0, 0.0, 1e-45, 0.5, 1.0, 1.0000001]),
)
SORTS = ["numpy", "xla"]


def features_and_relevance(own=False, **sizes):
    query, gallery, query_labels, gallery_labels = problem(**sizes)
    if own:
        query, query_labels = gallery, gallery_labels
    query, gallery = jnp.asarray(query, jnp.float32), jnp.asarray(gallery, jnp.float32)
    return query, gallery, relevance_from_labels(query, gallery, query_labels, gallery_labels, own)


def assert_same_ranking(got, expected, tolerance=1e-6):
    """The integers of the ranking exactly, means up to float32's sums."""
    for name, a, b in zip(got._fields, got, expected, strict=True):
        exact = np.issubdtype(np.asarray(a).dtype, np.integer)
        np.testing.assert_allclose(a, b, rtol=0, atol=0 if exact else tolerance, err_msg=name)


# One integer per item.


@QUICK
@given(TIED_SCORES, TABLES, st.none() | TABLES)
def test_keys_order_as_score_then_irrelevant_first_then_ignored(scores, relevant, ignored):
    relevant = relevant if ignored is None else relevant & ~ignored
    keys = np.asarray(order_keys(jnp.asarray(scores), jnp.asarray(relevant), ignored))
    assert keys.dtype == np.int32
    for i in range(QUERIES):
        rank = [
            (ignored is not None and ignored[i, j], -scores[i, j], relevant[i, j])
            if ignored is None or not ignored[i, j]
            else (True, 0, False)
            for j in range(ITEMS)
        ]
        for a in range(ITEMS):
            for b in range(ITEMS):
                assert (keys[i, a] < keys[i, b]) == (rank[a] < rank[b])


@QUICK
@given(arrays(np.float32, 2, elements=st.floats(-1.5, 1.5, width=32)), arrays(bool, 2))
def test_any_two_scores_order_as_their_keys(scores, relevant):
    keys = np.asarray(order_keys(jnp.asarray(scores), jnp.asarray(relevant), None))
    first, second = zip(-scores, relevant, strict=True)
    assert (keys[0] < keys[1], keys[0] == keys[1]) == (first < second, first == second)


@QUICK
@given(
    TIED_SCORES,
    TABLES,
    st.none() | TABLES,
    st.sampled_from([0, 1]),
    st.booleans(),
    st.sampled_from([0, 3, ITEMS]),
)
@pytest.mark.long
def test_both_sorts_follow_the_oracle(scores, relevant, ignored, extra_depth, trapezoidal, first):
    relevant = relevant if ignored is None else relevant & ~ignored
    keys = order_keys(jnp.asarray(scores), jnp.asarray(relevant), ignored)
    options = (1, 3, ITEMS), extra_depth, trapezoidal, first
    by_numpy = statistics_by_numpy(np.asarray(keys), *options)
    by_xla = statistics_by_xla(keys, *options)
    assert_same_ranking(by_xla, by_numpy)
    for i in range(QUERIES):
        junk = None if ignored is None else ignored[i]
        expected = statistics(scores[i], relevant[i], junk, *options)
        for name, got, value in zip(by_numpy._fields, by_numpy, expected, strict=True):
            np.testing.assert_allclose(got[i], value, rtol=1e-12, err_msg=name)


# Blocks, chunks, devices.


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_blocks_equal_the_whole(sort, own):
    query, gallery, relevance = features_and_relevance(own=own, queries=37, items=300, width=64)
    whole = rank_statistics(query, gallery, relevance, block_size=1000, sort="numpy", depths=(1, 10))
    for block_size in (1, 7, 36, None):
        part = rank_statistics(query, gallery, relevance, block_size=block_size, sort=sort, depths=(1, 10))
        assert_same_ranking(part, whole)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.long
def test_the_two_sorts_agree_on_a_larger_problem(sort):
    query, gallery, relevance = features_and_relevance(queries=70, items=3000, width=128, classes=20)
    gallery = gallery.at[1000:2000].set(gallery[:1000])  # every score twice, under any label
    got = rank_statistics(query, gallery, relevance, sort=sort, depths=(1, 5, 100))
    assert_same_ranking(got, rank_statistics(query, gallery, relevance, sort="numpy", depths=(1, 5, 100)))


def test_rows_sorted_in_several_tasks(monkeypatch):
    query, gallery, relevance = features_and_relevance()
    whole = rank_statistics(query, gallery, relevance)
    for keys in (1, 120):
        monkeypatch.setattr(cosine_ranking, "_KEYS_PER_TASK", keys)
        assert_same_ranking(rank_statistics(query, gallery, relevance, block_size=10), whole, 0)


def test_large_blocks_are_not_computed_ahead(monkeypatch):
    query, gallery, relevance = features_and_relevance()
    whole = rank_statistics(query, gallery, relevance)
    monkeypatch.setattr(cosine_ranking, "_KEYS_PER_BLOCK", 1)
    assert_same_ranking(rank_statistics(query, gallery, relevance, block_size=10), whole, 0)


@pytest.mark.parametrize(
    ("sort", "dtype", "chunks"),
    [
        ("numpy", jnp.float16, (10, 101, 2048)),
        ("numpy", jnp.bfloat16, (10,)),
        ("numpy", jnp.float32, (10,)),
        ("xla", jnp.float16, (10,)),
    ],
)
@pytest.mark.long
def test_streamed_gallery_equals_the_copied_one(monkeypatch, sort, dtype, chunks):
    jax.clear_caches()  # the sizes below are read when a shape is first traced
    query, gallery, relevance = features_and_relevance(queries=11, items=101, width=32)
    gallery = (7 * gallery).astype(dtype)
    gallery = gallery.at[50].set(0).at[51].set(gallery[3])
    whole = rank_statistics(query, gallery.astype(jnp.float32), relevance)
    monkeypatch.setattr(features, "_STREAMED", 100)
    for chunk in chunks:
        jax.clear_caches()
        monkeypatch.setattr(scores, "_CHUNK", chunk)
        assert_same_ranking(rank_statistics(query, gallery, relevance, sort=sort), whole)
    jax.clear_caches()


@pytest.mark.long
def test_streamed_gallery_is_checked_on_the_way(monkeypatch):
    jax.clear_caches()
    monkeypatch.setattr(features, "_STREAMED", 100)
    query, gallery, relevance = features_and_relevance(queries=5, items=59)
    gallery = (
        gallery.astype(jnp.float16).at[jnp.array([3, 58]), 0].set(jnp.array([jnp.nan, jnp.inf], jnp.float16))
    )
    assert features.as_features("gallery", gallery, streamed=True).dtype == jnp.float16
    with pytest.raises(
        JaxalignError, match=r"gallery has NaN or infinite values in 2 of 59 rows \(first: 3, 58\)"
    ):
        rank_statistics(query, gallery, relevance)
    under_jit = jax.jit(lambda g: rank_statistics(query, g, relevance).average_precision)(gallery)
    assert np.isnan(under_jit).all()
    jax.clear_caches()


@pytest.mark.long
def test_equal_vectors_have_equal_scores_wherever_they_stand():
    rng = np.random.default_rng(0)
    for width, items in ((512, 4128), (768, 1001), (100, 53)):
        query = jnp.asarray(rng.normal(size=(5, width)), jnp.float32)
        gallery = jnp.tile(jnp.asarray(rng.normal(size=(1, width)), jnp.float32), (items, 1))
        relevant = np.zeros((5, items), bool)
        relevant[np.arange(5), [0, 1, items // 2, items - 2, items - 1]] = True
        last = rank_statistics(query, gallery, Relevance(table=relevant)).last_rank
        np.testing.assert_array_equal(last, items)  # a tie with all others, and they come first


DEVICES = """
import json
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxalign.ranking.cosine_ranking import rank_statistics
from jaxalign.ranking.relevance import relevance_from_labels

rng = np.random.default_rng(0)
query, gallery = (jnp.asarray(rng.normal(size=(n, 64)), jnp.float32) for n in (64, 400))
relevance = relevance_from_labels(query, gallery, rng.integers(0, 5, 64), rng.integers(0, 5, 400), False)
results = {"one": rank_statistics(query, gallery, relevance, sort="numpy")}
if len(jax.devices()) > 1:
    split = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
    parts = [jax.device_put(x, split) for x in (query, gallery)]
    results |= {sort: rank_statistics(*parts, relevance, sort=sort) for sort in ("numpy", "xla")}
results = {name: np.asarray(ranks.average_precision, float).tolist() for name, ranks in results.items()}
print(json.dumps({"devices": len(jax.devices()), "results": results}))
"""


@pytest.mark.long
def test_one_device_equals_eight():
    flags = os.environ.get("XLA_FLAGS", "")
    runs = [
        subprocess.run(
            [sys.executable, "-c", DEVICES],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={count}"},
        )
        for count in (1, 8)
    ]
    one, eight = (json.loads(run.stdout) for run in runs)
    assert (one["devices"], eight["devices"]) == (1, 8)
    assert set(eight["results"]) == {"one", "numpy", "xla"}
    for values in eight["results"].values():
        np.testing.assert_allclose(values, one["results"]["one"], atol=1e-6)


# Relevance in all its forms.


@pytest.mark.long
def test_tables_lists_and_codes_are_one_thing():
    query, gallery, by_codes = features_and_relevance()
    relevant, _ = by_codes.rows(slice(None), 53)
    junk = np.random.default_rng(1).random((37, 53)) < 0.2
    expected = rank_statistics(query, gallery, by_codes._replace(ignored=junk))
    lists = [np.flatnonzero(row).tolist() for row in np.asarray(relevant)]
    junk_lists = [np.flatnonzero(row) for row in junk]
    np.testing.assert_array_equal(table(lists, 53), relevant)
    for sort in SORTS:
        for form in (relevant, check_table("relevant", lists, (37, 53))):
            for ignored in (junk, check_table("ignore", junk_lists, (37, 53))):
                got = rank_statistics(query, gallery, Relevance(form, ignored=ignored), sort=sort)
                assert_same_ranking(got, expected)


def test_several_relevances_share_one_pass():
    query, gallery, first = features_and_relevance()
    second = first._replace(query_codes=first.query_codes[::-1].copy())
    for sort in SORTS:
        both = rank_statistics_of_each(query, gallery, [first, second], sort=sort, block_size=10)
        for got, relevance in zip(both, [first, second], strict=True):
            assert_same_ranking(got, rank_statistics(query, gallery, relevance))


# Under jax's transformations.


@pytest.mark.long
def test_jit_vmap_strict_promotion_and_one_trace():
    query, gallery, relevance = features_and_relevance()
    expected = rank_statistics(query, gallery, relevance, depths=(1, 5))
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def ranked(query, gallery, relevance):
        return rank_statistics(query, gallery, relevance, depths=(1, 5), block_size=10)

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        for _ in range(2):
            assert_same_ranking(ranked(query, gallery, relevance), expected)
        queries, codes = (jnp.stack([x, x[::-1]]) for x in (query, jnp.asarray(relevance.query_codes)))
        both = jax.vmap(
            lambda query, codes: rank_statistics(
                query, gallery, relevance._replace(query_codes=codes), depths=(1, 5), block_size=10
            )
        )(queries, codes)
        assert_same_ranking(jax.tree.map(lambda x: x[0], both), expected)
        assert_same_ranking(jax.tree.map(lambda x: x[1][::-1], both), expected)
        assert_same_ranking(rank_statistics(query, gallery, relevance, depths=(1, 5)), expected)


def test_concrete_blocks_are_traced_once():
    query, gallery, relevance = features_and_relevance()
    cosine_ranking._block_keys_on_host.clear_cache()
    for _ in range(2):
        rank_statistics(query, gallery, relevance, block_size=10)
    assert cosine_ranking._block_keys_on_host._cache_size() == 1


def test_features_that_are_not_finite_give_nan_under_jit():
    query, gallery, relevance = features_and_relevance()
    ap = jax.jit(lambda q, g: rank_statistics(q, g, relevance).average_precision)
    np.testing.assert_array_equal(np.isnan(ap(query.at[3, 0].set(jnp.nan), gallery)), np.arange(37) == 3)
    assert np.isnan(ap(query, gallery.at[3, 0].set(jnp.inf))).all()


def test_scale_does_not_matter():
    np.testing.assert_allclose(normalize(jnp.array([[3e30, 4e30], [0, 0]])), [[0.6, 0.8], [0, 0]], rtol=1e-6)


@pytest.mark.long
def test_bfloat16_rounds_the_vectors_and_nothing_else():
    query, gallery, relevance = features_and_relevance(queries=40, items=500, width=256)
    rounded = [normalize(x).astype(jnp.bfloat16).astype(jnp.float32) for x in (query, gallery)]
    scores = np.asarray(rounded[0], np.float64) @ np.asarray(rounded[1], np.float64).T
    relevant, _ = relevance.rows(slice(None), 500)
    expected = [statistics(*row, None, (1,))[1] for row in zip(scores, np.asarray(relevant), strict=True)]
    got = rank_statistics(query, gallery, relevance, dtype=jnp.bfloat16).average_precision
    # Two scores that differ by less than float32's rounding may change places: 1 of 25 million pairs or so.
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert np.abs(got - rank_statistics(query, gallery, relevance).average_precision).max() > 1e-4


def test_options_out_of_range():
    case = features_and_relevance()
    for depths in ((0,), (1, 54), (1.5,), (True,)):
        with pytest.raises(JaxalignError, match=r"k is .*; expected integers from 1 to 53, the gallery size"):
            rank_statistics(*case, depths=depths)
    with pytest.raises(JaxalignError, match="dtype is float16; expected float32 or bfloat16"):
        rank_statistics(*case, dtype=jnp.float16)
    with pytest.raises(JaxalignError, match="unknown sort 'nunpy'; did you mean 'numpy'"):
        rank_statistics(*case, sort="nunpy")
