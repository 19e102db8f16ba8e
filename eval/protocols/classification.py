"""Accuracy of a classifier, and the nearest mean of a whole training split (IsoCLIP, tables 3 and S7)."""

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.classifiers import check_class_labels
from jaxalign.eval.tasks.runs import Result

UNLABELLED = -1


def classify(
    classifier: ja.Classifier,
    features: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    *,
    mesh: Mesh | None = None,
) -> Result:
    """How often `classifier` is right.

    Args:
      features: `[n, d]`, as the classifier is called on.
      labels: int `[n]`, below `num_classes`.
      mesh: devices that the features are divided over.

    Returns:
      Metrics: `accuracy` and `class_accuracy`, the mean of the accuracies of the classes that occur, in
      percent, and the counts `examples` and `classes`. Arrays: `correct` bool `[n]`.

    Raises:
      JaxalignError: labels out of range, or features of another width.
    """
    labels = np.asarray(labels)
    check_class_labels(labels, len(np.asarray(features)), num_classes, all_occur=False)
    predicted = np.asarray(classifier.predict(jnp.asarray(features), mesh=mesh))
    return summarise(predicted == labels, labels, num_classes)


def summarise(correct: np.ndarray, labels: np.ndarray, num_classes: int) -> Result:
    """The `Result` of `classify` from what was right, bool `[n]`."""
    counts = np.bincount(labels, minlength=num_classes)
    right = np.bincount(labels, weights=correct, minlength=num_classes)
    occurring = counts > 0
    metrics = {
        "accuracy": 100 * float(correct.mean()),
        "class_accuracy": 100 * float((right[occurring] / counts[occurring]).mean()),
        "examples": len(labels),
        "classes": num_classes,
    }
    return Result(metrics, {"correct": correct})


def nearest_class_mean(
    features: ArrayLike,
    labels: ArrayLike,
    test_features: ArrayLike,
    test_labels: ArrayLike,
    num_classes: int,
    *,
    mesh: Mesh | None = None,
) -> Result:
    """Cosine with the class means of all training examples.

    As in IsoCLIP, section 5.3, the means are of features that are not normalised. There they are means of
    pre-projection features, which are then projected: a head is affine, so the mean of projected features,
    which this takes, is the same.

    Args:
      features, labels: of the training split under some method, `[n, d]` and int `[n]`.
      test_features, test_labels: `[t, d]` and int `[t]`.
      mesh: devices that the test features are divided over.

    Raises:
      JaxalignError: labels out of range, a class without training example, or features that do not fit.
    """
    classifier = ja.ncm_classifier(features, labels, num_classes=num_classes)
    return classify(classifier, test_features, test_labels, num_classes, mesh=mesh)
