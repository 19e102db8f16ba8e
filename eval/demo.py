"""The main job: every task on the embedded models and data sets, as `metrics.json`, a report and tables."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DATASETS, DatasetRecord, Examples, load_split, prepare
from jaxalign.eval.datasets.examples import own_positions
from jaxalign.eval.demo_findings import LABELLINGS, entry_of, findings, inversion_note, print_results
from jaxalign.eval.features.obtain import Place
from jaxalign.eval.files import staged_folder, write_json, write_whole
from jaxalign.eval.progress import Stages
from jaxalign.eval.report import build_report
from jaxalign.eval.tasks.classification import measure_classification
from jaxalign.eval.tasks.classifying import Classifying
from jaxalign.eval.tasks.image_retrieval import Retrieving, measure_image_retrieval
from jaxalign.eval.tasks.indicators import Indicating, Indicators
from jaxalign.eval.tasks.labelled import LabelledPair
from jaxalign.eval.tasks.methods import Inverting, MethodOptions, find_method
from jaxalign.eval.tasks.pairs import CaptionPair, ImagePair, some
from jaxalign.eval.tasks.projecting import Fitting, image_embeddings, text_embeddings
from jaxalign.eval.tasks.runs import Run, package_versions, write_run
from jaxalign.eval.tasks.spectra import measure_spectra
from jaxalign.eval.tasks.sweep import Sweeping, chosen_band, measure_sweep
from jaxalign.eval.tasks.task import paired
from jaxalign.eval.tasks.text_image import TASK as TEXT_IMAGE
from jaxalign.eval.tasks.text_image import measure_text_image, names_find_images
from jaxalign.eval.tasks.text_retrieval import measure_text_retrieval
from jaxalign.eval.tasks.workspace import Readable, Workspace

EMBEDDED = ("emoji-clip", "emoji-siglip")
PLAIN, SCENES = "emoji", "emoji-scenes"
MAIN = next(iter(LABELLINGS))
METHODS = ("image-image", "pre", "whitened", "isoclip", "isoclip-auto", "pca")
# Parts of the splits: one image of each held-out emoji, and scenes and captions of some training names.
QUERIES, CAPTIONS = "test-queries", "test-captions"
TRAINING, TRAINING_QUERIES, TRAINING_CAPTIONS = "train-names", "train-queries", "train-captions"
WHOLE = {QUERIES: "test", TRAINING_QUERIES: TRAINING}  # parts whose features are those of another split
INTRODUCTION = (
    "How well images find images, and texts find texts, with a dual encoder that was trained to match"
    " images with texts: the embeddings as they are, and under each method that changes projectors,"
    " embeddings or queries without training. Data: emoji-scenes and emoji. The embedded models have seen"
    " none of their emoji; bands and ranks were chosen on others."
)
CREDITS = (
    "Drawings: Noto Emoji (Google, Apache-2.0), Twemoji (Twitter and contributors, CC-BY-4.0),"
    " OpenMoji (CC-BY-SA-4.0), Fluent Emoji (Microsoft, MIT), EmojiOne (CC-BY-4.0);"
    " scaled, on generated backgrounds."
)
# What the runs show; the rest of a model's entry says how it was measured.
_SHOWN = ("model", "image_retrieval", "text_retrieval", "classification", "inter_modal", "inversions")
_PACKAGES = ("python", "jaxalign", "jax", "jaxlib", "flax", "numpy", "tensorflow-datasets")
# What `metrics.json` calls the stages of a model.
STAGES = {"encode": "embed", "sweep": "sweep", "oti": "oti", "ovi": "ovi"}


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

    def __post_init__(self) -> None:
        for name in ("training_names", "oti_steps", "ovi_steps", "ovi_queries"):
            if getattr(self, name) < 1:
                raise JaxalignError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.queries is not None and self.queries < 2:
            raise JaxalignError(f"queries is {self.queries}; expected 2 or more, or None for all")
        if self.examples < 0:
            raise JaxalignError(f"examples is {self.examples}; expected 0 or more")


def run(
    out: str | os.PathLike[str],
    models: Sequence[str] = EMBEDDED,
    data_dir: Place = None,
    seed: int = 0,
    *,
    store: Place = None,
    settings: DemoSettings | None = None,
) -> dict[str, Any]:
    """Measure every method on the embedded data; print it, write `metrics.json`, `report.html` and the runs.

    Args:
      out: a folder, new or existing; all files appear in it at the end, or none does.
      models: names, or whatever else `jaxalign.load` takes; the first one is the top level of `metrics.json`.
      data_dir: where the data sets are prepared, by default TFDS's folder.
      seed: of the inversions and of the training names that bands are chosen on.
      store: of the features, which a second run finds there.

    Returns:
      What `metrics.json` holds.

    Raises:
      JaxalignError: an unknown model, or a folder that cannot be written, before any work.
    """
    if isinstance(models, str) or not models:
        raise JaxalignError(f"models is {models!r}; expected one or more names, such as {EMBEDDED}")
    settings, stages = settings or DemoSettings(), Stages()
    with staged_folder(out) as stage:
        with stages.stage("load", "Loading the models"):
            loaded = [ja.load(model) for model in models]
            _check_titles(loaded)
        workspace = open_workspace(settings, seed, store, data_dir, stages)
        shared, entries, runs = stages.seconds, [], []
        for model in loaded:
            stages.seconds = dict(shared)
            start = stages.total
            found = measure(workspace, model, settings, seed)
            seconds = {name: stages.seconds.get(stage, 0.0) for name, stage in STAGES.items()}
            seconds["measure"] = stages.total - start - sum(seconds.values())
            entry = entry_of(model.title, found, modality_gap(workspace, model))
            entries.append(entry | _provenance(seed) | {"seconds": shared | seconds})
            runs += found
        for entry in entries:
            entry["seconds"]["total"] = stages.total
        results = entries[0] | {"other_models": entries[1:]}
        page = build_report(
            runs,
            title="jaxalign demo",
            introduction=INTRODUCTION,
            credits=CREDITS,
            findings={entry["model"]: findings(entry) for entry in entries},
            facts={e["model"]: {k: v for k, v in e.items() if k not in _SHOWN} for e in entries},
            find_split=lambda dataset, version, split: workspace.splits.get((dataset, split)),
            examples=settings.examples,
        )
        for one in runs:
            write_run(stage, one)
        write_whole(stage / "report.html", page)
        write_json(stage / "metrics.json", results, indent=1)
    print_results(results, out, stages.total)
    return results


def _check_titles(models: Sequence[ja.DualEncoder]) -> None:
    """Raises JaxalignError for two of one title, whose results would be taken for each other's."""
    titles = [model.title for model in models]
    twice = [title for title in dict.fromkeys(titles) if titles.count(title) > 1]
    if twice:
        raise JaxalignError(f"two models are {twice[0]}; expected each once")


