"""Few-shot classification: pictures alone (Reevaluating, table 2) and with class names (figure 6)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxalign.classifiers import FEW_SHOT, Classifier, Grid, check_class_labels, search_grid
from jaxalign.classifiers.base import check_directions
from jaxalign.classifiers.few_shot import accuracy_of_draws
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.tasks.runs import Result

from .draws import DRAWS, OURS, SEEDS, SHOTS, draw_examples


@dataclass(frozen=True)
class FewShotSettings:
    """One line of a figure.

    Attributes:
      classifier: of `FEW_SHOT`.
      with_text: whether the class names take part; otherwise only pictures do.
      shots, seeds: examples of each class, and of the draws that are averaged.
      normalize: whether features are scaled to length one; False for features that were projected after they
        had been, as the published code leaves them.
      options: of the classifier, such as `alpha`.
      draws: "ours" or "published", as in `draw_examples`.
    """

    classifier: str = "prototype"
    with_text: bool = False
    shots: tuple[int, ...] = SHOTS
    seeds: tuple[int, ...] = SEEDS
    normalize: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    draws: str = OURS

    def __post_init__(self):
        if self.classifier not in FEW_SHOT:
            raise unknown_name("few-shot classifier", self.classifier, FEW_SHOT)
        if FEW_SHOT[self.classifier].needs_text and not self.with_text:
            raise JaxalignError(f"{self.classifier} compares pictures by class names; expected with_text")
        if self.draws not in DRAWS:
            raise unknown_name("draws", self.draws, DRAWS)
        for name, values in (("shots", self.shots), ("seeds", self.seeds)):
            if not values or len(set(values)) < len(values) or min(values) < (name == "shots"):
                raise JaxalignError(f"{name} are {values}; expected one or more different counts")


@dataclass(frozen=True, eq=False)
class Pool:
    """Training examples that shots are drawn from.

    Attributes:
      labels: int `[n]`, of all training examples.
      features: `[m, d]` of those that have features.
      rows: int `[m]`, ascending: which examples those are. None for all of them.
    """

    labels: np.ndarray
    features: ArrayLike
    rows: np.ndarray | None = None

    def draw(self, shots: int, seed: int, num_classes: int, draws: str = OURS) -> jax.Array:
        """Features `[c * shots, d]`, class by class, of the examples that `draw_examples` gives."""
        drawn = draw_examples(self.labels, shots, seed, num_classes, draws)
        if self.rows is not None:
            at = np.minimum(np.searchsorted(self.rows, drawn), len(self.rows) - 1)
            if (self.rows[at] != drawn).any():
                raise JaxalignError(
                    f"the pool lacks features of examples that seed {seed} draws for {shots} shots;"
                    " compute those of `drawn_rows`"
                )
            drawn = at
        support = jnp.asarray(self.features)[drawn]
        check_directions("features", support)  # what is compiled could not raise
        return support


def drawn_rows(labels: ArrayLike, num_classes: int, settings: FewShotSettings) -> np.ndarray:
    """Positions, ascending, of all examples that an experiment draws: only they need features.

    Raises:
      JaxalignError: as `draw_examples`.
    """
    nested = settings.draws == OURS
    drawn = [
        draw_examples(labels, shots, seed, num_classes, settings.draws)
        for shots in ((max(settings.shots),) if nested else settings.shots)
        for seed in settings.seeds
    ]
    return np.unique(np.concatenate(drawn))


def few_shot(
    pool: Pool,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    num_classes: int,
    settings: FewShotSettings,
    *,
    text_weights: ArrayLike | None = None,
    text_bank: ArrayLike | None = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    grid: Grid | None = None,
    mesh: Mesh | None = None,
    progress: Callable[[int], Any] = lambda count: None,
) -> Result:
    """Accuracy for each number of shots and each seed.

    Args:
      pool: what is drawn from; its features and the test features are embeddings, projected or not.
      test_features, test_labels: `[t, d]` and int `[t]`.
      text_weights: class-name embeddings `[c, d]`, with `settings.with_text`.
      text_bank: texts `[b, d]` of `coder`; by default the class names.
      validation: features `[v, d]` and labels `[v]` on which hyper-parameters are chosen, for each draw; by
        default they are the classifier's own.
      grid: the values that are tried; by default ours.
      mesh: devices that test and validation features are divided over; all fit every classifier.
      progress: called with 1 after each draw.

    Returns:
      Metrics: `accuracy`, in percent, by shots as text, mean over the seeds; `deviation` over the seeds; with
      `validation`, `chosen` hyper-parameters by shots. Arrays: `accuracy` `[shots, seeds]`, `shots`, `seeds`.

    Raises:
      JaxalignError: labels out of range, a class with fewer examples than shots, or input that does not fit.
    """
    test_labels = np.asarray(test_labels)
    check_class_labels(pool.labels, len(pool.labels), num_classes)
    check_class_labels(test_labels, len(np.asarray(test_features)), num_classes, all_occur=False)
    method = FEW_SHOT[settings.classifier]
    chosen: dict[str, list[dict[str, float]]] = {}

    def tune(classifier: Classifier, shots: int) -> Classifier:
        if validation is None:
            return classifier
        found = search_grid(classifier, *validation, grid or method.grid, mesh=mesh)
        chosen.setdefault(str(shots), []).append(found.best)
        return found.classifier

    found = accuracy_of_draws(
        method.fit,
        lambda shots, seed: pool.draw(shots, seed, num_classes, settings.draws),
        jnp.asarray(test_features, jnp.float32),
        test_labels,
        num_classes,
        shots=settings.shots,
        seeds=settings.seeds,
        options=_options(settings, text_weights, text_bank),
        tune=tune,
        mesh=mesh,
        progress=progress,
    )
    by_shots = lambda values: dict(zip(map(str, settings.shots), values.tolist(), strict=True))
    metrics: dict[str, Any] = {
        "accuracy": by_shots(found.accuracy.mean(axis=1)),
        "deviation": by_shots(found.accuracy.std(axis=1)),
        "examples": len(test_labels),
        "classes": num_classes,
    }
    arrays = {
        "accuracy": found.accuracy,
        "shots": np.asarray(settings.shots),
        "seeds": np.asarray(settings.seeds),
    }
    return Result(metrics | ({"chosen": chosen} if chosen else {}), arrays)


def _options(
    settings: FewShotSettings, text_weights: ArrayLike | None, text_bank: ArrayLike | None
) -> dict[str, Any]:
    """Everything that the method takes beside examples."""
    method = FEW_SHOT[settings.classifier]
    found: dict[str, Any] = dict(settings.options)
    if method.keeps_lengths:
        found["normalize"] = settings.normalize
    if settings.with_text:
        if text_weights is None:
            raise JaxalignError(
                f"{settings.classifier} with texts needs text_weights; pass class-name embeddings"
            )
        found["text_weights"] = jnp.asarray(text_weights)
        if method.takes_bank:
            found["text_bank"] = jnp.asarray(text_weights if text_bank is None else text_bank)
    return found
