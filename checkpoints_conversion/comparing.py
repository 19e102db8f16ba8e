"""Whether a file that was written holds what it should: each tensor, bit by bit."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.weights.stored import PART, cast_parts, on_all_cores

from .checkpoint_files import READERS
from .formats.big_vision import PREFIX


def compare(path: Path, tensors: Mapping[str, Any], dtype: str) -> dict[str, dict[str, Any]]:
    """Shape and SHA-256 of each tensor in the file `path`, which holds just `tensors` as they are in `dtype`.

    Raises:
      JaxalignError: where it does not.
    """
    found = READERS[path.suffix](path)
    found = {name.removeprefix(PREFIX): tensor for name, tensor in found.items()}

    def checksum(name: str) -> str | None:
        """The checksum; None where it differs."""
        if found[name].shape != tensors[name].shape:
            return None
        digest = hashlib.sha256()
        expected = cast_parts(tensors[name], jnp.dtype(dtype))
        for part, content in zip(found[name].parts(PART), expected, strict=True):
            if not np.array_equal(part.view(np.uint8), np.asarray(content)):
                return None
            digest.update(content)
        return digest.hexdigest()

    names = sorted(found.keys() & tensors.keys())
    checksums = dict(zip(names, on_all_cores(checksum, names), strict=True))
    _raise_for(path, {name for name in found.keys() | tensors.keys() if checksums.get(name) is None})
    return {name: {"shape": list(found[name].shape), "sha256": checksums[name]} for name in names}


def _raise_for(path: Path, wrong: Iterable[str]) -> None:
    if names := sorted(wrong):
        raise JaxalignError(f"{path} does not hold what was written: {', '.join(names[:5])}; convert again")
