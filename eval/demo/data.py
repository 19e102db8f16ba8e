"""What the demo measures on: splits of the embedded data sets, and the queries among them."""

import os
from collections.abc import Set
from dataclasses import dataclass, replace

import numpy as np

from jaxalign.eval.datasets import DATASETS, Examples, load_split, prepare
from jaxalign.eval.progress import Stages

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
    """Held-out pictures, plain and in scenes, and captions; scenes and captions of some training names."""

    plain: Examples
    scenes: Examples
    training: Examples
    captions: CaptionSet
    training_captions: CaptionSet
    training_names: list[str]  # all of them


def load_data(data_dir: str | os.PathLike | None, training_names: int, seed: int, stages: Stages) -> DemoData:
    """Prepare both data sets where they are not yet, and read them; of the training names, draw some."""
    for name in (PLAIN, SCENES):
        if not DATASETS[name].is_prepared(data_dir):
            stages.announce(f"Preparing {name}")
        with stages.timed("prepare"):  # shows progress of its own
            prepare(name, data_dir)
    with stages.stage("read", "Reading the pictures", total=4) as advance:
        splits = {}
        for name, split in ((PLAIN, "train"), (PLAIN, "test"), (SCENES, "train"), (SCENES, "test")):
            # of the training pictures only some are looked at
            splits[name, split] = load_split(name, split, data_dir, on_demand=split == "train")
            advance(1)
    names = np.unique(splits[SCENES, "train"].labels["emoji"])
    drawn = np.random.default_rng(seed).permutation(names)[:training_names]
    drawn_names = {splits[SCENES, "train"].label_names["emoji"][label] for label in drawn}
    plain, scenes = (choose_emoji(splits[name, "train"], drawn_names) for name in (PLAIN, SCENES))
    return DemoData(
        plain=splits[PLAIN, "test"],
        scenes=splits[SCENES, "test"],
        training=replace(scenes, images=np.stack([np.asarray(p.convert("RGB")) for p in scenes.images])),
        captions=collect_captions(splits[PLAIN, "test"]),
        training_captions=collect_captions(plain),
        training_names=emoji_names(splits[SCENES, "train"])[1],
    )


def choose_emoji(examples: Examples, emoji: Set[str]) -> Examples:
    """The examples of some `emoji`, by their names: two data sets may number them otherwise."""
    chosen = [i for i, name in enumerate(examples.label_names["emoji"]) if name in emoji]
    return examples.select(np.isin(examples.labels["emoji"], chosen))


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
