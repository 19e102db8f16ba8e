"""Image-image similarities from image-text similarities alone: they leave no degree of freedom.

Source: Reevaluating, section 3.1 (with anchors) and appendix A (without).
"""

from __future__ import annotations  # help() shows them as they are written here

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.typing import ArrayLike, DTypeLike

from jaxalign.arguments import read_dtype
from jaxalign.brief import brief_repr
from jaxalign.errors import JaxalignError
from jaxalign.features import as_floats, as_numbers

_ROWS_AT_A_TIME = 4096


class AnchorConditioning(NamedTuple):
    """Singular values of text anchors: how far an error in their similarities can grow in eq. 2."""

    rank: int
    condition_number: float  # largest over smallest singular value; inf where the rank is below the width
    singular_values: np.ndarray  # float64 [min(j, d)], descending


@struct.dataclass
class RecoveredSimilarities:
    """What `recover_intra_similarities` finds, called with positions for their similarities.

    `basis` is the paper's V, orthonormal, `gram` its Q: the similarity of images i and j is
    `basis[i] @ gram @ basis[j]`. Arrays are NumPy's where nothing is traced, in the precision asked for.
    """

    __repr__ = brief_repr

    basis: Any  # [n, d]
    gram: Any  # [d, d], symmetric
    residual: Any  # root mean square of v_i^T Q v_i - 1
    iterations: Any
    converged: Any  # whether the tolerance was reached
    truncated: Any  # singular value of s_inter beyond dim, relative to the last kept; 0 where it has none

    def __call__(self, rows: Any = slice(None), columns: Any = slice(None)) -> Any:
        """Similarities `[rows, columns]`; by default of all images, `[n, n]`."""
        return self.basis[rows] @ self.gram @ self.basis[columns].T

    @property
    def embeddings(self) -> Any:
        """The images, `[n, d]`, of unit length, up to one rotation or reflection of them all."""
        xp = jnp if isinstance(self.gram, jax.Array) else np
        values, vectors = xp.linalg.eigh(self.gram)
        return self.basis @ (vectors * xp.sqrt(xp.maximum(values, 0)))


def anchor_conditioning(text_anchors: ArrayLike) -> AnchorConditioning:
    """Rank and condition number of text anchors `[j, d]`, up to the rounding of their dtype.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> ja.anchor_conditioning(np.diag([4.0, 1.0])).condition_number
      4.0
    """
    anchors = _check_matrix("text_anchors", text_anchors)
    s = np.linalg.svd(np.asarray(anchors, np.float64), compute_uv=False)
    rank = int(np.sum(s > _negligible(anchors, s)))
    condition = float(s[0] / s[-1]) if rank == anchors.shape[1] else float("inf")
    return AnchorConditioning(rank, condition, s)


def recover_image_embeddings(s_inter: ArrayLike, text_anchors: ArrayLike) -> jax.Array:
    """Image embeddings from their similarities to text anchors (eq. 2): `X_I^T = X_T^-1 S_inter`.

    With more anchors than dimensions, the least-squares solution. Outside `jit` it is computed in float64 on
    the host. Errors of the similarities can grow by the anchors' condition number, which
    `anchor_conditioning` gives; a thousand is common for class names.

    Args:
      s_inter: similarities `[j, n]` of j anchors and n images: cosines of unit embeddings, or dot products.
      text_anchors: text embeddings `[j, d]` that give them, j at least d.

    Returns:
      float32 `[n, d]`, of unit length as far as the input is exact.

    Raises:
      JaxalignError: shapes that do not fit, NaN or infinite values, or anchors whose rank is below d: then
        the embeddings are not determined. Traced anchors are not checked.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> texts, images = np.eye(2), np.array([[0.6, 0.8], [1, 0]])
      >>> np.round(ja.recover_image_embeddings(texts @ images.T, texts), 3)
      Array([[0.6, 0.8],
             [1. , 0. ]], dtype=float32)
    """
    similarities = _check_matrix("s_inter", s_inter)
    anchors = _check_matrix("text_anchors", text_anchors)
    (j, d), (rows, _) = anchors.shape, similarities.shape
    if rows != j:
        raise JaxalignError(
            f"s_inter has {rows} rows and there are {j} text anchors; expected [anchors, images]"
        )
    if j < d:
        raise JaxalignError(f"there are {j} text anchors for {d} dimensions; expected {d} or more")
    if isinstance(similarities, Tracer) or isinstance(anchors, Tracer):
        return jnp.linalg.lstsq(anchors, similarities)[0].T
    conditioning = anchor_conditioning(anchors)
    if conditioning.rank < d:
        raise JaxalignError(
            f"the {j} text anchors have rank {conditioning.rank}, below their width {d}, so they do not"
            " determine the images; pass more, or more varied, texts"
        )
    solution = np.linalg.lstsq(np.asarray(anchors, np.float64), np.asarray(similarities, np.float64))[0]
    return jnp.asarray(solution.T, jnp.float32)


