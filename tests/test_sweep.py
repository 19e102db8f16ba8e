import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign import sweep
from jaxalign.errors import JaxalignError
from jaxalign.projectors import Projector, Projectors, Spectrum, decompose, isoclip
from jaxalign.retrieval import retrieval_metrics
from jaxalign.subspace import principal_subspace
from jaxalign.sweep import select_band, sweep_bands, sweep_ranks

RNG = np.random.default_rng(0)
HEADS = Projectors(
    image=Projector(jnp.asarray(RNG.normal(size=(10, 8)), jnp.float32), jnp.ones(8)),
    text=Projector(jnp.asarray(RNG.normal(size=(9, 8)), jnp.float32)),
)
IMAGES, TEXTS = RNG.normal(size=(30, 10)), RNG.normal(size=(30, 9))
LABELS = RNG.integers(0, 4, 30)


@pytest.mark.parametrize(("modality", "features"), [("image", IMAGES), ("text", TEXTS)])
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
            assert swept.mAP[i, j] == pytest.approx(expected, abs=1e-4)
    i, j = np.unravel_index(np.nanargmax(swept.mAP), (3, 2))
    assert swept.best == (grid["k_top"][i], grid["k_bottom"][j])


def test_query_and_gallery_may_differ():
    swept = sweep_bands(HEADS, IMAGES[:12], IMAGES[12:], LABELS[:12], LABELS[12:], k_top=[1], k_bottom=[2])
    embedded = isoclip(HEADS, 1, 2).image(IMAGES)
    expected = retrieval_metrics(embedded[:12], embedded[12:], LABELS[:12], LABELS[12:])["mAP"]
    assert swept.mAP[0, 0] == pytest.approx(expected, abs=1e-4)


def test_one_compilation_serves_the_grid():
    sweep._project_band.clear_cache()
    sweep_bands(HEADS, IMAGES, IMAGES, LABELS, LABELS, k_top=range(4), k_bottom=range(4), exclude_self=True)
    assert sweep._project_band._cache_size() == 1


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
        ({"k_top": [0.5]}, r"k_top is \[0.5\]; expected a sequence of integers"),
        ({"k_top": 3}, "k_top is 3; expected a sequence"),
        ({"modality": "images"}, "unknown modality 'images'; did you mean 'image'"),
        ({"modality": "text"}, r"shape \(30, 10\) do not fit a projector from width 9"),
    ],
)
def test_sweep_errors(changes, message):
    with pytest.raises(JaxalignError, match=message):
        sweep_bands(HEADS, IMAGES, IMAGES, LABELS, LABELS, **({"k_top": [0], "k_bottom": [0]} | changes))


def test_ranks_are_the_metric_of_that_subspace():
    swept = sweep_ranks(
        TEXTS[:6], TEXTS, TEXTS, LABELS, LABELS, ranks=[2, 3, 5, 6], normalize=True, exclude_self=True
    )
    for rank, got in zip(swept.ranks[:3], swept.mAP[:3], strict=True):
        x = principal_subspace(TEXTS[:6], rank, normalize=True).project(TEXTS)
        expected = retrieval_metrics(x, x, LABELS, LABELS, exclude_self=True)["mAP"]
        assert got == pytest.approx(expected, abs=1e-4)
    assert np.isnan(swept.mAP[3])  # six centred texts span five directions
    assert swept.best == swept.ranks[np.nanargmax(swept.mAP)]
    with pytest.raises(JaxalignError, match="ranks go from 6 to 9, but the texts span 5 directions"):
        sweep_ranks(TEXTS[:6], TEXTS, TEXTS, LABELS, LABELS, ranks=[6, 9])


def spectrum_of(log):
    s = jnp.asarray(np.exp(log), jnp.float32)
    return Spectrum(jnp.eye(len(s)), s, jnp.eye(len(s)))


def test_select_band_finds_where_the_ends_begin():
    log = np.linspace(0.1, -0.1, 100)
    assert select_band(spectrum_of(log)) == (0, 0)
    log[:12] += np.linspace(2, 0.3, 12)
    log[-7:] -= np.linspace(0.3, 4, 7)
    assert select_band(spectrum_of(log)) == (12, 7)
    assert select_band(spectrum_of(5 * log), tolerance=5.0) != (0, 0)
    assert select_band(spectrum_of(log), tolerance=1e3) == (0, 0)


@pytest.mark.parametrize("log", [np.zeros(50), np.linspace(0, -9, 50)], ids=["flat", "steep"])
def test_select_band_keeps_a_spectrum_without_ends(log):
    assert select_band(spectrum_of(log)) == (0, 0)


@pytest.mark.parametrize("r", [1, 2, 3, 4, 5, 64])
@pytest.mark.parametrize("power", [0.1, 3, 30])
def test_select_band_always_leaves_a_band(r, power):
    noise = np.random.default_rng(r).normal(size=r)
    log = -np.sort(-noise) * power - power * np.linspace(-1, 1, r) ** 3
    k_top, k_bottom = select_band(spectrum_of(np.clip(log, -80, 80)), tolerance=0.01)
    assert min(k_top, k_bottom) >= 0
    assert k_top + k_bottom < r
    assert type(k_top) is type(k_bottom) is int


def test_select_band_removes_directions_without_singular_value():
    spectrum = spectrum_of(np.zeros(30))
    spectrum = spectrum.replace(s=spectrum.s.at[-4:].set([1e-9, 1e-9, 0, 0]))
    assert select_band(spectrum) == (0, 4)


def test_select_band_of_projectors():
    spectrum = decompose(HEADS)
    k_top, k_bottom = select_band(spectrum)
    rank = np.linalg.matrix_rank(np.asarray(isoclip(HEADS, k_top, k_bottom).image.kernel), tol=1e-5)
    assert rank == len(spectrum.s) - k_top - k_bottom


def test_select_band_errors():
    with pytest.raises(JaxalignError, match="tolerance is 0; expected a positive number"):
        select_band(spectrum_of(np.zeros(9)), tolerance=0)
    with pytest.raises(JaxalignError, match="all singular values are zero"):
        select_band(Spectrum(jnp.eye(3), jnp.zeros(3), jnp.eye(3)))
    with pytest.raises(JaxalignError, match="spectrum is traced; call it outside jit"):
        jax.jit(lambda p: select_band(decompose(p)))(HEADS)
