"""`jaxalign classify`: zero-shot, nearest class mean and few-shot, on features out of the store."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxalign.classifiers import check_class_labels
from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets.examples import own_positions
from jaxalign.eval.protocols.classification import nearest_class_mean
from jaxalign.eval.protocols.draws import OURS
from jaxalign.eval.protocols.few_shot import FITTERS, FewShotSettings, Pool, drawn_rows, few_shot
from jaxalign.eval.protocols.grids import DEFAULT, find_grid
from jaxalign.eval.protocols.zero_shot import text_weights, zero_shot
from jaxalign.eval.tasks import own
from jaxalign.eval.tasks.fitting import Fitting
from jaxalign.eval.tasks.heads import image_embeddings
from jaxalign.eval.tasks.methods import Method, MethodOptions, find_method
from jaxalign.eval.tasks.pairs import PROTOCOLS, REFERENCE, naming_left_out
from jaxalign.eval.tasks.runs import Result, Run
from jaxalign.eval.tasks.workspace import Workspace, model_settings

from .labelled import LabelledPair

ZERO_SHOT, NCM = "zero-shot", "ncm"
CLASSIFIERS = (ZERO_SHOT, NCM, *FITTERS)


@dataclass(frozen=True)
class Classifying:
    """What a classification measurement does, beside model and data set.

    Attributes:
      classifiers: of `CLASSIFIERS`.
      methods: how pictures are embedded for all classifiers but `zero-shot`; image methods of `METHODS`.
      options: of the methods.
      templates: prompts of the class names: `single` (CoOp's), `ensemble` (CLIP's).
      few_shot: of all few-shot classifiers; its `classifier` and `normalize` are set for each of them.
      augmentation: seed of random crops and flips of the training pictures; None for the test preprocessing.
      tune: whether hyper-parameters are searched on the split `val`.
      grid: which of their values, as for `find_grid`.
      protocol: "paper"; or "reference" for the published few-shot code: PCA<- keeps the directions of
        ImageNet's names in CLIP's seven templates and what it has projected is not scaled to length one
        again, Tip-X is its own `reference`, and ImageNet, which has no split `val`, is tuned on the pictures
        that are classified.
      unit: whether embeddings are scaled to length one before anything else; the published code has not done
        so with those that it takes over from retrieval.
    """

    classifiers: tuple[str, ...] = (ZERO_SHOT, NCM)
    methods: tuple[str, ...] = ("image-image",)
    options: MethodOptions = field(default_factory=MethodOptions)
    templates: str = "single"
    few_shot: FewShotSettings = field(default_factory=FewShotSettings)
    augmentation: int | None = None
    tune: bool = False
    grid: str = DEFAULT
    protocol: str = "paper"
    unit: bool = True

    def __post_init__(self):
        for name in self.classifiers:
            if name not in CLASSIFIERS:
                raise unknown_name("classifier", name, CLASSIFIERS)
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        if self.tune and not self.few_shot.with_text:
            raise JaxalignError("tuning weighs pictures against class names; expected with_text")
        if self.grid != DEFAULT and not self.tune:
            raise JaxalignError(f"the grid {self.grid} is for tuning; expected tune, too")
        inverting = [name for name in self.methods if name in ("oti", "ovi")]
        if inverting:
            raise JaxalignError(f"{inverting[0]} inverts queries; expected a method that embeds pictures")


def measure_classification(
    workspace: Workspace, model: DualEncoder, pair: LabelledPair, classifying: Classifying
) -> list[Run]:
    """Runs of protocol `classification` (`zero_shot`, `nearest_class_mean`) and `few-shot` (`few_shot`).

    Raises:
      JaxalignError: before any picture is embedded, for an unknown name or a bad option.
    """
    methods = [_find(name, model, classifying) for name in dict.fromkeys(classifying.methods)]
    if ZERO_SHOT in classifying.classifiers or classifying.few_shot.with_text:
        model.require_text()
    if classifying.tune:
        tuned_on(pair, classifying)
        for name in (name for name in classifying.classifiers if name in FITTERS):
            find_grid(classifying.grid, name, pair.record.name)
    _check_training(pair, classifying)
    facts = model_settings(model) | pair.settings
    classes = Classes(workspace, model, pair, classifying)
    runs = []
    for classifier in dict.fromkeys(classifying.classifiers):
        if classifier == ZERO_SHOT:
            settings = facts | {"classifier": ZERO_SHOT} | pair.text_settings(classifying.templates)
            runs.append(workspace.measure("classification", settings, classes.zero_shot))
            continue
        for method in methods:
            settings = facts | pair.train_settings | {"classifier": classifier} | method.to_json()
            if classifier == NCM:
                runs.append(workspace.measure("classification", settings, lambda m=method: classes.ncm(m)))
                continue
            chosen = classes.settings_of(classifier, method)
            settings |= classes.few_shot_settings(chosen)
            compute = lambda m=method, c=chosen: classes.few_shot(m, c)
            runs.append(workspace.measure("few-shot", settings, compute))
    return runs


class Classes:
    """The classifiers of one data set; embeddings of one method at a time are kept."""

    def __init__(
        self, workspace: Workspace, model: DualEncoder, pair: LabelledPair, classifying: Classifying
    ):
        self.model, self.pair, self.classifying = model, pair, classifying
        self.mesh, self.stages = workspace.mesh, workspace.stages
        self.fitting = Fitting(workspace, model, lambda: pair.train_pre_and_labels[0])

    def zero_shot(self) -> Result:
        prompts = self.pair.prompts(self.classifying.templates)
        pre, labels = self.pair.test_pre_and_labels
        found = zero_shot(image_embeddings(self.model, pre), labels, prompts, mesh=self.mesh)
        return naming_left_out(found, self.pair.read_test)

    def ncm(self, method: Method) -> Result:
        embed, pair = self.fitting.embed(method), self.pair
        (train, train_labels), (test, test_labels) = pair.train_pre_and_labels, pair.test_pre_and_labels
        found = nearest_class_mean(
            embed(train), train_labels, embed(test), test_labels, pair.num_classes, mesh=self.mesh
        )
        return self._with_note(naming_left_out(found, pair.read_train, pair.read_test), "means of")

    def few_shot(self, method: Method, settings: FewShotSettings) -> Result:
        pair, classifying = self.pair, self.classifying
        choose = lambda labels: drawn_rows(labels, pair.num_classes, settings)
        drawn = pair.draw(choose, classifying.augmentation)
        test, test_labels = pair.test_pre_and_labels
        held_out = self.held_out if classifying.tune else None
        grid = find_grid(classifying.grid, settings.classifier, pair.record.name)
        weights, bank = None, None
        if settings.with_text:
            weights = text_weights(pair.prompts(classifying.templates))
        if settings.classifier == "coder" and "ensemble" in pair.record.templates:
            bank = np.asarray(pair.prompts("ensemble"))
            bank = bank.reshape(-1, bank.shape[-1])
        validation = None
        if held_out is not None:
            pre, labels = held_out.test_pre_and_labels
            validation = self._embed(method, pre), labels
        title = (
            f"{settings.classifier}, {method.name}: {len(settings.shots)} shots x {len(settings.seeds)} draws"
        )
        total = len(settings.shots) * len(settings.seeds)
        with self.stages.stage("classify", title, total) as advance:
            found = few_shot(
                Pool(drawn.labels, self._embed(method, drawn.pre), drawn.rows),
                self._embed(method, test),
                test_labels,
                pair.num_classes,
                settings,
                text_weights=weights,
                text_bank=bank,
                validation=validation,
                grid=grid,
                mesh=self.mesh,
                progress=advance,
            )
        found = naming_left_out(found, pair.read_test, held_out.read_test if held_out else None)
        if drawn.left_out:
            origin = f"{pair.train.dataset}/{pair.train.split}"
            found = replace(found, left_out={**found.left_out, origin: drawn.left_out})
        if held_out is pair:
            said = "the hyper-parameters are chosen on the pictures that are classified, which flatters"
            found = replace(found, notes=[*found.notes, f"{said} the accuracy"])
        return self._with_note(found, "draws from")

    def few_shot_settings(self, settings: FewShotSettings) -> dict[str, Any]:
        """The part of a run's settings that few-shot classifiers add."""
        classifying = self.classifying
        found: dict[str, Any] = {
            "with_text": settings.with_text,
            "shots": list(settings.shots),
            "seeds": list(settings.seeds),
            "normalize": settings.normalize,
            "augmentation": classifying.augmentation,
            "tuned": classifying.tune,
            "options": dict(settings.options),
        }
        if classifying.tune:
            grid = find_grid(classifying.grid, settings.classifier, self.pair.record.name)
            found |= {"grid": grid.name, "tuned_on": tuned_on(self.pair, classifying)}
            found["val_version"] = self.held_out.test.state
        if settings.draws != OURS:
            found["draws"] = settings.draws
        if not classifying.unit:
            found["unit"] = False
        if settings.with_text:
            found |= self.pair.text_settings(classifying.templates)
        if settings.classifier == "coder" and "ensemble" in self.pair.record.templates:
            found["bank"] = self.pair.text_settings("ensemble")["prompts"]
        return found

    def _with_note(self, result: Result, how: str) -> Result:
        """`result`, and how many of the test images are among the training images that decide."""
        pair, known = self.pair, self.pair.trained_on
        metrics = {**result.metrics, "test_in_train": known}
        if not known:
            return replace(result, metrics=metrics)
        note = (
            f"the pictures of {pair.test.split} are classified by {how} training pictures, and"
            f" {known:,} of the {len(pair.test_pre_and_labels[1]):,} are among these, which flatters the"
            " accuracy; give --train and --test that share none"
        )
        return replace(result, metrics=metrics, notes=[*result.notes, note])

    def settings_of(self, classifier: str, method: Method) -> FewShotSettings:
        """Those of the few-shot classifier, with what the protocol changes."""
        few_shot, reference = self.classifying.few_shot, self.classifying.protocol == REFERENCE
        options = dict(few_shot.options)
        if reference and classifier == "tip-x":
            options["protocol"] = REFERENCE
        scaled = self.classifying.unit and not self.is_left_unscaled(method)
        return replace(few_shot, classifier=classifier, normalize=scaled, options=options)

    def is_left_unscaled(self, method: Method) -> bool:
        """Whether what `method` projects stays as long as it then is."""
        return self.classifying.protocol == REFERENCE and method.rank is not None

    def _embed(self, method: Method, pre: np.ndarray) -> jax.Array:
        embedded = self.fitting.embed(method)(pre)
        if not self.is_left_unscaled(method) or not self.classifying.unit:
            return embedded
        # Projection is linear: what it makes of unit vectors, without projecting twice.
        plain = image_embeddings(self.model, pre)
        length = np.linalg.norm(np.asarray(plain), axis=1, keepdims=True)
        return embedded / np.where(length == 0, 1, length)

    @cached_property
    def held_out(self) -> LabelledPair:
        """The pictures that hyper-parameters are chosen on, as the test pictures of a pair."""
        pair, split = self.pair, tuned_on(self.pair, self.classifying)
        if split == pair.test_split:
            return pair
        found = LabelledPair(
            self.fitting.workspace, self.model, pair.dataset, pair.task, pair.train_split, split
        )
        if found.names != pair.names:
            raise JaxalignError(f"{found.test.origin} has other classes than {pair.test.origin}")
        for examples in (pair.train, pair.test):
            known = own.count(own_positions(found.test, examples))
            if known:
                raise JaxalignError(
                    f"{known:,} of the {len(found.test):,} images of {found.test.origin} are in"
                    f" {examples.split}, too, so that they are no validation split to choose hyper-parameters"
                    " on; leave out --tune, or give other splits"
                )
        return found


