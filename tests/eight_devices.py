"""Checks of everything that takes a mesh, in a process with eight devices: `python eight_devices.py`.

Prints `ok NAME` for each check that passes; `test_sharding.py` runs it once.
"""

import re
import traceback

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_model
from jax.sharding import PartitionSpec

import jaxalign as ja
from jaxalign import band_precision, features
from jaxalign.ranking import rank_counts
from jaxalign.sharding import check_mesh, data_mesh, divide_rows, fetch, shard_parameters

MESH = data_mesh()
RNG = np.random.default_rng(0)
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def problem(queries, items, width, classes):
    """Features with many equal vectors, far apart in the gallery, so that ties cross devices; labels."""
    gallery = RNG.normal(size=(items, width)).astype(np.float32)
    gallery[RNG.permutation(items)[: items // 3]] = gallery[RNG.integers(0, 5, items // 3)]
    query = RNG.normal(size=(queries, width)).astype(np.float32)
    query[::4] = gallery[: len(query[::4])]
    return query, gallery, RNG.integers(0, classes, queries), RNG.integers(0, classes, items)


def assert_same(many, one, tolerance=1e-6):
    assert many.keys() == one.keys()
    for name in one:
        np.testing.assert_allclose(many[name], one[name], rtol=tolerance, atol=0, err_msg=name)


@check
def ranking():
    for queries, items, classes, block in [(37, 203, 9, None), (50, 1001, 2, 7), (3, 5, 2, None)]:
        x = problem(queries, items, 24, classes)
        options = {"recall_at": (1, 5), "block_size": block}
        assert_same(ja.retrieval_metrics(*x, mesh=MESH, **options), ja.retrieval_metrics(*x, **options))
        many, one = (ja.retrieval_metrics(*x, mesh=m, **options, per_query=True) for m in (MESH, None))
        assert_same(many["per_query"], one["per_query"])
    _, gallery, _, labels = problem(3, 301, 24, 11)
    own = (gallery, gallery, labels, labels)
    for variant in ("paper", "reference"):
        options = {"exclude_self": True, "variant": variant}
        assert_same(ja.retrieval_metrics(*own, mesh=MESH, **options), ja.retrieval_metrics(*own, **options))
    captions = ja.text_retrieval_metrics(gallery, labels, mesh=MESH, dtype=jnp.bfloat16)
    assert_same(captions, ja.text_retrieval_metrics(gallery, labels, dtype=jnp.bfloat16))


@check
def ranking_of_ties():
    """Cosines that are equal but for their rounding are rounded alike, in blocks and over devices."""
    rng = np.random.default_rng(0)
    x, labels = rng.integers(-1, 2, (422, 26)), rng.integers(0, 7, 422)
    options = {"exclude_self": True, "recall_at": (1, 3)}
    one = ja.retrieval_metrics(x, x, labels, labels, **options)
    for mesh in (MESH, data_mesh(jax.devices()[:3])):
        assert ja.retrieval_metrics(x, x, labels, labels, mesh=mesh, **options) == one
    assert ja.retrieval_metrics(x, x, labels, labels, block_size=1, **options) == one
    order = rng.permutation(422)
    turned = ja.retrieval_metrics(x, x[order], labels, labels[order], exclude_self=np.argsort(order))
    assert turned["mAP"] == one["mAP"]


@check
def ranking_by_tables_and_lists():
    query, gallery, *_ = problem(41, 307, 16, 3)
    table, junk = RNG.random((41, 307)) < 0.05, RNG.random((41, 307)) < 0.1
    table[7] = False
    lists = [np.flatnonzero(row) for row in table], [np.flatnonzero(row) for row in junk]
    one = ja.average_precision(query, gallery, table, ignore=junk)
    assert np.isnan(one[7])
    for relevant, ignored in ((table, junk), lists):
        many = ja.average_precision(query, gallery, relevant, ignore=ignored, mesh=MESH)
        np.testing.assert_allclose(many, one, rtol=1e-6)
    truth = [
        dict(zip(("easy", "hard", "junk"), np.split(RNG.permutation(307)[:24], 3), strict=True))
        for _ in query
    ]
    assert_same(
        ja.revisited_metrics(query, gallery, truth, mesh=MESH), ja.revisited_metrics(query, gallery, truth)
    )


@check
def ranking_of_many_positives():
    """Beyond so many, levels are looked up in sorted scores."""
    x = problem(20, 400, 16, 2)
    one = ja.retrieval_metrics(*x)
    rank_counts._MOST_COMPARED = 8
    rank_counts._count.clear_cache()
    assert_same(ja.retrieval_metrics(*x, mesh=MESH), one)


@check
def ranking_of_a_streamed_gallery():
    query, gallery, *labels = problem(33, 1100, 16, 20)
    half = (7 * gallery).astype(np.float16)
    one = ja.retrieval_metrics(query, half, *labels)
    features._STREAMED = 100
    assert_same(ja.retrieval_metrics(query, half, *labels, mesh=MESH), one)


@check
def ranking_gathers_no_scores_and_compiles_once():
    traced = chex.assert_max_traces(rank_counts._count_own, n=1)
    rank_counts._count_own = traced
    query, gallery, _, _ = problem(64, 1000, 16, 3)
    labels = np.arange(64) % 8, np.arange(1000) % 8
    ja.retrieval_metrics(query, gallery, *labels, mesh=MESH, block_size=8)  # eight blocks
    lists = [rank_counts._Lists(np.zeros((8, 32), np.int32), np.zeros((8, 0), np.int32))]
    gallery = divide_rows(gallery, MESH)
    rank_counts._count_own = traced.__wrapped__
    lowered = rank_counts._count.lower(
        query[:8], lists, np.int32(1000), gallery, mesh=MESH, dtype=jnp.dtype(jnp.float32)
    )
    assert largest_collective(lowered.compile().as_text()) <= 8 * 32


@check
def sweeps():
    model = tiny_model("emoji-clip")
    query, gallery, query_labels, gallery_labels = problem(37, 311, 32, 20)
    given = (model.projectors, query, gallery, query_labels, gallery_labels)
    grid = {"k_top": [0, 1, 2, 5], "k_bottom": [0, 2, 4, 9], "block_size": 16}
    one, many = ja.sweep_bands(*given, **grid), ja.sweep_bands(*given, **grid, mesh=MESH)
    np.testing.assert_allclose(many.mAP, one.mAP, rtol=1e-6)
    assert many.best == one.best
    labels = gallery_labels % 2  # more positives than are counted: by ranking
    given = (RNG.normal(size=(60, 32)), gallery, gallery, labels, labels)
    options = {"ranks": [8, 31], "exclude_self": True}  # near rank 1, cosines are all 1 up to rounding
    one, many = ja.sweep_ranks(*given, **options), ja.sweep_ranks(*given, **options, mesh=MESH)
    np.testing.assert_allclose(many.mAP, one.mAP, rtol=1e-6)


@check
def sweeps_gather_nothing_and_compile_once():
    band_precision._sweep_over_mesh.clear_cache()
    model = tiny_model("emoji-clip")
    x = problem(40, 320, 32, 40)
    ja.sweep_bands(model.projectors, *x, k_top=[0, 1], k_bottom=[0, 1], block_size=8, mesh=MESH)
    assert band_precision._sweep_over_mesh._cache_size() == 1
    block = band_precision.Coordinates(
        *(jnp.zeros(shape) for shape in ((8, 12), (320, 12), (12, 12), (12,)))
    )._replace(gallery=divide_rows(np.zeros((320, 12), np.float32), MESH))
    whole = np.zeros(8, np.int32)
    positives = band_precision.Positives(np.zeros((8, 16), np.int32), whole, whole)
    axes = np.arange(2), np.arange(2) + 11
    lowered = band_precision._sweep_over_mesh.lower(block, positives, *axes, items=320, rank=None, mesh=MESH)
    assert largest_collective(lowered.compile().as_text()) <= 8 * 16


def largest_collective(program):
    """Elements of the largest thing that devices send each other; raises where any of it is a gathering."""
    found = re.findall(r"= (\(?[\w\[\],{} ]*?\)?) (all-\w+|collective-\w+|reduce-scatter)", program)
    assert {kind for _, kind in found} <= {"all-reduce", "all-reduce-start", "all-reduce-done"}, found
    assert found
    shapes = re.findall(r"\w\d+\[([\d,]*)\]", " ".join(shape for shape, _ in found))
    return max(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes)


@check
def few_shot_classifiers():
    pool, labels = RNG.normal(size=(90, 16)), np.arange(90) % 9
    test, test_labels = RNG.normal(size=(101, 16)), RNG.integers(0, 9, 101)
    texts = {"text_weights": RNG.normal(size=(9, 16))}
    fits = [(ja.prototype_classifier, texts), (ja.tip_x, texts | {"variant": "reference"})]
    for fit, options in fits:
        given = (fit, pool, labels, test, test_labels)
        one = ja.few_shot_accuracy(*given, shots=(2,), **options)
        many = ja.few_shot_accuracy(*given, shots=(2,), mesh=MESH, **options)
        np.testing.assert_allclose(many.accuracy, one.accuracy, rtol=1e-6)
        classifier = fit(pool, labels, **options)
        np.testing.assert_array_equal(classifier.predict(test, mesh=MESH), classifier.predict(test))
        axes = {"alpha": [0.1, 0.5, 0.9]}
        one = ja.search_hyperparameters(classifier, test, test_labels, **axes)
        many = ja.search_hyperparameters(classifier, test, test_labels, mesh=MESH, **axes)
        np.testing.assert_array_equal(many.accuracy, one.accuracy)


@check
def encoding_with_copied_and_divided_parameters():
    model = tiny_model("emoji-siglip")
    images = RNG.integers(0, 256, (21, 30, 26, 3), np.uint8)
    texts = ["a photo of a cat", "a red apple", "dog"] * 7
    one = model.encode_image(images), model.encode_text(texts, projected=False)
    many = (
        model.encode_image(images, batch_size=2, mesh=MESH),
        model.encode_text(texts, projected=False, batch_size=2, mesh=MESH),
    )
    for a, b in zip(many, one, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * np.abs(b).max())
    params = shard_parameters(model.params, MESH, at_least=32 * 32)
    divided = {x.sharding.spec for x in jax.tree.leaves(params) if not x.is_fully_replicated}
    assert divided, "no parameter is divided"
    run = jax.jit(model.apply_image)
    pixels = model.image_processor(list(images))
    got = fetch(run(params, divide_rows(pixels, MESH)))[:21]
    np.testing.assert_allclose(got, one[0], rtol=1e-6, atol=1e-6 * np.abs(one[0]).max())
    again = shard_parameters(params, MESH, at_least=32 * 32)
    same = lambda a, b: a.sharding == b.sharding
    assert all(jax.tree.leaves(jax.tree.map(same, params, again)))


@check
def the_rule_for_parameters():
    params = {
        "kernel": jnp.zeros((24, 48)),
        "odd": jnp.zeros((31, 33)),
        "bias": jnp.zeros(48),
        "tall": jnp.zeros((80, 9)),
    }
    placed = shard_parameters(params, MESH, at_least=500)
    spec = {name: x.sharding.spec for name, x in placed.items()}
    assert spec["kernel"] == PartitionSpec(None, "data")
    assert spec["tall"] == PartitionSpec("data")
    assert spec["odd"] == spec["bias"] == PartitionSpec()
    assert all(x.is_fully_replicated for x in jax.tree.leaves(shard_parameters(params, MESH)))


@check
def rows_that_do_not_divide_are_filled_up():
    x = np.arange(21 * 3, dtype=np.float32).reshape(21, 3)
    rows = divide_rows(x, MESH, fill=-1)
    assert rows.shape == (24, 3)
    assert {s.data.shape for s in rows.addressable_shards} == {(3, 3)}
    np.testing.assert_array_equal(fetch(rows)[:21], x)
    assert (fetch(rows)[21:] == -1).all()
    assert divide_rows(x, MESH, each=32).shape == (256, 3)


@check
def a_mesh_with_more_axes():
    devices = np.array(jax.devices()).reshape(4, 2)
    mesh = jax.sharding.Mesh(devices, ("data", "model"))
    x = problem(20, 101, 16, 5)
    assert_same(ja.retrieval_metrics(*x, mesh=mesh), ja.retrieval_metrics(*x))
    assert check_mesh(jax.make_mesh((8,), ("data",))) == MESH


@check
def errors_are_those_of_one_device():
    x = problem(9, 50, 8, 3)
    bad = x[1].copy()
    bad[40, 2] = np.nan
    expect("gallery has NaN or infinite values in 1 of 50 rows", x[0], bad, *x[2:], mesh=MESH)
    expect("expected one called 'data'", *x, mesh=jax.sharding.Mesh(np.array(jax.devices()), ("model",)))
    traced = jax.jit(lambda q: ja.average_precision(q, x[1], np.ones((9, 50), bool), mesh=MESH))
    with pytest.raises(ja.JaxalignError, match="leave out mesh"):
        traced(x[0])


def expect(message, *given, **options):
    with pytest.raises(ja.JaxalignError, match=message):
        ja.retrieval_metrics(*given, **options)


def main():
    for name, function in CHECKS.items():
        kept = features._STREAMED, rank_counts._MOST_COMPARED, rank_counts._count_own
        try:
            function()
            print(f"ok {name}", flush=True)
        except Exception:  # the others are still to be seen
            print(f"failed {name}", flush=True)
            traceback.print_exc()
        finally:
            features._STREAMED, rank_counts._MOST_COMPARED, rank_counts._count_own = kept


if __name__ == "__main__":
    main()
