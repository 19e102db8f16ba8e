"""big_vision's `two_towers` checkpoints (SigLIP, SigLIP 2) as `.npz`: its names and shapes are ours."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.models import ResNetConfig, TwoTowersConfig
from jaxalign.replacing import replaced_file
from jaxalign.tensors import flatten

from .npz_files import write_npz
from .reading import read as read
from .reading import recognises as recognises
from .rules.big_vision import PREFIX

ACTIVATION = "gelu_tanh"


def write(
    model: DualEncoder, path: Path, dtype: Any = None, check: Callable[[Path], None] | None = None
) -> None:
    """Write the parameters of `model` as an `.npz` that big_vision and `read` load.

    Args:
      dtype: of the weights in it; by default as they are.
      check: called with the file, complete but still under another name; what it raises undoes all.

    Raises:
      JaxalignError: a model that big_vision's `two_towers` cannot express, or a path that cannot be written.
    """
    found = lacking(model.config)
    if found:
        raise JaxalignError(
            f"big_vision's two_towers cannot express what {model.name} needs: {', '.join(found)};"
            " save it as a folder"
        )
    tensors = {PREFIX + name: tensor for name, tensor in flatten(model.params).items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path, suffix=".npz") as partial:
            write_npz(tensors, partial, dtype)
            if check is not None:
                check(partial)
    except OSError as error:
        raise JaxalignError(f"cannot write {path}: {error.strerror or error}") from error


def lacking(config: TwoTowersConfig) -> list[str]:
    """What a model needs and big_vision's `two_towers` has not, in words."""
    image, text = config.image, config.text
    if isinstance(image, ResNetConfig):
        return ["ResNet"]
    if text is None:
        return ["image tower alone"]
    needs = {
        "a causal text tower": text.causal,
        f"{image.pooling} pooling with positions on the class token": image.pooling != "map",
        "patches without bias": not image.patch_bias,
        "class token beside a pool": image.pooling == "map" and image.has_class_token,
        "rotary positions": image.rope is not None,
        "an image projector without bias": image.projection is not None,
        "a text projector without bias": not text.projection_bias,
        f"activation {text.activation}": text.activation != ACTIVATION,
        f"activation {image.activation}": image.activation != ACTIVATION,
    }
    return [what for what, present in needs.items() if present]
