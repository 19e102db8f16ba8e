"""big_vision evaluator: classification by the means of examples, as the model is and under every method."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.examples import count_own, own_positions
from jaxalign.eval.tasks.classification import nearest_class_mean
from jaxalign.eval.tasks.classifying import FewShotSettings
from jaxalign.eval.tasks.few_shot import Pool, drawn_rows, few_shot

from .encode import PredictFn
from .evaluation import Evaluation

API = "jit"  # which kind of trainer this is for, in big_vision's words


class Evaluator:
    """Few-shot accuracy and the nearest class mean (NCM) of the whole training split.

    Logs, in percent, `<method>/<k>shot`, the mean over the seeds, and `<method>/ncm`, for the methods
    `image-image`, `pre`, `isoclip` and, with a tokenizer, `pca`; and the band. As IsoCLIP has it, the means
    of NCM are of features that are not normalised; few-shot classifiers get normalised ones, as in
    Reevaluating. NaN where the parameters of the moment do not allow a method. `test_in_train`, where there
    are any, is how many test images are training images, too, which flatters the accuracy.

    Args:
      predict_fn: from the trainer.
      train_split, test_split: by default those of the data set's protocol; both have the same classes.
      shots, seeds: of the few-shot part; no shots leave it out.
      classifier: "prototype" or "lda".
      ncm: False leaves NCM out: only the images that the seeds draw are then computed.
      **settings: those of `Evaluation`.

    Raises:
      JaxalignError: settings that do not fit, when the evaluator is made and not in the middle of a run.
    """

    def __init__(
        self,
        predict_fn: PredictFn,
        *,
        train_split: str = "",
        test_split: str = "",
        shots: Sequence[int] = (1, 4, 16),
        seeds: Sequence[int] = (1, 2, 3),
        classifier: str = "prototype",
        ncm: bool = True,
        **settings: Any,
    ):
        if not shots and not ncm:
            raise JaxalignError("there are no shots and no ncm; expected one of them")
        self._evaluation = Evaluation(predict_fn, **settings)
        self._few = FewShotSettings(classifier, shots=tuple(shots), seeds=tuple(seeds)) if shots else None
        self._ncm = ncm
        dataset, record = self._evaluation.dataset, self._evaluation.record
        train, test = train_split or record.train, test_split or record.test
        if not train or not test:
            raise JaxalignError(
                f"{dataset} has no classification protocol; expected train_split and test_split"
            )
        self._test = self._evaluation.read(test)
        self._train = self._evaluation.read(train).numbered_as(self._test)
        self._known = count_own(own_positions(self._test.examples, self._train.examples))
        self._classes = self._check_classes(dataset, train, test)
        drawn = self._few and drawn_rows(self._train.labels, self._classes, self._few)
        self._rows = np.arange(len(self._train)) if ncm or drawn is None else drawn

    def run(self, train_state: Any) -> Iterator[tuple[str, float]]:
        """`(name, value)` of everything that is logged, for the parameters in `train_state`."""
        images = self._train.examples.images[self._rows], self._test.examples.images
        yield from self._evaluation.run(train_state, images, self._names(), self._measure)
        if self._known:
            yield "test_in_train", float(self._known)

    def _names(self) -> list[str]:
        shots = self._few.shots if self._few else ()
        return [f"{k}shot" for k in shots] + ["ncm"] * self._ncm

    def _measure(self, train: np.ndarray, test: np.ndarray) -> dict[str, float]:
        found: dict[str, float] = {}
        if self._few:
            pool = Pool(self._train.labels, train, self._rows)
            result = few_shot(pool, test, self._test.labels, self._classes, self._few)
            found = {f"{k}shot": value for k, value in result.metrics["accuracy"].items()}
        if self._ncm:
            labels = self._train.labels[self._rows]
            result = nearest_class_mean(train, labels, test, self._test.labels, self._classes)
            found["ncm"] = result.metrics["accuracy"]
        return found

    def _check_classes(self, dataset: str, train: str, test: str) -> int:
        """Their number; raises unless every class has a training example and both splits count the same."""
        if not self._train.names:
            raise JaxalignError(f"{dataset} has no labels; expected a data set with classes")
        if self._train.names != self._test.names:
            raise JaxalignError(f"{train} and {test} of {dataset} have different classes; expected the same")
        count = len(self._train.names)
        empty = np.flatnonzero(np.bincount(self._train.labels, minlength=count) == 0)
        if empty.size:
            raise JaxalignError(
                f"{empty.size} of {count} classes have no example in {train} of {dataset} (first:"
                f" {self._train.names[empty[0]]}); expected another train_split or label"
            )
        return count
