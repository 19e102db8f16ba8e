"""A grid of bands: our one compiled program against the published procedure, run again for every band."""

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxalign as ja

from .measure import Claim, seconds
from .settings import pick

# Caltech101's shape at ViT-B/32: test queries, training gallery, width before and after the head.
QUERIES, GALLERY, WIDTH, DIM, CLASSES = pick((2465, 4128, 768, 512, 100), (40, 60, 24, 16, 4))
K_TOP, K_BOTTOM = pick((tuple(range(0, 260, 10)), tuple(range(0, 160, 10))), ((0, 2, 4), (0, 3)))
REFERENCE_CELLS = pick(((0, 0), (150, 50), (250, 150)), ((0, 0), (2, 3), (4, 3)))


def claims() -> Iterator[Claim]:
    """One claim, with the compilation in our time: a sweep is run once."""
    if importlib.util.find_spec("torch") is None:
        print("sweep: skipped, PyTorch is not installed (pip install 'jaxalign[reference]')")
        return
    projectors, query, gallery, query_labels, gallery_labels = _problem()

    swept: list[ja.BandSweep] = []

    def ours() -> None:
        problem = projectors, query, gallery, query_labels, gallery_labels
        swept.append(ja.sweep_bands(*problem, k_top=K_TOP, k_bottom=K_BOTTOM))

    reference = _published_procedure(projectors, query, gallery, query_labels, gallery_labels)
    before = [seconds(lambda cell=cell: reference(*cell), repeats=2)[0] for cell in REFERENCE_CELLS]
    warm, compiling = seconds(ours, repeats=1)
    after = [seconds(lambda cell=cell: reference(*cell), repeats=2)[0] for cell in REFERENCE_CELLS]
    _check_agreement(swept[-1], reference)
    cells = len(K_TOP) * len(K_BOTTOM)
    yield Claim(
        name=f"sweep_bands, {len(K_TOP)} x {len(K_BOTTOM)} bands, {QUERIES} x {GALLERY} x {DIM},"
        f" {CLASSES} classes, with compilation; reference: fastest of {len(REFERENCE_CELLS)} bands, scaled",
        seconds=warm + compiling,
        compile_seconds=compiling,
        reference="PyTorch, per band: SVD, heads, features, scores, AP query by query",
        reference_seconds=min(before + after) * cells,
        at_least=8,
        flops=floor_flops(),
    )


def floor_flops() -> float:
    """Multiply-adds, twice, of the scores alone when each direction's share is computed once per start.

    The widest band of every `k_top` as one product, all other bands as prefixes of it.
    """
    r = min(WIDTH, DIM)
    return sum(2.0 * QUERIES * GALLERY * (r - min(K_BOTTOM) - start) for start in K_TOP)


def _problem() -> tuple[ja.Projectors, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    projectors = ja.Projectors(
        image=ja.Projector(jnp.asarray(draw(WIDTH, DIM) / WIDTH**0.5)),
        text=ja.Projector(jnp.asarray(draw(DIM, DIM) / DIM**0.5)),
    )
    centres = draw(CLASSES, WIDTH)
    query_labels, gallery_labels = np.arange(QUERIES) % CLASSES, np.arange(GALLERY) % CLASSES
    query = centres[query_labels] + 4 * draw(QUERIES, WIDTH)
    gallery = centres[gallery_labels] + 4 * draw(GALLERY, WIDTH)
    return projectors, query, gallery, query_labels, gallery_labels


def _published_procedure(
    projectors: ja.Projectors, query: Any, gallery: Any, query_labels: Any, gallery_labels: Any
) -> Callable[[int, int], float]:
    """mAP in percent of one band, as a run of the published code computes it, of its metrics mAP alone."""
    import torch

    image, text = (torch.tensor(np.asarray(head.kernel)) for head in (projectors.image, projectors.text))
    query, gallery = torch.tensor(query), torch.tensor(gallery)
    query_labels, gallery_labels = torch.tensor(query_labels), torch.tensor(gallery_labels)
    threads = torch.get_num_threads()

    def average_precision(scores: torch.Tensor, relevant: torch.Tensor) -> torch.Tensor:
        hits = relevant[scores.argsort(descending=True)]
        ranks = torch.arange(1, len(hits) + 1)[hits]
        return (torch.arange(1, len(ranks) + 1) / ranks).mean()

    @torch.no_grad()
    def run(k_top: int, k_bottom: int) -> float:
        u, s, _ = torch.linalg.svd(image @ text.T, full_matrices=False)
        band = u[:, k_top : len(s) - k_bottom]
        head = band @ band.T @ image
        normalize = torch.nn.functional.normalize
        embedded, items = normalize(query @ head), normalize(gallery @ head)
        scores = torch.vstack([part @ items.T for part in embedded.split(32)])
        torch.set_num_threads(1)  # rows are too short to share: with all threads this loop is slower
        found = [
            average_precision(scores[i], gallery_labels == query_labels[i]).item() for i in range(len(scores))
        ]
        torch.set_num_threads(threads)
        return 100 * float(np.mean(found))

    return run


def _check_agreement(swept: ja.BandSweep, reference: Callable[[int, int], float]) -> None:
    for k_top, k_bottom in REFERENCE_CELLS:
        ours = swept.mAP[K_TOP.index(k_top), K_BOTTOM.index(k_bottom)]
        theirs = reference(k_top, k_bottom)
        if abs(ours - theirs) > 1e-2:  # float32 scores of two libraries, near ties swapped
            raise SystemExit(f"band {k_top}, {k_bottom}: mAP {ours} here, {theirs} in the reference")