def recover_intra_similarities(
    s_inter: ArrayLike,
    dim: int,
    *,
    dtype: DTypeLike | None = None,
    tolerance: float | None = None,
    max_iterations: int = 2000,
) -> RecoveredSimilarities:
    """Image-image similarities from text-image similarities, without any text embedding (appendix A).

    With V an orthonormal basis `[n, d]` of the row space of S_inter, find the symmetric Q with
    `v_i^T Q v_i = 1` for every image; then `S_intra = V Q V^T`. Those are n equations in d (d + 1) / 2
    unknowns, and the paper solves them by a dense matrix of n d^2 numbers: 315 GB at d = 512. Here they are
    solved by conjugate gradients on the normal equations, with the products `A Q = diag(V Q V^T)` and
    `A^T y = V^T diag(y) V` in blocks of images, so memory is that of V. The matrix of `A^T A`'s diagonal
    entries, `(V * V)^T (V * V)`, preconditions them: embeddings that share a direction, as CLIP's do, make
    some entries far larger than others.

    The number of iterations grows as n comes near d (d + 1) / 2 and hardly depends on d otherwise.

    Args:
      s_inter: `[t, n]`, similarities of t texts and n images, t at least `dim`.
      dim: d, the width of the embeddings.
      dtype: float64 or float32, of the computation; by default float64 outside `jit`, whatever the setting
        of `jax_enable_x64`, and that of `s_inter` inside.
      tolerance: of `|A^T r| / |A^T 1|` (preconditioned), r being the residual; by default 1e-12 in float64,
        1e-6 in float32.
      max_iterations: after which the result has `converged` False.

    Raises:
      JaxalignError: fewer images than unknowns, fewer texts than `dim`, similarities of a rank below `dim`,
        NaN or infinite values. A rank above `dim` is not an error, since rounding has it, but see
        `truncated`.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> x = np.random.default_rng(0).normal(size=(40, 3))
      >>> x /= np.linalg.norm(x, axis=1, keepdims=True)
      >>> found = ja.recover_intra_similarities(x[:10] @ x.T, dim=3)
      >>> bool(abs(found() - x @ x.T).max() < 1e-3)
      True
    """
    similarities = _check_matrix("s_inter", s_inter)
    _check_dim(similarities.shape, dim)
    traced = isinstance(similarities, Tracer)
    default = similarities.dtype if traced else np.float64
    kind = read_dtype("dtype", default if dtype is None else dtype, ("float32", "float64"))
    limit = (1e-6 if kind == jnp.float32 else 1e-12) if tolerance is None else tolerance
    if traced:
        return _recover(similarities.astype(kind), dim, limit, max_iterations)
    with jax.enable_x64(kind == jnp.float64):
        found = jax.tree.map(
            np.asarray, _recover(as_floats("s_inter", similarities).astype(kind), dim, limit, max_iterations)
        )
    return found


def _recover(similarities: jax.Array, dim: int, tolerance: Any, max_iterations: Any) -> RecoveredSimilarities:
    basis, last, beyond = _row_space(similarities, dim)
    if not isinstance(last, Tracer) and not last > 0:
        raise JaxalignError(
            f"s_inter has, in {similarities.dtype}, a rank below dim = {dim}: the embeddings are narrower, or"
            " the texts too alike; pass the rank as dim, more texts, or dtype=float64"
        )
    gram, residual, iterations, reached = _solve(basis, tolerance, max_iterations)
    return RecoveredSimilarities(
        basis=basis,
        gram=gram,
        residual=residual,
        iterations=iterations,
        converged=reached <= tolerance,
        truncated=beyond / last,
    )


