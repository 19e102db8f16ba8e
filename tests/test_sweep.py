import jax
import jax.numpy as jnp
import numpy as np
import oracles_geometry as oracles
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import cosine

from jaxalign import band_precision, sweep
from jaxalign.errors import JaxalignError
from jaxalign.projectors import Projector, Projectors, isoclip
from jaxalign.ranking.retrieval import retrieval_metrics
from jaxalign.subspace import principal_subspace
from jaxalign.sweep import sweep_bands, sweep_ranks

RNG = np.random.default_rng(0)
HEADS = Projectors(
    image=Projector(jnp.asarray(RNG.normal(size=(10, 8)), jnp.float32), jnp.ones(8)),
    text=Projector(jnp.asarray(RNG.normal(size=(9, 8)), jnp.float32)),
)
IMAGES, TEXTS = RNG.normal(size=(30, 10)), RNG.normal(size=(30, 9))
LABELS = np.repeat([0, 1, 2, 3], [5, 7, 8, 10])[RNG.permutation(30)]


@pytest.mark.long
def test_nothing_relies_on_implicit_promotion():
    grid = {"k_top": [0, 2], "k_bottom": (0, 3)}
    plain = sweep_bands(HEADS, IMAGES, IMAGES, LABELS, LABELS, **grid).mAP
    jax.clear_caches()
    with jax.numpy_dtype_promotion("strict"):
        strict = sweep_bands(HEADS, IMAGES, IMAGES, LABELS, LABELS, **grid).mAP
        kernel = isoclip(HEADS, 1, 2).image.kernel
    np.testing.assert_array_equal(strict, plain)
    np.testing.assert_array_equal(kernel, isoclip(HEADS, 1, 2).image.kernel)


@pytest.mark.parametrize(("modality", "features"), [("image", IMAGES), ("text", TEXTS)])
@pytest.mark.long
def test_every_cell_is_the_metric_of_that_band(modality, features):
    grid = {"k_top": [0, 2, 5], "k_bottom": (0, 3)}
    swept = sweep_bands(
        HEADS, features, features, LABELS, LABELS, modality=modality, exclude_self=True, **grid
    )
    assert swept.mAP.shape == (3, 2)
    np.testing.assert_array_equal(swept.k_top, [0, 2, 5])
    np.testing.assert_array_equal(swept.k_bottom, [0, 3])
    for i, k_top in enumerate(grid["k_top"]):
        for j, k_bottom in enumerate(grid["k_bottom"]):
            if k_top + k_bottom >= 8:
                assert np.isnan(swept.mAP[i, j])
                continue
            x = getattr(isoclip(HEADS, k_top, k_bottom), modality)(features)
            expected = retrieval_metrics(x, x, LABELS, LABELS, exclude_self=True)["mAP"]
            # percent, of which float32 has seven digits
            assert swept.mAP[i, j] == pytest.approx(expected, abs=1e-4)
    i, j = np.unravel_index(np.nanargmax(swept.mAP), (3, 2))
    assert swept.best == (grid["k_top"][i], grid["k_bottom"][j])


@pytest.mark.long
def test_query_and_gallery_may_differ():
    swept = sweep_bands(HEADS, IMAGES[:12], IMAGES[12:], LABELS[:12], LABELS[12:], k_top=[1], k_bottom=[2])
    embedded = isoclip(HEADS, 1, 2).image(IMAGES)
    expected = retrieval_metrics(embedded[:12], embedded[12:], LABELS[:12], LABELS[12:])["mAP"]
    assert swept.mAP[0, 0] == pytest.approx(expected, abs=1e-4)  # percent, of which float32 has seven digits


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "sorted"])
@pytest.mark.parametrize(
    "k_bottom", [[0, 1, 2, 3], *(pytest.param(x, marks=pytest.mark.long) for x in ([3, 0], [2]))], ids=str
)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_cells_agree_with_float64(monkeypatch, modality, k_bottom, counted):
    monkeypatch.setattr(sweep, "_MOST_COUNTED", 128 if counted else 0)
    rng = np.random.default_rng(1)
    heads = {"image": rng.normal(size=(40, 32)), "text": rng.normal(size=(24, 32))}
    projectors = Projectors(*(Projector(jnp.asarray(h, jnp.float32)) for h in heads.values()))
    features = rng.normal(size=(150, len(heads[modality]))).astype(np.float32)
    labels, queries = rng.integers(0, 12, 150), rng.permutation(150)[:50]
    swept = sweep_bands(
        projectors,
        features[queries],
        features,
        labels[queries],
        labels,
        k_top=[0, 9, 2],
        k_bottom=k_bottom,
        modality=modality,
        exclude_self=queries,
        block_size=17,
    )
    for i, top in enumerate([0, 9, 2]):
        for j, bottom in enumerate(k_bottom):
            x = oracles.band_embeddings(*heads.values(), features, top, bottom, modality)
            expected = oracles.mean_average_precision(x[queries], x, labels[queries], labels, queries)
            # 1e-3 percent: where two scores agree to float32's seven digits, their order is rounding
            assert swept.mAP[i, j] == pytest.approx(expected, abs=1e-3)


