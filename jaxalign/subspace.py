"""PCA<-: image embeddings restricted to the directions in which class-name texts vary.

Source: Reevaluating the Intra-Modal Misalignment Hypothesis in CLIP, section 3.3 and appendix B.
"""

from __future__ import annotations  # help() shows them as they are written here

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.brief import brief_repr
from jaxalign.errors import JaxalignError
from jaxalign.features import as_features, as_floats
from jaxalign.projectors import Projector, as_head


@struct.dataclass
class Subspace:
    """Principal directions of text embeddings.

    Attributes:
      basis: `[d, rank]`, orthonormal columns, largest eigenvalue first: the kept columns Q L of the paper's
        Q. Where the rank was traced, `[d, min(n, d)]` with columns of zeros beyond it, so that `project` is
        the same product.
      eigenvalues: `[min(n, d)]`, descending: all of them, kept or not; the others are zero.
      mean: `[d]`, of the text embeddings that were decomposed (after normalisation, where asked for).
    """

    __repr__ = brief_repr

    basis: jax.Array
    eigenvalues: jax.Array
    mean: jax.Array

    def project(self, x: ArrayLike, mean: ArrayLike | None = None) -> jax.Array:
        """Q L Q^T x (eq. 11) of embeddings `[..., d]`; not centred, not normalised.

        With `mean` `[d]`, that of the image embeddings, the part of it which the projection cancels is added
        back: `+ Q (1 - L) Q^T mean` (eq. 12). Distances stay the same, cosines return to their former range.
        """
        d = self.basis.shape[0]
        x = _check_width("embeddings", x, d)
        kept = self._restrict(x)
        if mean is None:
            return kept
        mean = _check_width("mean", mean, d)
        return kept + mean - self._restrict(mean)  # Q (1 - L) Q^T is 1 - Q L Q^T

    def project_head(self, projector: Projector, mean: ArrayLike | None = None) -> Projector:
        """A head whose embeddings are already projected: `project(projector(x), mean)` as one affine map.

        So methods combine: `subspace.project_head(isoclip(projectors, 200, 50).image)` is IsoCLIP and then
        PCA<-.

        Args:
          projector: ends in width d; with or without bias.
          mean: `[d]`, as in `project`; the result then has a bias.

        Returns:
          Projector of the same kernel shape. It can be composed again, whitened or decomposed.

        Raises:
          JaxalignError: another width.
        """
        head = as_head(projector)
        d = self.basis.shape[0]
        kernel = self._restrict(_check_width("the projector's kernel", head.kernel, d))
        if head.bias is None and mean is None:
            return Projector(kernel)
        bias = jnp.zeros(d, kernel.dtype) if head.bias is None else head.bias
        return Projector(kernel, self.project(bias, mean))

    def _restrict(self, x: jax.Array) -> jax.Array:
        coordinates = jnp.matmul(x, self.basis, precision=jax.lax.Precision.HIGHEST)
        return jnp.matmul(coordinates, self.basis.T, precision=jax.lax.Precision.HIGHEST)


