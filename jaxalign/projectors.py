"""The projection heads of a two-tower model, the inter-modal operator between them, and what is done to it.

Row vectors, as in Flax: `z = x @ kernel + bias`, so the paper's W is `kernel.T`. A head with a bias is
handled in homogeneous coordinates: its features get a trailing 1 and its kernel one more row, the bias. Every
function below works on those homogeneous kernels, so Psi has one more row (image) or column (text) for each
biased head.

Source: IsoCLIP, sections 3 and 4.
"""

from __future__ import annotations  # help() shows them as they are written here

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jax.dtypes import canonicalize_dtype
from jax.typing import ArrayLike

from jaxalign.arguments import check_kind
from jaxalign.brief import brief_repr
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.features import as_floats

MODALITIES = ("image", "text")


@struct.dataclass
class Projector:
    """An affine map from pre-projection features to embeddings: `kernel [d_in, d]`, `bias [d]` or None."""

    __repr__ = brief_repr

    kernel: jax.Array
    bias: jax.Array | None = None

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Embeddings `[..., d]`, not normalised, of features `[..., d_in]`; raises on another width."""
        x, head = as_floats("features", x), as_head(self)
        if x.shape[-1:] != head.kernel.shape[:1]:
            raise JaxalignError(
                f"features of shape {x.shape} do not fit a projector from width {head.kernel.shape[0]};"
                " pass pre-projection features of that model and tower"
            )
        z = jnp.matmul(x, head.kernel, precision=jax.lax.Precision.HIGHEST)
        return z if head.bias is None else z + head.bias


def as_head(projector: Projector) -> Projector:
    """The same with weights as JAX computes with them, whatever type and order of bytes the numbers have.

    Raises JaxalignError for what is no head `[d_in, d]` of numbers, and for numbers that JAX would lose.
    """
    check_kind("projector", projector, Projector, "one head, model.projectors.image or model.projectors.text")
    kernel, bias = _as_weights("kernel", projector.kernel), projector.bias
    if kernel.ndim != 2:
        raise JaxalignError(f"a projector's kernel has shape {kernel.shape}; expected [d_in, d]")
    if bias is None:
        return Projector(kernel)
    bias = _as_weights("bias", bias)
    if bias.shape != kernel.shape[1:]:
        raise JaxalignError(
            f"a projector's bias has shape {bias.shape}; expected {kernel.shape[1:]}, its width"
        )
    return Projector(kernel, bias)


def _as_weights(name: str, x: ArrayLike) -> jax.Array:
    weights = as_floats(f"a projector's {name}", x)
    return weights if jnp.issubdtype(weights.dtype, jnp.floating) else weights.astype(jnp.float32)


@struct.dataclass
class Projectors:
    """The heads of both towers. For an MLP image head, `image` is its linearisation."""

    __repr__ = brief_repr

    image: Projector
    text: Projector


@struct.dataclass
class Spectrum:
    """Thin SVD of the inter-modal operator: `u [d_image', r]`, `s [r]` descending, `vt [r, d_text']`."""

    __repr__ = brief_repr

    u: jax.Array
    s: jax.Array
    vt: jax.Array


def inter_modal_operator(projectors: Projectors) -> jax.Array:
    """Psi = W_i^T W_t, `[d_image', d_text']` (section 3.1): image-text scores are `f_image @ Psi @ f_text`.

    A biased head adds one row (image) or column (text), so d' is d_in or d_in + 1.
    Raises JaxalignError when the two heads do not end in one width.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> heads = ja.Projectors(ja.Projector(np.eye(4)), ja.Projector(np.diag([8.0, 4.0, 2.0, 1.0])))
      >>> ja.inter_modal_operator(heads).shape
      (4, 4)
    """
    image, text = _homogeneous_pair(projectors)
    return jnp.matmul(image, text.T, precision=jax.lax.Precision.HIGHEST)


def decompose(projectors: Projectors) -> Spectrum:
    """SVD Psi = U S V^T (eq. 8), cut to r = min(d_image', d_text', d), with d the shared embedding width.

    Psi cannot have a higher rank than r; directions beyond it have singular value 0 and are arbitrary, so
    they are not returned. The published code keeps them: with two biased square heads (768 + 1 wide) it
    counts 769 singular values where there are 768, so its `k_bottom` is one more than the same band's here.

    Outside `jit` and `vmap` the decomposition runs in float64 on the host, so that every backend gives the
    same directions; float32 comes back. Inside them it runs in the kernels' precision. Signs of paired
    directions are arbitrary.

    Heads of lower rank than r give singular values of zero, up to rounding, whose directions are arbitrary
    too: `select_band` counts them to the bottom.

    Raises JaxalignError when the two heads do not end in one width or, where concrete, are not finite or have
    singular values far from what float32 holds.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> heads = ja.Projectors(ja.Projector(np.eye(4)), ja.Projector(np.diag([8.0, 4.0, 2.0, 1.0])))
      >>> np.round(ja.decompose(heads).s, 3)
      Array([8., 4., 2., 1.], dtype=float32)
    """
    image, text = _homogeneous_pair(projectors)
    dtype = image.dtype
    (image, text), xp = widest(image=image, text=text)
    with jax.default_matmul_precision("highest"):
        u, s, vt = xp.linalg.svd(image @ text.T, full_matrices=False)
    r = min(len(s), image.shape[1])
    s = as_floats("the inter-modal operator's spectrum", s[:r])
    return Spectrum(*(jnp.asarray(factor, dtype) for factor in (u[:, :r], s, vt[:r])))


def isoclip(
    projectors: Projectors, k_top: ArrayLike, k_bottom: ArrayLike, spectrum: Spectrum | None = None
) -> Projectors:
    """IsoCLIP (eq. 9 and 10): W_i U_b U_b^T and W_t V_b V_b^T for the band `[k_top, r - k_bottom)`.

    Args:
      projectors: both heads.
      k_top, k_bottom: how many leading and trailing singular directions to remove. Integers are checked;
        traced scalars (under `jit` or `vmap`) are not, and one compilation serves every band: an empty band
        then gives projectors of zeros.
      spectrum: `decompose(projectors)`, when it is at hand; computed otherwise.

    Returns:
      Heads of the same shapes and dtypes. A biased head stays biased; its bias is the last row of the
      filtered homogeneous kernel.

    Raises:
      JaxalignError: a negative or fractional count, `k_top + k_bottom >= r`, or a spectrum of other
        projectors.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> heads = ja.Projectors(ja.Projector(np.eye(4)), ja.Projector(np.diag([8.0, 4.0, 2.0, 1.0])))
      >>> better = ja.isoclip(heads, k_top=1, k_bottom=1)
      >>> np.asarray(better.image.kernel).diagonal()
      array([0., 1., 1., 0.], dtype=float32)
    """
    heads = _homogeneous_pair(projectors)
    spectrum = decompose(projectors) if spectrum is None else spectrum
    check_kind("spectrum", spectrum, Spectrum, "decompose(projectors)")
    got, expected = (spectrum.u.shape[0], spectrum.vt.shape[1]), tuple(h.shape[0] for h in heads)
    if got != expected:
        raise JaxalignError(
            f"the spectrum is that of an operator of shape {got}, but these projectors give shape {expected};"
            " pass decompose(projectors) of the same projectors"
        )
    r = spectrum.s.shape[0]
    _check_band(k_top, k_bottom, r)
    image, text = _restrict(*heads, spectrum, k_top, k_bottom)
    return Projectors(
        image=_from_homogeneous(image, projectors.image), text=_from_homogeneous(text, projectors.text)
    )


def directions(projectors: Projectors, spectrum: Spectrum, modality: str) -> tuple[jax.Array, jax.Array]:
    """The singular directions of one tower's features, and what its head makes of each.

    Args:
      projectors: both heads.
      spectrum: `decompose(projectors)`.
      modality: "image" or "text".

    Returns:
      `basis [d_in', r]`, U or V, on homogeneous features; `embedded [r, d]`, its columns through the head, so
      that the embedding in a band is the sum over the band of `(x @ basis)_k embedded_k`.

    Raises:
      JaxalignError: another modality, or heads that do not end in one width.
    """
    if modality not in MODALITIES:
        raise unknown_name("modality", modality, MODALITIES)
    head = _homogeneous_pair(projectors)[MODALITIES.index(modality)]
    basis = spectrum.u if modality == "image" else spectrum.vt.T
    return basis, jnp.matmul(basis.T, head, precision=jax.lax.Precision.HIGHEST)


def whiten(projector: Projector) -> Projector:
    """The head with all singular values set to one: W = U S V^T becomes U V^T ("whitened" in table 4).

    A biased head is whitened as a whole, in homogeneous coordinates: the SVD is that of `[kernel; bias]` and
    the new bias is the last row of the result, so kernel and bias are turned together and the kernel alone is
    in general not orthogonal. Directions whose singular value is zero up to rounding stay zero: U V^T says
    nothing about them.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> head = ja.Projector(np.diag([8.0, 4.0, 2.0]))
      >>> np.round(abs(ja.whiten(head).kernel).diagonal(), 3)
      Array([1., 1., 1.], dtype=float32)
    """
    (head,), xp = widest(head=homogeneous_kernel(projector))
    with jax.default_matmul_precision("highest"):
        u, s, vt = xp.linalg.svd(head, full_matrices=False)
        kept = s > s[0] * max(head.shape) * jnp.finfo(jnp.float32).eps
        whitened = (u * kept.astype(u.dtype)) @ vt
    return _from_homogeneous(whitened, projector)


def homogeneous_kernel(projector: Projector) -> jax.Array:
    """`[kernel; bias]`, at least float32."""
    head = as_head(projector)
    rows = head.kernel if head.bias is None else jnp.concatenate([head.kernel, head.bias[None]])
    return jnp.asarray(rows, _at_least_float32(rows.dtype))


def _at_least_float32(dtype: Any) -> Any:
    is_wide = jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits >= 32
    return canonicalize_dtype(dtype if is_wide else jnp.float32)


def _from_homogeneous(head: ArrayLike, like: Projector) -> Projector:
    """The projector of a homogeneous kernel, in the precision of `like` and biased where that is."""
    head = jnp.asarray(head, as_head(like).kernel.dtype)
    return Projector(head) if like.bias is None else Projector(head[:-1], head[-1])


def _homogeneous_pair(projectors: Projectors) -> tuple[jax.Array, jax.Array]:
    check_kind("projectors", projectors, Projectors, "both heads, model.projectors")
    image, text = homogeneous_kernel(projectors.image), homogeneous_kernel(projectors.text)
    if image.shape[1] != text.shape[1]:
        raise JaxalignError(
            f"the image projector ends in width {image.shape[1]}, the text projector in {text.shape[1]};"
            " expected one shared width (are the kernels [d_in, d], not transposed?)"
        )
    return image, text


def widest(**heads: jax.Array) -> tuple[list[Any], Any]:
    """The heads in the best precision there is, and the module to compute with: NumPy unless traced."""
    if any(isinstance(head, Tracer) for head in heads.values()):
        return list(heads.values()), jnp
    for name, head in heads.items():
        bad = int(np.sum(~np.isfinite(np.asarray(head))))
        if bad:
            which = "the projector" if name == "head" else f"the {name} projector"
            raise JaxalignError(
                f"{which} has {bad} NaN or infinite values of {head.size};"
                " expected finite weights: convert or load the checkpoint again"
            )
    return [np.asarray(head, np.float64) for head in heads.values()], np


@jax.jit
def _restrict(
    image: jax.Array, text: jax.Array, spectrum: Spectrum, k_top: ArrayLike, k_bottom: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """The homogeneous kernels projected onto the band: a mask, not a slice, so that bands can be traced."""
    r = spectrum.s.shape[0]
    place = jnp.arange(r)
    band = ((place >= k_top) & (place < r - k_bottom)).astype(spectrum.u.dtype)
    with jax.default_matmul_precision("highest"):
        image = (spectrum.u * band) @ (spectrum.u.T @ image)
        text = (spectrum.vt.T * band) @ (spectrum.vt @ text)
    return image, text


def _check_band(k_top: ArrayLike, k_bottom: ArrayLike, r: int) -> None:
    total = 0
    for name, k in (("k_top", k_top), ("k_bottom", k_bottom)):
        if isinstance(k, Tracer):
            return
        try:
            count = operator.index(k)  # pyright: ignore[reportArgumentType]
        except TypeError:
            raise JaxalignError(f"{name} is {k!r}; expected one integer, a number of directions") from None
        if count < 0:
            raise JaxalignError(f"{name} is {count}; expected 0 or more directions to remove")
        total += count
    if total >= r:
        raise JaxalignError(
            f"k_top {k_top} + k_bottom {k_bottom} removes all of the {r} singular directions;"
            f" expected a sum below {r}"
        )
