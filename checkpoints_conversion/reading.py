"""Checkpoints of every known format to models: what `jaxalign.load` does with all but its own folders."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.inputs.tokenization import Tokenizer, load_tokenizer, make_tokenizer
from jaxalign.models import ImageTowerConfig
from jaxalign.positions import resample_positions
from jaxalign.specs import ModelSpec, find_spec
from jaxalign.weights.hub import INDEX
from jaxalign.weights.identity import claimed, name_after, published_as, unproven
from jaxalign.weights.stored import StoredTensor
from jaxalign.weights.tensors import expected_shapes, unflatten

from .checkpoint_files import ENDINGS as ENDINGS
from .checkpoint_files import CheckpointFiles, find_files, is_checkpoint, read_tensors
from .clipcap import read_captioner as read_captioner
from .engine import Format, convert
from .formats import find_format
from .formats.big_vision import BIG_VISION, for_file, plain_names, stacked_towers
from .formats.timm_trunks import PE_TIMM
from .sizes import Shapes, fit_towers
from .spec_choice import choose_spec

POSITIONS = "img/pos_embedding"
PE_HEAD_BIAS = "visual.trunk.head.bias"


def recognises(path: Path) -> bool:
    """Whether `path` is a file, or a folder with a file, of a kind that `read` takes."""
    return is_checkpoint(path)


def read(path: Path, spec: str | ModelSpec | None = None) -> DualEncoder:
    """The model at `path`, parameters in float32, with its tokenizer where the files are there.

    It is a known model if the bytes of its file are those that were published, and is named after `path`
    otherwise; see `jaxalign.weights.identity`.

    Args:
      path: a folder of transformers, open_clip or timm (configuration and weights), or one file:
        `.safetensors`, `.npz`, `.pt`, `.pth` or `.bin`.
      spec: the known model whose settings it has where the files do not say, by name; or all facts.

    Raises:
      JaxalignError: a damaged or malicious file, an unknown or ambiguous format, or tensors that are missing,
        left over or misshapen (all of them named in one message).
    """
    files = find_files(path, with_facts=not isinstance(spec, ModelSpec))
    found = read_tensors(files.weights)
    if any(name.startswith(("params/", "img/")) for name in found):
        found = plain_names(found)
    format = find_format(found, str(files.weights))
    tensors = {name: tensor for name, tensor in found.items() if not tensor.is_object}
    stacked = stacked_towers(tensors) if format is BIG_VISION else ()
    format = for_file(format, tensors) if format is BIG_VISION else format
    if isinstance(spec, ModelSpec):
        own = unproven(spec, path)
    else:
        own = _find_spec(path, files, format, tensors, spec)
    own = _with_head_bias(own, format, tensors)
    params = _convert(format, found, own, str(files.weights))
    return DualEncoder(own, unflatten(params), _tokenizer(own, files), stacked=stacked)


def _tokenizer(spec: ModelSpec, files: CheckpointFiles) -> Tokenizer | None:
    """As the configuration and its files have it, or what the folder holds beside a file without any."""
    tokens = files.facts.tokens
    if tokens is None or spec.towers.text is None:
        return load_tokenizer(spec, files.folder)
    return make_tokenizer(spec, tokens.vocabulary, tokens.where)


def _find_spec(
    path: Path, files: CheckpointFiles, format: Format, found: Mapping[str, StoredTensor], stated: str | None
) -> ModelSpec:
    """The record of a published file, else the facts of a model of its own."""
    record = None
    if not files.weights.name.endswith(INDEX):
        alike = [spec for spec in format.models if fit_towers(spec, format, found) == spec.towers]
        record = published_as(files.weights, alike)
    try:
        chosen = choose_spec(
            format,
            found,
            files.facts,
            name_after(path),
            source=os.path.abspath(path),
            stated=find_spec(stated) if stated else None,
            published=record,
            is_torchscript="input_resolution" in found,
        )
    except JaxalignError as error:
        raise JaxalignError(f"{path}: {error}") from error
    if record is None:
        return chosen
    as_record = claimed(chosen, record)
    # A configuration may say other settings, and whose code resizes images.
    is_as_published = replace(as_record, pipeline=record.pipeline) == record
    if stated and not is_as_published:
        raise JaxalignError(
            f"{path} is the published file of {record.name}, whose settings are not those of spec {stated!r};"
            " leave out spec"
        )
    return as_record if is_as_published else chosen


def _convert(
    format: Format, found: Mapping[str, StoredTensor], spec: ModelSpec, where: str
) -> dict[str, jax.Array]:
    """Parameters by path, positions brought to the size that `spec` asks for."""
    try:
        wanted = expected_shapes(spec.towers)
    except JaxalignError as error:
        raise JaxalignError(f"{where}: {error}") from error
    image = spec.towers.image
    rows = _position_rows(format, found)
    if spec.position_resampling is None or POSITIONS not in wanted or rows in (None, wanted[POSITIONS][1]):
        return convert(format, found, wanted, where)
    assert isinstance(image, ImageTowerConfig)  # no other tower has such positions
    params = convert(format, found, wanted | {POSITIONS: (1, rows, image.width)}, where)
    positions = resample_positions(
        np.asarray(params[POSITIONS]),
        image.grid,
        spec.position_resampling,
        prefix=int(image.has_class_token),
    )
    return params | {POSITIONS: jnp.asarray(positions)}


def _position_rows(format: Format, found: Mapping[str, StoredTensor]) -> int | None:
    """How many positions the file has; None where it says nothing."""
    shape = Shapes(format, found).get(POSITIONS, 2)
    return None if shape is None else shape[0]


def _with_head_bias(spec: ModelSpec, format: Format, found: Mapping[str, StoredTensor]) -> ModelSpec:
    """PE's head has no bias, but timm's has; one that was trained since is kept."""
    image = spec.towers.image
    if format is not PE_TIMM or PE_HEAD_BIAS not in found or not isinstance(image, ImageTowerConfig):
        return spec
    if image.projection_bias or not found[PE_HEAD_BIAS].read().any():
        return spec
    return replace(spec, towers=replace(spec.towers, image=replace(image, projection_bias=True)))
