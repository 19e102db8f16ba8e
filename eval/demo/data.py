"""What the demo measures on, and how much: splits of the embedded data sets, and the queries among them."""

import os
from collections.abc import Set
from dataclasses import dataclass, replace

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DATASETS, Examples, load_split, prepare
from jaxalign.eval.progress import Stages
from jaxalign.eval.tasks.pairs import Captions, collect_captions

PLAIN, SCENES = "emoji", "emoji-scenes"
PROMPT = "a photo of {}"


@dataclass(frozen=True)
class DemoSettings:
    """How much the demo measures; the defaults are what fits into a minute and a half on two cores.

    Attributes:
      queries: at most so many held-out emoji are queries, with one image each; None for all of them.
      training_names: so many training names, with all their images, on which bands and the rank are
        chosen and from which class means are taken.
      band_grid: the values of `k_top` and of `k_bottom` that are tried.
      ranks: the ranks of the text subspace that are tried.
      oti_steps: optimisation steps of the inversion to text.
      ovi_steps: of the inversion to image, which takes all patches through the tower at each step.
      ovi_queries: at most so many of the caption queries are inverted to image, evenly spaced.
      curve: step counts at which the mAP of an inversion is measured, as far as it has them.
      examples: queries that the report shows with their results.
    """

    queries: int | None = None
    training_names: int = 400
    band_grid: tuple[int, ...] = (0, 2, 4, 8, 16, 24, 32, 48)
    ranks: tuple[int, ...] = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
    oti_steps: int = 150
    ovi_steps: int = 50
    ovi_queries: int = 16
    curve: tuple[int, ...] = (0, 5, 10, 20, 35, 50, 75, 100, 150)
    examples: int = 8

    def __post_init__(self):
        for name in ("training_names", "oti_steps", "ovi_steps", "ovi_queries"):
            if getattr(self, name) < 1:
                raise JaxalignError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.queries is not None and self.queries < 2:
            raise JaxalignError(f"queries is {self.queries}; expected 2 or more, or None for all")
        if self.examples < 0:
            raise JaxalignError(f"examples is {self.examples}; expected 0 or more")


@dataclass(frozen=True, eq=False)
class DemoData:
    """Held-out images, plain and in scenes, and captions; scenes and captions of some training names."""

    plain: Examples
    scenes: Examples
    training: Examples
    captions: Captions
    training_captions: Captions
    training_names: list[str]  # all of them


def load_data(data_dir: str | os.PathLike | None, training_names: int, seed: int, stages: Stages) -> DemoData:
    """Prepare both data sets where they are not yet, and read them; of the training names, draw some."""
    for name in (PLAIN, SCENES):
        if not DATASETS[name].is_prepared(data_dir):
            stages.announce(f"Preparing {name}")
        with stages.timed("prepare"):  # shows progress of its own
            prepare(name, data_dir)
    with stages.stage("read", "Reading the images", total=4) as advance:
        splits = {}
        for name, split in ((PLAIN, "train"), (PLAIN, "test"), (SCENES, "train"), (SCENES, "test")):
            # of the training images only some are looked at
            splits[name, split] = load_split(name, split, data_dir, on_demand=split == "train")
            advance(1)
    label_names = splits[SCENES, "train"].label_names["emoji"]
    labels, _ = first_of_each(splits[SCENES, "train"])
    drawn = {label_names[i] for i in np.random.default_rng(seed).permutation(labels)[:training_names]}
    plain, scenes = (choose_emoji(splits[name, "train"], drawn) for name in (PLAIN, SCENES))
    return DemoData(
        plain=splits[PLAIN, "test"],
        scenes=splits[SCENES, "test"],
        training=replace(scenes, images=np.stack([np.asarray(p.convert("RGB")) for p in scenes.images])),
        captions=emoji_captions(splits[PLAIN, "test"]),
        training_captions=emoji_captions(plain),
        training_names=[label_names[i] for i in labels],
    )


def choose_emoji(examples: Examples, emoji: Set[str]) -> Examples:
    """The examples of some `emoji`, by their names: two data sets may number them otherwise."""
    chosen = [i for i, name in enumerate(examples.label_names["emoji"]) if name in emoji]
    return examples.select(np.isin(examples.labels["emoji"], chosen))


def first_of_each(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """The emoji that occur: labels int [e], ascending, and the position of each one's first image."""
    return np.unique(examples.labels["emoji"], return_index=True)


def emoji_captions(examples: Examples) -> Captions:
    """The captions of each emoji once, by label: all images of an emoji have the same ones."""
    _, first = first_of_each(examples)
    return collect_captions([examples.captions[i] for i in first], [examples.ids[i] for i in first])


def choose_queries(emoji: np.ndarray, limit: int | None) -> np.ndarray:
    """Positions int [q], sorted, of one image for each emoji of the labels `emoji` [n], styles in turn.

    With `limit`, of so many emoji, evenly spaced.
    """
    labels = np.unique(emoji)
    if limit is not None and limit < len(labels):
        labels = labels[evenly_spaced(len(labels), limit)]
    chosen = []
    for turn, label in enumerate(labels):
        own = np.flatnonzero(emoji == label)
        chosen.append(own[turn % len(own)])
    return np.sort(np.array(chosen, np.int32))


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Positions int of at most so many of `count` things."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
