"""LDA for all of figure 6 in one go: eleven data sets, five numbers of shots, three seeds, 512 dimensions."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja

from .measure import Claim, pair
from .settings import pick

CLASSES = pick((1000, 100, 37, 196, 102, 101, 100, 10, 101, 47, 397), (5, 3))  # of the eleven data sets
SHOTS = pick((1, 2, 4, 8, 16), (1, 4))
SEEDS = 3
WIDTH = pick(512, 16)


def claims() -> Iterator[Claim]:
    try:
        import torch
    except ModuleNotFoundError:
        print("few_shot: skipped, PyTorch is not installed (pip install 'jaxalign[reference]')")
        return
    runs = [(classes, shots) for classes in CLASSES for shots in SHOTS]
    supports = [_support(*run) for run in runs]

    @jax.jit
    def fit_all(supports: list[jax.Array]) -> list[ja.LinearClassifier]:
        return [jax.vmap(lambda x, r=run: _fit(x, *r))(x) for x, run in zip(supports, runs, strict=True)]

    first_seed = [torch.from_numpy(np.array(x[0])) for x in supports]
    labels = [torch.arange(classes).repeat_interleave(shots) for classes, shots in runs]

    def fit_in_turn() -> None:
        for x, y, (classes, _) in zip(first_seed, labels, runs, strict=True):
            _published(torch, x, y, classes)

    found = pair(lambda: fit_all(supports), fit_in_turn)
    yield Claim(
        name=f"LDA, {len(CLASSES)} data set shapes x {len(SHOTS)} shots x {SEEDS} seeds, width {WIDTH}",
        seconds=found.seconds,
        compile_seconds=found.compile_seconds,
        reference=f"published loop in PyTorch, one seed times {SEEDS}",
        reference_seconds=SEEDS * found.reference_seconds,
        at_least=5,
        flops=SEEDS * sum(_flops(classes, classes * shots) for classes, shots in runs),
    )


def _support(classes: int, shots: int) -> jax.Array:
    """Unit features `[seeds, n, d]`, class by class, all near one direction as CLIP's are."""
    rng = np.random.default_rng(classes * 100 + shots)
    centres = 1 + rng.standard_normal((classes, 1, WIDTH), np.float32)
    x = centres + rng.standard_normal((SEEDS, classes, shots, WIDTH), np.float32)
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    return jnp.asarray(x.reshape(SEEDS, classes * shots, WIDTH))


def _fit(x: jax.Array, classes: int, shots: int) -> ja.LinearClassifier:
    labels = jnp.repeat(jnp.arange(classes), shots)
    return ja.lda_classifier(x, labels, num_classes=classes, normalize=False)


def _published(torch: Any, x: Any, y: Any, classes: int) -> tuple[Any, Any]:
    """Weights and bias as the published few-shot code gets them: the pseudo-inverse of a d x d matrix."""
    means = torch.stack([x[y == k].mean(0) for k in range(classes)])
    centred = torch.cat([x[y == k] - means[k] for k in range(classes)])
    n, d = centred.shape
    covariance = centred.T.cov()
    precision = d * torch.linalg.pinv((n - 1) * covariance + covariance.trace() * torch.eye(d))
    weights = precision @ means.T
    return weights, -torch.log(torch.tensor(float(classes))) - (means * weights.T).sum(1) / 2


def _flops(classes: int, n: int) -> float:
    """Of one fit by the cheaper of the two Gram matrices: half of it, its Cholesky factor, the solutions."""
    small = min(n, WIDTH)
    between = 4 * n * WIDTH * classes if n < WIDTH else 0
    return n * WIDTH * small + small**3 / 3 + 2 * small**2 * classes + between
