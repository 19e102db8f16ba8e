import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.projectors import Projector, Projectors, isoclip
from jaxalign.prompts import class_names, imagenet_templates
from jaxalign.subspace import principal_subspace, spanned_subspace

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


def test_default_rank_is_half_the_width_or_what_the_texts_span():
    assert principal_subspace(TEXTS).basis.shape == (12, 6)
    assert principal_subspace(TEXTS[:5]).basis.shape == (12, 4)
    assert principal_subspace(TEXTS[:5], center=False).basis.shape == (12, 5)


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
    # eigenvectors in float32, outside in float64
    np.testing.assert_allclose(inside(TEXTS, IMAGES), expected, atol=1e-4)
    stacked = jax.vmap(lambda t: principal_subspace(t, 5))(jnp.stack([TEXTS, 2 * TEXTS]))
    # eigenvectors in float32, outside in float64
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
            {"rank": 6},
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


@pytest.mark.parametrize("adjusted", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_isoclip_and_then_pca_is_one_head(biased, adjusted):
    kernels = RNG.normal(size=(20, 12)), RNG.normal(size=(16, 12))
    bias = RNG.normal(size=12) if biased else None
    as_jax = lambda a: None if a is None else jnp.asarray(a, jnp.float32)
    heads = Projectors(Projector(as_jax(kernels[0]), as_jax(bias)), Projector(as_jax(kernels[1])))
    subspace, mean = principal_subspace(TEXTS, 5), IMAGES.mean(0) if adjusted else None
    composed = subspace.project_head(isoclip(heads, 2, 3).image, mean)

    features = RNG.normal(size=(9, 20))
    filtered, _ = oracles.isoclip(oracles.homogeneous(kernels[0], bias), kernels[1], 2, 3)
    embedded = (np.hstack([features, np.ones((9, 1))]) if biased else features) @ filtered
    expected = oracles.pca_projection(embedded, TEXTS, 5, mean=mean)
    np.testing.assert_allclose(composed(features), expected, atol=1e-5)
    assert (composed.bias is None) == (not biased and not adjusted)
    inside = jax.jit(lambda h: subspace.project_head(h, mean)(features.astype(np.float32)))
    np.testing.assert_allclose(inside(isoclip(heads, 2, 3).image), expected, atol=1e-5)
    with pytest.raises(JaxalignError, match=r"kernel has shape \(20, 11\); expected width 12"):
        subspace.project_head(Projector(jnp.ones((20, 11))))


def test_pca_twice_is_pca_once():
    subspace = principal_subspace(TEXTS, 5)
    head = subspace.project_head(subspace.project_head(Projector(jnp.eye(12))))
    np.testing.assert_allclose(head.kernel, subspace.project(np.eye(12, dtype=np.float32)), atol=1e-6)


def test_texts_that_repeat_each_other_span_less():
    repeated = np.repeat(TEXTS[:4], 10, axis=0)
    assert spanned_subspace(repeated).basis.shape == (12, 3)
    assert spanned_subspace(repeated, center=False).basis.shape == (12, 4)
    assert spanned_subspace(TEXTS).basis.shape == (12, 12)
    with pytest.raises(JaxalignError, match="rank is 6; 40 text embeddings of width 12 span 3 directions"):
        principal_subspace(repeated, 6)
    with pytest.raises(JaxalignError, match="the 40 text embeddings are all alike"):
        principal_subspace(np.repeat(TEXTS[:1], 40, axis=0), 1)
    with pytest.raises(JaxalignError, match="traced, but their rank is a shape"):
        jax.jit(spanned_subspace)(TEXTS)


def test_texts_that_are_not_finite_are_counted():
    broken = TEXTS.copy()
    broken[[2, 7], 0] = np.inf
    with pytest.raises(JaxalignError, match="text_embeddings has NaN or infinite values in 2 of 40 rows"):
        principal_subspace(broken)


def test_imagenet_names_and_templates():
    names = class_names("imagenet")
    assert len(names) == 1000
    assert len(set(names)) == 998
    assert (names[0], names[388], names[999]) == ("tench", "giant panda", "toilet paper")
    assert class_names(template="a photo of {}")[1] == "a photo of goldfish"
    assert len(imagenet_templates()) == 80
    assert all(template.count("{}") == 1 for template in imagenet_templates())
    assert len(imagenet_templates("subset")) == 7
    assert set(imagenet_templates("subset")) < set(imagenet_templates())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: class_names("imagenet1k"), "unknown class names 'imagenet1k'; did you mean 'imagenet'"),
        (
            lambda: class_names(template="a photo"),
            "template is 'a photo'; expected exactly one {}",
        ),
        (lambda: imagenet_templates("all"), "unknown templates 'all'"),
    ],
)
def test_names_and_templates_that_do_not_exist(call, message):
    with pytest.raises(JaxalignError, match=message):
        call()
