"""Spectra of the inter-modal and the intra-modal operator, and the choice of a band from the former alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxalign.arguments import check_kind
from jaxalign.errors import JaxalignError
from jaxalign.features import as_floats
from jaxalign.projectors import Projector, Spectrum, homogeneous_kernel, widest


def intra_modal_spectrum(projector: Projector, *, normalize: bool = False) -> jax.Array:
    """Eigenvalues of the intra-modal operator W_i^T W_i or W_t^T W_t (eq. 7), descending.

    They weigh the directions in an intra-modal score (eq. S11). IsoCLIP's projectors give its truncated
    spectrum: figure S6 shows both, as they are (top row) and scaled to sum to one (bottom row).

    Args:
      projector: one head, as it is or from `isoclip` or `whiten`; in homogeneous coordinates where biased.
      normalize: whether to scale the eigenvalues to sum to one.

    Returns:
      float32 `[min(d_in', d)]`; the operator's other eigenvalues are zero.

    Raises:
      JaxalignError: a kernel that is not `[d_in, d]` or, where concrete, not finite, or whose eigenvalues are
        far from what float32 holds.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> np.round(ja.intra_modal_spectrum(ja.Projector(np.diag([2.0, 1.0]))), 3)
      Array([4., 1.], dtype=float32)
    """
    (kernel,), xp = widest(head=homogeneous_kernel(projector))
    with jax.default_matmul_precision("highest"):
        s = xp.linalg.svd(kernel, compute_uv=False)
    eigenvalues = jnp.asarray(as_floats("the intra-modal operator's spectrum", s**2), jnp.float32)
    if not normalize:
        return eigenvalues
    total = eigenvalues.sum()
    return eigenvalues / jnp.where(total == 0, 1, total)


def select_band(spectrum: Spectrum, *, min_share: float | None = None) -> tuple[int, int]:
    """A band `(k_top, k_bottom)` from the singular values alone, without labels or features.

    IsoCLIP keeps "the relatively flat central region" of the spectrum, an "approximately isotropic subspace"
    (section 3.2), and finds its ends by retrieval on a labelled set; it leaves a choice without one open.

    A band is isotropic as far as its weakest direction keeps up with its strongest: in a plot of the singular
    values, s_min / s_max is how much of the band's height a rectangle under the curve fills. The rule takes
    the band with the largest such rectangle in units of the spectrum's width, n s_min / (r s_max), its
    *share*: 1 for a flat spectrum, whatever its scale. A wider band costs flatness, a flatter one width, and
    no threshold says which slope is still flat.

    Every spectrum has a largest rectangle, also one without a flat part. The model of that is a spectrum that
    falls by the same factor from each direction to the next: nothing sets its middle apart. Where the best
    band of such a spectrum is not all of it, its share is at most (1 - 1/r)^(r - 1), about 1/e, however steep
    it is. So a band is cut only if its share is above that, and else the spectrum is kept whole. Singular
    values of zero, up to rounding, always go with the bottom.

    The rule knows nothing of the modality, whereas the paper's bands for text remove fewer top directions
    than those for images, and nothing of the task: prefer `sweep_bands` where labels are at hand.

    Args:
      spectrum: `decompose(projectors)`, concrete.
      min_share: in [0, 1), the share above which a band is cut; by default that of steady decay. 0 always
        cuts.

    Returns:
      Python integers, so not for use under `jit`.

    Raises:
      JaxalignError: a share out of range, or singular values that are traced, not finite or all zero.

    Examples:
      >>> import numpy as np
      >>> import jaxalign as ja
      >>> heads = ja.Projectors(ja.Projector(np.eye(4)), ja.Projector(np.diag([8.0, 4.0, 2.0, 1.0])))
      >>> ja.select_band(ja.decompose(heads))
      (0, 0)
      >>> ja.select_band(ja.decompose(heads), min_share=0)
      (0, 2)
    """
    if min_share is not None and not 0 <= min_share < 1:
        raise JaxalignError(f"min_share is {min_share}; expected a share in [0, 1), or None")
    check_kind("spectrum", spectrum, Spectrum, "decompose(model.projectors)")
    s = _nonzero(spectrum)
    r, zeros = len(s), spectrum.s.shape[0] - len(s)
    share, k_top, stop = isotropic_band(s)
    if min_share is None:
        min_share = (1 - 1 / r) ** (r - 1)
    if share <= min_share:
        return 0, zeros
    return k_top, r - stop + zeros


def isotropic_band(singular_values: np.ndarray) -> tuple[float, int, int]:
    """`(share, start, stop)` of the band `[start, stop)` with the largest share, as `select_band` defines it.

    `singular_values` `[r]`, positive and descending. Among equal shares the widest band, then the first.
    """
    s = np.asarray(singular_values, np.float64)
    r = len(s)
    start, last = np.arange(r)[:, None], np.arange(r)
    width = last - start + 1
    share = np.where(width > 0, width * (s[None, :] / s[:, None]), 0) / r
    candidates = np.argwhere(share >= share.max() * (1 - 1e-12))
    at, end = max(candidates, key=lambda pair: (pair[1] - pair[0], -pair[0]))
    return float(share[at, end]), int(at), int(end) + 1


def _nonzero(spectrum: Spectrum) -> np.ndarray:
    """The singular values that are more than float32 rounding, float64."""
    if isinstance(spectrum.s, Tracer):
        raise JaxalignError("select_band returns integers, but the spectrum is traced; call it outside jit")
    s = np.asarray(spectrum.s, np.float64)
    bad = int(np.sum(~np.isfinite(s)))
    if bad:
        raise JaxalignError(f"{bad} of {s.size} singular values are NaN or infinite; expected decompose(...)")
    if not s.size or s[0] <= 0:
        raise JaxalignError("all singular values are zero; expected the spectrum of trained projectors")
    return s[s > s[0] * len(s) * np.finfo(np.float32).eps]
