"""Dogs and cats: an easy task that looks hard by image-image similarity (Reevaluating, table 1; IsoCLIP,
figure 4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.tasks.runs import Result


def dogs_cats(
    embeddings: Mapping[str, ArrayLike],
    labels: np.ndarray,
    text_embeddings: ArrayLike | None,
    *,
    query_class: int = 1,
    ks: Sequence[int] = (1, 5, 10, 50, 100),
    shots: Sequence[int] = (1, 16),
    seed: int = 1,
) -> Result:
    """Both papers' experiment.

    Table 1 is about the first entry of `embeddings`, all pictures. Figure 4 compares all entries on the same
    pictures: without those of the query class that are nearer to another class's text, under the first entry.

    Args:
      embeddings: by method, `[n, d]`; the first one, the embeddings as they are, belongs to the texts.
      labels: int `[n]` from 0 on.
      text_embeddings: `[classes, d]` of "a photo of a cat", "a photo of a dog"; None for an image-only model.
      query_class, ks, shots, seed: as in `ja.dogs_versus_cats`.

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
    options: dict[str, Any] = {"query_class": query_class, "ks": ks, "seed": seed}
    whole = ja.dogs_versus_cats(embeddings[first], labels, text_embeddings, shots=shots, **options)
    kept = np.ones(len(labels), bool)
    if text_embeddings is not None:
        guess = np.asarray(ja.zero_shot_classifier(text_embeddings).predict(embeddings[first]))
        kept = (labels != query_class) | (guess == labels)
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
