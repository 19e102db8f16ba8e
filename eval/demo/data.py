"""What the demo measures on: splits of the embedded data sets, and the queries among them."""

import os
from dataclasses import dataclass

import numpy as np

from eval.datasets import Examples, load_split, prepare
from eval.demo.stages import Stages

PLAIN, SCENES = "emoji", "emoji-scenes"
PROMPT = "a photo of {}"


@dataclass(frozen=True, eq=False)
class CaptionSet:
    """Captions of some emoji: `texts`, `labels` int [n], and at `queries` the first caption of each emoji."""

    texts: list[str]
    labels: np.ndarray
    queries: np.ndarray


@dataclass(frozen=True, eq=False)
class DemoData:
    """Held-out pictures, plain and in scenes, scenes of the training names, and captions of both splits."""

    plain: Examples
    scenes: Examples
    training: Examples
    captions: CaptionSet
    training_captions: CaptionSet


def load_data(data_dir: str | os.PathLike | None, stages: Stages) -> DemoData:
    """Prepare both data sets where they are not yet, and read them."""
    for name in (PLAIN, SCENES):
        with stages.timed("prepare"):  # shows progress of its own
            prepare(name, data_dir)
    with stages.stage("read", "Reading the pictures", total=4) as advance:
        splits = {}
        for name, split in ((PLAIN, "train"), (PLAIN, "test"), (SCENES, "train"), (SCENES, "test")):
            splits[name, split] = load_split(name, split, data_dir)
            advance(1)
    return DemoData(
        plain=splits[PLAIN, "test"],
        scenes=splits[SCENES, "test"],
        training=splits[SCENES, "train"],
        captions=collect_captions(splits[PLAIN, "test"]),
        training_captions=collect_captions(splits[PLAIN, "train"]),
    )


def collect_captions(examples: Examples) -> CaptionSet:
    """The captions of each emoji once: all pictures of an emoji have the same ones."""
    emoji = examples.labels["emoji"]
    first = {int(label): int(at) for label, at in zip(*np.unique(emoji, return_index=True), strict=True)}
    texts: list[str] = []
    labels: list[int] = []
    queries: list[int] = []
    for label, at in first.items():
        queries.append(len(texts))
        texts += examples.captions[at]
        labels += [label] * len(examples.captions[at])
    return CaptionSet(texts, np.array(labels, np.int32), np.array(queries, np.int32))


def emoji_names(examples: Examples) -> tuple[np.ndarray, list[str]]:
    """Labels int [e] and names of the emoji that occur in a split."""
    labels = np.unique(examples.labels["emoji"])
    return labels, [examples.label_names["emoji"][i] for i in labels]


def choose_queries(emoji: np.ndarray, limit: int | None) -> np.ndarray:
    """Positions int [q], sorted, of one picture for each emoji of the labels `emoji` [n], styles in turn.

    With `limit`, of so many emoji, evenly spaced.
    """
    labels = np.unique(emoji)
    if limit is not None and limit < len(labels):
        labels = labels[np.linspace(0, len(labels) - 1, limit).round().astype(int)]
    chosen = []
    for turn, label in enumerate(labels):
        own = np.flatnonzero(emoji == label)
        chosen.append(own[turn % len(own)])
    return np.sort(np.array(chosen, np.int32))


def choose_names(emoji: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Bool [n]: the rows of `count` of the names in the labels `emoji` [n], drawn with `seed`."""
    labels = np.unique(emoji)
    drawn = np.random.default_rng(seed).permutation(labels)[:count]
    return np.isin(emoji, drawn)