@pytest.mark.long
def test_queries_with_few_and_many_positives_go_together(monkeypatch):
    grid = {"k_top": [0, 2], "k_bottom": [0, 3], "exclude_self": True}
    together = sweep_bands(HEADS, IMAGES, IMAGES, LABELS, LABELS, **grid)
    count = np.bincount(LABELS)[LABELS] - 1
    assert count.min() < 7 < count.max()
    monkeypatch.setattr(sweep, "_MOST_COUNTED", 7)
    apart = sweep_bands(HEADS, IMAGES, IMAGES, LABELS, LABELS, **grid)
    np.testing.assert_allclose(apart.mAP, together.mAP, atol=1e-4)  # percent


@pytest.mark.long
def test_one_compilation_serves_the_grid():
    band_precision._sweep_block.clear_cache()
    for labels in (LABELS, LABELS[::-1]):
        sweep_bands(HEADS, IMAGES, IMAGES, labels, labels, k_top=range(4), k_bottom=range(4), block_size=13)
    assert band_precision._sweep_block._cache_size() == 1


@pytest.mark.parametrize("counted", [True, False], ids=["counted", "sorted"])
@pytest.mark.long
def test_equal_scores_and_zero_vectors_never_flatter(monkeypatch, counted):
    monkeypatch.setattr(sweep, "_MOST_COUNTED", 128 if counted else 0)
    heads = Projectors(Projector(jnp.eye(4)), Projector(jnp.diag(jnp.arange(4.0, 0, -1))))
    query = np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    gallery = np.array([[1.0, 0, 0, 0], [3.0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [-1, 0, 0, 0]])
    labels = np.array([0, 1, 0, 0, 1])
    swept = sweep_bands(heads, query, gallery, [0, 1], labels, k_top=[0], k_bottom=[0])
    # Order of query 0: the irrelevant one of the two equal ones, then 0, 2, 3: 1/2, 2/3, 3/4.
    # Query 1 scores 0 everywhere: the three irrelevant ones come first, 1/4 and 2/5.
    expected = 100 * np.mean([(1 / 2 + 2 / 3 + 3 / 4) / 3, (1 / 4 + 2 / 5) / 2])
    assert swept.mAP[0, 0] == pytest.approx(expected, abs=1e-4)  # percent, of which float32 has seven digits


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([1, 3, 20]), st.booleans(), st.booleans())
@pytest.mark.long
def test_counting_agrees_with_sorting(seed, distinct, exclude_self, empty_class):
    # Few distinct features, so many ties; labels that need not fit, so queries without positives.
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(distinct, 10))[np.arange(20) % distinct].astype(np.float32)
    labels = rng.permutation(np.repeat([0, 1, 2, 3], [3, 8, 5, 4]))
    query_labels = np.where(labels == 0, 9, labels) if empty_class else labels
    options = {"k_top": [0, 3], "k_bottom": [1, 2], "exclude_self": exclude_self}
    x = isoclip(HEADS, 3, 2).image(features)
    gaps = np.diff(np.sort(cosine(np.asarray(x), np.asarray(x))))
    assume(not ((gaps > 1e-12) & (gaps < 1e-6)).any())  # which of two comes first, float32 does not tell
    counted = sweep_bands(HEADS, features, features, query_labels, labels, **options)
    expected = retrieval_metrics(x, x, query_labels, labels, exclude_self=exclude_self)["mAP"]
    # percent, of which float32 has seven digits
    assert counted.mAP[1, 1] == pytest.approx(expected, abs=1e-4)


def test_the_scale_of_features_and_heads_does_not_matter():
    grid = {"k_top": [0, 3], "k_bottom": [0, 2], "exclude_self": True}
    plain = Projectors(HEADS.image.replace(bias=None), HEADS.text)
    expected = sweep_bands(plain, IMAGES, IMAGES, LABELS, LABELS, **grid).mAP
    tiny = Projectors(Projector(plain.image.kernel * 1e-12), plain.text)
    for scale in (1e20, 1e-20):
        x = (IMAGES * scale).astype(np.float32)
        # percent, of which float32 has seven digits
        np.testing.assert_allclose(sweep_bands(tiny, x, x, LABELS, LABELS, **grid).mAP, expected, atol=1e-4)


