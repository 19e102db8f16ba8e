"""IsoCLIP's gain on held-out emoji, task by task, its band chosen on training names, for docs/embedded.md.

    python tools/embedded_bands.py emoji-clip emoji-siglip

Every image is a query among all of its split. Bands are chosen on CHOSEN_ON of the training names; gains have
their standard errors over the queries.
"""

from collections.abc import Iterator

import numpy as np
import tyro

import jaxalign as ja
from jaxalign.eval.datasets import load_split
from jaxalign.eval.datasets.examples import Examples

ENDS = (0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 48, 64, 96, 128)  # directions removed from an end
CHOSEN_ON = 400


def features(model: ja.DualEncoder, examples: Examples, rows: np.ndarray) -> np.ndarray:
    """Pre-projection features `[len(rows), d_image]`."""
    return np.asarray(model.encode_image([examples.images[int(i)] for i in rows], projected=False))


def gains(name: str, dataset: str) -> Iterator[tuple[str, ...]]:
    """Task, mAP of the embeddings as they are, band, and gain with its error, for each task of a data set."""
    model = ja.load(name)
    projectors = model.projectors
    rank = len(np.asarray(ja.decompose(projectors).s))
    ends = [k for k in ENDS if k < rank]
    train, test = load_split(dataset, "train"), load_split(dataset, "test")
    chosen = np.random.default_rng(0).permutation(len(train.label_names["emoji"]))[:CHOSEN_ON]
    rows = np.flatnonzero(np.isin(train.labels["emoji"], chosen))
    known, held_out = features(model, train, rows), features(model, test, np.arange(len(test.ids)))
    for task, labels in test.labels.items():
        own = train.labels[task][rows]
        found = ja.sweep_bands(
            projectors, known, known, own, own, k_top=ends, k_bottom=ends, exclude_self=True
        )
        scores = []
        for heads in (projectors, ja.isoclip(projectors, *found.best)):
            x = heads.image(held_out)
            metrics = ja.retrieval_metrics(x, x, labels, labels, exclude_self=True, per_query=True)
            scores.append(np.asarray(metrics["per_query"]["mAP"]))
        gain = scores[1] - scores[0]
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        band = f"{found.best[0]}, {found.best[1]} of {rank}"
        yield task, f"{scores[0].mean():.1f}", band, f"{gain.mean():+.1f} ± {error:.1f}"


def main(models: tyro.conf.Positional[tuple[str, ...]]) -> None:
    """Print a row for each of `models`, data set and task."""
    for cells in (("model", "images", "the same", "mAP", "band", "gain"), ["---"] * 6):
        print(f"| {' | '.join(cells)} |")
    for name in models:
        for dataset in ("emoji", "emoji-scenes"):
            for cells in gains(name, dataset):
                print(f"| {' | '.join((name, dataset, *cells))} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
