"""Queries for the report, with their first results before and after."""

from collections.abc import Mapping

import numpy as np

from eval.datasets import Examples
from eval.report import Example, Shown

RESULTS = 10


def pick_examples(
    examples: Examples,
    queries: np.ndarray,
    embeddings: Mapping[str, np.ndarray],
    precision: tuple[np.ndarray, np.ndarray],
    count: int,
) -> list[Example]:
    """Half of `count` queries evenly spaced, a quarter that gain the most, a quarter that lose the most.

    Args:
      queries: positions [q] in `examples`.
      embeddings: of all examples [n, d], before and after, by title of the method.
      precision: average precision of each query, before and after, percent [q] each.
    """
    before, after = precision
    gain = np.where(np.isnan(after - before), 0.0, after - before)
    spaced = np.linspace(0, len(queries) - 1, min(count - 2 * (count // 4), len(queries))).round().astype(int)
    order = np.argsort(gain, kind="stable")
    quarter = count // 4
    groups = {
        "evenly spaced": spaced,
        "gains the most": order[::-1][:quarter],
        "loses the most": order[:quarter],
    }
    chosen: dict[int, str] = {}
    for reason, positions in groups.items():
        for at in positions:
            chosen.setdefault(int(at), f"{reason}: average precision {before[at]:.0f} to {after[at]:.0f} %")
    return [
        Example(
            query=_shown(examples, queries[at], queries[at]),
            reason=reason,
            results={
                title: [_shown(examples, i, queries[at]) for i in _first_results(x, queries[at])]
                for title, x in embeddings.items()
            },
        )
        for at, reason in chosen.items()
    ]


def _first_results(x: np.ndarray, query: int) -> np.ndarray:
    """Positions of the pictures nearest to `query` by cosine, itself left out."""
    unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    scores = unit @ unit[query]
    scores[query] = -np.inf
    return np.argsort(-scores, kind="stable")[:RESULTS]


def _shown(examples: Examples, at: int, query: int) -> Shown:
    label = lambda task: examples.labels[task][at] == examples.labels[task][query]
    shares = "emoji" if label("emoji") else "group" if label("group") else "nothing"
    name = examples.label_names["emoji"][examples.labels["emoji"][at]]
    return Shown(name, examples.images[at], shares)
