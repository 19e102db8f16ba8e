import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.projectors import (
    Projector,
    Projectors,
    decompose,
    directions,
    inter_modal_operator,
    isoclip,
    whiten,
)

# (d_image, d_text, d, image bias, text bias); the last is SigLIP 2's shape: two biased square heads
SHAPES = [
    (24, 16, 12, False, False),
    (10, 16, 12, False, False),
    (24, 9, 12, True, False),
    (12, 12, 12, True, True),
]


def random_projectors(d_image, d_text, d, image_bias, text_bias, seed=0):
    rng = np.random.default_rng(seed)

    def head(d_in, biased):
        kernel = jnp.asarray(rng.normal(size=(d_in, d)) / np.sqrt(d_in), jnp.float32)
        return Projector(kernel, jnp.asarray(rng.normal(size=d), jnp.float32) if biased else None)

    return Projectors(image=head(d_image, image_bias), text=head(d_text, text_bias))


def rows(projector):
    return oracles.homogeneous(projector.kernel, projector.bias)


@pytest.fixture(params=SHAPES, ids=str)
def projectors(request):
    return random_projectors(*request.param)


def test_projector_is_the_affine_map():
    head = Projector(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), jnp.array([10.0, 20.0]))
    np.testing.assert_array_equal(head(jnp.array([1.0, 0.0, 1.0])), [16.0, 28.0])
    assert head(jnp.ones((2, 5, 3))).shape == (2, 5, 2)
    np.testing.assert_array_equal(Projector(head.kernel)(np.ones((1, 3))), [[9.0, 12.0]])
    assert len(jax.tree.leaves(head)) == 2
    assert len(jax.tree.leaves(Projector(head.kernel))) == 1
    with pytest.raises(
        JaxalignError, match=r"shape \(4, 2\) do not fit a projector from width 3; pass pre-proj"
    ):
        head(jnp.ones((4, 2)))


def test_operator_gives_the_image_text_scores(projectors):
    rng = np.random.default_rng(1)
    image = rng.normal(size=(5, projectors.image.kernel.shape[0]))
    text = rng.normal(size=(7, projectors.text.kernel.shape[0]))
    scores = projectors.image(image) @ projectors.text(text).T
    psi = inter_modal_operator(projectors)
    one = lambda x, head: x if head.bias is None else np.hstack([x, np.ones((len(x), 1))])
    through = one(image, projectors.image) @ psi @ one(text, projectors.text).T
    np.testing.assert_allclose(through, scores, atol=1e-4)  # sums of a few hundred float32 products


def test_decompose_is_the_svd_cut_to_the_rank(projectors):
    psi = rows(projectors.image) @ rows(projectors.text).T
    r = min(*psi.shape, projectors.image.kernel.shape[1])
    spectrum = decompose(projectors)
    assert spectrum.u.shape == (psi.shape[0], r)
    assert spectrum.vt.shape == (r, psi.shape[1])
    expected = np.linalg.svd(psi, compute_uv=False)
    np.testing.assert_allclose(spectrum.s, expected[:r], atol=1e-5)
    np.testing.assert_allclose(expected[r:], 0, atol=1e-6)
    np.testing.assert_allclose(spectrum.u.T @ spectrum.u, np.eye(r), atol=1e-5)
    np.testing.assert_allclose(spectrum.vt @ spectrum.vt.T, np.eye(r), atol=1e-5)
    np.testing.assert_allclose((spectrum.u * spectrum.s) @ spectrum.vt, psi, atol=1e-5)


@pytest.mark.parametrize(("k_top", "k_bottom"), [(0, 0), (3, 2), (8, 0)])
def test_isoclip_agrees_with_the_formula(projectors, k_top, k_bottom):
    filtered = isoclip(projectors, k_top, k_bottom)
    image, text = oracles.isoclip(rows(projectors.image), rows(projectors.text), k_top, k_bottom)
    np.testing.assert_allclose(rows(filtered.image), image, atol=1e-5)
    np.testing.assert_allclose(rows(filtered.text), text, atol=1e-5)
    assert jax.tree.structure(filtered) == jax.tree.structure(projectors)
    assert jax.tree.map(jnp.shape, filtered) == jax.tree.map(jnp.shape, projectors)


