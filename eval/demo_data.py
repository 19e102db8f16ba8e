"""How much the demo measures, and on what: the embedded data sets and parts of them, in memory."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DATASETS, DatasetRecord, Examples, load_split, prepare
from jaxalign.eval.datasets.examples import own_positions
from jaxalign.eval.features.obtain import Place
from jaxalign.eval.tasks.pairs import some
from jaxalign.eval.tasks.workspace import Readable, Workspace
from jaxalign.eval.terminal import Stages

PLAIN, SCENES = "emoji", "emoji-scenes"
# Parts of the splits: one image of each held-out emoji, and scenes and captions of some training names.
QUERIES, CAPTIONS = "test-queries", "test-captions"
TRAINING, TRAINING_QUERIES, TRAINING_CAPTIONS = "train-names", "train-queries", "train-captions"
INVERTED = "train-inverted"
WHOLE = {
    QUERIES: "test",
    TRAINING_QUERIES: TRAINING,
    INVERTED: TRAINING,
}  # parts whose features are those of another split


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
      stop_names: so many of the training names' queries are inverted to see after how many steps it is best
        to stop.
      curve: step counts at which the mAP of an inversion is measured, and among which the stop is chosen.
      examples: queries that the report shows with their results.
    """

    queries: int | None = None
    training_names: int = 400
    band_grid: tuple[int, ...] = (0, 2, 4, 8, 16, 24, 32, 48)
    ranks: tuple[int, ...] = (2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
    oti_steps: int = 150
    stop_names: int = 128
    curve: tuple[int, ...] = (0, 5, 10, 20, 35, 50, 75, 100, 150)
    examples: int = 8

    def __post_init__(self) -> None:
        for name in ("training_names", "oti_steps", "stop_names"):
            if getattr(self, name) < 1:
                raise JaxalignError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.queries is not None and self.queries < 2:
            raise JaxalignError(f"queries is {self.queries}; expected 2 or more, or None for all")
        if self.examples < 0:
            raise JaxalignError(f"examples is {self.examples}; expected 0 or more")


@dataclass(frozen=True, eq=False)
class DemoWorkspace(Workspace):
    """A workspace whose splits are in memory, some of them parts of others.

    Attributes:
      splits: by data set and name.
      read: what has been read of the store, by model and what it is of.
    """

    splits: dict[tuple[str, str], Examples] = field(default_factory=dict)
    read: dict[tuple[str, ...], Any] = field(default_factory=dict)

    def load_split(self, dataset: str | DatasetRecord, split: str) -> Examples:
        return self.splits[dataset if isinstance(dataset, str) else dataset.name, split]

    def images(self, model: ja.DualEncoder, examples: Examples) -> Readable:
        if examples.split not in WHOLE:
            key = (model.title, examples.dataset, examples.split)
            return self._once(key, lambda: super(DemoWorkspace, self).images(model, examples))
        whole = self.images(model, self.splits[examples.dataset, WHOLE[examples.split]])
        rows = own_positions(examples, whole.examples)[:, 0]
        return Readable(examples, whole.pre[rows], np.arange(len(rows)), ())

    def texts(self, model: ja.DualEncoder, name: str, ids: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        read = super().texts
        return self._once((model.title, name, *ids, *texts), lambda: read(model, name, ids, texts))

    def _once(self, key: tuple[str, ...], read: Callable[[], Any]) -> Any:
        if key not in self.read:
            self.read[key] = read()
        return self.read[key]


def open_workspace(
    settings: DemoSettings, seed: int, store: Place, data_dir: Place, stages: Stages
) -> DemoWorkspace:
    """Prepare both data sets where they are not yet, and read them; of the training names, draw some."""
    for name in (PLAIN, SCENES):
        if not DATASETS[name].is_prepared(data_dir):
            stages.announce(f"Preparing {name}")
        with stages.timed("prepare"):  # shows progress of its own
            prepare(name, data_dir)
    splits: dict[tuple[str, str], Examples] = {}
    with stages.stage("read", "Reading the images", total=4) as advance:
        for name, split in ((PLAIN, "train"), (PLAIN, "test"), (SCENES, "train"), (SCENES, "test")):
            # of the training images only some are looked at
            splits[name, split] = load_split(name, split, data_dir, on_demand=split == "train")
            advance(1)

    def take(dataset: str, whole: str, name: str, choose: Callable[[Examples], np.ndarray]) -> None:
        splits[dataset, name] = part_of(splits[dataset, whole], name, choose)

    names = training_names(splits[SCENES, "train"])
    drawn = {names[i] for i in np.random.default_rng(seed).permutation(len(names))[: settings.training_names]}
    take(SCENES, "test", QUERIES, lambda test: choose_queries(test, settings.queries))
    take(PLAIN, "test", CAPTIONS, first_of_each)
    take(SCENES, "train", TRAINING, lambda train: rows_of(train, drawn))
    take(SCENES, TRAINING, TRAINING_QUERIES, choose_queries)
    take(SCENES, TRAINING, INVERTED, lambda train: choose_queries(train, settings.stop_names))
    take(PLAIN, "train", TRAINING_CAPTIONS, lambda train: first_of_each(train, drawn))
    return DemoWorkspace(store=store, data_dir=data_dir, stages=stages, splits=splits)


def part_of(whole: Examples, name: str, choose: Callable[[Examples], np.ndarray]) -> Examples:
    """Some examples as a split of its own, each still known to be what it is in the whole one."""
    rows = choose(whole)
    digest = hashlib.sha256(np.asarray(rows, "<i8").tobytes()).hexdigest()[:16]
    same = tuple(whole.identities[row] for row in rows)
    return replace(whole.select(rows), split=name, content=f"{whole.content}{digest}", same=same)


def training_names(examples: Examples) -> list[str]:
    """The emoji that occur, in the order of their labels."""
    return [examples.label_names["emoji"][label] for label in np.unique(examples.labels["emoji"])]


def rows_of(examples: Examples, emoji: Iterable[str]) -> np.ndarray:
    """Positions int of the examples of some `emoji`, by name: two data sets may number them otherwise."""
    chosen = [i for i, name in enumerate(examples.label_names["emoji"]) if name in emoji]
    return np.flatnonzero(np.isin(examples.labels["emoji"], chosen))


def first_of_each(examples: Examples, emoji: Iterable[str] | None = None) -> np.ndarray:
    """The position of each emoji's first image, by label; all images of an emoji have the same captions."""
    rows = np.arange(len(examples)) if emoji is None else rows_of(examples, emoji)
    return rows[np.unique(examples.labels["emoji"][rows], return_index=True)[1]]


def choose_queries(examples: Examples, limit: int | None = None) -> np.ndarray:
    """Positions int `[q]`, sorted, of one image for each emoji, styles in turn.

    With `limit`, of so many emoji, evenly spaced.
    """
    emoji = examples.labels["emoji"]
    chosen = []
    for turn, label in enumerate(some(np.unique(emoji), limit)):
        own = np.flatnonzero(emoji == label)
        chosen.append(own[turn % len(own)])
    return np.sort(np.array(chosen, np.int32))
