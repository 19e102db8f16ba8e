"""Feature matrices as every function takes them: checked, and scaled to length one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError

_STREAMED = 1 << 26  # elements; above it a float32 copy takes more than 256 MiB
_ROWS = 1 << 14  # that are looked at together on the host
_HALVES = (jnp.float16, jnp.bfloat16)


def as_features(name: str, x: ArrayLike, *, streamed: bool = False) -> jax.Array:
    """`x` as float32 `[n, d]`; raises unless it is 2-D, not empty and, where concrete, finite.

    With `streamed`, for callers that go through large matrices in blocks (`is_streamed`): those of 16 bits
    stay as they are, and whether they are finite is found out on the way.
    """
    x = as_numbers(name, x)
    if streamed and isinstance(x, np.ndarray) and is_streamed(x):
        x = jax.device_put(x, may_alias=True)  # jnp.asarray holds a second copy for a moment
    x = jnp.asarray(x)
    _check_matrix(name, x)
    streamed = streamed and is_streamed(x)
    if not (streamed and x.dtype in _HALVES):
        x = x.astype(jnp.float32)
    if not streamed and not isinstance(x, Tracer):
        check_finite(name, np.asarray(_finite_rows(x)))
    return x


def host_features(name: str, x: ArrayLike, *, streamed: bool = False) -> Any:
    """The same as a NumPy array, of which each device of a mesh is given its part; always checked."""
    if isinstance(x, Tracer):
        raise JaxalignError(f"{name} is traced, but a mesh takes its parts from the host; leave out mesh")
    x = np.asarray(as_numbers(name, x))
    _check_matrix(name, x)
    if not (streamed and is_streamed(x) and x.dtype in _HALVES):
        x = x.astype(np.float32, copy=False)
    finite = [np.isfinite(x[i : i + _ROWS]).all(axis=1) for i in range(0, len(x), _ROWS)]
    check_finite(name, np.concatenate(finite))
    return x


def as_numbers(name: str, x: Any) -> Any:
    """`x` as an array of numbers: JAX's as it is, anything else as NumPy reads it.

    Raises:
      JaxalignError: texts, objects and ragged lists, and tensors that NumPy cannot read.
    """
    if isinstance(x, jax.Array):
        return x
    try:
        array = np.asarray(x)
    except jax.errors.TracerArrayConversionError:  # a list of traced arrays
        return jnp.asarray(x)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise _no_numbers(name, x) from error
    if array.dtype != bool and not jnp.issubdtype(array.dtype, jnp.number):
        raise _no_numbers(name, x)
    return array


def _no_numbers(name: str, x: Any) -> JaxalignError:
    kind = type(x)
    if kind.__module__.partition(".")[0] == "torch" and hasattr(x, "device"):
        return JaxalignError(
            f"{name} is a torch tensor of {x.dtype} on {x.device}, which NumPy cannot read; pass"
            " x.detach().float().cpu().numpy()"
        )
    what = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else f"a {kind.__name__}"
    if isinstance(x, list | tuple) and len(x):
        what += f" of {type(x[0]).__name__}"
    return JaxalignError(f"{name} is {what}; expected an array of numbers")


def _check_matrix(name: str, x: Any) -> None:
    if x.ndim != 2:
        raise JaxalignError(f"{name} has shape {x.shape}; expected two axes, [n, d], one row per example")
    if 0 in x.shape:
        raise JaxalignError(f"{name} is empty, shape {x.shape}; expected at least one row and one column")
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise JaxalignError(f"{name} is {x.dtype}; expected real numbers")


def is_streamed(x: jax.Array | np.ndarray) -> bool:
    """Whether `x` is too large to be copied: converted and scaled in blocks instead, as it is used."""
    return x.size > _STREAMED


def check_finite(name: str, finite: np.ndarray) -> None:
    """Raises for rows of `name` that are not finite, bool `[n]`: how many, and the first ones."""
    bad = np.flatnonzero(~finite)
    if bad.size:
        raise JaxalignError(
            f"{name} has NaN or infinite values in {bad.size} of {finite.size} rows"
            f" (first: {', '.join(map(str, bad[:5]))}); leave those examples out or compute them again"
        )


@jax.jit
def normalize(x: jax.Array) -> jax.Array:
    """Rows of `[..., d]` scaled to length one; a row of zeros stays zero: its cosine with anything is 0."""
    # The largest value is taken out first: float32 does not hold the square of 1e20 or of 1e-30.
    largest = jnp.max(jnp.abs(x), axis=-1, keepdims=True)
    x = x / jnp.where(largest == 0, 1, largest)
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x / jnp.where(length == 0, 1, length)


def direction_and_length(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`(y, length, finite)`: `y / length[:, None]` are the normalised rows of `[n, d]`.

    For a score to be divided by the length, instead of d features. `length` is 1 for a row of zeros;
    `finite` is bool `[n]`.
    """
    small = x.dtype == jnp.float16  # float32 holds the sum of its squares
    y = x.astype(jnp.float32)
    largest = jnp.zeros(()) if small else jnp.max(jnp.abs(y), axis=-1)
    if not small:
        y = y / jnp.where(largest == 0, 1, largest)[:, None]
    length = jnp.sqrt(jnp.sum(jnp.square(y), axis=-1))
    return y, jnp.where(length == 0, 1, length), jnp.isfinite(length) & jnp.isfinite(largest)


@jax.jit
def _finite_rows(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x).all(axis=1)
