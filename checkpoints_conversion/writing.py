"""Models written as `.npz` of big_vision's `two_towers` (SigLIP, SigLIP 2, LiT): its names are ours."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTowerConfig, ResNetConfig
from jaxalign.replacing import replaced_file
from jaxalign.weights.tensors import flatten

from .formats.big_vision import BLOCKS, POSITIONS, PREFIX
from .npz_files import write_npz

ACTIVATION = "gelu_tanh"
EPSILON = 1e-6


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
    found = lacking(model)
    if found:
        raise JaxalignError(
            f"big_vision's two_towers cannot express what {model.name} needs: {', '.join(found)};"
            " save it as a folder"
        )
    tensors = {PREFIX + name: tensor for name, tensor in as_stored(model).items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced_file(path, suffix=".npz") as partial:
            write_npz(tensors, partial, dtype)
            if check is not None:
                check(partial)
    except OSError as error:
        raise JaxalignError(f"cannot write {path}: {error.strerror or error}") from error


@dataclass(frozen=True)
class Stack:
    """The same parameter of all blocks, stacked along a new first axis when it is asked for."""

    layers: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.layers), *self.layers[0].shape)

    @property
    def dtype(self) -> Any:
        return self.layers[0].dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.stack([np.asarray(layer) for layer in self.layers]).astype(dtype or self.dtype, copy=False)


def as_stored(model: DualEncoder) -> dict[str, Any]:
    """The parameters by the names that big_vision has for them.

    The position of the class token is part of that token: big_vision puts it before the patches once these
    have theirs. The blocks of a tower that came stacked are stacked again: big_vision's text tower, unlike
    its image tower, does not do so itself.
    """
    tensors = flatten(model.params)
    if "img/cls" in tensors and POSITIONS in tensors:
        positions = tensors[POSITIONS]
        tensors["img/cls"] = tensors["img/cls"] + positions[:, :1]
        tensors[POSITIONS] = positions[:, 1:]
    for tower in model.stacked:
        tensors = _stack(tensors, BLOCKS[tower])
    return tensors


def _stack(tensors: Mapping[str, Any], blocks: str) -> dict[str, Any]:
    """`tensors` with those of all `blocks` as one for each name."""
    layers: dict[str, dict[int, Any]] = {}
    others = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(rf"{blocks}_(\d+)/(.+)", name):
            layers.setdefault(f"{blocks}/{match[2]}", {})[int(match[1])] = tensor
        else:
            others[name] = tensor
    return others | {name: Stack(tuple(of[i] for i in range(len(of)))) for name, of in layers.items()}


def lacking(model: DualEncoder) -> list[str]:
    """What a model needs and big_vision's `two_towers` has not, in words."""
    image, text = model.config.image, model.config.text
    if isinstance(image, ResNetConfig):
        return ["ResNet"]
    if text is None:
        return ["image tower alone"]
    pools = image.pooling == "map"
    needs = {
        "a causal text tower": text.causal,
        "patches without bias": not image.patch_bias,
        "class token beside a pool": pools and image.has_class_token,
        "other heads in the pool than in the blocks": pools and image.pool_heads not in (None, image.heads),
        "rotary positions": image.rope is not None,
        "an image projector without bias": image.projection is not None and not image.projection_bias,
        "a text projector without bias": not text.projection_bias,
        f"activation {text.activation}": text.activation != ACTIVATION,
        f"activation {image.activation}": image.activation != ACTIVATION,
        f"norms of epsilon {text.norm_epsilon:g}": text.norm_epsilon != EPSILON,
        f"norms of epsilon {image.norm_epsilon:g}": image.norm_epsilon != EPSILON,
        **_parts_unknown_there(image),
    }
    return [what for what, present in needs.items() if present]


def _parts_unknown_there(image: ImageTowerConfig) -> dict[str, bool]:
    return {
        "registers": image.registers > 0,
        "a norm before the blocks": image.pre_norm,
        "no learned positions": not image.learned_positions,
        "gated MLPs": image.gated_mlp,
        "norms inside the branches": image.sub_norm,
        "layer scale": image.layer_scale,
    }
