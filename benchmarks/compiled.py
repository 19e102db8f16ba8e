"""The programs whose cost is modelled, as XLA compiles them: what its own analysis counts, what they send.

XLA counts the body of a loop once, however often it runs, so that an inversion is one evaluation with its
gradient, and a sweep one start with one step.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.band_precision import Coordinates, Positives, _sweep_block
from jaxalign.inversion.descent import Descent, descend
from jaxalign.inversion.image_path import ImagePath
from jaxalign.inversion.text_path import TextPath
from jaxalign.models import ImageTower, ImageTowerConfig, TextTower, TextTowerConfig
from jaxalign.ranking.scores import product
from jaxalign.specs import find_spec

from . import costs

DESCENT = Descent(8, 0.02, 0.01, (), None)
CLIP: Any = find_spec("clip-vit-base-patch32").towers
SIGLIP: Any = find_spec("siglip-base-patch16-224").towers
PROMPT = (0, 320, 1125, 539)  # start, a photo of


@dataclass(frozen=True)
class Program:
    """A jitted function with the shapes of its arguments, and the FLOPs that the model gives it.

    Attributes:
      arguments: static ones as they are, arrays as shapes; `options` go by name.
    """

    name: str
    function: Any
    arguments: tuple[Any, ...]
    predicted: float
    options: Any = None

    def counted(self) -> float:
        """FLOPs as XLA's cost analysis counts them, element-wise operations included."""
        compiled = self.function.lower(*self.arguments, **(self.options or {})).compile()
        return float(compiled.cost_analysis()["flops"])


def programs(scale: str) -> Iterator[Program]:
    """All of them, at "real" sizes (a batch of two, in the towers) or "tiny" ones."""
    tiny = scale == "tiny"
    small: dict[str, Any] = {"width": 64, "depth": 3, "heads": 4, "mlp_hidden": 256} if tiny else {}
    images = {**small, **({"image_size": 64, "patch_size": 16} if tiny else {})}
    texts = {**small, **({"vocabulary": 100, "projection": 48, "end_token": 1} if tiny else {})}
    clip = replace(CLIP.image, **images, **({"projection": 48} if tiny else {}))
    for name, config in (("CLIP ViT-B/32", clip), ("SigLIP B/16", replace(SIGLIP.image, **images))):
        yield image_program(f"encode, {name}", config, 2)
    for name, config in (("CLIP ViT-B/32", CLIP.text), ("SigLIP B/16", SIGLIP.text)):
        config = replace(config, **texts)
        yield text_program(f"encode, {name} text", config, 2)
        yield oti_program(f"OTI, {name}, one evaluation with its gradient", config, 2)
    yield ovi_program("OVI, CLIP ViT-B/32, one evaluation with its gradient", clip, 2)
    shape = (64, 256, 48) if tiny else (2465, 4128, 512)
    yield rank_program(f"rank, {shape[0]} x {shape[1]} x {shape[2]}", *shape)
    shape = (32, 256, 48, 64) if tiny else (1024, 4128, 512, 512)
    yield sweep_program("sweep, one start and one step", *shape, step=8 if tiny else 16)


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def parameters_of(tower: Any, example: Any) -> Any:
    """Shapes of a tower's parameters."""
    return jax.eval_shape(tower.init, jax.random.key(0), example)["params"]


def image_program(name: str, c: ImageTowerConfig, batch: int) -> Program:
    pixels = jax.ShapeDtypeStruct((batch, c.image_size, c.image_size, 3), jnp.float32)
    tower = ImageTower(c)
    function = jax.jit(lambda params, x: tower.apply({"params": params}, x)[0])
    predicted = batch * costs.image_tower(c).forward
    return Program(name, function, (parameters_of(tower, pixels), pixels), predicted)


def text_program(name: str, c: TextTowerConfig, batch: int) -> Program:
    tokens = jax.ShapeDtypeStruct((batch, c.context), jnp.int32)
    tower = TextTower(c)
    function = jax.jit(lambda params, x: tower.apply({"params": params}, x)[0])
    predicted = batch * costs.text_tower(c).forward
    return Program(name, function, (parameters_of(tower, tokens), tokens), predicted)


def oti_program(name: str, c: TextTowerConfig, batch: int) -> Program:
    before = PROMPT if c.causal else PROMPT[1:]
    after = (c.end_token,) * (1 if c.causal else c.context - len(before) - 1)
    ids = tuple(min(i, c.vocabulary - 1) for i in before)
    path = TextPath(c, jnp.dtype("float32"), ids, 1, after)
    params = parameters_of(TextTower(c), jax.ShapeDtypeStruct((1, c.context), jnp.int32))
    prepared = jax.eval_shape(lambda p: path.prepare(p), params)
    predicted = batch * costs.text_path(c, len(before), 1, len(after)).forward_and_back
    return Program(name, descend, (path, DESCENT, prepared, *targets(path, batch)), predicted)


def ovi_program(name: str, c: ImageTowerConfig, batch: int) -> Program:
    path = ImagePath(c, jnp.dtype("float32"), 4)
    side = jax.ShapeDtypeStruct((1, c.image_size, c.image_size, 3), jnp.float32)
    params = parameters_of(ImageTower(c), side)
    predicted = batch * costs.image_tower(c, patches=False).forward_and_back
    return Program(name, descend, (path, DESCENT, params, *targets(path, batch)), predicted)


def targets(path: Any, batch: int) -> list[jax.ShapeDtypeStruct]:
    """Shapes of the embeddings to reach and of the tokens to move."""
    width = path.config.projection or path.config.width
    return [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((batch, width), (batch, *path.shape))]


def rank_program(name: str, queries: int, items: int, width: int) -> Program:
    arrays = [jax.ShapeDtypeStruct((n, width), jnp.float32) for n in (queries, items)]
    function = jax.jit(lambda q, g: product(q, g, jnp.float32))
    return Program(name, function, tuple(arrays), costs.rank(queries, items, width, 0).flops)


def sweep_program(name: str, queries: int, items: int, width: int, directions: int, step: int) -> Program:
    """The loops' bodies once each: the narrowest band, one update, and what its counting unrolls."""
    struct = lambda *shape, dtype=jnp.float32: jax.ShapeDtypeStruct(shape, dtype)
    x = Coordinates(
        struct(queries, directions), struct(items, directions), struct(directions, width), struct(width)
    )
    count = struct(queries, dtype=jnp.int32)
    positives = Positives(struct(queries, 1, dtype=jnp.int32), count, count)
    axes = struct(4, dtype=jnp.int32), struct(4, dtype=jnp.int32)
    predicted = costs.sweep(queries, items, width, directions, (1, 1), step, 1).flops
    return Program(
        name, _sweep_block, (x, positives, *axes), predicted, options={"items": items, "rank": step}
    )


def collectives(compiled: Any) -> dict[str, int]:
    """How often each kind of collective stands in a compiled program, loops' bodies once."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    found = re.findall(rf" = [^=\n]*?\b({kinds})(?:-start)?\(", compiled.as_text())
    return {kind: found.count(kind) for kind in dict.fromkeys(found)}


def parameter_count(params: Any) -> int:
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params))
