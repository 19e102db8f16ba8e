"""Queries for the report, with their first results before and after."""

from collections.abc import Mapping

import numpy as np

import jaxalign as ja
from jaxalign.eval.datasets import Examples
from jaxalign.eval.report import Example, Shown


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
    rows = queries[list(chosen)]  # positions among the pictures
    same = np.zeros(len(examples), np.int32)  # whatever is nearest, relevant or not
    nearest = {
        title: ja.retrieval_metrics(x[rows], x, same[rows], same, exclude_self=rows, per_query=True)
        for title, x in embeddings.items()
    }
    return [
        Example(
            query=_shown(examples, row, row),
            reason=reason,
            results={
                title: [_shown(examples, i, row) for i in found["per_query"]["first_results"][n] if i >= 0]
                for title, found in nearest.items()
            },
        )
        for n, (row, reason) in enumerate(zip(rows, chosen.values(), strict=True))
    ]


def _shown(examples: Examples, at: int, query: int) -> Shown:
    label = lambda task: examples.labels[task][at] == examples.labels[task][query]
    shares = "emoji" if label("emoji") else "group" if label("group") else "nothing"
    name = examples.label_names["emoji"][examples.labels["emoji"][at]]
    return Shown(name, examples.images[at], shares)