def _provenance(seed: int) -> dict[str, Any]:
    """What the numbers depend on beside model and method."""
    versions = package_versions()
    return {
        "split": "test",
        "data_versions": {name: DATASETS[name].version for name in (PLAIN, SCENES)},
        "seed": seed,
        "versions": {name: versions[name] for name in _PACKAGES},
    }


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


def measure(workspace: DemoWorkspace, model: ja.DualEncoder, settings: DemoSettings, seed: int) -> list[Run]:
    """The runs of every task on one model."""
    grid = (settings.band_grid, settings.band_grid)
    of_images = Sweeping(*grid, MAIN, TRAINING_QUERIES, TRAINING)
    sweeps = [
        measure_sweep(workspace, model, SCENES, "image", of_images),
        measure_sweep(workspace, model, PLAIN, "text", Sweeping(*grid, query=TRAINING_CAPTIONS)),
    ]
    band, text_band = (chosen_band([run]) for run in sweeps)
    names = tuple(training_names(workspace.splits[SCENES, "train"]))
    oti = Inverting(settings.oti_steps, seed=seed, curve=settings.curve)
    ovi = replace(oti, steps=settings.ovi_steps)
    options = MethodOptions(band, class_names=names, inverting=oti)
    spanned, best = choose_ranks(workspace, model, options, settings.ranks)
    both = ("image-image", "isoclip")
    pair = LabelledPair(workspace, model, SCENES, "group", TRAINING, "test")
    classes = measure_classification(workspace, model, pair, Classifying(methods=both, options=options))
    return [
        *measure_images(workspace, model, replace(options, rank=spanned), best),
        *measure_texts(workspace, model, MethodOptions(text_band, inverting=ovi), settings.ovi_queries),
        *(run for dataset in (SCENES, PLAIN) for run in measure_names(workspace, model, dataset)),
        *(compared(run, classes[1]) for run in classes),
        *Indicators(workspace, model, SCENES, Indicating(both, options, MAIN, "test")).by_class(),
        *sweeps,
        measure_spectra(workspace, model, band),
    ]


