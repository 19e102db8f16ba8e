"""What is asked of classifiers, and what all of them share: images under a method, prompts, validation."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from jaxalign.classifiers import FEW_SHOT, find_grid
from jaxalign.classifiers.few_shot import SEEDS, SHOTS
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets.examples import count_own, own_positions

from .labelled import LabelledPair
from .methods import METHODS, Method, MethodOptions, find_methods
from .pairs import REFERENCE, VARIANTS
from .projecting import Fitting, check_needs, image_embeddings
from .runs import Result

ZERO_SHOT, NCM = "zero-shot", "ncm"
CLASSIFIERS = (ZERO_SHOT, NCM, *FEW_SHOT)
OURS, PUBLISHED = DRAWS = ("ours", "published")


@dataclass(frozen=True)
class FewShotSettings:
    """One line of a figure.

    Attributes:
      classifier: of `FEW_SHOT`.
      with_text: whether the class names take part; otherwise only images do.
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

    def __post_init__(self) -> None:
        if self.classifier not in FEW_SHOT:
            raise unknown_name("few-shot classifier", self.classifier, FEW_SHOT)
        if FEW_SHOT[self.classifier].needs_text and not self.with_text:
            raise JaxalignError(f"{self.classifier} compares images by class names; expected with_text")
        if self.draws not in DRAWS:
            raise unknown_name("draws", self.draws, DRAWS)
        for name, values in (("shots", self.shots), ("seeds", self.seeds)):
            if not values or len(set(values)) < len(values) or min(values) < (name == "shots"):
                raise JaxalignError(f"{name} are {values}; expected one or more different counts")


@dataclass(frozen=True)
class Classifying:
    """What a classification measurement does, beside model and data set.

    Attributes:
      classifiers: of `CLASSIFIERS`.
      methods: how images are embedded for all classifiers but `zero-shot`; image methods of `METHODS`.
      options: of the methods.
      templates: prompts of the class names: `single` (CoOp's), `ensemble` (CLIP's).
      few_shot: of all few-shot classifiers; its `classifier` and `normalize` are set for each of them.
      augmentation: seed of random crops and flips of the training images; None for the test preprocessing.
      tune: whether hyper-parameters are searched on the split `val`.
      grid: which of their values, as for `find_grid`.
      variant: "paper"; or "reference" for the published few-shot code: PCA<- keeps the directions of
        ImageNet's names in CLIP's seven templates and what it has projected is not scaled to length one
        again, Tip-X is its own `reference`, and ImageNet, which has no split `val`, is tuned on the images
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
    grid: str = "default"
    variant: str = "paper"
    unit: bool = True

    def __post_init__(self) -> None:
        for name in self.classifiers:
            if name not in CLASSIFIERS:
                raise unknown_name("classifier", name, CLASSIFIERS)
        if self.variant not in VARIANTS:
            raise unknown_name("variant", self.variant, VARIANTS)
        if self.tune and not self.few_shot.with_text:
            raise JaxalignError("tuning weighs images against class names; expected with_text")
        if self.grid != "default" and not self.tune:
            raise JaxalignError(f"the grid {self.grid} is for tuning; expected tune, too")
        for name in self.methods:
            if any(name in kinds and kinds[name].inverter for kinds in METHODS.values()):
                raise JaxalignError(f"{name} inverts queries; expected a method that embeds images")


class Classes:
    """The images of a labelled pair as classifiers see them; raises JaxalignError, before any image is
    embedded, for an unknown method or grid, a bad option, a split that is not there, or a class without
    training image."""

    def __init__(self, pair: LabelledPair, classifying: Classifying):
        self.pair, self.classifying = pair, classifying
        self.workspace, self.model = workspace, model = pair.workspace, pair.model
        options = classifying.options
        if classifying.variant == REFERENCE:
            options = replace(options, subspace="few-shot")
        self.methods = find_methods(classifying.methods, model, "image", options)
        self.fitting = Fitting(workspace, model, lambda: pair.train_pre_and_labels[0])
        if ZERO_SHOT in classifying.classifiers or classifying.few_shot.with_text:
            check_needs(
                model, "what compares by class names (zero-shot, --with-text)", ("embedding", "class_texts")
            )
            model.require_text()
        self.tuned_on = self._validation_split() if classifying.tune else ""
        if classifying.tune:
            for name in (name for name in classifying.classifiers if name in FEW_SHOT):
                find_grid(classifying.grid, name, pair.record.name)
        if set(classifying.classifiers) != {ZERO_SHOT}:
            pair.check_training()

    def embed(self, method: Method, pre: np.ndarray) -> jax.Array:
        """Embeddings `[n, d]` for few-shot classifiers of features `[n, d_image]`."""
        embedded = self.fitting.embed(method)(pre)
        if not self.is_left_unscaled(method) or not self.classifying.unit:
            return embedded
        # Projection is linear: what it makes of unit vectors, without projecting twice.
        plain = image_embeddings(self.model, pre)
        length = np.linalg.norm(np.asarray(plain), axis=1, keepdims=True)
        return embedded / np.where(length == 0, 1, length)

    def is_left_unscaled(self, method: Method) -> bool:
        """Whether what `method` projects stays as long as it then is."""
        return self.classifying.variant == REFERENCE and method.rank is not None

    def noting_known(self, result: Result, how: str) -> Result:
        """`result`, and how many of the test images are among the training images that decide."""
        pair, known = self.pair, self.pair.trained_on
        metrics = {**result.metrics, "test_in_train": known}
        if not known:
            return replace(result, metrics=metrics)
        note = (
            f"the images of {pair.test.split} are classified by {how} training images, and"
            f" {known:,} of the {len(pair.test_pre_and_labels[1]):,} are among these, which flatters the"
            " accuracy; give --train and --test that share none"
        )
        return replace(result, metrics=metrics, notes=[*result.notes, note])

    def _validation_split(self) -> str:
        """The split whose images hyper-parameters are chosen on.

        Raises JaxalignError where the data set has no `val` that is neither learned from nor classified; the
        published codes take what is classified of ImageNet.
        """
        pair = self.pair
        if "val" in pair.record.splits and "val" not in (pair.train_split, pair.test_split):
            return "val"
        if self.classifying.variant == REFERENCE and pair.record.name == "imagenet":
            return pair.test_split
        raise JaxalignError(
            f"{pair.record.name} has no validation split to choose hyper-parameters on; leave out --tune"
        )

    @cached_property
    def held_out(self) -> LabelledPair:
        """The images that hyper-parameters are chosen on, as the test images of a pair."""
        pair, split = self.pair, self.tuned_on
        if split == pair.test_split:
            return pair
        found = LabelledPair(self.workspace, self.model, pair.dataset, pair.task, pair.train_split, split)
        if found.names != pair.names:
            raise JaxalignError(f"{found.test.origin} has other classes than {pair.test.origin}")
        for examples in (pair.train, pair.test):
            known = count_own(own_positions(found.test, examples))
            if known:
                raise JaxalignError(
                    f"{known:,} of the {len(found.test):,} images of {found.test.origin} are in"
                    f" {examples.split}, too, so that they are no validation split to choose hyper-parameters"
                    " on; leave out --tune, or give other splits"
                )
        return found
