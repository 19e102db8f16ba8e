"""Slow float64 NumPy references, written from the papers' formulas and not from the library."""

import numpy as np


def normalized(x):
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)


def cosine(a, b):
    return normalized(a) @ normalized(b).T


def homogeneous(kernel, bias=None):
    kernel = np.asarray(kernel, np.float64)
    return kernel if bias is None else np.vstack([kernel, np.asarray(bias, np.float64)])


def isoclip(image, text, k_top, k_bottom):
    """Homogeneous kernels in, homogeneous kernels out; the full Psi, cut to rank d by hand."""
    u, s, vt = np.linalg.svd(image @ text.T, full_matrices=False)
    r = min(len(s), image.shape[1])
    u, v = u[:, k_top : r - k_bottom], vt[k_top : r - k_bottom].T
    return u @ u.T @ image, v @ v.T @ text


def polar(kernel):
    u, _, vt = np.linalg.svd(kernel, full_matrices=False)
    return u @ vt


def pca_projection(x, texts, rank, center=True, normalize=False, mean=None):
    texts = normalized(texts) if normalize else np.asarray(texts, np.float64)
    second = np.cov(texts.T) if center else texts.T @ texts / len(texts)
    values, q = np.linalg.eigh(second)
    q = q[:, np.argsort(values)[::-1]]
    keep = np.diag((np.arange(len(values)) < rank).astype(float))
    projected = x @ (q @ keep @ q.T)
    return projected if mean is None else projected + q @ (np.eye(len(keep)) - keep) @ q.T @ mean


def relevance_sequence(scores, relevant, ignored=None):
    """Relevance of one query's gallery in rank order: score descending, irrelevant first among equals."""
    items = [
        (-score, bool(hit))
        for i, (score, hit) in enumerate(zip(scores, relevant, strict=True))
        if ignored is None or not ignored[i]
    ]
    return [hit for _, hit in sorted(items)]


def average_precision(sequence):
    precisions, hits = [], 0
    for rank, hit in enumerate(sequence, start=1):
        hits += hit
        if hit:
            precisions.append(hits / rank)
    return sum(precisions) / len(precisions) if precisions else float("nan")


def retrieval_metrics(scores, relevant, ignored=None, reference_depth=0, count_empty=False):
    """Percent, one query at a time, from a score matrix."""
    columns = {"mAP": [], "mAP_at_R": [], "precision_at_R": [], "recall_at_1": []}
    without = 0
    for i in range(len(scores)):
        sequence = relevance_sequence(scores[i], relevant[i], None if ignored is None else ignored[i])
        r = sum(sequence)
        if r == 0:
            without += 1
            if count_empty:
                for column in columns.values():
                    column.append(0.0)
            continue
        columns["mAP"].append(average_precision(sequence))
        depth = r + reference_depth
        at_r = [sum(sequence[:k]) / k * sequence[k - 1] for k in range(1, min(depth, len(sequence)) + 1)]
        columns["mAP_at_R"].append(sum(at_r) / r)
        columns["precision_at_R"].append(sum(sequence[:r]) / r)
        columns["recall_at_1"].append(float(sequence[0]))
    return {name: 100 * np.mean(values) for name, values in columns.items()} | {
        "queries_without_positives": without
    }


def lda_logits(x, features, labels, classes):
    x, features = np.asarray(x, np.float64), np.asarray(features, np.float64)
    mu = np.stack([features[labels == k].mean(0) for k in range(classes)])
    centred = np.concatenate([features[labels == k] - mu[k] for k in range(classes)])
    n, d = centred.shape
    covariance = np.cov(centred.T)
    p = d * np.linalg.pinv((n - 1) * covariance + np.trace(covariance) * np.eye(d))
    return x @ (p @ mu.T) + np.log(1 / classes) - np.diag(mu @ p @ mu.T) / 2


def class_histograms(features, labels, bins):
    scores, n = cosine(features, features), len(features)
    same, different = [], []
    for i in range(n):
        for j in range(i + 1, n):
            (same if labels[i] == labels[j] else different).append(np.clip(scores[i, j], -1, 1))
    return [np.histogram(values, bins=bins, range=(-1, 1))[0] for values in (same, different)]
