"""Feature matrices as every function takes them: checked, as float32 holds them, and scaled to length one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.dtypes import canonicalize_dtype
from jax.typing import ArrayLike

from jaxalign.errors import JaxalignError

_STREAMED = 1 << 26  # elements; above it a float32 copy takes more than 256 MiB
_ROWS = 1 << 14  # that are looked at together on the host
_HALVES = (jnp.float16, jnp.bfloat16)
_TAKEN = (jnp.float32, *_HALVES)  # what is used as it is
# Between these XLA's arithmetic on a row is right. Far below, numbers become 0 on a CPU; far above, their
# inverses do, by which it divides, and sums have no room. Powers of two, by which scaling is exact.
_FAR = 100
_LEAST, _MOST = np.float32(2.0**-_FAR), np.float32(2.0**_FAR)
_MAGNITUDE, _INFINITE, _SUBNORMAL = 0x7FFFFFFF, 0x7F800000, 0x00800000  # of the bits of a float32


def as_features(name: str, x: ArrayLike, *, streamed: bool = False, keep_lengths: bool = False) -> jax.Array:
    """`x` as float32 `[n, d]`; raises unless it is 2-D, not empty and, where concrete, finite.

    Numbers are those of `as_rows`. With `streamed`, for callers that go through large matrices in blocks
    (`is_streamed`): those of 16 bits stay as they are, and whether they are finite is found out on the way.
    """
    given = as_numbers(name, x)
    _check_matrix(name, given)
    streamed = streamed and is_streamed(given)
    if streamed and isinstance(given, np.ndarray) and given.dtype in _TAKEN:
        given = jax.device_put(given, may_alias=True)  # jnp.asarray holds a second copy for a moment
    rows = as_rows(name, given, keep_lengths=keep_lengths)
    if not (streamed and rows.dtype in _HALVES):
        rows = rows.astype(jnp.float32)
    if streamed or isinstance(rows, Tracer):
        return rows
    largest = np.asarray(_row_bits(rows))
    check_finite(name, largest < _INFINITE)
    if keep_lengths:
        _check_lengths(name, largest.view(np.float32))
    elif ((largest < _LEAST.view(np.int32)) | (largest > _MOST.view(np.int32))).any():
        rows = _brought_near(rows)
    return rows


def host_features(name: str, x: ArrayLike, *, streamed: bool = False) -> Any:
    """The same as a NumPy array, of which each device of a mesh is given its part; always checked."""
    if isinstance(x, Tracer):
        raise JaxalignError(f"{name} is traced, but a mesh takes its parts from the host; leave out mesh")
    rows = np.asarray(as_numbers(name, x))
    _check_matrix(name, rows)
    if rows.dtype not in _TAKEN:
        rows = _narrowed(name, rows)
    if not (streamed and is_streamed(rows)):
        rows = rows.astype(np.float32, copy=False)
    finite = [np.isfinite(rows[i : i + _ROWS]).all(axis=1) for i in range(0, len(rows), _ROWS)]
    check_finite(name, np.concatenate(finite))
    return rows


def as_rows(name: str, x: ArrayLike, *, keep_lengths: bool = False) -> jax.Array:
    """Rows `[..., d]` as JAX holds them, float32 or 16 bits, whatever the scale and type of the numbers.

    What float32 does not hold (float64 of 1e-50, say) is scaled row by row, on the host; integers are not
    cut off. With `keep_lengths`, for callers to whom a row is more than its direction, it is an error.
    """
    rows = as_numbers(name, x)
    if rows.dtype in _TAKEN:
        return jnp.asarray(rows)
    if isinstance(rows, Tracer):
        return (rows if keep_lengths else _within_float32(rows, jnp)).astype(jnp.float32)
    return jnp.asarray(_narrowed(name, np.asarray(rows), keep_lengths))


def as_floats(name: str, x: ArrayLike) -> jax.Array:
    """`x` of any shape in the type that JAX has for it; raises for numbers that it would lose in that."""
    array = as_numbers(name, x)
    if isinstance(array, np.ndarray) and canonicalize_dtype(array.dtype) != array.dtype:
        array = _narrowed(name, array, keep_lengths=True)
    return jnp.asarray(array)


def as_numbers(name: str, x: Any) -> Any:
    """`x` as an array of real numbers, JAX's or NumPy's in the order of bytes of this machine.

    Raises:
      JaxalignError: texts, objects, ragged lists, complex and masked numbers, tensors that NumPy cannot read.
    """
    if np.ma.is_masked(x):
        raise JaxalignError(f"{name} has masked values; leave those examples out, or fill them in")
    try:
        array = x if isinstance(x, jax.Array) else np.asarray(x)
    except jax.errors.TracerArrayConversionError:  # a list of traced arrays
        array = jnp.asarray(x)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise _no_numbers(name, x) from error
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.bool_, jnp.integer, jnp.floating)):
        raise _no_numbers(name, x)
    if isinstance(array, np.ndarray):
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array


def _no_numbers(name: str, x: Any) -> JaxalignError:
    kind = type(x)
    if kind.__module__.partition(".")[0] == "torch" and hasattr(x, "device"):
        return JaxalignError(
            f"{name} is a torch tensor of {x.dtype} on {x.device}, which NumPy cannot read; pass"
            " x.detach().float().cpu().numpy()"
        )
    what = f"an array of {x.dtype}" if isinstance(x, np.ndarray | jax.Array) else f"a {kind.__name__}"
    if isinstance(x, list | tuple) and len(x):
        what += f" of {type(x[0]).__name__}"
    return JaxalignError(f"{name} is {what}; expected an array of real numbers")


def is_count(value: Any) -> bool:
    """Whether `value` is an integer of 1 or more."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 1