def tuned_on(pair: LabelledPair, classifying: Classifying) -> str:
    """The split whose pictures hyper-parameters are chosen on.

    Raises JaxalignError where the data set has no `val` that is neither learned from nor classified; the
    published codes take what is classified of ImageNet.
    """
    if "val" in pair.record.splits and "val" not in (pair.train_split, pair.test_split):
        return "val"
    if classifying.protocol == REFERENCE and pair.record.name == "imagenet":
        return pair.test_split
    raise JaxalignError(
        f"{pair.record.name} has no validation split to choose hyper-parameters on; leave out --tune"
    )


def _find(name: str, model: DualEncoder, classifying: Classifying) -> Method:
    options = classifying.options
    if classifying.protocol == REFERENCE:
        options = replace(options, subspace="few-shot")
    return find_method(name, model, "image", options)


def _check_training(pair: LabelledPair, classifying: Classifying) -> None:
    """Raise where the training split has too few pictures of a class."""
    if set(classifying.classifiers) != {ZERO_SHOT}:
        lacking = np.setdiff1d(np.arange(pair.num_classes), pair.train_labels)
        if lacking.size:
            raise JaxalignError(
                f"{lacking.size} of {pair.num_classes} classes have no image in {pair.train.origin}"
                f" ({pair.names[lacking[0]]} for one), so that none can be classified as such; expected some"
                " of each"
            )
    if set(classifying.classifiers) & set(FITTERS):
        drawn_rows(pair.train_labels, pair.num_classes, classifying.few_shot)
    elif NCM in classifying.classifiers:
        check_class_labels(pair.train_labels, len(pair.train_labels), pair.num_classes)


def sorted_shots(runs: Sequence[Run]) -> list[int]:
    """All numbers of shots that few-shot `runs` have."""
    return sorted({int(count) for run in runs for count in run.metrics["accuracy"]})
