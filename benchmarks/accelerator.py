"""One prepared run of at most eight minutes on one GPU: `python -m benchmarks accelerator --out FILE.json`.

Towers, OTI, OVI, ranking, a sweep, few-shot LDA and embedding from JPEGs, at real widths with random weights:
nothing is fetched. Each is run by turns with PyTorch on the same kind of device where that is installed, and
else held against its floor. Before it is timed, some of the work is done on the CPU too, and what both give
may differ by `BOUND`. What does not begin within `BUDGET` is said to be left out.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja
from jaxalign.inversion.descent import Descent, descend
from jaxalign.inversion.image_path import ImagePath
from jaxalign.inversion.text_path import TextPath
from jaxalign.models import ImageTower, TextTower

from . import costs, encoding, few_shot, inversion, ranking, sweep
from .measure import Claim, pair, seconds
from .settings import pick

BUDGET = 400.0  # seconds in which work may begin; the longest takes less than what is left of eight minutes
# Of unit embeddings, kernels of unit scale and precisions in 0 .. 1. Two devices add in other orders: some
# 1e-6 after a tower's twelve blocks, which three steps of AdamW, whose first is a sign, take further.
BOUND = {"encode": 1e-5, "OTI": 1e-3, "OVI": 1e-3, "ranking": 1e-4, "sweep": 1e-4, "few-shot": 1e-3}
IMAGES, TEXTS, PROMPTS, PSEUDO_IMAGES = pick((256, 256, 256, 64), (4, 4, 4, 4))
COMPARED, STEPS = pick((8, 9), (2, 1))


@dataclass(frozen=True)
class Work:
    """Something to be timed.

    Attributes:
      name: begins with a key of BOUND.
      run: all of it.
      some: so much of it as the CPU does in seconds; arrays to be compared.
      cost: of `run`.
      reference: makes a call that does the same in PyTorch, on PyTorch's default device.
      scale: how often `reference` would have to be called for what one call of `run` does.
      program: the compiled program of `run`, for the memory that it plans; None where it is not one program.
    """

    name: str
    run: Callable[[], Any]
    some: Callable[[], Any]
    cost: costs.Cost
    reference: Callable[[], Callable[[], Any]]
    scale: float = 1.0
    program: Callable[[], Any] | None = None


def claims() -> Iterator[Claim]:
    """Products in full float32 everywhere, as the CPU's are: an accelerator's default is less."""
    with jax.default_matmul_precision("highest"):
        yield from _claims()


def _claims() -> Iterator[Claim]:
    start = time.perf_counter()
    works = {"images": image_tower, "texts": text_tower, "OTI": oti, "OVI": ovi, "ranking": rank}
    works |= {"sweep": sweep_grid, "few-shot": classifiers, "embedding": encoding.throughput_claim}
    for name, make in works.items():
        if time.perf_counter() - start > BUDGET:
            print(f"accelerator: no time is left for {name}")
            continue
        made = make()
        yield claim(made) if isinstance(made, Work) else made


def claim(work: Work) -> Claim:
    """Compared with the CPU, then timed."""
    apart = difference(work)
    reference = torch_reference(work)
    if reference is None:
        taken, compiling = seconds(work.run, repeats=5, budget=10)
        theirs = None
    else:
        taken, theirs, compiling = pair(work.run, reference, repeats=5, budget=20)
    found = Claim(
        f"{work.name} ({memory(work)}CPU's to {apart:.0e})",
        taken,
        compiling,
        "the floor; no PyTorch here" if theirs is None else f"PyTorch on {torch_device()}",
        0.0 if theirs is None else theirs * work.scale,
        flops=work.cost.flops,
        bytes=work.cost.bytes,
    )
    return found if theirs is not None else replace(found, reference_seconds=found.floor_seconds or 0.0)


def difference(work: Work) -> float:
    """The largest between what this device and the CPU give; raises SystemExit where it is out of bounds."""
    here = work.some()
    with jax.default_device(jax.devices("cpu")[0]):
        there = work.some()
    pairs = zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True)
    apart = max(float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).max()) for a, b in pairs)
    bound = BOUND[work.name.split(",")[0]]
    if not apart <= bound:
        raise SystemExit(f"{work.name}: {apart:.1e} from what the CPU gives; expected at most {bound:.0e}")
    return apart


def memory(work: Work) -> str:
    """The most that the device has held so far, or what the program plans where the device does not say."""
    held = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in held:
        return f"peak so far {held['peak_bytes_in_use'] / 2**20:,.0f} MiB; "
    plan = None if work.program is None else work.program().memory_analysis()
    return "" if plan is None else f"{plan.temp_size_in_bytes / 2**20:,.0f} MiB planned; "


# PyTorch.


def torch_device() -> str | None:
    """PyTorch's name of the device that JAX uses here; None where it is not installed or cannot use that."""
    try:
        import torch
    except ImportError:
        return None
    if jax.default_backend() == "cpu":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else None


