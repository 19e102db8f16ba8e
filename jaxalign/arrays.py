"""What callers pass where numbers and dtypes are expected: taken, or refused in one line."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError, unknown_name


def as_array(name: str, x: Any) -> jax.Array | np.ndarray:
    """`x` as an array of numbers: JAX's and NumPy's as they are, what else is like an array by way of them.

    Raises:
      JaxalignError: texts, objects, ragged lists, or a tensor of a kind that NumPy cannot read.
    """
    if not isinstance(x, jax.Array | np.ndarray):
        try:
            x = np.asarray(x) if hasattr(x, "__array__") else jnp.asarray(x)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise _no_numbers(name, x) from error
    if not jnp.issubdtype(x.dtype, jnp.number) and x.dtype != bool:
        raise _no_numbers(name, x)
    return x


def _no_numbers(name: str, x: Any) -> JaxalignError:
    kind = type(x)
    what = f"a {kind.__name__}"
    if kind.__module__.partition(".")[0] == "torch":
        return JaxalignError(
            f"{name} is a torch tensor of {getattr(x, 'dtype', '?')}, on {getattr(x, 'device', '?')}, which"
            " NumPy cannot read; pass x.detach().float().cpu().numpy()"
        )
    if isinstance(x, np.ndarray):
        what = f"an array of {x.dtype}"
    elif isinstance(x, Sequence) and len(x) and not isinstance(x, str | bytes):
        what += f" of {type(x[0]).__name__}"
    return JaxalignError(f"{name} is {what}; expected an array of numbers")


def check_kind(name: str, x: Any, kind: type, advice: str) -> None:
    """Raises JaxalignError unless `x` is a `kind`: with what it is and `advice` on what to pass."""
    if not isinstance(x, kind):
        raise JaxalignError(f"{name} is a {type(x).__name__}; expected {kind.__name__}: pass {advice}")


def read_dtype(name: str, dtype: Any, known: Sequence[str]) -> np.dtype:
    """`dtype` as NumPy's; raises JaxalignError for what is none, and for one that is not among `known`."""
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        raise unknown_name(name, str(dtype), known) from None
    if found.name not in known:
        raise JaxalignError(f"{name} is {found.name}; expected {', '.join(known[:-1])} or {known[-1]}")
    return found
