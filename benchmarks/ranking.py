"""Retrieval metrics against the product alone, the published loop, and reading the gallery once."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.ranking.cosine_ranking import rank_statistics
from jaxalign.ranking.relevance import Relevance, check_table
from jaxalign.ranking.retrieval import retrieval_metrics

from .measure import Claim, interleaved, memory_peak, pair, seconds
from .settings import pick

WIDTH = pick(512, 16)
# Queries, gallery, classes, whether the queries are the gallery.
SHAPES = pick(
    {
        "2,465 x 4,128, 100 classes": (2465, 4128, 100, False),
        "8,100 x 13,500, 10 classes (EuroSAT)": (8100, 13500, 10, False),
        "11,788 self, 200 classes (CUB)": (11788, 11788, 200, True),
    },
    {"40 x 60, 4 classes": (40, 60, 4, False), "50 self, 5 classes": (50, 50, 5, True)},
)
MILLION = pick(1_000_000, 1000)
MOST_LOOPED = 500  # queries of the published loop; its time is proportional to their number


def claims() -> Iterator[Claim]:
    for name, shape in SHAPES.items():
        yield from shape_claims(name, *shape)
    yield from million_claims()


def shape_claims(name: str, queries: int, items: int, classes: int, own: bool) -> Iterator[Claim]:
    gallery, gallery_labels = class_features(items, classes, seed=0)
    query, query_labels = (gallery, gallery_labels) if own else class_features(queries, classes, seed=1)
    metrics = lambda dtype=jnp.float32: retrieval_metrics(
        query, gallery, query_labels, gallery_labels, exclude_self=own, dtype=dtype
    )
    product = jax.jit(lambda q, g: jnp.matmul(q, g.T, precision="highest"))
    (ours, half, alone), (compiling, *_) = interleaved(
        [metrics, lambda: metrics(jnp.bfloat16), lambda: product(query, gallery)]
    )
    flops = 2.0 * queries * items * WIDTH
    title = f"retrieval_metrics, {name}"
    yield Claim(title, ours, compiling, "the product q @ g.T alone", alone, 1 / 2.5, flops)
    change = metrics(jnp.bfloat16)["mAP"] - metrics()["mAP"]
    rounded = f"{title}, bfloat16 (mAP {metrics()['mAP']:.3f} {change:+.4f})"
    yield Claim(rounded, half, 0.0, "float32", ours, flops=flops)
    loop = published_loop(query, gallery, query_labels, gallery_labels, own)
    if loop is None:
        print(f"{title}: torchmetrics is not installed, so the published loop is not timed")
        return
    ours, looped, _ = pair(metrics, loop)
    looped *= queries / min(queries, MOST_LOOPED)
    how = "published loop over queries, torchmetrics"
    if queries > MOST_LOOPED:
        how += f", {MOST_LOOPED} of them times {queries / MOST_LOOPED:.1f}"
    yield Claim(title, ours, compiling, how, looped, 8, flops)


def class_features(count: int, classes: int, seed: int) -> tuple[jax.Array, np.ndarray]:
    """Unit vectors around one centre per class, apart enough for an mAP in the middle of the scale."""
    centres = np.random.default_rng(99).normal(size=(classes, WIDTH))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    x = centres[labels] + 3 * rng.normal(size=(count, WIDTH))
    return jnp.asarray(x / np.linalg.norm(x, axis=1, keepdims=True), jnp.float32), labels


def published_loop(
    query: jax.Array, gallery: jax.Array, query_labels: np.ndarray, gallery_labels: np.ndarray, own: bool
) -> Callable[[], float] | None:
    """torchmetrics' average precision for each query, after the product of all with all.

    torchmetrics since 1.8 takes scores of 0 and below for irrelevant; 2 is added, which cosines do not mind.
    """
    try:
        import torch
        from torchmetrics.functional.retrieval import retrieval_average_precision
    except ImportError:
        return None
    count = min(len(query_labels), MOST_LOOPED)
    q, g = torch.tensor(np.asarray(query)[:count]), torch.tensor(np.asarray(gallery))
    q_labels, g_labels = torch.tensor(query_labels[:count]), torch.tensor(gallery_labels)

    def loop() -> float:
        scores = q @ g.T + 2
        values = []
        for i in range(count):
            row, target = scores[i], g_labels == q_labels[i]
            if own:
                keep = torch.arange(len(row)) != i
                row, target = row[keep], target[keep]
            values.append(retrieval_average_precision(row, target))
        return float(torch.stack(values).mean())

    return loop


def million_claims() -> Iterator[Claim]:
    """R1M: 70 queries, a gallery of a million in float16, lists of positives as in ROxford."""
    queries, items, step = 70, MILLION, min(MILLION, 50_000)
    rng = np.random.default_rng(0)
    gallery = np.empty((items, WIDTH), np.float16)
    for start in range(0, items, step):
        gallery[start : start + step] = rng.standard_normal((step, WIDTH), np.float32)
    gallery = jnp.asarray(gallery)
    query = jnp.asarray(rng.standard_normal((queries, WIDTH), np.float32))
    lists = [rng.integers(0, items, 100).tolist() for _ in range(queries)]
    relevance = Relevance(table=check_table("relevant", lists, (queries, items)))
    flops, size = 2.0 * queries * items * WIDTH, float(gallery.nbytes)
    once = size / memory_peak()
    for dtype in (jnp.float32, jnp.bfloat16):
        ours, compiling = seconds(
            lambda dtype=dtype: rank_statistics(query, gallery, relevance, dtype=dtype), repeats=3
        )
        yield Claim(
            f"ranking 70 x {items:,} (R1M), float16 gallery, {jnp.dtype(dtype)} products",
            ours,
            compiling,
            "reading the gallery once",
            once,
            1 / 2 if dtype == jnp.float32 else None,
            flops,
            size,
        )
