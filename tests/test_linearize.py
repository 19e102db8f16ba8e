import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.linearize import linearize_mlp_head


def random_head(d=6, hidden=10, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return {
        "probe": draw(1, 1, d),
        "LayerNorm_0": {"scale": draw(d), "bias": draw(d)},
        "MlpBlock_0": {
            "Dense_0": {"kernel": draw(d, hidden), "bias": draw(hidden)},
            "Dense_1": {"kernel": draw(hidden, d), "bias": draw(d)},
        },
    }


def column_form(head, slope):
    """W_eff [out, in] and b_eff as the paper writes them, in float64: W1, W2 are transposed Flax kernels."""
    head = jax.tree.map(lambda x: np.asarray(x, np.float64), head)
    norm, first, second = head["LayerNorm_0"], *head["MlpBlock_0"].values()
    w1, w2 = first["kernel"].T, second["kernel"].T
    w1_absorbed = w1 @ np.diag(norm["scale"])
    b1_absorbed = w1 @ norm["bias"] + first["bias"]
    w_eff = np.eye(len(w2)) + slope * w2 @ w1_absorbed
    return w_eff, slope * w2 @ b1_absorbed + second["bias"]


@pytest.mark.parametrize("slope", [0.5, 0.3])
def test_paper_layout_is_the_formula(slope):
    head, x = random_head(), np.random.default_rng(1).normal(size=(4, 6))
    w_eff, b_eff = column_form(head, slope)
    projector = linearize_mlp_head(head, slope)
    np.testing.assert_allclose(projector(x), x @ w_eff.T + b_eff, atol=1e-5)


def test_reference_layout_is_the_transposed_one():
    head, x = random_head(), np.random.default_rng(1).normal(size=(4, 6))
    w_eff, b_eff = column_form(head, 0.5)
    projector = linearize_mlp_head(head, layout="reference")
    np.testing.assert_allclose(projector(x), x @ w_eff + b_eff, atol=1e-5)
    assert np.abs(projector(x) - linearize_mlp_head(head)(x)).max() > 0.1


@pytest.mark.long
def test_it_is_the_first_order_term_of_the_head_without_normalisation():
    head = random_head()
    norm, mlp = head["LayerNorm_0"], head["MlpBlock_0"]

    def exact(x):
        hidden = (x * norm["scale"] + norm["bias"]) @ mlp["Dense_0"]["kernel"] + mlp["Dense_0"]["bias"]
        return x + jax.nn.gelu(hidden, approximate=True) @ mlp["Dense_1"]["kernel"] + mlp["Dense_1"]["bias"]

    # With no bias before gelu the expansion point is gelu's zero, where its slope is exactly one half.
    norm["bias"], mlp["Dense_0"]["bias"] = jnp.zeros(6), jnp.zeros(10)
    projector = linearize_mlp_head(head)
    np.testing.assert_allclose(jax.jacobian(exact)(jnp.zeros(6)).T, projector.kernel, atol=1e-5)
    np.testing.assert_allclose(exact(jnp.zeros(6)), projector.bias, atol=1e-5)


def test_works_under_jit_and_vmap():
    heads = jax.tree.map(lambda a, b: jnp.stack([a, b]), random_head(seed=0), random_head(seed=1))
    both = jax.jit(jax.vmap(linearize_mlp_head))(heads)
    np.testing.assert_allclose(both.kernel[1], linearize_mlp_head(random_head(seed=1)).kernel, atol=1e-5)


def test_missing_parameters_are_all_named():
    head = random_head()
    del head["MlpBlock_0"]["Dense_1"]["bias"], head["LayerNorm_0"]
    with pytest.raises(
        JaxalignError,
        match=r"no LayerNorm_0/scale, LayerNorm_0/bias, MlpBlock_0/Dense_1/bias"
        r" \(its keys: probe, MlpBlock_0\); pass the MAPHead subtree",
    ):
        linearize_mlp_head(head)


def test_shapes_that_do_not_fit_are_all_named():
    head = random_head()
    head["LayerNorm_0"]["scale"] = jnp.ones(5)
    head["MlpBlock_0"]["Dense_1"]["kernel"] = jnp.ones((6, 10))
    with pytest.raises(
        JaxalignError,
        match=r"scale is \(5,\), expected \(6,\); MlpBlock_0/Dense_1/kernel is \(6, 10\), expected \(10, 6\)",
    ):
        linearize_mlp_head(head)
    head["MlpBlock_0"]["Dense_0"]["kernel"] = jnp.ones(6)
    with pytest.raises(JaxalignError, match=r"Dense_0/kernel has shape \(6,\); expected \[d, hidden\]"):
        linearize_mlp_head(head)


def test_unknown_layout():
    with pytest.raises(JaxalignError, match="unknown layout 'refrence'; did you mean 'reference'"):
        linearize_mlp_head(random_head(), layout="refrence")
