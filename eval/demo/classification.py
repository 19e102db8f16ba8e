"""Unicode groups of pictures: from the groups' names, and from the nearest class mean."""

from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.eval.datasets.examples import common_labels
from jaxalign.eval.demo.data import PROMPT, DemoData
from jaxalign.eval.demo.encode import Encoder, Features
from jaxalign.eval.demo.measure import paired_gain


def measure_classifiers(
    encoder: Encoder, training: Features, test: Features, data: DemoData, isoclip_head: ja.Projector
) -> dict[str, Any]:
    """Accuracy in percent on all held-out scenes; class means are those of scenes of the training names."""
    labels, truth, names = common_labels(data.training, data.scenes, "group")
    prompts = encoder.texts([PROMPT.format(name.lower()) for name in names]).embeddings
    means = ja.ncm_classifier(training.embeddings, labels, num_classes=len(names))
    filtered = ja.ncm_classifier(training.pre, labels, num_classes=len(names), projector=isoclip_head)
    predicted = {
        "zero-shot": ja.zero_shot_classifier(prompts).predict(test.embeddings),
        "ncm": means.predict(test.embeddings),
        "ncm-isoclip": filtered.predict(test.pre),
    }
    correct = {name: 100.0 * (np.asarray(guess) == truth) for name, guess in predicted.items()}
    return {
        name: {"accuracy": float(hits.mean())} | (paired_gain(hits, correct["ncm"]) if name != "ncm" else {})
        for name, hits in correct.items()
    }