def torch_reference(work: Work) -> Callable[[], Any] | None:
    """One call, waited for, with everything that it makes on that device."""
    device = torch_device()
    if device is None:
        return None
    import torch

    with torch.device(device):
        reference = work.reference()

    def call() -> None:
        with torch.device(device):
            reference()
        if device == "cuda":
            torch.cuda.synchronize()

    return call


# What is measured.


def drawn(tower: Any, example: Any) -> Any:
    """Parameters of a tower, the same on every device."""
    shapes = jax.eval_shape(tower.init, jax.random.key(0), example)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: 0.02 * rng.standard_normal(x.shape, np.float32), shapes)


def unit(x: Any) -> jax.Array:
    return x / jnp.linalg.norm(x, axis=1, keepdims=True)


def image_tower() -> Work:
    config = inversion.CLIP_IMAGE
    shape = (IMAGES, config.image_size, config.image_size, 3)
    pixels = np.random.default_rng(1).standard_normal(shape, np.float32)

    def reference() -> Callable[[], Any]:
        import torch
        import transformers

        sizes = inversion._sizes(config)
        about = transformers.CLIPVisionConfig(image_size=224, patch_size=32, projection_dim=512, **sizes)
        model = transformers.CLIPVisionModelWithProjection(about).eval()
        x = torch.tensor(pixels.transpose(0, 3, 1, 2).copy())
        return torch.no_grad()(lambda: model(x))

    return encode("images", ImageTower(config), pixels, costs.image_tower(config), reference)


def text_tower() -> Work:
    config = inversion.CLIP_TEXT
    ids = np.random.default_rng(1).integers(2, config.vocabulary, (TEXTS, config.context), np.int32)
    ids[:, -1] = inversion.CLIP_TEXT.end_token

    def reference() -> Callable[[], Any]:
        import torch
        import transformers

        special = {"vocab_size": config.vocabulary, "bos_token_id": 0, "eos_token_id": 1}
        about = transformers.CLIPTextConfig(projection_dim=512, **special, **inversion._sizes(config))
        model = transformers.CLIPTextModelWithProjection(about).eval()
        x = torch.tensor(ids, dtype=torch.long)
        return torch.no_grad()(lambda: model(x))

    return encode("texts", TextTower(config), ids, costs.text_tower(config), reference)


def encode(name: str, net: Any, given: np.ndarray, products: costs.Products, reference: Any) -> Work:
    """A batch of pixels or tokens that lies on the device already."""
    params = drawn(net, given[:1])
    apply = jax.jit(lambda p, x: unit(net.apply({"params": p}, x)[0]))
    on_device = jax.device_put((params, given))
    size = given.nbytes + sum(x.nbytes for x in jax.tree.leaves(params))
    return Work(
        f"encode, CLIP ViT-B/32, {len(given)} {name}",
        lambda: apply(*on_device),
        lambda: apply(params, given[:COMPARED]),
        costs.Cost(len(given) * products.forward, size),
        reference,
        program=lambda: apply.lower(*on_device).compile(),
    )


def oti() -> Work:
    config = inversion.CLIP_TEXT
    path = TextPath(config, jnp.dtype("float32"), inversion.PROMPT, 1, (config.end_token,))
    params = drawn(TextTower(config), jnp.zeros((1, config.context), jnp.int32))
    products = costs.text_path(config, len(inversion.PROMPT), 1, 1)
    return descent("OTI", path, params, products, PROMPTS, inversion._clip_text_loop)


def ovi() -> Work:
    config = inversion.CLIP_IMAGE
    path, side = ImagePath(config, jnp.dtype("float32"), 4), config.image_size
    params = drawn(ImageTower(config), jnp.zeros((1, side, side, 3)))
    products = costs.image_tower(config, patches=False)
    return descent("OVI", path, params, products, PSEUDO_IMAGES, inversion._clip_image_loop)


