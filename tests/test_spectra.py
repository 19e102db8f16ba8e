import jax
import jax.numpy as jnp
import numpy as np
import oracles
import oracles_geometry
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.projectors import Projector, Projectors, Spectrum, decompose, isoclip, whiten
from jaxalign.spectra import intra_modal_spectrum, isotropic_band, select_band

RNG = np.random.default_rng(0)
HEADS = Projectors(
    image=Projector(jnp.asarray(RNG.normal(size=(10, 8)), jnp.float32), jnp.ones(8)),
    text=Projector(jnp.asarray(RNG.normal(size=(9, 8)), jnp.float32)),
)


def spectrum_of(s):
    s = jnp.asarray(s, jnp.float32)
    return Spectrum(jnp.eye(len(s)), s, jnp.eye(len(s)))


def with_ends(r=512, ends=50, fall=1.3, top=4.0, bottom=10.0):
    """A middle that falls by `fall`, and both ends bending away from it."""
    place = np.arange(r)
    log = -np.log(fall) * place / r
    log += np.log(top) * np.clip((ends - place) / ends, 0, None) ** 2
    return np.exp(log - np.log(bottom) * np.clip((place - r + ends + 1) / ends, 0, None) ** 2)


@pytest.mark.parametrize("head", [HEADS.image, HEADS.text, Projector(HEADS.text.kernel.T)])
def test_intra_modal_spectrum_is_that_of_the_operator(head):
    kernel = oracles.homogeneous(head.kernel, head.bias)
    expected = oracles_geometry.intra_modal_eigenvalues(kernel)
    got = intra_modal_spectrum(head)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected[: len(got)], rtol=1e-5)
    np.testing.assert_allclose(expected[len(got) :], 0, atol=1e-9)
    np.testing.assert_allclose(intra_modal_spectrum(head, normalize=True), got / got.sum(), rtol=1e-5)
    # 1e-5 of the largest: the float32 decomposition
    np.testing.assert_allclose(jax.jit(intra_modal_spectrum)(head), got, atol=1e-5 * got[0])


def test_intra_modal_spectra_of_the_methods():
    filtered = intra_modal_spectrum(isoclip(HEADS, 2, 3).image)
    assert np.sum(np.asarray(filtered) > 1e-5) == 3  # truncated to the band
    np.testing.assert_allclose(intra_modal_spectrum(whiten(HEADS.text)), 1, atol=1e-5)
    zero = Projector(jnp.zeros((4, 3)))
    np.testing.assert_array_equal(intra_modal_spectrum(zero, normalize=True), 0)


def values(each, lengths):
    """Lists of a few lengths, since each length is a program of its own."""
    return st.sampled_from(lengths).flatmap(lambda n: st.lists(each, min_size=n, max_size=n))


@settings(max_examples=30, deadline=None)
@given(values(st.floats(1e-3, 1e3), (1, 2, 3, 8, 25)))
def test_isotropic_band_is_the_largest_rectangle(values):
    s = np.sort(np.array(values))[::-1]
    share, start, stop = isotropic_band(s)
    best, bands = oracles_geometry.widest_rectangle(s)
    assert share == pytest.approx(best)
    assert (start, stop) in bands
    scaled = isotropic_band(7 * s)
    assert scaled[0] == pytest.approx(share)


def test_select_band_finds_ends_that_bend_away():
    k_top, k_bottom = select_band(spectrum_of(with_ends()))
    assert abs(k_top - 50) <= 5
    assert abs(k_bottom - 50) <= 5
    only_top = np.concatenate([with_ends()[:50], np.full(462, with_ends()[50])])
    assert select_band(spectrum_of(only_top))[1] == 0


@pytest.mark.parametrize("r", [1, 2, 3, 5, 64, 512])
@pytest.mark.parametrize("ratio", [1.0, 0.99999, 0.999, 0.99, 0.9, 0.5])
def test_select_band_keeps_a_spectrum_that_falls_steadily(r, ratio):
    s = np.maximum(ratio ** np.arange(r), 1e-30)
    nonzero = int(np.sum(np.float32(s) > len(s) * np.finfo(np.float32).eps))
    assert select_band(spectrum_of(s)) == (0, r - nonzero)


@pytest.mark.parametrize("shape", [(96, 64, 64), (128, 96, 96), (96, 96, 96)], ids=str)
def test_select_band_keeps_what_no_training_has_shaped(shape):
    d_image, d_text, d = shape
    draw = lambda n: Projector(jnp.asarray(RNG.normal(size=(n, d)), jnp.float32))
    assert select_band(decompose(Projectors(draw(d_image), draw(d_text)))) == (0, 0)


@settings(max_examples=50, deadline=None)
@given(values(st.floats(1e-30, 1e3), (1, 2, 3, 12, 40)), st.sampled_from([None, 0, 0.9]))
def test_select_band_always_leaves_a_band(values, min_share):
    s = np.sort(np.array(values))[::-1]
    k_top, k_bottom = select_band(spectrum_of(s), min_share=min_share)
    assert min(k_top, k_bottom) >= 0
    assert k_top + k_bottom < len(s)
    assert type(k_top) is type(k_bottom) is int


def test_select_band_removes_directions_without_singular_value():
    s = np.ones(30)
    s[-4:] = 1e-9, 1e-9, 0, 0
    assert select_band(spectrum_of(s)) == (0, 4)
    deficient = Projectors(Projector(HEADS.image.kernel.at[:, 5:].set(0)), HEADS.text)
    assert select_band(decompose(deficient)) == (0, 3)


def test_min_share_moves_the_decision():
    s = with_ends(fall=4)  # its middle fills less than steady decay would
    assert select_band(spectrum_of(s)) == (0, 0)
    k_top, k_bottom = select_band(spectrum_of(s), min_share=0)
    assert k_top > 0
    assert k_bottom > 0


@pytest.mark.parametrize("name", ["emoji-clip", "emoji-siglip"])
def test_embedded_models_have_no_flat_middle(name):
    # What helps them is to remove many directions from the bottom, which a spectrum alone does not tell.
    assert select_band(decompose(ja.load(name).projectors)) == (0, 0)


def test_errors():
    with pytest.raises(JaxalignError, match=r"min_share is 1.5; expected a share in \[0, 1\)"):
        select_band(spectrum_of(np.ones(9)), min_share=1.5)
    with pytest.raises(JaxalignError, match="all singular values are zero"):
        select_band(spectrum_of(np.zeros(3)))
    with pytest.raises(JaxalignError, match="2 of 3 singular values are NaN"):
        select_band(spectrum_of([1, np.nan, np.inf]))
    with pytest.raises(JaxalignError, match="spectrum is traced; call it outside jit"):
        jax.jit(lambda p: select_band(decompose(p)))(HEADS)
    with pytest.raises(JaxalignError, match="the projector has 1 NaN or infinite values of 72"):
        intra_modal_spectrum(Projector(HEADS.text.kernel.at[0, 0].set(jnp.nan)))
