"""Classification by class names, and nearest mean of a training split (IsoCLIP, tables 3 and S7)."""

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.classifiers import FEW_SHOT, check_class_labels

from .classifying import NCM, ZERO_SHOT, Classes, Classifying
from .few_shot import drawn_rows, measure_few_shot
from .labelled import LabelledPair
from .methods import Method
from .pairs import naming_left_out
from .projecting import image_embeddings
from .runs import Result, Run
from .task import Column, Task
from .workspace import model_settings

TASK = Task(
    name="classification",
    title="Classification",
    about="Zero-shot by class names, and by the nearest mean of the training images.",
    headline="accuracy",
    columns=(Column("accuracy", "accuracy"), Column("class_accuracy", "mean over classes")),
    compared="accuracy",
)


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
    correct = np.asarray(classifier.predict(jnp.asarray(features), mesh=mesh)) == labels
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
    """`classify` test features by the cosine with the class means of all training features.

    As in IsoCLIP, section 5.3, the means are of features that are not normalised. There they are means of
    pre-projection features, which are then projected: a head is affine, so the mean of projected features,
    which this takes, is the same. Raises as `classify`, and for a class without training example.
    """
    classifier = ja.ncm_classifier(features, labels, num_classes=num_classes)
    return classify(classifier, test_features, test_labels, num_classes, mesh=mesh)


def measure_classification(pair: LabelledPair, classifying: Classifying) -> list[Run]:
    """Runs of the tasks `classification` and `few-shot`, for each classifier and each method. Raises
    JaxalignError, before any image is embedded, for an unknown name or a bad option."""
    classes, workspace = Classes(pair, classifying), pair.workspace
    if set(classifying.classifiers) & set(FEW_SHOT):
        drawn_rows(pair.train_labels, pair.num_classes, classifying.few_shot)  # raises for too few of a class
    facts = model_settings(pair.model) | pair.settings
    runs = []
    for classifier in dict.fromkeys(classifying.classifiers):
        if classifier == ZERO_SHOT:
            settings = facts | {"classifier": ZERO_SHOT} | pair.text_settings(classifying.templates)
            runs.append(workspace.measure(TASK.name, settings, lambda: _by_names(classes)))
            continue
        for method in classes.methods:
            settings = facts | pair.train_settings | {"classifier": classifier} | method.to_json()
            if classifier == NCM:
                compute = lambda m=method: _by_means(classes, m)
                runs.append(workspace.measure(TASK.name, settings, compute))
            else:
                runs.append(measure_few_shot(classes, classifier, method, settings))
    return runs


def _by_names(classes: Classes) -> Result:
    pair = classes.pair
    pre, labels = pair.test_pre_and_labels
    weights = ja.ensemble_text_weights(pair.prompts(classes.classifying.templates))
    given = (image_embeddings(classes.model, pre), labels, pair.num_classes)
    found = classify(ja.zero_shot_classifier(weights), *given, mesh=classes.workspace.mesh)
    return naming_left_out(found, pair.read_test)


def _by_means(classes: Classes, method: Method) -> Result:
    embed, pair = classes.fitting.embed(method), classes.pair
    (train, train_labels), (test, test_labels) = pair.train_pre_and_labels, pair.test_pre_and_labels
    given = (embed(train), train_labels, embed(test), test_labels, pair.num_classes)
    found = nearest_class_mean(*given, mesh=classes.workspace.mesh)
    return classes.noting_known(naming_left_out(found, pair.read_train, pair.read_test), "means of")