def descent(kind: str, path: Any, params: Any, products: costs.Products, count: int, loop: Any) -> Work:
    """`STEPS` updates of `count` examples; PyTorch does one at a time."""
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((count, path.config.projection), np.float32)
    tokens = 0.02 * rng.standard_normal((count, *path.shape), np.float32)
    go = lambda n, params, steps: descend(
        path, Descent(steps, 0.02, 0.01, (), None), path.prepare(params), targets[:n], tokens[:n]
    )
    on_device = jax.device_put(params)
    size = sum(x.nbytes for x in jax.tree.leaves(params))
    full = Descent(STEPS, 0.02, 0.01, (), None)
    return Work(
        f"{kind}, CLIP ViT-B/32, batch {count}, {STEPS} steps",
        lambda: go(count, on_device, STEPS),
        lambda: unit(go(COMPARED, params, min(STEPS, 3)).embeddings),
        costs.invert(products, size // costs.FLOAT, count, count, STEPS),
        lambda: loop(count),
        STEPS + 1,
        lambda: descend.lower(path, full, path.prepare(on_device), targets, tokens).compile(),
    )


def rank() -> Work:
    queries, items, classes, _ = next(iter(ranking.SHAPES.values()))
    gallery, labels = ranking.class_features(items, classes, seed=0)
    query, query_labels = ranking.class_features(queries, classes, seed=1)
    host = np.asarray(query), np.asarray(gallery)
    metrics = lambda q, g: ja.retrieval_metrics(q, g, query_labels, labels)
    return Work(
        f"ranking, {queries:,} x {items:,} x {ranking.WIDTH}, {classes} classes",
        lambda: metrics(query, gallery),
        lambda: metrics(*host)["mAP"] / 100,
        costs.rank(queries, items, ranking.WIDTH, items // classes),
        lambda: torch_ranking(*host, query_labels, labels),
    )


def torch_ranking(query: Any, gallery: Any, query_labels: Any, labels: Any) -> Callable[[], float]:
    """Mean average precision of all queries at once, as one writes it for a GPU."""
    import torch

    query, gallery = torch.tensor(query), torch.tensor(gallery)
    query_labels, labels = torch.tensor(query_labels), torch.tensor(labels)

    def run() -> float:
        order = (query @ gallery.T).argsort(1, descending=True)
        hits = (labels[order] == query_labels[:, None]).float()
        ranks = torch.arange(1, len(labels) + 1)
        return float(((hits.cumsum(1) / ranks * hits).sum(1) / hits.sum(1)).mean())

    return run


def sweep_grid() -> Work:
    """Against one band of the published procedure, which runs again for each."""
    problem = sweep._problem()
    grid = {"k_top": sweep.K_TOP, "k_bottom": sweep.K_BOTTOM}
    few = {name: values[:2] for name, values in grid.items()}
    cells = len(sweep.K_TOP) * len(sweep.K_BOTTOM)
    cost = costs.Cost(sweep.floor_flops(), 0.0)
    return Work(
        f"sweep, {len(sweep.K_TOP)} x {len(sweep.K_BOTTOM)} bands, {sweep.QUERIES:,} x {sweep.GALLERY:,}",
        lambda: ja.sweep_bands(*problem, **grid).mAP,
        lambda: ja.sweep_bands(*jax.tree.map(np.asarray, problem), **few).mAP / 100,
        cost,
        lambda: partial(sweep._published_procedure(*problem), *sweep.REFERENCE_CELLS[-1]),
        cells,
    )


def classifiers() -> Work:
    """LDA on features of the largest data set of eleven, three seeds at once."""
    classes, shots = few_shot.CLASSES[0], few_shot.SHOTS[-1]
    support = np.asarray(few_shot._support(classes, shots))
    fit = jax.jit(jax.vmap(lambda x: few_shot._fit(x, classes, shots)))
    largest_one = lambda x: x / jnp.abs(x).max()
    on_device = jax.device_put(support)

    def reference() -> Callable[[], Any]:
        import torch

        x, y = torch.tensor(support[0]), torch.arange(classes).repeat_interleave(shots)
        return lambda: few_shot._published(torch, x, y, classes)

    shape = f"{classes} classes x {shots} shots x {few_shot.SEEDS} seeds"
    return Work(
        f"few-shot, LDA of {shape}, width {few_shot.WIDTH}",
        lambda: fit(on_device),
        lambda: largest_one(fit(support).kernel),
        costs.Cost(few_shot.SEEDS * few_shot._flops(classes, classes * shots), support.nbytes),
        reference,
        few_shot.SEEDS,
        lambda: fit.lower(on_device).compile(),
    )