@partial(jax.jit, static_argnames="dim")
def _row_space(similarities: jax.Array, dim: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Orthonormal `[n, dim]`, and the singular values dim and dim + 1; those that are rounding count as 0."""
    with jax.default_matmul_precision("highest"):
        q, r = jnp.linalg.qr(similarities.T)
        u, s, _ = jnp.linalg.svd(r, full_matrices=False)
        s = jnp.where(s > s[0] * len(r) * jnp.finfo(s.dtype).eps, s, 0)
        return q @ u[:, :dim], s[dim - 1], s[dim] if len(s) > dim else jnp.zeros_like(s[0])


@jax.jit
def _solve(basis: jax.Array, tolerance: Any, max_iterations: Any) -> tuple[Any, Any, Any, Any]:
    """Conjugate gradients for least squares: Q, the residual, iterations, and the gradient reached."""
    n, d = basis.shape
    scale = jnp.sqrt(jnp.asarray(n / d, basis.dtype))  # then rows have a mean square of one
    blocks = _blocks(basis * scale)
    ones = _blocks(jnp.ones((n, 1), basis.dtype))[..., 0]  # 0 for the padding
    squared = jax.lax.map(lambda v: _outer(v * v, jnp.ones(v.shape[0], v.dtype)), blocks).sum(0)
    diagonal = squared * (2 - jnp.eye(d, dtype=basis.dtype))

    def step(state: Any) -> Any:
        x, r, p, gamma, count = state
        q = _quadratic_forms(blocks, p)
        alpha = gamma / jnp.sum(q * q)
        r = r - alpha * q
        s = _weighted_gram(blocks, r)
        z = s / diagonal
        following = jnp.sum(s * z)
        return x + alpha * p, r, z + following / gamma * p, following, count + 1

    s = _weighted_gram(blocks, ones)
    start = jnp.sum(s * s / diagonal)

    def unfinished(state: Any) -> jax.Array:
        return (state[3] > tolerance**2 * start) & (state[4] < max_iterations)

    first = (jnp.zeros_like(s), ones, s / diagonal, start, jnp.int32(0))
    x, _, _, gamma, count = jax.lax.while_loop(unfinished, step, first)
    residual = jnp.sqrt(jnp.sum((_quadratic_forms(blocks, x) - ones) ** 2) / n)
    return x * scale**2, residual, count, jnp.sqrt(gamma / start)


def _blocks(rows: jax.Array) -> jax.Array:
    """`[blocks, rows, d]`, filled up with rows of zeros, which change no sum."""
    size = min(_ROWS_AT_A_TIME, rows.shape[0])
    return jnp.pad(rows, ((0, -rows.shape[0] % size), (0, 0))).reshape(-1, size, rows.shape[1])


def _quadratic_forms(blocks: jax.Array, q: jax.Array) -> jax.Array:
    """A Q: `v_i^T Q v_i` for every row, `[blocks, rows]`."""
    return jax.lax.map(
        lambda v: jnp.sum(jnp.matmul(v, q, precision=jax.lax.Precision.HIGHEST) * v, axis=1), blocks
    )


def _weighted_gram(blocks: jax.Array, y: jax.Array) -> jax.Array:
    """A^T y: `V^T diag(y) V`, `[d, d]`."""
    d = blocks.shape[2]
    add = lambda total, block: (total + _outer(*block), None)
    return jax.lax.scan(add, jnp.zeros((d, d), blocks.dtype), (blocks, y))[0]


def _outer(v: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.matmul(v.T, weights[:, None] * v, precision=jax.lax.Precision.HIGHEST)


def _check_matrix(name: str, x: ArrayLike) -> Any:
    """`x` as a floating matrix, NumPy's unless traced: a float64 one keeps its digits."""
    matrix = as_numbers(name, x)
    matrix = matrix if isinstance(matrix, Tracer) else np.asarray(matrix)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise JaxalignError(f"{name} has shape {matrix.shape}; expected two axes, neither of them empty")
    if isinstance(matrix, Tracer):
        return matrix if matrix.dtype in (jnp.float32, jnp.float64) else matrix.astype(jnp.float32)
    if matrix.dtype not in (np.float32, np.float64):
        matrix = matrix.astype(np.float32 if matrix.dtype.itemsize < 4 else np.float64)
    bad = matrix.size - np.count_nonzero(np.isfinite(matrix))
    if bad:
        raise JaxalignError(f"{name} has {bad} NaN or infinite values of {matrix.size}; expected finite ones")
    return matrix


def _check_dim(shape: tuple[int, int], dim: int) -> None:
    texts, images = shape
    if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim < 1:
        raise JaxalignError(f"dim is {dim!r}; expected the width of the embeddings, a positive integer")
    if texts < dim:
        raise JaxalignError(f"s_inter has {texts} texts; expected at least dim = {dim}")
    unknowns = dim * (dim + 1) // 2
    if images < unknowns:
        raise JaxalignError(
            f"s_inter has {images} images, fewer than the {unknowns} unknowns of dim = {dim}, d (d + 1) / 2;"
            " pass more images, or use recover_image_embeddings with text anchors"
        )


def _negligible(matrix: np.ndarray, s: np.ndarray) -> float:
    return s[0] * max(matrix.shape) * float(np.finfo(matrix.dtype).eps)
