import jax
import numpy as np
import oracles
import pytest

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.recovery import anchor_conditioning, recover_image_embeddings, recover_intra_similarities

RNG = np.random.default_rng(0)


def unit(n, d, shared=0.0, decay=0.0):
    """Unit embeddings, with a shared direction and a falling spectrum as CLIP's have."""
    return oracles.normalized((RNG.normal(size=(n, d)) + shared) * (1.0 + np.arange(d)) ** -decay)


def dense_intra(s_inter, dim):
    """Appendix A as written: the n x d^2 matrix and its least-squares solution."""
    v = np.linalg.svd(s_inter)[2][:dim].T
    system = np.einsum("ij,ik->ijk", v, v).reshape(len(v), -1)
    q = np.linalg.lstsq(system, np.ones(len(v)))[0].reshape(dim, dim)
    return v @ q @ v.T


def test_embeddings_from_anchors_by_hand():
    # texts along the axes: an image's similarities are its coordinates
    np.testing.assert_allclose(
        recover_image_embeddings([[0.6, 1], [0.8, 0]], np.eye(2)), [[0.6, 0.8], [1, 0]]
    )


@pytest.mark.parametrize("anchors", [16, 40])
def test_embeddings_from_anchors(anchors):
    images, texts = unit(30, 16, shared=1), unit(anchors, 16, shared=1)
    got = recover_image_embeddings(texts @ images.T, texts)
    assert isinstance(got, jax.Array)
    np.testing.assert_allclose(got, images, atol=1e-6)
    s_inter = np.float32(texts @ images.T)
    # what float32 rounds off the similarities grows by the condition number
    allowed = 1e-6 * anchor_conditioning(texts).condition_number
    np.testing.assert_allclose(recover_image_embeddings(s_inter, texts), images, atol=allowed)
    under_jit = jax.jit(recover_image_embeddings)(s_inter, np.float32(texts))
    np.testing.assert_allclose(under_jit, images, atol=allowed)
    both = jax.vmap(recover_image_embeddings, in_axes=(0, None))(np.stack([s_inter, s_inter]), texts)
    np.testing.assert_allclose(both[1], images, atol=allowed)


def test_conditioning_of_anchors():
    texts = np.array([[2.0, 0], [0, 0.5], [0, 0]])
    rank, condition, values = anchor_conditioning(texts)
    assert (rank, condition) == (2, 4)
    np.testing.assert_allclose(values, [2, 0.5])
    repeated = np.tile(unit(1, 3), (5, 1)).astype(np.float32)
    assert anchor_conditioning(repeated)[:2] == (1, float("inf"))


@pytest.mark.parametrize(("images", "dim"), [(6, 3), (42, 3), (60, 8)])
@pytest.mark.long
def test_intra_similarities_are_those_of_the_dense_system(images, dim):
    x, texts = unit(images, dim), unit(50, dim)
    found = recover_intra_similarities(texts @ x.T, dim)
    assert found.converged
    assert found.basis.dtype == found.gram.dtype == np.float64
    assert found.residual < 1e-10
    np.testing.assert_allclose(found(), x @ x.T, atol=1e-8)
    np.testing.assert_allclose(found(), dense_intra(texts @ x.T, dim), atol=1e-8)


@pytest.mark.parametrize(("shared", "decay"), [(0, 0), (1, 0), (1, 1)])
@pytest.mark.parametrize("images", [1300, 5000])
@pytest.mark.long
def test_intra_similarities_of_embeddings_like_clips(shared, decay, images):
    x, texts = unit(images, 48, shared, decay), unit(60, 48, shared, decay)
    found = recover_intra_similarities(texts @ x.T, 48)
    assert found.converged
    assert found.truncated == 0
    np.testing.assert_allclose(found(slice(3), slice(None)), x[:3] @ x.T, atol=1e-7)  # by condition
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-7)
    np.testing.assert_allclose(found.embeddings[:3] @ found.embeddings.T, x[:3] @ x.T, atol=1e-7)


