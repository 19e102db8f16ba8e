import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_geometry
import pytest

from jaxalign.bands import analyse_bands, grown_bands, spectral_regions
from jaxalign.errors import JaxalignError
from jaxalign.projectors import Projector, Projectors

RNG = np.random.default_rng(0)
KERNELS = {"image": RNG.normal(size=(14, 12)), "text": RNG.normal(size=(13, 12))}
HEADS = Projectors(*(Projector(jnp.asarray(kernel, jnp.float32)) for kernel in KERNELS.values()))
FEATURES = {name: RNG.normal(size=(40, len(k))).astype(np.float32) for name, k in KERNELS.items()}
LABELS = np.arange(40) % 5


def test_regions_of_the_paper():
    assert spectral_regions(512) == {"top": (0, 462), "middle": (231, 231), "bottom": (462, 0)}
    assert spectral_regions(12, 12) == dict.fromkeys(("top", "middle", "bottom"), (0, 0))
    for r, width in ((13, 4), (12, 5), (1, 1)):
        assert all(r - sum(band) == width for band in spectral_regions(r, width).values())


def test_the_middle_grows_towards_each_end():
    grown = grown_bands(512, 50, 100)
    assert grown["top"] == [(231, 231), (131, 231), (31, 231), (0, 231)]
    assert grown["bottom"] == [(231, 231), (231, 131), (231, 31), (231, 0)]
    assert grown_bands(4, 4) == {"top": [(0, 0)], "bottom": [(0, 0)]}


@pytest.mark.parametrize("itself", [False, True], ids=["all", "without itself"])
@pytest.mark.parametrize("modality", ["image", "text"])
def test_each_band_agrees_with_float64(modality, itself):
    x, bands = FEATURES[modality], {"wide": (1, 2), "middle": (4, 4)}
    queries = np.array([3, 20, 39])
    query_labels = LABELS[queries]
    found = analyse_bands(
        HEADS,
        x[queries],
        x,
        query_labels,
        LABELS,
        bands=bands,
        modality=modality,
        exclude_self=queries if itself else False,
        bins=20,
    )
    assert list(found) == ["wide", "middle"]
    for name, band in bands.items():
        embedded = oracles_geometry.band_embeddings(*KERNELS.values(), x, *band, modality)
        scores = oracles.cosine(embedded[queries], embedded)
        kept = np.ones(scores.shape, bool)
        if itself:
            kept[np.arange(3), queries] = False
        same = kept & (query_labels[:, None] == LABELS)
        assert found[name].band == band
        assert found[name].positive_mean == pytest.approx(scores[same].mean(), abs=1e-5)
        assert found[name].negative_mean == pytest.approx(scores[kept & ~same].mean(), abs=1e-5)
        histograms = found[name].histograms
        assert histograms.same.sum() == same.sum()
        clipped = np.clip(scores, -1, 1 - 1e-6)  # a query's cosine with itself is 1 up to rounding
        expected = np.histogram(clipped[kept & ~same], bins=20, range=(-1, 1))[0]
        np.testing.assert_array_equal(histograms.different, expected)
        expected = oracles_geometry.mean_average_precision(
            embedded[queries], embedded, query_labels, LABELS, queries if itself else None
        )
        assert found[name].mAP == pytest.approx(expected, abs=1e-3)  # percent; near ties are rounding


def test_by_default_the_whole_spectrum_and_its_regions():
    x = FEATURES["image"]
    found = analyse_bands(HEADS, x, x, LABELS, LABELS, exclude_self=True)
    assert {name: found[name].band for name in found} == {
        "all": (0, 0),
        "top": (0, 11),
        "middle": (5, 6),
        "bottom": (11, 0),
    }
    assert found["top"].histograms.different.sum() == 40 * 32
    # One direction: all cosines are 1 or -1.
    assert found["top"].histograms.same[1:-1].sum() == 0
    assert isinstance(jax.tree.leaves(found)[0], float)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spectral_regions(12, 13), "width is 13; expected 1 to 12"),
        (lambda: spectral_regions(12, 0), "width is 0"),
        (lambda: grown_bands(12, 2, 0), "step is 0; expected 1 or more"),
        (lambda: analyse(bands={}), "bands is empty; expected at least one"),
        (lambda: analyse(bands={"none": (6, 6)}), "removes all of the 12 singular directions"),
        (lambda: analyse(bins=0), "bins is 0"),
        (lambda: analyse(modality="images"), "unknown modality 'images'; did you mean 'image'"),
        (lambda: jax.jit(lambda x: analyse(x))(FEATURES["image"]), "features are traced"),
    ],
)
def test_what_makes_no_sense(call, message):
    with pytest.raises(JaxalignError, match=message):
        call()


def analyse(x=FEATURES["image"], **options):
    return analyse_bands(HEADS, x, x, LABELS, LABELS, exclude_self=True, **options)
