"""Parameters as flat tables of tensors, and the check that a table is complete and fits."""

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from jaxalign.errors import JaxalignError
from jaxalign.models import ResNetConfig, TwoTowers, TwoTowersConfig

STORED_DTYPES = ("float16", "bfloat16", "float32")
DEEPEST = 1000  # blocks; a wrong number would otherwise take all memory for its names
_MENTIONED = 10  # tensors of each kind that one message names


def check_tensors(
    found: Mapping[str, tuple[tuple[int, ...], str]], config: TwoTowersConfig, where: str
) -> None:
    """Raise one JaxalignError with every tensor that is missing, left over, misshapen or of a strange dtype.

    Args:
      found: (shape, dtype name) of each tensor, by the path of its parameter, joined with "/".
      config: says what `TwoTowers` needs.
      where: the file, for the message.
    """
    compare_tensors(found, expected_shapes(config), where)


def compare_tensors(
    found: Mapping[str, tuple[tuple[int, ...], str]], wanted: Mapping[str, tuple[int, ...]], where: str
) -> None:
    """The same against the shapes that are `wanted`, by path."""
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    near = {name: get_close_matches(name, missing, 1, 0.8) for name in extra[:_MENTIONED]}
    kinds = {
        "missing": missing,
        "left over": [name + (f" (meant {near[name][0]}?)" if near.get(name) else "") for name in extra],
        "misshapen": [
            f"{name} is {found[name][0]}, expected {shape}"
            for name, shape in wanted.items()
            if name in found and found[name][0] != shape
        ],
        "of a wrong dtype": [
            f"{k} is {d}, expected {'/'.join(STORED_DTYPES)}"
            for k, (_, d) in found.items()
            if d not in STORED_DTYPES
        ],
    }
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:_MENTIONED])}{', ...' if len(names) > _MENTIONED else ''}"
        for kind, names in kinds.items()
        if names
    ]
    if problems:
        raise JaxalignError(f"the tensors of {where} do not fit the configuration: {'; '.join(problems)}")


def expected_shapes(config: TwoTowersConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of `TwoTowers`, by its path joined with "/"; nothing is computed."""
    return dict(_expected_shapes(config))


@cache
def _expected_shapes(config: TwoTowersConfig) -> dict[str, tuple[int, ...]]:
    """Traced with one block of a kind, the others being alike: tracing all of them takes seconds."""
    image, text = config.image, config.text
    if isinstance(image, ResNetConfig):
        depths = image.stage_depths
        shallow = replace(image, stage_depths=tuple(min(depth, 2) for depth in depths))
        blocks = {f"img/layer{i + 1}_1/": (f"img/layer{i + 1}_", 1, d) for i, d in enumerate(depths)}
    else:
        shallow = replace(image, depth=1)
        blocks = {"img/Transformer/encoderblock_0/": ("img/Transformer/encoderblock_", 0, image.depth)}
    if text is not None:
        blocks["txt/Encoder_0/encoderblock_0/"] = ("txt/Encoder_0/encoderblock_", 0, text.depth)
    deepest = max(depth for _, _, depth in blocks.values())
    if deepest > DEEPEST:
        raise JaxalignError(f"{deepest} blocks in a tower; expected at most {DEEPEST}: a damaged file?")
    shapes = _traced_shapes(replace(config, image=shallow, text=text and replace(text, depth=1)))
    for prefix, (name, first, depth) in blocks.items():
        alike = {path.removeprefix(prefix): s for path, s in shapes.items() if path.startswith(prefix)}
        shapes |= {f"{name}{i}/{path}": s for i in range(first, depth) for path, s in alike.items()}
    return shapes


def _traced_shapes(config: TwoTowersConfig) -> dict[str, tuple[int, ...]]:
    side = config.image.image_size
    pixels = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    tokens = None if config.text is None else jax.ShapeDtypeStruct((1, config.text.context), jnp.int32)
    try:
        key = jax.eval_shape(lambda: jax.random.key(0))  # making one would compile a program
        variables = jax.eval_shape(TwoTowers(config).init, key, pixels, tokens)
    except OverflowError as error:
        towers = [vars(tower) for tower in (config.image, config.text) if tower is not None]
        largest = max(size for tower in towers for size in tower.values() if isinstance(size, int))
        raise JaxalignError(
            f"a tower with a size of {largest:,} cannot be computed: a damaged file?"
        ) from error
    return {name: leaf.shape for name, leaf in flatten(variables["params"]).items()}


def flatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries as one, keys joined with "/"."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unflatten(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, tensor in tensors.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = tensor
    return tree
