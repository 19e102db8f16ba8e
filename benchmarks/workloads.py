"""What docs/scaling.md measures on this process's devices: real widths, so little work that it takes seconds.

Each gives the same numbers however many devices there are. `python -m benchmarks.workloads FILE.npz` writes
the numbers there, and seconds and collectives as JSON beside it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jaxalign as ja
from jaxalign.dual_encoder import DualEncoder
from jaxalign.inversion.batches import Examples, invert_all
from jaxalign.inversion.descent import Descent, descend
from jaxalign.inversion.image_path import ImagePath
from jaxalign.inversion.text_path import TextPath
from jaxalign.models import ImageTower, TextTower
from jaxalign.sharding import AXIS, copy_to_all, data_mesh
from jaxalign.specs import find_spec

from .compiled import CLIP, PROMPT, collectives
from .measure import seconds
from .settings import pick

DEPTH = pick(4, 1)  # of ViT-B/32's twelve blocks: eight devices hold eight copies of them
IMAGE, TEXT = replace(CLIP.image, depth=DEPTH), replace(CLIP.text, depth=DEPTH)
IMAGES, PROMPTS, CAPTIONS = pick((16, 32, 8), (8, 8, 8))
QUERIES, GALLERY, CLASSES = pick((2465, 4128, 100), (40, 64, 4))
GRID = pick(((0, 50, 100), (0, 16, 32, 48)), ((0, 2), (0, 4)))
WIDTH, DIM = pick((768, 512), (24, 16))


@dataclass(frozen=True)
class Workload:
    """One piece of work on all devices.

    Attributes:
      run: does it; unit embeddings, or precisions.
      compiled: its program.
    """

    name: str
    run: Callable[[], Any]
    compiled: Callable[[], Any]

    def collectives(self) -> dict[str, int]:
        """How often each kind stands in the program; none on one device."""
        return {} if data_mesh() is None else collectives(self.compiled())


def workloads() -> Iterator[Workload]:
    yield encoding()
    yield textual_inversion()
    yield visual_inversion()
    yield ranking()
    yield sweeping()


def random_parameters(tower: Any, example: Any) -> Any:
    """Of every shape, from one seed, on the host."""
    shapes = jax.eval_shape(tower.init, jax.random.key(0), example)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(0.02 * rng.standard_normal(x.shape, np.float32)), shapes)


def unit(x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def struct(shape: tuple[int, ...], spec: PartitionSpec, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    """A shape that lies on the mesh in a certain way."""
    mesh = data_mesh()
    assert mesh is not None  # asked for on several devices only
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))


def encoding() -> Workload:
    side, devices = IMAGE.image_size, len(jax.devices())
    tower = ImageTower(IMAGE)
    params = random_parameters(tower, jnp.zeros((1, side, side, 3)))
    mesh = data_mesh()
    params = params if mesh is None else copy_to_all(params, mesh)
    spec = find_spec("clip-vit-base-patch32")
    model = DualEncoder(replace(spec, towers=replace(spec.towers, image=IMAGE)), {"img": params})
    pixels = np.random.default_rng(1).standard_normal((IMAGES, side, side, 3), np.float32)
    run = lambda: unit(model.encode_image(pixels, batch_size=IMAGES // devices, mesh=mesh))

    def compiled() -> Any:
        apply = jax.jit(lambda p, x: tower.apply({"params": p}, x))
        return apply.lower(params, struct(pixels.shape, PartitionSpec(AXIS))).compile()

    return Workload(f"encode {IMAGES} images", run, compiled)


def textual_inversion() -> Workload:
    path = TextPath(TEXT, jnp.dtype("float32"), PROMPT, 1, (TEXT.end_token,))
    params = random_parameters(TextTower(TEXT), jnp.zeros((1, TEXT.context), jnp.int32))
    return inversion(f"OTI, {PROMPTS} images, 9 steps", path, params, PROMPTS, 9)


def visual_inversion() -> Workload:
    path, side = ImagePath(IMAGE, jnp.dtype("float32"), 4), IMAGE.image_size
    params = random_parameters(ImageTower(IMAGE), jnp.zeros((1, side, side, 3)))
    return inversion(f"OVI, {CAPTIONS} texts, 1 step", path, params, CAPTIONS, 1)


def inversion(name: str, path: Any, params: Any, count: int, steps: int) -> Workload:
    descent = Descent(steps, 0.02, 0.01, (), None)
    targets = jnp.asarray(np.random.default_rng(2).standard_normal((count, TEXT.projection), np.float32))
    examples = Examples(targets, jnp.arange(count), jax.random.key(0), None)
    run = lambda: unit(invert_all(path, descent, params, examples, count, data_mesh(), None).embeddings)

    def compiled() -> Any:
        divided = partial(struct, spec=PartitionSpec(AXIS))
        mesh: Any = data_mesh()
        prepared = copy_to_all(path.prepare(params), mesh)
        arrays = (divided(targets.shape), divided((count, *path.shape)))
        return descend.lower(path, descent, prepared, *arrays).compile()

    return Workload(name, run, compiled)


def labelled(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries, gallery and their labels, around a centre for each class."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((CLASSES, width), np.float32)
    labels = np.arange(QUERIES) % CLASSES, np.arange(GALLERY) % CLASSES
    query, gallery = (centres[y] + 3 * rng.standard_normal((len(y), width), np.float32) for y in labels)
    return query, gallery, *labels


def ranking() -> Workload:
    from jaxalign.ranking.rank_counts import _count, _Lists

    query, gallery, query_labels, gallery_labels = labelled(DIM)
    relevant = query_labels[:, None] == gallery_labels
    run = lambda: ja.average_precision(query, gallery, relevant, mesh=data_mesh())

    def compiled() -> Any:
        whole, number, count = PartitionSpec(), jnp.int32, len(jax.devices())
        lists = [_Lists(struct((128, 128), whole, number), struct((128, 0), whole, number))]
        divided = struct((-(-GALLERY // count) * count, DIM), PartitionSpec(AXIS))
        given = struct((128, DIM), whole), lists, struct((), whole, number), divided
        return _count.lower(*given, mesh=data_mesh(), dtype=jnp.dtype("float32")).compile()

    return Workload(f"rank {QUERIES:,} x {GALLERY:,}", run, compiled)


def sweeping() -> Workload:
    rng = np.random.default_rng(4)
    image, text = (rng.standard_normal((w, DIM), np.float32) / w**0.5 for w in (WIDTH, DIM))
    projectors = ja.Projectors(ja.Projector(jnp.asarray(image)), ja.Projector(jnp.asarray(text)))
    features, (k_top, k_bottom) = labelled(WIDTH), GRID
    sweep = partial(ja.sweep_bands, projectors, *features, k_top=k_top, k_bottom=k_bottom)
    run = lambda: sweep(mesh=data_mesh()).mAP / 100

    def compiled() -> Any:
        from jaxalign.band_precision import Coordinates, Positives, _sweep_over_mesh

        whole, divided, rows = PartitionSpec(), PartitionSpec(AXIS), 32 * len(jax.devices())
        shape = struct((128, DIM), whole), struct((rows, DIM), divided), struct((DIM, DIM), whole)
        x = Coordinates(*shape, struct((DIM,), whole))
        count = struct((128,), whole, jnp.int32)
        given = x, Positives(struct((128, 8), whole, jnp.int32), count, count), *(count,) * 2
        options = {"items": rows, "rank": 16 if DIM > 128 else None, "mesh": data_mesh()}
        return _sweep_over_mesh.lower(*given, **options).compile()

    name = f"sweep {len(k_top)} x {len(k_bottom)} bands, {QUERIES:,} x {GALLERY:,}"
    return Workload(name, run, compiled)


def main(file: Path) -> None:
    facts, arrays = {}, {}
    for work in workloads():
        taken, _ = seconds(work.run, repeats=3, budget=5)
        arrays[work.name] = np.asarray(work.run())
        facts[work.name] = {"seconds": taken, "collectives": work.collectives()}
    np.savez(file, allow_pickle=False, **arrays)
    file.with_suffix(".json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
