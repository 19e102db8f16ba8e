"""Class texts and projectors that come along with given features, out of files."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.feature_files import FEATURES, digest, read_features
from jaxalign.eval.feature_files.layouts import find_splits
from jaxalign.eval.feature_files.tables import READERS, read_table
from jaxalign.projectors import Projector, Projectors

from .given import GivenTexts

# Names of two kernels `[d_in, d]` and where their biases would be; then those that PyTorch has transposed.
_PAIRS = (
    ("image", "text", "{}_bias"),
    ("image_kernel", "text_kernel", "{}_bias"),
    ("image.kernel", "text.kernel", "{}.bias"),
    ("image/kernel", "text/kernel", "{}/bias"),
    ("img/head/kernel", "txt/head/kernel", "{}/bias"),
    ("params/img/head/kernel", "params/txt/head/kernel", "{}/bias"),
    ("visual.proj", "text_projection", "{}.bias"),
)
_TRANSPOSED = (("visual_projection.weight", "text_projection.weight", "{}.bias"),)


def read_class_texts(name: str, key: str = "") -> GivenTexts:
    """The rows of `features:PATH`, or those under a key of it.

    Raises:
      JaxalignError: another name, or files that `read_features` refuses.
    """
    if not name.startswith(FEATURES):
        raise JaxalignError(f"class texts are {name!r:.200}; expected features:FILE")
    splits = find_splits(name.removeprefix(FEATURES))
    if len(splits) != 1:
        raise JaxalignError(f"{name} has several splits; expected one file of class texts")
    parts = next(iter(splits.values()))
    values = read_features(parts, key, ()).astype(np.float32)
    content = digest([part.features for part in parts], {"key": key})
    return GivenTexts(values, f"{len(values)} {content}")


def describe_projectors(path: Path, error: JaxalignError) -> JaxalignError:
    """The error for a file that is no checkpoint either."""
    return JaxalignError(
        f"{path} has no two kernels called image and text, and is no checkpoint ({error}); expected either"
    )


def read_projectors(path: Path) -> Projectors | None:
    """The two kernels that the file `path` is made of; None for one that holds more, a checkpoint.

    Kernels are `[d_in, d]`, called `image` and `text` or as OpenAI and Flax call them, with biases; those
    that transformers calls `visual_projection.weight` and `text_projection.weight` are `[d, d_in]`.

    Raises:
      JaxalignError: kernels that are not two matrices of numbers that end in one width.
    """
    if path.is_dir() or path.suffix.lower() not in READERS:
        return None
    table = read_table(path)
    for image, text, bias in (*_PAIRS, *_TRANSPOSED):
        stems = {
            name: name.removesuffix(".weight").removesuffix("kernel").rstrip("._/") for name in (image, text)
        }
        biases = {name: bias.format(stem) for name, stem in stems.items()}
        if {image, text} <= set(table.entries) <= {image, text, *biases.values()}:
            transposed = (image, text, bias) in _TRANSPOSED
            read = lambda name: np.asarray(table.entries[name].read()) if name in table.entries else None
            heads = [_head(path, name, read(name), read(biases[name]), transposed) for name in (image, text)]
            found = Projectors(*heads)
            ja.inter_modal_operator(found)  # raises unless both end in one width
            return found
    return None


def _head(
    path: Path, name: str, kernel: np.ndarray | None, bias: np.ndarray | None, transposed: bool
) -> Projector:
    for what, array, axes in (("kernel", kernel, 2), ("bias", bias, 1)):
        if array is None:
            continue
        if (
            array.ndim != axes
            or not jnp.issubdtype(array.dtype, jnp.floating)
            or not np.isfinite(array).all()
        ):
            raise JaxalignError(
                f"{path}: the {what} of {name} is {array.dtype} of shape {array.shape}; expected finite"
                f" numbers {'[d_in, d]' if axes == 2 else '[d]'}"
            )
    assert kernel is not None
    kernel = kernel.astype(np.float32)
    return Projector(
        jnp.asarray(kernel.T if transposed else kernel),
        None if bias is None else jnp.asarray(bias, jnp.float32),
    )
