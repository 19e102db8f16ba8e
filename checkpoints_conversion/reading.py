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

from .engine import Table, convert
from .facts import choose_spec
from .layouts import Layout, find_layout, is_checkpoint, read_tensors
from .rules import find_table
from .rules.big_vision import BIG_VISION, for_file, plain_names, stacked_towers
from .rules.timm_trunks import PE_TIMM
from .sizes import Shapes, fit_towers

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
    layout = find_layout(path, with_facts=not isinstance(spec, ModelSpec))
    found = read_tensors(layout.weights)
    if any(name.startswith(("params/", "img/")) for name in found):
        found = plain_names(found)
    table = find_table(found, str(layout.weights))
    tensors = {name: tensor for name, tensor in found.items() if not tensor.is_object}
    stacked = stacked_towers(tensors) if table is BIG_VISION else ()
    table = for_file(table, tensors) if table is BIG_VISION else table
    if isinstance(spec, ModelSpec):
        facts = unproven(spec, path)
    else:
        facts = _find_facts(path, layout, table, tensors, spec)
    facts = _with_head_bias(facts, table, tensors)
    params = _convert(table, found, facts, str(layout.weights))
    tokenizer = _tokenizer(facts, layout)
    return DualEncoder(facts, unflatten(params), tokenizer, stacked=stacked)


def _tokenizer(spec: ModelSpec, layout: Layout) -> Tokenizer | None:
    """As the configuration and its files have it, or what the folder holds beside a file without any."""
    tokens = layout.facts.tokens
    if tokens is None or spec.towers.text is None:
        return load_tokenizer(spec, layout.folder)
    return make_tokenizer(spec, tokens.vocabulary, tokens.where)


def _find_facts(
    path: Path, layout: Layout, table: Table, found: Mapping[str, StoredTensor], stated: str | None
) -> ModelSpec:
    """The record of a published file, else the facts of a model of its own."""
    record = None
    if not layout.weights.name.endswith(INDEX):
        known = [find_spec(name) for name in table.models]
        alike = [spec for spec in known if fit_towers(spec, table, found) == spec.towers]
        record = published_as(layout.weights, alike)
    try:
        facts = choose_spec(
            table,
            found,
            layout.facts,
            name_after(path),
            source=os.path.abspath(path),
            stated=find_spec(stated) if stated else None,
            published=record,
            is_torchscript="input_resolution" in found,
        )
    except JaxalignError as error:
        raise JaxalignError(f"{path}: {error}") from error
    if record is None:
        return facts
    as_record = claimed(facts, record)
    # A configuration may say other settings, and whose code resizes images.
    is_as_published = replace(as_record, pipeline=record.pipeline) == record
    if stated and not is_as_published:
        raise JaxalignError(
            f"{path} is the published file of {record.name}, whose settings are not those of spec {stated!r};"
            " leave out spec"
        )
    return as_record if is_as_published else facts


def _convert(
    table: Table, found: Mapping[str, StoredTensor], spec: ModelSpec, where: str
) -> dict[str, jax.Array]:
    """Parameters by path, positions brought to the size that `spec` asks for."""
    try:
        wanted = expected_shapes(spec.towers)
    except JaxalignError as error:
        raise JaxalignError(f"{where}: {error}") from error
    image = spec.towers.image
    rows = _position_rows(table, found)
    if spec.position_resampling is None or POSITIONS not in wanted or rows in (None, wanted[POSITIONS][1]):
        return convert(table, found, wanted, where)
    assert isinstance(image, ImageTowerConfig)  # no other tower has such positions
    params = convert(table, found, wanted | {POSITIONS: (1, rows, image.width)}, where)
    positions = resample_positions(
        np.asarray(params[POSITIONS]),
        image.grid,
        spec.position_resampling,
        prefix=int(image.has_class_token),
    )
    return params | {POSITIONS: jnp.asarray(positions)}


def _position_rows(table: Table, found: Mapping[str, StoredTensor]) -> int | None:
    """How many positions the file has; None where it says nothing."""
    shape = Shapes(table, found).get(POSITIONS, 2)
    return None if shape is None else shape[0]


def _with_head_bias(spec: ModelSpec, table: Table, found: Mapping[str, StoredTensor]) -> ModelSpec:
    """PE's head has no bias, but timm's has; one that was trained since is kept."""
    image = spec.towers.image
    if table is not PE_TIMM or PE_HEAD_BIAS not in found or not isinstance(image, ImageTowerConfig):
        return spec
    if image.projection_bias or not found[PE_HEAD_BIAS].read().any():
        return spec
    return replace(spec, towers=replace(spec.towers, image=replace(image, projection_bias=True)))
