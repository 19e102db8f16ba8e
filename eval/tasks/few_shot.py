"""Few-shot classification: images alone (Reevaluating, table 2) and with class names (figure 6)."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.classifiers import FEW_SHOT, Classifier, Grid, check_class_labels, find_grid, search_grid
from jaxalign.classifiers.base import check_directions
from jaxalign.classifiers.few_shot import SHOTS, accuracy_of_draws
from jaxalign.errors import JaxalignError, unknown_name

from .classifying import DRAWS, OURS, PUBLISHED, Classes, FewShotSettings
from .methods import Method
from .pairs import REFERENCE, naming_left_out
from .runs import Result, Run
from .task import Column, Task

TASK = Task(
    name="few-shot",
    title="Few-shot classification",
    about="Mean accuracy over the seeds.",
    headline="accuracy",
    columns=(Column("accuracy.*", "*-shot"), Column("deviation.*", "*-shot deviation")),
)


def draw_examples(
    labels: ArrayLike, shots: int, seed: int, num_classes: int, draws: str = OURS
) -> np.ndarray:
    """Positions int `[c * shots]` of `shots` examples of each class, class by class.

    "ours" are those of `ja.sample_shots`. "published" are those of the few-shot code of Reevaluating, for
    labels in the order of its split files: one generator of a seed draws 1, 2, 4, 8 and 16 examples one after
    the other, so that draws are not nested, class by class as they first occur. A class with fewer examples
    is drawn from with replacement. Raises as `ja.sample_shots`, and for another name, or a number of shots
    that is not drawn there.
    """
    if draws == OURS:
        return ja.sample_shots(labels, shots, seed=seed, num_classes=num_classes)
    if draws != PUBLISHED:
        raise unknown_name("draws", draws, DRAWS)
    if shots not in SHOTS:
        raise JaxalignError(f"the published code draws {', '.join(map(str, SHOTS))} shots; got {shots}")
    array = np.asarray(labels)
    check_class_labels(array, array.size, num_classes)
    classes = {int(label): np.flatnonzero(array == label).tolist() for label in dict.fromkeys(array.tolist())}
    rng, drawn = random.Random(seed), {}
    for count in SHOTS[: SHOTS.index(shots) + 1]:
        for label, own in classes.items():
            drawn[label] = rng.sample(own, count) if len(own) >= count else rng.choices(own, k=count)
    return np.concatenate([drawn[label] for label in range(num_classes)])


def drawn_rows(labels: ArrayLike, num_classes: int, settings: FewShotSettings) -> np.ndarray:
    """Positions, ascending, of all examples that an experiment draws: only they need features; raises as
    `draw_examples`."""
    nested = settings.draws == OURS
    drawn = [
        draw_examples(labels, shots, seed, num_classes, settings.draws)
        for shots in ((max(settings.shots),) if nested else settings.shots)
        for seed in settings.seeds
    ]
    return np.unique(np.concatenate(drawn))


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
    drawn = {"shots": np.asarray(settings.shots), "seeds": np.asarray(settings.seeds)}
    return Result(metrics | ({"chosen": chosen} if chosen else {}), {"accuracy": found.accuracy} | drawn)


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


def measure_few_shot(classes: Classes, classifier: str, method: Method, settings: dict[str, Any]) -> Run:
    """The run of one classifier on images under `method`; `settings` are those of any classifier."""
    classifying, pair, few = classes.classifying, classes.pair, FEW_SHOT[classifier]
    reference = few.reference if classifying.variant == REFERENCE else {}
    chosen = replace(
        classifying.few_shot,
        classifier=classifier,
        normalize=classifying.unit and not classes.is_left_unscaled(method),
        options={**classifying.few_shot.options, **reference},
    )
    grid = find_grid(classifying.grid, classifier, pair.record.name)
    settings |= {
        "with_text": chosen.with_text,
        "shots": list(chosen.shots),
        "seeds": list(chosen.seeds),
        "normalize": chosen.normalize,
        "augmentation": classifying.augmentation,
        "tuned": classifying.tune,
        "options": dict(chosen.options),
    }
    if classifying.tune:
        settings |= {"grid": grid.name, "tuned_on": classes.tuned_on}
        settings["val_version"] = classes.held_out.test.state
    if chosen.draws != OURS:
        settings["draws"] = chosen.draws
    if not classifying.unit:
        settings["unit"] = False
    if chosen.with_text:
        settings |= pair.text_settings(classifying.templates)
    if _has_bank(classes, classifier):
        settings["bank"] = pair.text_settings("ensemble")["prompts"]
    return classes.workspace.measure(TASK.name, settings, lambda: _measure(classes, method, chosen, grid))


def _measure(classes: Classes, method: Method, settings: FewShotSettings, grid: Grid) -> Result:
    pair, classifying, workspace = classes.pair, classes.classifying, classes.workspace
    choose = lambda labels: drawn_rows(labels, pair.num_classes, settings)
    drawn = pair.draw(choose, classifying.augmentation)
    test, test_labels = pair.test_pre_and_labels
    held_out = classes.held_out if classifying.tune else None
    weights, bank, validation = None, None, None
    if settings.with_text:
        weights = ja.ensemble_text_weights(pair.prompts(classifying.templates))
    if _has_bank(classes, settings.classifier):
        bank = np.concatenate(pair.prompts("ensemble"))
    if held_out is not None:
        pre, labels = held_out.test_pre_and_labels
        validation = classes.embed(method, pre), labels
    shots, seeds = len(settings.shots), len(settings.seeds)
    title = f"{settings.classifier}, {method.name}: {shots} shots x {seeds} draws"
    with workspace.stages.stage("classify", title, shots * seeds) as advance:
        found = few_shot(
            Pool(drawn.labels, classes.embed(method, drawn.pre), drawn.rows),
            classes.embed(method, test),
            test_labels,
            pair.num_classes,
            settings,
            text_weights=weights,
            text_bank=bank,
            validation=validation,
            grid=grid,
            mesh=workspace.mesh,
            progress=advance,
        )
    found = naming_left_out(found, pair.read_test, held_out.read_test if held_out else None)
    if drawn.left_out:
        found = replace(found, left_out={**found.left_out, pair.train.origin: drawn.left_out})
    if held_out is pair:
        said = "the hyper-parameters are chosen on the images that are classified, which flatters"
        found = replace(found, notes=[*found.notes, f"{said} the accuracy"])
    return classes.noting_known(found, "draws from")


def _has_bank(classes: Classes, classifier: str) -> bool:
    """Whether it compares by all prompts of the data set, and not by the class names alone."""
    return FEW_SHOT[classifier].takes_bank and "ensemble" in classes.pair.record.templates