def choose_ranks(
    workspace: DemoWorkspace, model: ja.DualEncoder, options: MethodOptions, ranks: tuple[int, ...]
) -> tuple[int, int]:
    """The rank that PCA<- has by default with the training names, and the best one for their scenes."""
    pair = ImagePair(workspace, model, SCENES, TRAINING_QUERIES, TRAINING)
    fitting = Fitting(workspace, model, lambda: pair.gallery_pre)
    texts = fitting.subspace_texts(find_method("pca", model, "image", options))
    query, gallery = (image_embeddings(model, pre) for pre in (pair.query_pre, pair.gallery_pre))
    own = pair.own[:, 0]
    found = ja.sweep_ranks(texts, query, gallery, *pair.labels(MAIN), ranks=ranks, exclude_self=own)
    return ja.principal_subspace(texts).basis.shape[1], found.best


def measure_images(
    workspace: DemoWorkspace, model: ja.DualEncoder, options: MethodOptions, rank: int
) -> list[Run]:
    """Images that find images: every method on the same queries and the same gallery.

    The first results are those under the baseline, IsoCLIP and PCA<-, of which the report takes the best.
    """
    pair = ImagePair(workspace, model, SCENES, QUERIES, "test")

    def find(*methods: str, **changes: Any) -> list[Run]:
        asked = Retrieving(methods, replace(options, **changes), tuple(LABELLINGS))
        return measure_image_retrieval(workspace, model, pair, asked)

    found = find(*METHODS)
    for run in find("pca", rank=rank):
        found.append(replace(run, settings={**run.settings, "method": f"pca-rank{rank}"}))
    found += find("oti")
    before = {run.settings["task"]: run for run in found if run.settings["method"] == METHODS[0]}
    return [_shortened(compared(run, before[run.settings["task"]])) for run in found]


def _shortened(run: Run) -> Run:
    """A run of images without the curves and first results that the report does not show."""
    hidden = set()
    if run.settings["task"] != MAIN:
        hidden = run.arrays.keys() - {"average_precision"}
    elif not run.settings["method"].startswith(("image-image", "isoclip", "pca")):
        hidden = {"shown_queries", "first_results"}
    return replace(run, arrays={name: values for name, values in run.arrays.items() if name not in hidden})


def measure_texts(
    workspace: DemoWorkspace, model: ja.DualEncoder, options: MethodOptions, few: int
) -> list[Run]:
    """First captions against all captions: the embeddings as they are, IsoCLIP with the text band, and OVI.

    OVI is measured on a few queries, and its difference is to the baseline on the same ones; its result says
    how many they are, after how many steps.
    """

    def find(most: int | None, method: str) -> list[Run]:
        pair = CaptionPair(workspace, model, PLAIN, CAPTIONS, most)
        return measure_text_retrieval(workspace, model, pair, Retrieving(("text-text", method), options))

    (plain, isoclip), (before, after) = find(None, "isoclip"), find(few, "ovi")
    facts = {"steps": after.settings["steps"], "baseline": before.metrics["mAP"]}
    after = replace(after, metrics={**compared(after, before).metrics, **facts})
    note = inversion_note(after.metrics).removeprefix("ovi: ").rstrip(".")
    return [plain, compared(isoclip, plain), replace(after, notes=[*after.notes, note])]


def measure_names(workspace: DemoWorkspace, model: ja.DualEncoder, dataset: str) -> list[Run]:
    """Names of held-out emoji that find their images, and those of their group, as a reference."""
    pair = ImagePair(workspace, model, dataset, "test", "test")
    asked = Retrieving(METHODS[:1], tasks=(MAIN,))
    [run] = measure_text_image(workspace, model, pair, asked)
    names, labels = pair.name_features(MAIN)
    (emoji, _), (group, _) = pair.labels(MAIN), pair.labels("group")
    group_of = dict(zip(emoji, group, strict=True))
    x = text_embeddings(model, names), image_embeddings(model, pair.gallery_pre)
    found = names_find_images(*x, np.array([group_of[label] for label in labels]), group)
    settings = {**run.settings, "task": "group"}
    return [run, Run(TEXT_IMAGE.name, settings, found.metrics, found.arrays, notes=found.notes)]


def modality_gap(workspace: DemoWorkspace, model: ja.DualEncoder) -> float:
    """The distance of the centroids of scenes and of first captions."""
    images = image_embeddings(model, workspace.images(model, workspace.splits[SCENES, "test"]).pre)
    pair = CaptionPair(workspace, model, PLAIN, CAPTIONS)
    return float(ja.modality_gap(images, text_embeddings(model, pair.pre[pair.captions.queries])))


def compared(run: Run, baseline: Run) -> Run:
    """`run` with its difference to another one, over the queries."""
    if run is baseline:
        return run
    return replace(run, metrics={**run.metrics, **paired(run, baseline)})
