"""big_vision evaluator: how well pictures find pictures, as the model is and under every method."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval.datasets import find_dataset
from jaxalign.eval.datasets.examples import own_positions
from jaxalign.eval.protocols import own
from jaxalign.eval.protocols.image_retrieval import METRICS, landmark_retrieval, retrieval

from .encode import Encoder, ImageFeatures, PredictFn
from .methods import AUTO, MethodSettings, Tokenize, fit_methods, is_usable, make_tokenizer
from .splits import make_processor, read_pictures

LANDMARK_METRICS = ("mAP", "mAP_easy", "mAP_medium", "mAP_hard")
API = "jit"  # which kind of trainer this is for, in big_vision's words


class Evaluator:
    """Image-to-image retrieval among the pictures of a data set.

    Logs `<method>/<metric>` in percent, for the methods `image-image`, `pre`, `isoclip` and, with a
    tokenizer, `pca`; and `isoclip/k_top`, `isoclip/k_bottom`, the band. A metric of a method that the
    parameters of the moment do not allow (a head that is zero, a run that has diverged) is NaN.

    Args:
      predict_fn, batch_size, devices: from the trainer.
      dataset: of `jaxalign datasets`, or `folder:PATH`.
      image_size: side of the pictures that the model takes, in pixels.
      split: whose pictures are queries and gallery; by default those of the data set's protocol.
        `gallery_split`, where the gallery is another one. A query that is in the gallery leaves its own.
      label: which pictures are alike; by default the data set's first label.
      data_dir: where prepared data sets are.
      preprocess: options of `ja.ImageProcessor`; by default big_vision's `resize(size)|value_range(-1, 1)`.
      metrics: of `mAP`, `mAP_at_R`, `precision_at_R` and `recall_at_1`; for ROxford and RParis of `mAP`,
        `mAP_easy`, `mAP_medium` and `mAP_hard`.
      band, rank, class_names, template, tokenizer: see `MethodSettings` and `make_tokenizer`.

    Raises:
      JaxalignError: settings that do not fit, when the evaluator is made and not in the middle of a run.
    """

    def __init__(
        self,
        predict_fn: PredictFn,
        *,
        dataset: str,
        image_size: int,
        batch_size: int | None,
        devices: Any,
        split: str = "",
        gallery_split: str = "",
        label: str = "",
        data_dir: str | None = None,
        preprocess: Mapping[str, Any] | None = None,
        metrics: Sequence[str] = ("mAP",),
        band: tuple[int, int] | str = AUTO,
        rank: int | None = None,
        class_names: Sequence[str] | None = None,
        template: str = "a photo of {}",
        tokenizer: Tokenize | Mapping[str, Any] | None = None,
    ):
        names = None if class_names is None else tuple(class_names)
        self._settings = MethodSettings(band, rank, names, template, make_tokenizer(tokenizer))
        self._metrics, self._processor = tuple(metrics), make_processor(image_size, preprocess)
        self._encoder = Encoder(predict_fn, batch_size, devices)
        record = find_dataset(dataset)
        query, gallery = split or record.query, gallery_split or (split or record.gallery)
        if not query or not gallery:
            raise JaxalignError(f"{dataset} has no retrieval protocol; expected a split")
        self._query = read_pictures(record, query, label, data_dir)
        self._gallery = self._query
        if gallery != query:
            self._gallery = read_pictures(record, gallery, label, data_dir).numbered_as(self._query)
        self._own = own.exclusion(own_positions(self._query.examples, self._gallery.examples))
        landmarks = bool(self._query.ground_truth)
        if landmarks and gallery != record.gallery:
            raise JaxalignError(
                f"the positives of {dataset} are in {record.gallery}; got the gallery {gallery}"
            )
        if not landmarks and not self._query.names:
            raise JaxalignError(f"{dataset} has no labels and no ground truth; expected one of them")
        if not landmarks and not np.isin(self._query.labels, self._gallery.labels).any():
            raise JaxalignError(f"no query of {dataset}, {query}, has a picture of its label in {gallery}")
        for metric in self._metrics:
            known = LANDMARK_METRICS if landmarks else METRICS
            if metric not in known:
                raise unknown_name(f"retrieval metric of {dataset}", metric, known)

    def run(self, train_state: Any) -> Iterator[tuple[str, float]]:
        """`(name, value)` of everything that is logged, for the parameters in `train_state`."""
        query = self._encode(train_state, self._query.images)
        alone = self._gallery is self._query
        gallery = query if alone else self._encode(train_state, self._gallery.images)
        fitted = fit_methods(self._settings, self._encoder, train_state)
        for method in self._settings.names:
            found = {metric: float("nan") for metric in self._metrics}
            if method in fitted.embed:
                with jax.transfer_guard("allow"):
                    q = np.asarray(fitted.embed[method](query))
                    g = q if alone else np.asarray(fitted.embed[method](gallery))
                    if is_usable(q) and is_usable(g):
                        found = self._measure(q, g)
            for metric in self._metrics:
                yield f"{method}/{metric}", found[metric]
        yield from fitted.facts.items()

    def _measure(self, query: np.ndarray, gallery: np.ndarray) -> Mapping[str, Any]:
        if self._query.ground_truth:
            return landmark_retrieval(query, gallery, self._query.ground_truth).metrics
        labels = self._query.labels, self._gallery.labels
        return retrieval(query, gallery, *labels, exclude_self=self._own).metrics

    def _encode(self, train_state: Any, images: Any) -> ImageFeatures:
        return self._encoder.images(train_state, images, self._processor)