@pytest.mark.long
def test_float32_where_asked_and_in_float64_from_float32_similarities():
    x, texts = unit(2000, 20), unit(30, 20)
    s_inter = np.float32(texts @ x.T)
    single = recover_intra_similarities(s_inter, 20, dtype=np.float32)
    assert single.basis.dtype == np.float32
    np.testing.assert_allclose(single(), x @ x.T, atol=1e-4)  # 1e-6 by the condition of the system
    double = recover_intra_similarities(s_inter, 20)
    assert double.basis.dtype == np.float64
    np.testing.assert_allclose(double(), x @ x.T, atol=1e-5)
    assert 0 < double.truncated < 1e-5  # the rounding of the similarities
    assert jax.numpy.zeros(1).dtype == np.float32  # the setting outside is untouched


@pytest.mark.long
def test_under_jit_and_vmap():
    x, texts = unit(60, 6), unit(9, 6)
    s_inter = np.float32(texts @ x.T)
    traces = []

    def recovered(s):
        traces.append(1)
        return recover_intra_similarities(s, 6)()

    with jax.numpy_dtype_promotion("strict"):
        compiled = jax.jit(recovered)
        for s in (s_inter, s_inter[:, ::-1]):
            got = compiled(s)
        assert len(traces) == 1
        np.testing.assert_allclose(got, (x @ x.T)[::-1, ::-1], atol=1e-4)  # float32, as above
        both = jax.vmap(recovered)(np.stack([s_inter, s_inter]))
    np.testing.assert_allclose(both[1], x @ x.T, atol=1e-4)  # float32, as above


def test_recovered_images_rank_as_the_images_do():
    labels = np.arange(200) % 10
    x = oracles.normalized(RNG.normal(size=(10, 12))[labels] + RNG.normal(size=(200, 12)))
    found = recover_intra_similarities(unit(20, 12) @ x.T, 12)
    expected = ja.retrieval_metrics(x, x, labels, labels, exclude_self=True)
    got = ja.retrieval_metrics(found.embeddings, found.embeddings, labels, labels, exclude_self=True)
    assert got == pytest.approx(expected, abs=1e-4)  # percent, of which float32 has seven digits


def test_stopping_early_is_said():
    found = recover_intra_similarities(unit(20, 12) @ unit(200, 12).T, 12, max_iterations=3)
    assert not found.converged
    assert found.iterations == 3
    assert found.residual > 1e-4


def test_error_messages():
    s_inter, texts = unit(5, 3) @ unit(8, 3).T, unit(5, 3)
    for arguments, message in (
        ((s_inter[0], texts), r"s_inter has shape \(8,\); expected two axes"),
        ((s_inter * np.nan, texts), "s_inter has 40 NaN or infinite values of 40"),
        ((s_inter, texts[:4]), "s_inter has 5 rows and there are 4 text anchors"),
        ((s_inter[:2], texts[:2]), "there are 2 text anchors for 3 dimensions; expected 3 or more"),
        ((s_inter, np.tile(texts[:1], (5, 1))), "the 5 text anchors have rank 1, below their width 3"),
    ):
        with pytest.raises(JaxalignError, match=message):
            recover_image_embeddings(*arguments)
    for arguments, message in (
        ((s_inter, 0), "dim is 0; expected the width of the embeddings"),
        ((s_inter, 6), "s_inter has 5 texts; expected at least dim = 6"),
        ((s_inter[:, :5], 3), r"s_inter has 5 images, fewer than the 6 unknowns of dim = 3"),
        ((unit(5, 2) @ unit(9, 2).T, 3), "s_inter has, in float64, a rank below dim = 3"),
        ((np.full((5, 8), np.inf), 3), "s_inter has 40 NaN or infinite values of 40"),
    ):
        with pytest.raises(JaxalignError, match=message):
            recover_intra_similarities(*arguments)
    with pytest.raises(JaxalignError, match="dtype is bfloat16; expected float32 or float64"):
        recover_intra_similarities(s_inter, 3, dtype="bfloat16")