def test_isoclip_of_the_whole_band_keeps_the_shared_directions():
    projectors = random_projectors(12, 12, 12, False, False)
    whole = isoclip(projectors, 0, 0)
    np.testing.assert_allclose(whole.image.kernel, projectors.image.kernel, atol=1e-5)


def test_published_code_counts_one_more_direction_of_biased_square_heads():
    projectors = random_projectors(12, 12, 12, True, True)
    image, text = rows(projectors.image), rows(projectors.text)
    u, s, _ = np.linalg.svd(image @ text.T, full_matrices=False)
    assert len(s) == len(decompose(projectors).s) + 1
    published = u[:, 2 : len(s) - 3]
    np.testing.assert_allclose(
        rows(isoclip(projectors, 2, 2).image), published @ published.T @ image, atol=1e-5
    )


def test_traced_bands_compile_once_and_agree():
    projectors = random_projectors(12, 12, 12, True, True)
    spectrum = decompose(projectors)
    traces = []

    @jax.jit
    def filtered(k_top, k_bottom):
        traces.append(1)
        return isoclip(projectors, k_top, k_bottom, spectrum)

    for band in [(0, 0), (3, 2), (1, 5)]:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
            filtered(*band),
            isoclip(projectors, *band),
        )
    assert len(traces) == 1
    empty = filtered(9, 9)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(empty))
    tops = jnp.array([0, 3])
    several = jax.vmap(lambda k: isoclip(projectors, k, 1, spectrum))(tops)
    np.testing.assert_allclose(several.text.kernel[1], isoclip(projectors, 3, 1).text.kernel, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES[1:3], ids=str)
@pytest.mark.long
def test_under_jit_and_vmap_everything_runs_in_float32(shape):
    projectors = random_projectors(*shape)
    inside = jax.jit(lambda p: (isoclip(p, 3, 2), whiten(p.image), decompose(p).s, inter_modal_operator(p)))
    filtered, white, s, psi = inside(projectors)
    outside = (isoclip(projectors, 3, 2), whiten(projectors.image), decompose(projectors).s)
    for got, expected in zip((filtered, white, s), outside, strict=True):
        # 1e-4: a float32 decomposition turns directions by rounding over the gap between singular values
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, expected)
    np.testing.assert_allclose(psi, inter_modal_operator(projectors), atol=1e-6)
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), projectors)
    both = jax.vmap(lambda p: isoclip(p, 3, 2))(stacked)
    # a float32 decomposition, as above
    np.testing.assert_allclose(both.image.kernel[1], outside[0].image.kernel, atol=1e-4)


def test_whiten_is_the_polar_factor(projectors):
    for head in (projectors.image, projectors.text):
        white = whiten(head)
        np.testing.assert_allclose(rows(white), oracles.polar(rows(head)), atol=1e-5)
        assert (white.bias is None) == (head.bias is None)


def test_whiten_leaves_directions_without_singular_value_at_zero():
    kernel = np.outer(np.arange(1.0, 5.0), np.ones(3))
    singular = np.linalg.svd(whiten(Projector(jnp.asarray(kernel, jnp.float32))).kernel, compute_uv=False)
    np.testing.assert_allclose(singular, [1, 0, 0], atol=1e-6)


def test_bfloat16_projectors_stay_bfloat16():
    projectors = jax.tree.map(lambda x: x.astype(jnp.bfloat16), random_projectors(12, 12, 8, True, False))
    filtered, white = isoclip(projectors, 1, 1), whiten(projectors.image)
    assert {leaf.dtype for leaf in jax.tree.leaves((filtered, white))} == {jnp.dtype(jnp.bfloat16)}
    assert decompose(projectors).s.dtype == jnp.float32


@pytest.mark.parametrize(
    ("band", "message"),
    [
        (
            (12, 0),
            "k_top 12 [+] k_bottom 0 removes all of the 12 singular directions; expected a sum below 12",
        ),
        ((6, 7), "removes all of the 12"),
        ((-1, 0), "k_top is -1; expected 0 or more"),
        ((0, np.int64(-2)), "k_bottom is -2; expected 0 or more"),
        ((1.5, 0), "k_top is 1.5; expected one integer"),
    ],
)
def test_bands_that_make_no_sense(band, message):
    with pytest.raises(JaxalignError, match=message):
        isoclip(random_projectors(24, 16, 12, False, False), *band)


