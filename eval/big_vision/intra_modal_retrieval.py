"""big_vision evaluator: how well images find images, as the model is and under every method."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets.examples import own_positions
from jaxalign.eval.tasks.image_retrieval import METRICS, landmark_retrieval, retrieval

from .encode import PredictFn
from .evaluation import Evaluation

LANDMARK_METRICS = ("mAP", "mAP_easy", "mAP_medium", "mAP_hard")
API = "jit"  # which kind of trainer this is for, in big_vision's words


class Evaluator:
    """Image-to-image retrieval among the images of a data set.

    Logs `<method>/<metric>` in percent, for the methods `image-image`, `pre`, `isoclip` and, with a
    tokenizer, `pca`; and `isoclip/k_top`, `isoclip/k_bottom`, the band. A metric of a method that the
    parameters of the moment do not allow (a head that is zero, a run that has diverged) is NaN.

    Args:
      predict_fn: from the trainer.
      split: whose images are queries and gallery; by default those of the data set's protocol.
        `gallery_split`, where the gallery is another one. A query that is in the gallery leaves its own.
      metrics: of `mAP`, `mAP_at_R`, `precision_at_R` and `recall_at_1`; for ROxford and RParis of `mAP`,
        `mAP_easy`, `mAP_medium` and `mAP_hard`.
      **settings: those of `Evaluation`.

    Raises:
      JaxalignError: settings that do not fit, when the evaluator is made and not in the middle of a run.
    """

    def __init__(
        self,
        predict_fn: PredictFn,
        *,
        split: str = "",
        gallery_split: str = "",
        metrics: Sequence[str] = ("mAP",),
        **settings: Any,
    ):
        self._evaluation, self._metrics = Evaluation(predict_fn, **settings), tuple(metrics)
        dataset, record = self._evaluation.dataset, self._evaluation.record
        query, gallery = split or record.query, gallery_split or (split or record.gallery)
        if not query or not gallery:
            raise JaxalignError(f"{dataset} has no retrieval protocol; expected a split")
        self._query = self._evaluation.read(query)
        self._gallery = self._query
        if gallery != query:
            self._gallery = self._evaluation.read(gallery).numbered_as(self._query)
        self._own = own_positions(self._query.examples, self._gallery.examples)
        landmarks = bool(self._query.examples.ground_truth)
        if landmarks and gallery != record.gallery:
            raise JaxalignError(
                f"the positives of {dataset} are in {record.gallery}; got the gallery {gallery}"
            )
        if not landmarks and not self._query.names:
            raise JaxalignError(f"{dataset} has no labels and no ground truth; expected one of them")
        if not landmarks and not np.isin(self._query.labels, self._gallery.labels).any():
            raise JaxalignError(f"no query of {dataset}, {query}, has an image of its label in {gallery}")
        for metric in self._metrics:
            known = LANDMARK_METRICS if landmarks else METRICS
            if metric not in known:
                raise unknown_name(f"retrieval metric of {dataset}", metric, known)

    def run(self, train_state: Any) -> Iterator[tuple[str, float]]:
        """`(name, value)` of everything that is logged, for the parameters in `train_state`."""
        sets = [self._query] if self._gallery is self._query else [self._query, self._gallery]
        images = [own.examples.images for own in sets]
        return self._evaluation.run(train_state, images, self._metrics, self._measure)

    def _measure(self, query: np.ndarray, gallery: np.ndarray | None = None) -> Mapping[str, Any]:
        items = query if gallery is None else gallery
        if truth := self._query.examples.ground_truth:
            return landmark_retrieval(query, items, truth).metrics
        labels = self._query.labels, self._gallery.labels
        return retrieval(query, items, *labels, exclude_self=self._own).metrics
