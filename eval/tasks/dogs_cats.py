"""Dogs and cats: an easy task that looks hard by image-image similarity (Reevaluating, table 1; IsoCLIP,
figure 4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError

from .indicators import Indicators
from .projecting import class_texts_of
from .runs import Result, Run
from .task import Column, Task

TASK = Task(
    name="dogs-cats",
    title="Dogs and cats",
    about="A task that is easy, and looks hard by similarities of images.",
    headline="image_image_mAP",
    columns=(
        Column("image_image_mAP", "image-image mAP"),
        Column("text_image_mAP", "text-image mAP"),
        Column("zero_shot_accuracy", "zero-shot"),
        *(Column(f"few_shot_accuracy.{shots}", f"{shots}-shot") for shots in (1, 16)),
    ),
)
_DOGS = 1  # the query class of `ja.dogs_versus_cats`
_KS = (1, 5, 10, 50, 100, 500, 1000)


def dogs_cats(
    embeddings: Mapping[str, ArrayLike],
    labels: np.ndarray,
    text_embeddings: ArrayLike | None,
    *,
    shots: Sequence[int] = (1, 16),
    **options: Any,
) -> Result:
    """Both papers' experiment.

    Table 1 is about the first entry of `embeddings`, all images. Figure 4 compares all entries on the same
    images: without those of the query class that are nearer to another class's text, under the first entry.

    Args:
      embeddings: by method, `[n, d]`; the first one, the embeddings as they are, belongs to the texts.
      labels: int `[n]` from 0 on.
      text_embeddings: `[classes, d]` of "a photo of a cat", "a photo of a dog"; None for an image-only model.
      shots, **options: as in `ja.dogs_versus_cats`.

    Returns:
      Metrics: `image_image_mAP`, `text_image_mAP`, `zero_shot_accuracy`, `few_shot_accuracy` (table 1),
      `removed`, `queries`, and `aligned`: for each method `precision_at`, `iou` and `mAP` (figure 4). Arrays:
      `edges`, and for each method `METHOD_positives` and `METHOD_negatives`.

    Raises:
      JaxalignError: no embeddings, or as `ja.dogs_versus_cats`.
    """
    if not embeddings:
        raise JaxalignError("there are no embeddings; expected those of one method or more")
    labels = np.asarray(labels)
    first, *others = embeddings
    whole = ja.dogs_versus_cats(embeddings[first], labels, text_embeddings, shots=shots, **options)
    kept = np.ones(len(labels), bool)
    if text_embeddings is not None:
        guess = np.asarray(ja.zero_shot_classifier(text_embeddings).predict(embeddings[first]))
        kept = (labels != _DOGS) | (guess == labels)
    aligned: dict[str, dict[str, Any]] = {}
    arrays: dict[str, np.ndarray] = {"edges": whole.edges}
    for name in (first, *others):
        found = whole
        if name != first or not kept.all():
            found = ja.dogs_versus_cats(np.asarray(embeddings[name])[kept], labels[kept], shots=(), **options)
        aligned[name] = {
            "mAP": found.image_image_mAP,
            "iou": found.iou,
            "precision_at": {str(k): value for k, value in found.precision_at.items()},
        }
        arrays |= {f"{name}_positives": found.positives, f"{name}_negatives": found.negatives}
    metrics = {
        "image_image_mAP": whole.image_image_mAP,
        "text_image_mAP": whole.text_image_mAP,
        "zero_shot_accuracy": whole.zero_shot_accuracy,
        "few_shot_accuracy": {str(k): value for k, value in whole.few_shot_accuracy.items()},
        "queries": whole.queries,
        "removed": whole.removed,
        "aligned": aligned,
    }
    return Result(metrics, arrays)


def measure_dogs_cats(shown: Indicators) -> Run:
    """The run of this task: the data set has two classes, of which the second is the query."""
    names = shown.pair.query.label_names[shown.task]
    if len(names) != 2:
        raise JaxalignError(
            f"{shown.pair.query.dataset} has {len(names)} classes of {shown.task}; dogs and cats are two"
        )

    def compute() -> Result:
        texts = None if shown.model.config.text is None else shown.texts
        if (given := class_texts_of(shown.model)) is not None:
            texts = given.of_classes(len(names))
        found = {name: shown.embeddings(name) for name in shown.methods}
        ks = tuple(k for k in _KS if k < len(shown.rows) // 2)
        return dogs_cats(found, shown.labels, texts, ks=ks)

    methods = [method.to_json() for method in shown.methods.values()]
    return shown.measure(TASK.name, shown.text_settings | {"methods": methods}, compute)
