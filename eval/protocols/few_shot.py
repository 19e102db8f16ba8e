"""Few-shot classification: pictures alone (Reevaluating, table 2) and with class names (figure 6)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.classifiers import check_class_labels
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.tasks.runs import Result

from .draws import DRAWS, OURS, SEEDS, SHOTS, draw_examples
from .grids import DEFAULT, Grid, find_grid

FITTERS: Mapping[str, Callable[..., ja.Classifier]] = {
    "prototype": ja.prototype_classifier,
    "lda": ja.lda_classifier,
    "tip-adapter": ja.tip_adapter,
    "tip-x": ja.tip_x,
    "ape": ja.ape,
    "coder": ja.coder,
}
NEED_TEXT = ("tip-x", "ape", "coder")
_NORMALIZING = ("prototype", "lda")  # the others always compare directions


@dataclass(frozen=True)
class FewShotSettings:
    """One line of a figure.

    Attributes:
      classifier: of `FITTERS`.
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
        if self.classifier not in FITTERS:
            raise unknown_name("few-shot classifier", self.classifier, FITTERS)
        if self.classifier in NEED_TEXT and not self.with_text:
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
        return jnp.asarray(self.features)[drawn]


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
      grid: the values that are tried, of `find_grid`; by default ours.
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
    fit = _fitter(settings, num_classes, text_weights, text_bank)
    grid = grid or find_grid(DEFAULT, settings.classifier)
    test = jnp.asarray(test_features, jnp.float32)
    accuracy = np.zeros((len(settings.shots), len(settings.seeds)))
    chosen: dict[str, list[dict[str, float]]] = {}
    for i, shots in enumerate(settings.shots):
        labels = jnp.asarray(np.repeat(np.arange(num_classes, dtype=np.int32), shots))
        for j, seed in enumerate(settings.seeds):
            support = pool.draw(shots, seed, num_classes, settings.draws)
            classifier = fit(support, labels)
            if validation is not None:
                classifier, best = _tune(classifier, grid, validation, mesh)
                chosen.setdefault(str(shots), []).append(best)
            if mesh is None:
                predicted = np.asarray(_predict(classifier, test))
            else:
                predicted = np.asarray(classifier.predict(test, mesh=mesh))
            accuracy[i, j] = 100 * float((predicted == test_labels).mean())
            progress(1)
    names = [str(shots) for shots in settings.shots]
    metrics: dict[str, Any] = {
        "accuracy": dict(zip(names, accuracy.mean(axis=1).tolist(), strict=True)),
        "deviation": dict(zip(names, accuracy.std(axis=1).tolist(), strict=True)),
        "examples": len(test_labels),
        "classes": num_classes,
    }
    arrays = {
        "accuracy": accuracy,
        "shots": np.asarray(settings.shots),
        "seeds": np.asarray(settings.seeds),
    }
    return Result(metrics | ({"chosen": chosen} if chosen else {}), arrays)


def _fitter(
    settings: FewShotSettings, num_classes: int, text_weights: ArrayLike | None, text_bank: ArrayLike | None
) -> Callable[[jax.Array, jax.Array], ja.Classifier]:
    """The compiled fit of the classifier, its texts and options given."""
    if settings.with_text and text_weights is None:
        raise JaxalignError(
            f"{settings.classifier} with texts needs text_weights; pass class-name embeddings"
        )
    arrays: dict[str, Any] = {"text_weights": jnp.asarray(text_weights)} if settings.with_text else {}
    if settings.classifier == "coder":
        arrays["text_bank"] = jnp.asarray(text_weights if text_bank is None else text_bank)
    static: dict[str, Any] = dict(settings.options)
    if settings.classifier in _NORMALIZING:
        static["normalize"] = settings.normalize
    method = FITTERS[settings.classifier]

    @jax.jit
    def fitted(support: jax.Array, labels: jax.Array, arrays: dict[str, Any]) -> ja.Classifier:
        return method(support, labels, num_classes=num_classes, **static, **arrays)

    def fit(support: jax.Array, labels: jax.Array) -> ja.Classifier:
        _check_rows(support)
        return fitted(support, labels, arrays)

    return fit


@jax.jit
def _predict(classifier: ja.Classifier, features: jax.Array) -> jax.Array:
    return classifier.predict(features)


def _tune(
    classifier: ja.Classifier, grid: Grid, validation: Sequence[ArrayLike], mesh: Mesh | None
) -> tuple[ja.Classifier, dict[str, float]]:
    search = partial(ja.search_hyperparameters, classifier, *validation, ties=grid.ties, mesh=mesh)
    found = search(**grid.axes)
    for _ in range(grid.rounds - 1):
        found = search(**grid.around(found.best))
    return found.classifier, found.best


def _check_rows(support: jax.Array) -> None:
    """Compiled code cannot raise: what `ja.prototype_classifier` and the others would say is said here."""
    from jaxalign.classifiers.base import check_directions

    check_directions("features", support)
