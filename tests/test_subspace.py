import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.subspace import principal_subspace

RNG = np.random.default_rng(0)
TEXTS = (RNG.normal(size=(40, 12)) * np.linspace(3, 0.3, 12) + RNG.normal(size=12)).astype(np.float32)
IMAGES = RNG.normal(size=(7, 12)).astype(np.float32)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_projection_agrees_with_the_formula(rank, center, normalize):
    subspace = principal_subspace(TEXTS, rank, center=center, normalize=normalize)
    assert subspace.basis.shape == (12, rank)
    expected = oracles.pca_projection(IMAGES, TEXTS, rank, center, normalize)
    np.testing.assert_allclose(subspace.project(IMAGES), expected, atol=1e-5)
    mean = IMAGES.mean(0)
    adjusted = oracles.pca_projection(IMAGES, TEXTS, rank, center, normalize, mean)
    np.testing.assert_allclose(subspace.project(IMAGES, mean), adjusted, atol=1e-5)


def test_eigenvalues_and_mean_are_those_of_the_covariance():
    subspace = principal_subspace(TEXTS, 3)
    values = np.linalg.eigvalsh(np.cov(TEXTS.T.astype(np.float64)))[::-1]
    np.testing.assert_allclose(subspace.eigenvalues, values, rtol=1e-5)
    np.testing.assert_allclose(subspace.mean, TEXTS.mean(0), atol=1e-6)


def test_default_rank_is_half_the_width():
    assert principal_subspace(TEXTS).basis.shape == (12, 6)


def test_mean_adjustment_moves_nothing_relative_to_anything():
    subspace = principal_subspace(TEXTS)
    plain, adjusted = subspace.project(IMAGES), subspace.project(IMAGES, IMAGES.mean(0))
    np.testing.assert_allclose(adjusted - adjusted[0], plain - plain[0], atol=1e-5)
    np.testing.assert_allclose(adjusted.mean(0), IMAGES.mean(0), atol=1e-5)


def test_traced_rank_compiles_once_and_agrees():
    traces = []

    @jax.jit
    def project(rank):
        traces.append(1)
        return principal_subspace(TEXTS, rank).project(IMAGES)

    for rank in (1, 4, 12):
        np.testing.assert_allclose(project(rank), principal_subspace(TEXTS, rank).project(IMAGES), atol=1e-5)
    assert len(traces) == 1
    few = TEXTS[:5]  # spans four directions: a fifth would be arbitrary
    traced = jax.jit(lambda rank: principal_subspace(few, rank).project(IMAGES))
    np.testing.assert_allclose(traced(9), principal_subspace(few, 4).project(IMAGES), atol=1e-5)


def test_works_under_jit_and_vmap():
    inside = jax.jit(lambda t, x: principal_subspace(t, 5).project(x))
    expected = principal_subspace(TEXTS, 5).project(IMAGES)
    np.testing.assert_allclose(inside(TEXTS, IMAGES), expected, atol=1e-4)
    stacked = jax.vmap(lambda t: principal_subspace(t, 5))(jnp.stack([TEXTS, 2 * TEXTS]))
    np.testing.assert_allclose(
        jax.vmap(lambda s: s.project(IMAGES))(stacked), jnp.stack([expected, expected]), atol=1e-4
    )


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (
            TEXTS,
            {"rank": 0},
            "rank is 0; 40 text embeddings of width 12 span 12 directions, so expected 1 to 12",
        ),
        (TEXTS, {"rank": 13}, "expected 1 to 12"),
        (
            TEXTS[:5],
            {},
            "rank is 6; 5 text embeddings of width 12 span 4 directions, so expected 1 to 4: pass such",
        ),
        (TEXTS[:5], {"rank": 5}, "span 4"),
        (TEXTS, {"rank": 2.5}, "rank is 2.5; expected one integer"),
        (TEXTS[0], {}, r"text_embeddings has shape \(12,\); expected two axes"),
    ],
)
def test_ranks_and_texts_that_make_no_sense(texts, options, message):
    with pytest.raises(JaxalignError, match=message):
        principal_subspace(texts, **options)


def test_uncentred_texts_span_one_direction_more():
    assert principal_subspace(TEXTS[:5], 5, center=False).basis.shape == (12, 5)


def test_widths_that_do_not_fit():
    subspace = principal_subspace(TEXTS)
    with pytest.raises(JaxalignError, match=r"embeddings has shape \(7, 11\); expected width 12"):
        subspace.project(IMAGES[:, :11])
    with pytest.raises(JaxalignError, match=r"mean has shape \(3,\); expected width 12"):
        subspace.project(IMAGES, np.ones(3))