def principal_subspace(
    text_embeddings: ArrayLike, rank: ArrayLike | None = None, *, center: bool = True, normalize: bool = False
) -> Subspace:
    """The `rank` leading eigenvectors of the covariance of text embeddings (section 3.3).

    Four variants are in use, differing in these options and in the texts:

    - the paper: `class_names("imagenet", template="a photo of {}")`, centred: the default options here;
    - the published retrieval code: bare names, `class_names("imagenet-torchhub")`, not normalised, centred:
      the same options, other texts;
    - its README: the same bare names, `center=False, normalize=True`;
    - the published few-shot code, whatever the data set: `class_names("imagenet")` in each of
      `imagenet_templates("subset")`, of which `ensemble_text_weights` makes one embedding for each name.

    Args:
      text_embeddings: `[n, d]`.
      rank: how many directions to keep; by default `d // 2`, or all that the texts span where those are
        fewer (37 class names span 36). A traced scalar works and is not checked.
      center: whether to subtract the mean first. The eigenvalues are those of the covariance (over n - 1)
        with it, of the second moment (over n) without.
      normalize: whether to scale every embedding to length one first.

    Raises:
      JaxalignError: embeddings that are not a finite `[n, d]`, or a rank that is not an integer from 1 to the
        number of independent directions of the texts: at most min(n - 1, d) centred, min(n, d) otherwise, and
        fewer where texts repeat each other. Further directions would be arbitrary.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> texts = np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
      >>> subspace = ja.principal_subspace(texts, rank=2)
      >>> np.asarray(subspace.project([[3.0, 4.0, 5.0]])).round(1).tolist()
      [[3.0, 4.0, 0.0]]
    """
    texts = as_features("text_embeddings", text_embeddings, keep_lengths=not normalize)
    n, d = texts.shape
    basis, eigenvalues, mean, spanned = _decompose(texts, center, normalize)
    count = _check_rank(max(min(d // 2, spanned), 1) if rank is None else rank, spanned, n, d)
    if isinstance(count, int):
        basis = basis[:, :count]
    else:
        kept = jnp.arange(len(eigenvalues)) < jnp.minimum(count, spanned)
        basis = jnp.where(kept, basis, 0)
    return Subspace(*(jnp.asarray(a, jnp.float32) for a in (basis, eigenvalues, mean)))


def spanned_subspace(text_embeddings: ArrayLike, *, center: bool = True, normalize: bool = False) -> Subspace:
    """`principal_subspace` of all the independent directions of the texts, however many there are.

    Raises JaxalignError when there is none, and for traced texts.
    """
    texts = as_features("text_embeddings", text_embeddings, keep_lengths=not normalize)
    if isinstance(texts, Tracer):
        raise JaxalignError("text_embeddings are traced, but their rank is a shape; call this outside jit")
    basis, eigenvalues, mean, spanned = _decompose(texts, center, normalize)
    _check_rank(1, spanned, *texts.shape)
    return Subspace(*(jnp.asarray(a, jnp.float32) for a in (basis[:, :spanned], eigenvalues, mean)))


def _decompose(texts: jax.Array, center: bool, normalize: bool) -> tuple[Any, Any, Any, int]:
    """All directions as columns, their eigenvalues, the mean, and how many directions are independent."""
    n, d = texts.shape
    xp: Any = jnp
    x: Any = texts
    if not isinstance(texts, Tracer):  # the same directions on every backend
        x, xp = np.asarray(texts, np.float64), np
    if normalize:
        length = xp.linalg.norm(x, axis=1, keepdims=True)
        x = x / xp.where(length == 0, 1, length)
    mean = x.mean(0)
    # Singular vectors of the rows are the eigenvectors, without the squared condition number of a covariance.
    _, s, vt = xp.linalg.svd(x - mean if center else x, full_matrices=False)
    eigenvalues = s**2 / (n - center if n > 1 else 1)
    spanned = min(n - center, d)
    if xp is np:  # the embeddings are float32, so what is left of equal ones is their rounding
        scale = np.linalg.norm(x)
        spanned = min(spanned, int(np.sum(s > scale * np.finfo(np.float32).eps)))
    return vt.T, eigenvalues, mean, spanned


def _check_rank(rank: Any, spanned: int, n: int, d: int) -> Any:
    if isinstance(rank, Tracer):
        return rank
    try:
        count = operator.index(rank)
    except TypeError:
        raise JaxalignError(f"rank is {rank!r}; expected one integer, a number of directions") from None
    if spanned == 0:
        raise JaxalignError(f"the {n} text embeddings are all alike; expected texts that differ")
    if not 1 <= count <= spanned:
        raise JaxalignError(
            f"rank is {count}; {n} text embeddings of width {d} span {spanned} directions,"
            f" so expected 1 to {spanned}: pass such a rank, or more texts"
        )
    return count


def _check_width(name: str, x: ArrayLike, d: int) -> jax.Array:
    x = as_floats(name, x)
    if x.shape[-1:] != (d,):
        raise JaxalignError(f"{name} has shape {x.shape}; expected width {d}, that of the text embeddings")
    return x
