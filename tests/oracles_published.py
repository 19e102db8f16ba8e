"""What the papers' published code does, transcribed from reading it: slow, in float64, one item at a time."""

import itertools
import random

import numpy as np
import oracles


def text_retrieval(features, images):
    """`coco_text.py`, `flickr30k_text.py`, `nocaps_text.py` and `compute_metrics` of IsoCLIP.

    The query split keeps `captions[:1]` of each image, the gallery split `captions[1:]`; the splits have
    different names, so no query is taken out of the gallery.
    """
    captions = {}
    for row, image in enumerate(images):
        captions.setdefault(image, []).append(row)
    query = [(image, row) for image, rows in captions.items() for row in rows[:1]]
    gallery = [(image, row) for image, rows in captions.items() for row in rows[1:]]
    scores = oracles.cosine(features[[row for _, row in query]], features[[row for _, row in gallery]])
    columns = {"mAP": [], "mAP_at_R": [], "precision_at_R": [], "recall_at_1": []}
    for (image, _), own in zip(query, scores, strict=True):
        hits = [gallery[i][0] == image for i in np.argsort(-own, kind="stable")]
        relevant = sum(hits)
        precision = [hit * sum(hits[:k]) / k for k, hit in enumerate(hits, 1)]
        columns["mAP"].append(sum(precision) / relevant)
        columns["mAP_at_R"].append(sum(precision[:relevant]) / min(sum(hits), relevant))
        columns["precision_at_R"].append(sum(hits[:relevant]) / relevant)
        columns["recall_at_1"].append(hits[0])
    return {name: 100 * np.mean(values) for name, values in columns.items()}


def few_shot_projection(x, prompts):
    """`clip_classifier` of ImageNet, then `fit_pca` and `transform_pca` of `span_projection.py`.

    prompts: embeddings `[c, t, d]`.
    """
    names = []
    for of_class in np.asarray(prompts, np.float64):
        mean = np.mean([e / np.linalg.norm(e) for e in of_class], axis=0)
        names.append(mean / np.linalg.norm(mean))
    names = np.array(names)
    centred = names - names.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / (len(names) - 1))
    u = vectors[:, np.argsort(values)[::-1][: names.shape[1] // 2]].T
    return np.array([u.T @ (u @ row) for row in np.asarray(x, np.float64)])


def prototype_accuracy(train, labels, test, test_labels, classes, text=None):
    """`prototype_classify` of `main_few_shots.py`: nothing is scaled but the class means."""
    means = [train[labels == k].mean(0) for k in range(classes)]
    means = np.array([m / np.linalg.norm(m) for m in means])
    scores = test @ means.T
    scores = scores if text is None else 0.5 * scores + 0.5 * test @ text.T
    return 100 * np.mean(scores.argmax(1) == test_labels)


def lda_accuracy(train, labels, test, test_labels, classes, text=None):
    """`lda_iclr24_classify` of the same file."""
    scores = oracles.lda_logits(test, train, labels, classes)
    scores = scores if text is None else 0.5 * test @ text.T + 0.5 * scores
    return 100 * np.mean(scores.argmax(1) == test_labels)


def search(loops, logits, labels, rounds=1):
    """The nested loops of the published searches: the first of the best combinations is kept.

    loops: `(name, low, high, count)`, the outermost first. With rounds, each further one goes from half the
    best value to one and a half of it.
    """
    for _ in range(rounds):
        best, chosen = 0, {}
        values = [[i * (high - low) / count + low for i in range(count)] for _, low, high, count in loops]
        for combination in itertools.product(*values):
            named = {loop[0]: value for loop, value in zip(loops, combination, strict=True)}
            right = int((logits(**named).argmax(1) == labels).sum())
            if right > best:
                best, chosen = right, named
        loops = [(name, chosen[name] * 0.5, chosen[name] * 1.5, count) for name, _, _, count in loops]
    return chosen


def lda_weight(zero_shot, lda, labels):
    """`run` of GDA's `main_few_shots.py`: a of `100 zero-shot + a LDA`."""
    best, chosen = 0, 0.1
    for a in [0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0]:
        right = int(((100 * zero_shot + a * lda).argmax(1) == labels).sum())
        if right > best:
            best, chosen = right, a
    return chosen


def draws(labels, seed):
    """`generate_fewshot_dataset` of CoOp's `DatasetBase`, called for 1, 2, 4, 8 and 16 shots after one
    `random.seed`."""
    random.seed(seed)
    found = {}
    for shots in (1, 2, 4, 8, 16):
        tracker = {}
        for row, label in enumerate(labels):
            tracker.setdefault(label, []).append(row)
        found[shots] = {
            label: random.sample(rows, shots) if len(rows) >= shots else random.choices(rows, k=shots)
            for label, rows in tracker.items()
        }
    return found
