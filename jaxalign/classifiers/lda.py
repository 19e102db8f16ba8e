"""Linear discriminant analysis, as few-shot CLIP uses it: one regularised covariance for all classes."""

from __future__ import annotations  # help() shows them as they are written here

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve
from jax.typing import ArrayLike

from jaxalign.classifiers.base import (
    LinearClassifier,
    check_examples,
    check_scalar,
    check_text,
    class_means,
)
from jaxalign.classifiers.method import PUBLISHED, FewShotMethod, Grid
from jaxalign.features import normalize as unit_rows


def lda_classifier(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int | None = None,
    text_weights: ArrayLike | None = None,
    alpha: ArrayLike = 0.5,
    normalize: bool = True,
) -> LinearClassifier:
    """Gaussians of equal priors and one covariance (Reevaluating, section 4.3; "GDA" in the code it is from).

    With class means mu, n examples, and C the covariance of the examples about their class means,
    `P = d pinv((n - 1) C + trace(C) I)`, logits `x P mu^T + log(1 / c) - diag(mu P mu^T) / 2`. With text
    weights: `alpha * LDA + (1 - alpha) * zero-shot`, the latter a cosine.

    At one example a class C is 0, so is P, and all logits are equal: accuracy is chance, as the paper prints
    it, and text weights alone decide where they are given.

    The matrix is positive definite wherever the trace is positive, so the pseudo-inverse is its inverse and
    P mu^T a Cholesky solution: of the d x d matrix, or, with fewer examples than dimensions, of the n x n
    Gram matrix (Woodbury). No d x d inverse is ever formed.

    Arguments and errors as in `prototype_classifier`; with `normalize`, the features to classify are
    normalised too.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> features = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]])
      >>> ja.lda_classifier(features, [0, 0, 1, 1]).predict(np.array([[0.2, 0.8]]))
      Array([1], dtype=int32)
    """
    x, y, classes = check_examples(features, labels, num_classes, keep_lengths=not normalize)
    x = unit_rows(x) if normalize else x
    weights, bias = _discriminant(x, y, class_means(x, y, classes))
    if text_weights is None:
        return LinearClassifier(weights, bias, normalize=normalize)
    return LinearClassifier(
        weights,
        bias,
        text_kernel=check_text(text_weights, classes, x.shape[1]).T,
        alpha=check_scalar("alpha", alpha, 0, 1),
        normalize=normalize,
    )


# main_few_shots.py of https://github.com/mrflogs/ICLR24 adds a x LDA to 100 x zero-shot.
_WEIGHTS = np.array([0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0])
LDA = FewShotMethod(
    "lda",
    lda_classifier,
    Grid({"alpha": np.linspace(0, 1, 21)}),
    keeps_lengths=True,
    published={"": Grid({"alpha": _WEIGHTS / (100 + _WEIGHTS)}, name=PUBLISHED)},
)


@jax.jit
def _discriminant(features: jax.Array, labels: jax.Array, means: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Weights `[d, c]` and bias `[c]`."""
    n, d = features.shape
    centred = features - means[labels]
    trace = jnp.sum(centred**2) / max(n - 1, 1)
    # Without a spread about the means, up to their rounding, C is 0 and pinv(0) = 0.
    spread = trace > 1e-12 * jnp.mean(jnp.sum(features**2, axis=1))
    safe = jnp.where(spread, trace, 1)
    solve = _solve_by_gram if n < d else _solve_by_scatter
    weights = solve(centred / jnp.sqrt(safe), means.T) * jnp.where(spread, d / safe, 0)
    return weights, -jnp.log(len(means)) - jnp.sum(means * weights.T, axis=1) / 2


def _solve_by_scatter(z: jax.Array, right: jax.Array) -> jax.Array:
    """(Z^T Z + I)^-1 right, `[d, c]`, for Z `[n, d]`."""
    with jax.default_matmul_precision("highest"):
        return _solve(z.T @ z + jnp.eye(z.shape[1], dtype=z.dtype), right)


def _solve_by_gram(z: jax.Array, right: jax.Array) -> jax.Array:
    """The same by Woodbury's identity: right - Z^T (Z Z^T + I)^-1 Z right."""
    with jax.default_matmul_precision("highest"):
        return right - z.T @ _solve(z @ z.T + jnp.eye(z.shape[0], dtype=z.dtype), z @ right)


def _solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """matrix^-1 right, for a symmetric positive definite one.

    On a CPU one factor after the other, also under `vmap`: JAX runs batched LAPACK calls on the threads that
    wait for them, and several of them in one program can wait for each other for ever.
    """
    fixed = jax.lax.stop_gradient(matrix)  # the derivative is the linear system's, not the factorisation's
    solve = partial(jax.lax.platform_dependent, fixed, cpu=_solve_in_turn, default=_solve_by_cholesky)
    return jax.lax.custom_linear_solve(lambda x: matrix @ x, right, lambda _, b: solve(b), symmetric=True)


def _solve_by_cholesky(matrix: jax.Array, right: jax.Array) -> jax.Array:
    return cho_solve((jnp.linalg.cholesky(matrix), True), right)


_solve_in_turn = jax.custom_batching.sequential_vmap(_solve_by_cholesky)
