"""Slow float64 NumPy few-shot classifiers, written from their formulas, one image at a time."""

import itertools

import numpy as np


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def ensemble(embeddings):
    return np.stack([unit(np.mean([unit(e) for e in per_class], axis=0)) for per_class in embeddings])


def _cached(affinities, labels, classes):
    logits = np.zeros(classes)
    for affinity, label in zip(affinities, labels, strict=True):
        logits[label] += affinity
    return logits


def tip_adapter(x, features, labels, classes, text, alpha, beta):
    rows = []
    for f in unit(x):
        cache = _cached([np.exp(-beta * (1 - f @ key)) for key in unit(features)], labels, classes)
        rows.append(cache if text is None else 100 * unit(text) @ f + alpha * cache)
    return np.stack(rows)


def divergence(p, q):
    return sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))


def tip_x(x, features, labels, classes, text, alpha, beta, gamma, temperature, variant="paper"):
    keys, queries, w = unit(features), unit(x), unit(text)
    signature = lambda f: softmax(w @ f / temperature)
    m = np.array([[divergence(signature(f), signature(k)) for k in keys] for f in queries])
    cosine = queries @ keys.T
    if variant == "reference":
        scaled = (m - m.min()) / (m.max() - m.min()) * (cosine.max() - cosine.min()) + cosine.min()
        psi = -scaled
    else:
        among = max(divergence(signature(a), signature(b)) for a, b in itertools.product(keys, keys))
        lowest = min(np.exp(-beta * (1 - a @ b)) for a, b in itertools.product(keys, keys))
        psi = 1 - m / among * (1 - lowest)
    affinity = np.exp(-beta * (1 - cosine))
    return np.stack(
        [
            100 * w @ queries[i]
            + alpha * _cached(affinity[i], labels, classes)
            + gamma * _cached(psi[i], labels, classes)
            for i in range(len(queries))
        ]
    )


def ape_criterion(features, labels, classes, text, weight):
    """Every pair of examples of different classes, one after the other, texts among the examples."""
    examples = [(unit(t), k) for k, t in enumerate(text)]
    examples += [(unit(f), k) for f, k in zip(features, labels, strict=True)]
    products = [a * b for (a, i), (b, j) in itertools.product(examples, examples) if i != j]
    return (1 - weight) * np.var(unit(text), axis=0, ddof=1) - weight * np.mean(products, axis=0)


def ape(x, features, labels, classes, text, alpha, beta, gamma, channels, weight):
    criterion = ape_criterion(features, labels, classes, text, weight)
    kept = np.argsort(-criterion, kind="stable")[:channels]
    keys, w = unit(unit(features)[:, kept]), unit(unit(text)[:, kept])
    one_hot = np.eye(classes)
    rows = []
    for f in unit(x):
        affinities = []
        for key, label in zip(keys, labels, strict=True):
            p = softmax(w @ key)
            kl = np.sum(one_hot[label] * np.log2((one_hot[label] + 1e-6) / (p + 1e-6)))
            affinities.append(np.exp(-beta * (1 - unit(f[kept]) @ key)) * np.exp(gamma * kl))
        rows.append(100 * unit(text) @ f + alpha * _cached(affinities, labels, classes))
    return np.stack(rows)


def coder(x, features, labels, classes, text, bank, alpha, beta):
    neighbors = lambda f: unit(unit(bank) @ unit(f))
    keys = [neighbors(f) for f in features]
    rows = []
    for f in x:
        affinity = np.array([neighbors(f) @ key for key in keys])
        affinity = (affinity - affinity.min()) / (affinity.max() - affinity.min())
        cache = _cached(np.exp(-beta * (1 - affinity)), labels, classes)
        rows.append(cache if text is None else 100 * unit(text) @ unit(f) + alpha * cache)
    return np.stack(rows)


def lda(x, features, labels, classes):
    """By eigenvectors: pinv inverts what is not zero."""
    x, features = np.asarray(x, np.float64), np.asarray(features, np.float64)
    mu = np.stack([features[labels == k].mean(0) for k in range(classes)])
    centred = features - mu[labels]
    n, d = centred.shape
    covariance = centred.T @ centred / (n - 1)
    values, vectors = np.linalg.eigh((n - 1) * covariance + np.trace(covariance) * np.eye(d))
    inverse = np.where(values > 1e-12, 1 / np.where(values > 1e-12, values, 1), 0)
    p = d * (vectors * inverse) @ vectors.T
    return x @ p @ mu.T + np.log(1 / classes) - np.einsum("cd,de,ce->c", mu, p, mu) / 2
