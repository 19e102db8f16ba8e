"""big_vision's `two_towers` checkpoints (SigLIP, SigLIP 2): `.npz` files whose names and shapes are ours.

An `.npz` holds tensors and nothing else. Sizes are read off their shapes; activation, epsilon, tokens and
preprocessing are those of Google's SigLIP releases, which `dataclasses.replace(model, spec=...)` overrides.
"""

import os
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTowerConfig, TextTowerConfig, TwoTowersConfig
from jaxalign.specs import ModelSpec
from jaxalign.tensors import check_tensors, flatten, unflatten

PREFIX = "params/"
IGNORED = ("opt/", "extra/")  # what a training checkpoint holds besides its `params/`
SIGLIP = {"activation": "gelu_tanh", "norm_epsilon": 1e-6}
_GEMMA_VOCABULARY = 256_000  # SigLIP 2 pads with 0, SigLIP with its end token, 1


def recognises(path: Path) -> bool:
    """Whether `path` is a file that ends in `.npz`."""
    return path.is_file() and path.suffix == ".npz"


def read(path: Path) -> DualEncoder:
    """The model in `path`, parameters in float32, without tokenizer.

    Raises:
      JaxalignError: a damaged file, one that needs pickle, or tensors that are no `two_towers` model (all
        that are missing, left over or misshapen are named).
    """
    tensors = _normalise(_load(path))
    config = infer_config(tensors, path)
    check_tensors({k: (v.shape, v.dtype.name) for k, v in tensors.items()}, config, str(path))
    spec = ModelSpec(
        name=path.stem,
        source=path.name,
        revision=None,
        licence="unknown",
        paper="SigLIP, arXiv:2303.15343, or SigLIP 2, arXiv:2502.14786",
        towers=config,
        resize="squash",
        interpolation="bilinear",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        tokens="sticky",
        start_token=None,
        pad_token=0 if config.text.vocabulary == _GEMMA_VOCABULARY else config.text.end_token,
        inversion_patches=min(4, config.image.num_patches),
    )
    return DualEncoder(spec, unflatten({k: jnp.asarray(v, jnp.float32) for k, v in tensors.items()}))


def write(model: DualEncoder, path: Path) -> None:
    """Write the parameters of `model` as an `.npz` that big_vision and `read` load.

    Raises:
      JaxalignError: a model that big_vision's `two_towers` cannot express, or a path that cannot be written.
    """
    image, text = model.config.image, model.config.text
    lacking = {
        "a causal text tower": text.causal,
        f"{image.pooling} pooling with positions on the class token": image.pooling != "map",
        "patches without bias": not image.patch_bias,
        "an image projector without bias": image.projection is not None,
        "a text projector without bias": not text.projection_bias,
        f"activation {text.activation}": text.activation != SIGLIP["activation"],
        f"activation {image.activation}": image.activation != SIGLIP["activation"],
    }
    found = [what for what, present in lacking.items() if present]
    if found:
        raise JaxalignError(
            f"big_vision's two_towers has no {', no '.join(found)}, which {model.name} needs;"
            " save it as a folder"
        )
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.npz")
    arrays = {PREFIX + name: np.asarray(tensor) for name, tensor in flatten(model.params).items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(partial, allow_pickle=False, **arrays)
        os.replace(partial, path)
    except OSError as error:
        raise JaxalignError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def infer_config(tensors: Mapping[str, np.ndarray], path: Path) -> TwoTowersConfig:
    """Sizes of both towers from the shapes of `tensors`; raises where a telling one is missing."""

    def shape(name: str, axes: int) -> tuple[int, ...]:
        if name not in tensors or tensors[name].ndim != axes:
            raise JaxalignError(
                f"{path} has no {name} with {axes} axes; expected a big_vision two_towers checkpoint"
                " (img/..., txt/..., t)"
            )
        return tensors[name].shape

    def transformer(prefix: str) -> dict:
        _, heads, _ = shape(f"{prefix}/encoderblock_0/MultiHeadDotProductAttention_0/query/kernel", 3)
        width, hidden = shape(f"{prefix}/encoderblock_0/MlpBlock_0/Dense_0/kernel", 2)
        blocks = {
            name.removeprefix(f"{prefix}/").split("/")[0] for name in tensors if name.startswith(prefix)
        }
        depth = sum(block.startswith("encoderblock_") for block in blocks)
        return dict(width=width, heads=heads, mlp_hidden=hidden, depth=depth, **SIGLIP)

    patch = shape("img/embedding/kernel", 4)[0]
    patches = shape("img/pos_embedding", 3)[1]
    side = round(patches**0.5)
    if side * side != patches:
        raise JaxalignError(
            f"{path} has {patches} image positions; expected a square number, one for each patch"
        )
    vocabulary = shape("txt/Embed_0/embedding", 2)[0]
    image = ImageTowerConfig(
        image_size=side * patch,
        patch_size=patch,
        pooling="map",
        projection=None,
        **transformer("img/Transformer"),
    )
    text = TextTowerConfig(
        vocabulary=vocabulary,
        context=shape("txt/pos_embedding", 3)[1],
        causal=False,
        projection=shape("txt/head/kernel", 2)[1],
        projection_bias="txt/head/bias" in tensors,
        end_token=1,
        **transformer("txt/Encoder_0"),
    )
    return TwoTowersConfig(image, text, logit_bias="b" in tensors)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise JaxalignError(f"{path} is cut off, damaged or no .npz of plain arrays: {error}") from error


def _normalise(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names without `params/`, one block each where blocks are stacked, bfloat16 as such."""
    if any(name.startswith(PREFIX) for name in tensors):
        tensors = {k.removeprefix(PREFIX): v for k, v in tensors.items() if not k.startswith(IGNORED)}
    out: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "V" and tensor.dtype.itemsize == 2:  # NumPy has no name for bfloat16
            tensor = tensor.view(jnp.bfloat16)
        if "/encoderblock/" in name:  # a model that was trained with nn.scan
            out |= {name.replace("/encoderblock/", f"/encoderblock_{i}/"): x for i, x in enumerate(tensor)}
        else:
            out[name] = tensor
    second = out.pop("txt/Encoder_0/pos_embedding", None)  # older text towers add positions twice
    if second is not None and "txt/pos_embedding" in out:
        out["txt/pos_embedding"] = out["txt/pos_embedding"] + second
    return out
