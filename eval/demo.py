"""The main job: every task on the embedded models and data sets, as `metrics.json`, a report and tables."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.captioning import own_captioner
from jaxalign.eval.datasets import DATASETS
from jaxalign.eval.demo_data import (
    CAPTIONS,
    INVERTED,
    PLAIN,
    QUERIES,
    SCENES,
    TRAINING,
    TRAINING_CAPTIONS,
    TRAINING_QUERIES,
    DemoSettings,
    DemoWorkspace,
    open_workspace,
    training_names,
)
from jaxalign.eval.demo_findings import LABELLINGS, entry_of, findings, print_results
from jaxalign.eval.demo_words import Words, caption_queries
from jaxalign.eval.features.obtain import Place
from jaxalign.eval.files import staged_folder, write_json, write_whole
from jaxalign.eval.report import build_report
from jaxalign.eval.tasks.classification import measure_classification
from jaxalign.eval.tasks.classifying import Classifying
from jaxalign.eval.tasks.image_retrieval import Retrieving, measure_image_retrieval
from jaxalign.eval.tasks.indicators import Indicating, Indicators
from jaxalign.eval.tasks.labelled import LabelledPair
from jaxalign.eval.tasks.methods import Inverting, MethodOptions, find_method
from jaxalign.eval.tasks.pairs import CaptionPair, ImagePair
from jaxalign.eval.tasks.projecting import Fitting, image_embeddings, text_embeddings
from jaxalign.eval.tasks.runs import Run, package_versions, write_run
from jaxalign.eval.tasks.spectra import measure_spectra
from jaxalign.eval.tasks.sweep import Sweeping, chosen_band, measure_sweep
from jaxalign.eval.tasks.task import paired
from jaxalign.eval.tasks.text_image import TASK as TEXT_IMAGE
from jaxalign.eval.tasks.text_image import measure_text_image, names_find_images
from jaxalign.eval.tasks.text_retrieval import measure_text_retrieval
from jaxalign.eval.terminal import Stages

EMBEDDED = ("emoji-clip", "emoji-siglip")
MAIN = next(iter(LABELLINGS))
METHODS = ("image-image", "pre", "whitened", "isoclip", "isoclip-auto", "pca")
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
_SHOWN = (
    "model",
    "image_retrieval",
    "text_retrieval",
    "classification",
    "inter_modal",
    "inversions",
    "captions",
)
# What `metrics.json` calls the stages of a model.
STAGES = {"encode": "embed", "sweep": "sweep", "oti": "oti"}


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
        shared, entries, runs, words = stages.seconds, [], [], {}
        for model in loaded:
            stages.seconds = dict(shared)
            start = stages.total
            found = measure(workspace, model, settings, seed)
            said = words_of(workspace, model, found)
            seconds = {name: stages.seconds.get(stage, 0.0) for name, stage in STAGES.items()}
            seconds["measure"] = stages.total - start - sum(seconds.values())
            entry = entry_of(model.title, found, modality_gap(workspace, model))
            if said is not None:
                entry["captions"] = said.to_json()
                words[model.title] = said.shown(settings.examples)
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
            words=words,
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
    return {
        "split": "test",
        "data_versions": {name: DATASETS[name].version for name in (PLAIN, SCENES)},
        "seed": seed,
        "versions": package_versions(),
    }


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
    options = MethodOptions(band, class_names=names, inverting=oti)
    spanned, best = choose_ranks(workspace, model, options, settings.ranks)
    stop = choose_stop(workspace, model, options)
    both = ("image-image", "isoclip")
    pair = LabelledPair(workspace, model, SCENES, "group", TRAINING, "test")
    classes = measure_classification(pair, Classifying(methods=both, options=options))
    return [
        *measure_images(workspace, model, replace(options, rank=spanned), best, stop),
        *measure_texts(workspace, model, MethodOptions(text_band)),
        *(run for dataset in (SCENES, PLAIN) for run in measure_names(workspace, model, dataset)),
        *(compared(run, classes[1]) for run in classes),
        *Indicators(workspace, model, SCENES, Indicating(both, options, MAIN, "test")).by_class(),
        *sweeps,
        measure_spectra(workspace, model, band),
    ]


def words_of(workspace: DemoWorkspace, model: ja.DualEncoder, runs: Sequence[Run]) -> Words | None:
    """The queries in words, by the methods as they were measured on the main labelling; None for a model that
    no captioner comes with."""
    captioner = own_captioner(model)
    if captioner is None:
        return None
    found = [run for run in runs if run.protocol == "image-retrieval" and run.settings["task"] == MAIN]
    names = tuple(training_names(workspace.splits[SCENES, "train"]))
    with workspace.stages.stage("caption", f"{model.name}: queries in words"):
        return caption_queries(workspace, model, captioner, workspace.splits[SCENES, QUERIES], found, names)


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


def choose_stop(workspace: DemoWorkspace, model: ja.DualEncoder, options: MethodOptions) -> int:
    """After how many steps of OTI, at least one, scenes of some training names find most of their own."""
    pair = ImagePair(workspace, model, SCENES, INVERTED, TRAINING)
    [run] = measure_image_retrieval(pair, Retrieving(("oti",), options, (MAIN,)))
    steps, scored = (run.arrays[name] for name in ("steps", "mAP_at_step"))
    return int(steps[steps > 0][scored[steps > 0].argmax()])


def measure_images(
    workspace: DemoWorkspace, model: ja.DualEncoder, options: MethodOptions, rank: int, stop: int
) -> list[Run]:
    """Images that find images: every method on the same queries and the same gallery.

    PCA<- comes twice, by default and with the best `rank`, and so does OTI, with all its steps and stopped
    early. The first results are those under the baseline, IsoCLIP and PCA<-; the report takes the best.
    """
    pair = ImagePair(workspace, model, SCENES, QUERIES, "test")

    def find(*methods: str, **changes: Any) -> list[Run]:
        asked = Retrieving(methods, replace(options, **changes), tuple(LABELLINGS))
        return measure_image_retrieval(pair, asked)

    found = find(*METHODS)
    stopped = replace(options.inverting, stop=stop)
    for name, runs in (
        (f"pca-rank{rank}", find("pca", rank=rank)),
        (f"oti-steps{stop}", find("oti", inverting=stopped)),
    ):
        found += [replace(run, settings={**run.settings, "method": name}) for run in runs]
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


def measure_texts(workspace: DemoWorkspace, model: ja.DualEncoder, options: MethodOptions) -> list[Run]:
    """First captions against all captions: the embeddings as they are, and IsoCLIP with the text band."""
    pair = CaptionPair(workspace, model, PLAIN, CAPTIONS)
    asked = Retrieving(("text-text", "isoclip"), options)
    plain, isoclip = measure_text_retrieval(pair, asked)
    return [plain, compared(isoclip, plain)]


def measure_names(workspace: DemoWorkspace, model: ja.DualEncoder, dataset: str) -> list[Run]:
    """Names of held-out emoji that find their images, and those of their group, as a reference."""
    pair = ImagePair(workspace, model, dataset, "test", "test")
    asked = Retrieving(METHODS[:1], tasks=(MAIN,))
    [run] = measure_text_image(pair, asked)
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