def test_features_and_labels_that_make_no_sense():
    grid = {"k_top": [0], "k_bottom": [0]}
    broken = IMAGES.copy()
    broken[[3, 8], 2] = np.nan
    with pytest.raises(
        JaxalignError, match=r"gallery has NaN or infinite values in 2 of 30 rows .first: 3, 8"
    ):
        sweep_bands(HEADS, IMAGES, broken, LABELS, LABELS, **grid)
    with pytest.raises(JaxalignError, match="none of the 30 queries has a positive in the gallery"):
        sweep_bands(HEADS, IMAGES, IMAGES, np.arange(30), np.arange(30), exclude_self=True, **grid)
    with pytest.raises(JaxalignError, match=r"query_labels has shape \(29,\)"):
        sweep_bands(HEADS, IMAGES, IMAGES, LABELS[1:], LABELS, **grid)


@pytest.mark.long
def test_ties_go_to_the_smaller_removal():
    labels = np.zeros(30, int)  # every ranking is perfect
    swept = sweep_bands(HEADS, IMAGES, IMAGES, labels, labels, k_top=[5, 2, 1], k_bottom=[2, 0, 1])
    assert swept.best == (1, 0)
    assert np.nanmin(swept.mAP) == 100
    swept = sweep_bands(HEADS, IMAGES, IMAGES, labels, labels, k_top=[1, 0], k_bottom=[1, 2])
    assert swept.best == (0, 1)
    assert sweep_ranks(TEXTS, TEXTS, TEXTS, labels, labels, ranks=[2, 7, 3]).best == 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"k_top": [8, 9]},
            "every band of the grid is empty: k_top from 8 and k_bottom from 0 leave none of the 8",
        ),
        ({"k_top": []}, r"k_top is \[\]; expected one or more integers"),
        (
            {"k_bottom": [0, -1]},
            r"k_bottom is \[0, -1\]; expected one or more integers, none of them negative",
        ),
        ({"block_size": 0}, "block_size is 0; expected a positive number of queries"),
        ({"k_top": [0.5]}, r"k_top is \[0.5\]; expected a sequence of integers"),
        ({"k_top": 3}, "k_top is 3; expected a sequence"),
        ({"modality": "images"}, "unknown modality 'images'; did you mean 'image'"),
        ({"modality": "text"}, r"shape \(30, 10\) do not fit a projector from width 9"),
    ],
)
def test_sweep_errors(changes, message):
    with pytest.raises(JaxalignError, match=message):
        sweep_bands(HEADS, IMAGES, IMAGES, LABELS, LABELS, **({"k_top": [0], "k_bottom": [0]} | changes))


@pytest.mark.long
def test_ranks_are_the_metric_of_that_subspace():
    swept = sweep_ranks(
        TEXTS[:6], TEXTS, TEXTS, LABELS, LABELS, ranks=[2, 3, 5, 6], normalize=True, exclude_self=True
    )
    for rank, got in zip(swept.ranks[:3], swept.mAP[:3], strict=True):
        x = principal_subspace(TEXTS[:6], rank, normalize=True).project(TEXTS)
        expected = retrieval_metrics(x, x, LABELS, LABELS, exclude_self=True)["mAP"]
        assert got == pytest.approx(expected, abs=1e-4)  # percent, of which float32 has seven digits
    assert np.isnan(swept.mAP[3])  # six centred texts span five directions
    assert swept.best == swept.ranks[np.nanargmax(swept.mAP)]
    with pytest.raises(JaxalignError, match="ranks go from 6 to 9, but the texts span 5 directions"):
        sweep_ranks(TEXTS[:6], TEXTS, TEXTS, LABELS, LABELS, ranks=[6, 9])


@pytest.mark.long
def test_ranks_with_mean_adjustment():
    mean = TEXTS.mean(0)
    swept = sweep_ranks(
        TEXTS, TEXTS[:12], TEXTS[12:], LABELS[:12], LABELS[12:], ranks=[7, 2, 9], mean=mean, center=False
    )
    for rank, got in zip(swept.ranks, swept.mAP, strict=True):
        x = principal_subspace(TEXTS, rank, center=False).project(TEXTS, mean)
        expected = retrieval_metrics(x[:12], x[12:], LABELS[:12], LABELS[12:])["mAP"]
        assert got == pytest.approx(expected, abs=1e-4)  # percent, of which float32 has seven digits
    with pytest.raises(JaxalignError, match=r"mean has shape \(8,\); expected \(9,\)"):
        sweep_ranks(TEXTS, TEXTS, TEXTS, LABELS, LABELS, ranks=[2], mean=mean[:8])


def test_ranks_beyond_what_repeated_texts_span():
    repeated = np.repeat(TEXTS[:4], 5, axis=0)
    swept = sweep_ranks(repeated, TEXTS, TEXTS, LABELS, LABELS, ranks=[1, 3, 4], exclude_self=True)
    np.testing.assert_array_equal(np.isnan(swept.mAP), [False, False, True])
