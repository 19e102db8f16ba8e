"""Slow float64 rankings, one item at a time, and the problems that the ranking tests share."""

import itertools

import numpy as np
import oracles


def problem(queries=37, items=53, width=8, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    query, gallery = rng.normal(size=(queries, width)), rng.normal(size=(items, width))
    return query, gallery, rng.integers(0, classes, queries), rng.integers(0, classes, items)


def circle(*degrees):
    """Unit vectors: cosine with the first axis falls as the angle grows."""
    return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def table(lists, items):
    """The bool table of lists of positions."""
    rows = np.zeros((len(lists), items), bool)
    for i, positions in enumerate(lists):
        for position in positions:
            rows[i, position] = True
    return rows


def first_items(scores, relevant, ignored, count):
    """Positions by score, irrelevant ones first among equals, then the earlier ones; -1 past the end."""
    kept = [i for i in range(len(scores)) if ignored is None or not ignored[i]]
    order = sorted(kept, key=lambda i: (-scores[i], bool(relevant[i]), i))
    return (order + [-1] * count)[:count]


def statistics(scores, relevant, ignored, depths, extra_depth=0, trapezoidal=False, first=0):
    """One query: `(R, AP, mAP@R, R-precision, hits, last rank, first items)`."""
    sequence = oracles.relevance_sequence(scores, relevant, ignored)
    nearest = first_items(scores, relevant, ignored, first)
    r = sum(sequence)
    hits = [sum(sequence[:depth]) for depth in depths]
    if r == 0:
        return 0, np.nan, np.nan, np.nan, hits, 0, nearest
    at_r = [
        sum(sequence[:k]) / k for k in range(1, len(sequence) + 1) if sequence[k - 1] and k <= r + extra_depth
    ]
    last = max(k for k in range(1, len(sequence) + 1) if sequence[k - 1])
    area = trapezoids(sequence) if trapezoidal else oracles.average_precision(sequence)
    return r, area, sum(at_r) / r, sum(sequence[:r]) / r, hits, last, nearest


def trapezoids(sequence):
    """Area under the precision-recall points of every cut-off, joined by straight lines from precision 1."""
    points, hits = [(0.0, 1.0)], 0
    for k, hit in enumerate(sequence, start=1):
        hits += hit
        points.append((hits / sum(sequence), hits / k))
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))


def revisited(scores, ground_truth):
    """The benchmark's numbers, percent, by its definition: junk and ignored items struck from the list."""
    settings = {
        "easy": (["easy"], ["junk", "hard"]),
        "medium": (["easy", "hard"], ["junk"]),
        "hard": (["hard"], ["junk", "easy"]),
    }
    metrics = {}
    for name, (good, struck) in settings.items():
        areas, precisions = [], {1: [], 5: [], 10: []}
        for row, truth in zip(scores, ground_truth, strict=True):
            positives = {i for key in good for i in truth[key]}
            out = {i for key in struck for i in truth[key]}
            order = sorted((-score, i in positives) for i, score in enumerate(row) if i not in out)
            sequence = [hit for _, hit in order]
            if not any(sequence):
                continue
            areas.append(trapezoids(sequence))
            last = max(k for k, hit in enumerate(sequence, start=1) if hit)
            for k, values in precisions.items():
                values.append(sum(sequence[:k]) / min(k, last))
        metrics[f"mAP_{name}"] = 100 * np.mean(areas)
        metrics |= {f"mP@{k}_{name}": 100 * np.mean(values) for k, values in precisions.items()}
        metrics[f"queries_without_positives_{name}"] = len(scores) - len(areas)
    return metrics
