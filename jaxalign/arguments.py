"""Arguments of another kind than expected: refused in one line that says what to pass."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError, unknown_name


def check_kind(name: str, x: Any, kind: type, advice: str) -> None:
    """Raises JaxalignError unless `x` is a `kind`: with what it is, and `advice` on what to pass."""
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