def test_bands_may_be_numpy_or_jax_integers():
    projectors = random_projectors(24, 16, 12, False, False)
    expected = isoclip(projectors, 2, 3).image.kernel
    np.testing.assert_array_equal(isoclip(projectors, np.int32(2), jnp.int32(3)).image.kernel, expected)


def test_projectors_that_do_not_fit():
    one, other = random_projectors(24, 16, 12, False, False), random_projectors(24, 16, 11, True, False)
    with pytest.raises(
        JaxalignError, match="image projector ends in width 12, the text projector in 11; expected one"
    ):
        decompose(Projectors(one.image, other.text))
    with pytest.raises(
        JaxalignError, match=r"operator of shape \(25, 16\), but these projectors give shape \(24, 16\)"
    ):
        isoclip(one, 1, 1, decompose(other))
    with pytest.raises(JaxalignError, match=r"kernel has shape \(12,\); expected \[d_in, d\]"):
        whiten(Projector(jnp.ones(12)))
    with pytest.raises(JaxalignError, match=r"bias has shape \(3,\); expected \(2,\)"):
        whiten(Projector(jnp.ones((4, 2)), jnp.ones(3)))


@pytest.mark.parametrize("tower", ["image", "text"])
def test_weights_that_are_not_finite_are_counted(tower):
    projectors = random_projectors(24, 16, 12, False, False)
    head = getattr(projectors, tower)
    broken = projectors.replace(**{tower: Projector(head.kernel.at[0, :3].set(jnp.nan))})
    with pytest.raises(JaxalignError, match=f"the {tower} projector has 3 NaN or infinite values of"):
        decompose(broken)
    with pytest.raises(JaxalignError, match="the projector has 3 NaN or infinite values of"):
        whiten(getattr(broken, tower))


def test_heads_of_lower_rank_leave_singular_values_of_zero():
    projectors = random_projectors(24, 16, 12, False, False)
    deficient = projectors.replace(image=Projector(projectors.image.kernel.at[:, 8:].set(0)))
    spectrum = decompose(deficient)
    assert spectrum.s.shape == (12,)
    np.testing.assert_allclose(spectrum.s[8:], 0, atol=1e-6)
    np.testing.assert_allclose(isoclip(deficient, 0, 4).image.kernel, deficient.image.kernel, atol=1e-5)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_directions_give_the_band_embedding(projectors, modality):
    spectrum = decompose(projectors)
    basis, embedded = directions(projectors, spectrum, modality)
    head = getattr(projectors, modality)
    x = np.random.default_rng(2).normal(size=(5, head.kernel.shape[0])).astype(np.float32)
    homogeneous = x if head.bias is None else np.hstack([x, np.ones((5, 1), np.float32)])
    expected = getattr(isoclip(projectors, 2, 1), modality)(x)
    r = len(spectrum.s)
    # a float32 decomposition, as above
    np.testing.assert_allclose((homogeneous @ basis)[:, 2 : r - 1] @ embedded[2 : r - 1], expected, atol=1e-4)
    with pytest.raises(JaxalignError, match="unknown modality 'txt'; did you mean 'text'"):
        directions(projectors, spectrum, "txt")


def test_float64_heads_of_numpy_are_taken_as_the_float32_that_jax_has():
    """Without JAX's warning that it has no float64, which is an error here."""
    rng = np.random.default_rng(0)
    wide = Projectors(
        Projector(rng.normal(size=(6, 4))), Projector(rng.normal(size=(5, 4)), rng.normal(size=4))
    )
    narrow = jax.tree.map(lambda x: x.astype(np.float32), wide)
    for build in (decompose, lambda p: isoclip(p, 1, 1), lambda p: whiten(p.text)):
        for ours, expected in zip(jax.tree.leaves(build(wide)), jax.tree.leaves(build(narrow)), strict=True):
            assert ours.dtype == jnp.float32
            # a float32 decomposition, as above
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