def _narrowed(name: str, x: np.ndarray, keep_lengths: bool = False) -> np.ndarray:
    """`x` as float32; rows that it does not hold are scaled by a power of two, or refused."""
    rows = x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x.reshape(1, -1)
    out = np.empty(rows.shape, np.float32)
    for i in range(0, len(rows), _ROWS):
        part = rows[i : i + _ROWS]
        part = part if jnp.issubdtype(part.dtype, np.floating) else part.astype(np.float64)
        if keep_lengths:
            _check_lengths(name, np.abs(part).max(axis=1, initial=0))
        out[i : i + _ROWS] = _within_float32(part, np)
    return out.reshape(x.shape)


def _within_float32(x: Any, xp: Any) -> Any:
    """Rows `[..., d]` of another type; those too far from 1 times a power of two, others as they are."""
    if not jnp.issubdtype(x.dtype, jnp.floating) or jnp.finfo(x.dtype).bits < 64:
        return x
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True, initial=0)
    least, most = float(_LEAST), float(_MOST)
    far = (largest > 0) & xp.isfinite(largest) & ((largest < least) | (largest > most))
    return xp.ldexp(x, xp.where(far, -xp.frexp(largest)[1], 0))


def _check_lengths(name: str, largest: np.ndarray) -> None:
    """Raises where a row whose largest number this is can be no float32 with its length."""
    far = np.flatnonzero((largest > 0) & np.isfinite(largest) & ((largest < _LEAST) | (largest > _MOST)))
    if far.size:
        raise JaxalignError(
            f"{name} has numbers of about {largest[far[0]]:.1e} in {far.size} of {largest.size} rows, which"
            f" float32 does not hold well; expected {_LEAST:.0e} to {_MOST:.0e}, or 0: scale all of them"
        )


def _check_matrix(name: str, x: Any) -> None:
    if x.ndim != 2:
        raise JaxalignError(f"{name} has shape {x.shape}; expected two axes, [n, d], one row per example")
    if 0 in x.shape:
        raise JaxalignError(f"{name} is empty, shape {x.shape}; expected at least one row and one column")


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
    x = _brought_near(x)
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
    y = y if small else _brought_near(y)
    largest = jnp.zeros(()) if small else jnp.max(jnp.abs(y), axis=-1)
    if not small:
        y = y / jnp.where(largest == 0, 1, largest)[:, None]
    length = jnp.sqrt(jnp.sum(jnp.square(y), axis=-1))
    return y, jnp.where(length == 0, 1, length), jnp.isfinite(length) & jnp.isfinite(largest)


@jax.jit
def _brought_near(x: jax.Array) -> jax.Array:
    """Rows `[..., d]` of float32, those too far from 1 times a power of two.

    XLA takes subnormal numbers, those below 1e-38, for 0 on a CPU: they are read from their bits.
    """
    if x.dtype != jnp.float32:
        return x
    bits = jax.lax.bitcast_convert_type(x, jnp.int32) & _MAGNITUDE
    largest = jnp.max(bits, axis=-1, keepdims=True)
    subnormal = jnp.copysign(bits.astype(jnp.float32) * np.float32(2.0 ** (_FAR - 149)), x)
    raised = jnp.where(bits < _SUBNORMAL, subnormal, x * _MOST)
    lowered = jnp.where(largest > _MOST.view(np.int32), x * _LEAST, x)
    return jnp.where(largest < _LEAST.view(np.int32), raised, lowered)


@jax.jit
def _row_bits(x: jax.Array) -> jax.Array:
    """int32 `[n]`: the largest magnitude of each row, as the bits of a float32."""
    return jnp.max(jax.lax.bitcast_convert_type(x, jnp.int32) & _MAGNITUDE, axis=1)
