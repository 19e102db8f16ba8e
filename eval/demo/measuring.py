"""Everything that the demo measures on one model, by the tasks' own functions, and the runs of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

import jaxalign as ja
from jaxalign.eval.datasets import Examples
from jaxalign.eval.datasets.examples import common_labels
from jaxalign.eval.demo.data import (
    PLAIN,
    PROMPT,
    SCENES,
    DemoData,
    DemoSettings,
    choose_queries,
    evenly_spaced,
    first_of_each,
)
from jaxalign.eval.demo.encode import Encoder, Features
from jaxalign.eval.demo.findings import BASELINES, TASKS, inversion_note
from jaxalign.eval.progress import Stages
from jaxalign.eval.tasks import classification, image_retrieval, indicators, sweep, text_image
from jaxalign.eval.tasks import text_retrieval as text_task
from jaxalign.eval.tasks.methods import Method
from jaxalign.eval.tasks.pairs import Captions
from jaxalign.eval.tasks.runs import Result, Run
from jaxalign.eval.tasks.task import paired

Results = dict[str, Result]


@dataclass(frozen=True, eq=False)
class Chosen:
    """Bands, chosen on training names and from the spectrum alone, and what PCA<- stands on."""

    spectrum: ja.Spectrum
    sweeps: Results  # of bands, by modality
    auto_band: tuple[int, int]
    rank: int
    prompts: tuple[str, ...]  # with the training names
    texts: np.ndarray  # their embeddings

    def band(self, modality: str) -> tuple[int, int]:
        best = self.sweeps[modality].metrics["best"]
        return best["k_top"], best["k_bottom"]


@dataclass(frozen=True, eq=False)
class Measured:
    """All results on one model: by method and labelling, by data set and labelling, or by method."""

    images: Mapping[str, Results]
    names: Mapping[str, Results]
    texts: Results
    classes: Results
    histograms: Results
    chosen: Chosen


def evaluate(
    model: ja.DualEncoder, data: DemoData, settings: DemoSettings, seed: int, stages: Stages
) -> tuple[dict[str, Any], Measured]:
    """The model's entry of `metrics.json`, and what stands behind it."""
    encoder = Encoder(model)
    images = {"training": data.training, "scenes": data.scenes, "plain": data.plain}
    total = sum(len(split) for split in images.values())
    with stages.stage("encode", f"{model.name}: encoding {total} images", total) as advance:
        training, scenes, plain = (encoder.images(split.images, advance) for split in images.values())
        captions = encoder.texts(data.captions.texts)
    with stages.stage("sweep", f"{model.name}: choosing bands and rank on the training names"):
        chosen = choose(encoder, training, data, settings)
    labels = data.scenes.labels
    queries = choose_queries(labels["emoji"], settings.queries)
    few = data.captions.queries
    few = replace(data.captions, queries=few[evenly_spaced(len(few), settings.ovi_queries)])
    invert = partial(_invert, model, curve=settings.curve, seed=seed, stages=stages)
    oti = invert("oti", ja.invert_to_text, scenes.embeddings[queries], settings.oti_steps, "queries to text")
    ovi = invert(
        "ovi", ja.invert_to_image, captions.embeddings[few.queries], settings.ovi_steps, "captions to image"
    )
    with stages.stage("measure", f"{model.name}: measuring"):
        embedded = embed_by_method(model, chosen, scenes)
        found = Measured(
            measure_images(embedded, oti, labels, queries),
            {
                SCENES: measure_names(encoder, scenes, data.scenes),
                PLAIN: measure_names(encoder, plain, data.plain),
            },
            measure_texts(model, captions, data.captions, chosen.band("text"), few, ovi),
            measure_classifiers(encoder, training, scenes, data, chosen),
            {
                name: indicators.class_indicator(embedded[name], labels["emoji"])
                for name in ("image-image", "isoclip")
            },
            chosen,
        )
        gap = ja.modality_gap(scenes.embeddings, captions.embeddings[data.captions.queries])
    return _entry(model, found, float(gap), len(queries)), found


def choose(encoder: Encoder, training: Features, data: DemoData, settings: DemoSettings) -> Chosen:
    """Choose bands and the rank by same-emoji retrieval among scenes, and captions, of training names."""
    heads, labels = encoder.model.projectors, data.training.labels["emoji"]
    spectrum, queries = ja.decompose(heads), choose_queries(labels, None)
    grid = [k for k in settings.band_grid if k < len(spectrum.s)]
    sweeps = {}
    captions = data.training_captions
    for modality, pre, own, at in (
        ("image", training.pre, labels, queries),
        ("text", encoder.texts(captions.texts).pre, captions.images, captions.queries),
    ):
        sweeps[modality] = sweep.band_sweep(
            heads, pre[at], pre, own[at], own, exclude_self=at, k_top=grid, k_bottom=grid, modality=modality
        )
    prompts = tuple(PROMPT.format(name) for name in data.training_names)
    texts, x = encoder.texts(prompts).embeddings, training.embeddings
    ranks = ja.sweep_ranks(
        texts, x[queries], x, labels[queries], labels, ranks=settings.ranks, exclude_self=queries
    )
    return Chosen(spectrum, sweeps, ja.select_band(spectrum), ranks.best, prompts, texts)


def _invert(
    model: ja.DualEncoder,
    name: str,
    invert: Callable[..., ja.Inversion],
    embeddings: np.ndarray,
    steps: int,
    what: str,
    *,
    curve: tuple[int, ...],
    seed: int,
    stages: Stages,
) -> ja.Inversion:
    count = len(embeddings)
    with stages.stage(name, f"{model.name}: inverting {count} {what}", total=count) as advance:
        return invert(
            model,
            embeddings,
            steps=steps,
            key=jax.random.key(seed),
            keep=[step for step in curve if step <= steps],
            on_batch=lambda rows, part: advance(len(rows)),
        )


def embed_by_method(model: ja.DualEncoder, chosen: Chosen, scenes: Features) -> dict[str, np.ndarray]:
    """The gallery under each method, the baseline first; that of `oti` is left as it is."""
    texts: dict[str, Any] = {"subspace": "paper", "texts": chosen.prompts}
    methods = {
        "image-image": Method("image-image", "image"),
        "pre": Method("pre", "image"),
        "whitened": Method("whitened", "image"),
        "isoclip": Method("isoclip", "image", band=chosen.band("image")),
        "isoclip-auto": Method("isoclip-auto", "image", band=chosen.auto_band),
        "pca": Method("pca", "image", **texts),
        f"pca-rank{chosen.rank}": Method("pca", "image", rank=chosen.rank, **texts),
    }
    fit = {"spectrum": chosen.spectrum, "subspace_texts": chosen.texts}
    embedded = {name: np.asarray(method.fit(model, **fit)(scenes.pre)) for name, method in methods.items()}
    return embedded | {"oti": scenes.embeddings}


def measure_images(
    embedded: Mapping[str, np.ndarray],
    inversion: ja.Inversion,
    labels: Mapping[str, np.ndarray],
    queries: np.ndarray,
) -> dict[str, Results]:
    """Images that find images: every method on the same queries and the same gallery.

    The first results are those under the baseline, IsoCLIP and PCA<-, of which the report takes the best.
    """
    found: dict[str, Results] = {}
    for name, gallery in embedded.items():
        query = inversion.embeddings if name == "oti" else gallery[queries]
        find = partial(_retrieve, gallery=gallery, labels=labels, queries=queries)
        shown = name.startswith(("image-image", "isoclip", "pca"))
        found[name] = {task: find(query, task=task, shown=shown and task == "emoji") for task in TASKS}
        if name == "oti":
            emoji, curve = found[name]["emoji"], _curve(inversion, partial(find, task="emoji"))
            found[name]["emoji"] = replace(emoji, arrays={**emoji.arrays, **curve})
    before = found[BASELINES["image_retrieval"]]
    return {
        name: {task: _compared(of, before[task]) for task, of in by_task.items()}
        for name, by_task in found.items()
    }


def _retrieve(
    query: ArrayLike,
    *,
    gallery: np.ndarray,
    labels: Mapping[str, np.ndarray],
    queries: np.ndarray,
    task: str,
    shown: bool = False,
) -> Result:
    own = labels[task]
    found = image_retrieval.retrieval(query, gallery, own[queries], own, exclude_self=queries, shown=shown)
    if not shown:
        return found
    return replace(found, arrays={**found.arrays, "shown_queries": queries[found.arrays["shown_queries"]]})


def measure_names(encoder: Encoder, features: Features, examples: Examples) -> Results:
    """Names of held-out emoji that find their images, and those of their group, as a reference."""
    labels, first = first_of_each(examples)
    texts = encoder.texts([PROMPT.format(examples.label_names["emoji"][i]) for i in labels]).embeddings
    return {
        task: text_image.names_find_images(
            texts, features.embeddings, examples.labels[task][first], examples.labels[task]
        )
        for task in ("emoji", "group")
    }


def measure_texts(
    model: ja.DualEncoder,
    features: Features,
    captions: Captions,
    band: tuple[int, int],
    few: Captions,
    inversion: ja.Inversion,
) -> Results:
    """First captions against all captions: the embeddings as they are, IsoCLIP with the text band, and OVI.

    OVI is measured on the `few` queries that were inverted, and its difference is to the baseline on the same
    ones; its result says how many they are, after how many steps.
    """
    x = features.embeddings
    filtered = np.asarray(ja.isoclip(model.projectors, *band).text(features.pre))
    found = {
        name: text_task.text_retrieval(z[captions.queries], z, captions)
        for name, z in (("text-text", x), ("isoclip", filtered))
    }
    before = text_task.text_retrieval(x[few.queries], x, few)
    measure = lambda z: text_task.text_retrieval(z, x, few)
    ovi = _compared(measure(inversion.embeddings), before)
    facts = {"steps": inversion.losses.shape[1], "baseline": before.metrics["mAP"]}
    arrays = {**ovi.arrays, **_curve(inversion, measure)}
    ovi = replace(ovi, metrics={**ovi.metrics, **facts}, arrays=arrays)
    return {name: _compared(of, found["text-text"]) for name, of in found.items()} | {"ovi": ovi}


def measure_classifiers(
    encoder: Encoder, training: Features, test: Features, data: DemoData, chosen: Chosen
) -> Results:
    """Unicode groups of held-out scenes: from their names, and by the nearest mean of training scenes."""
    labels, truth, names = common_labels(data.training, data.scenes, "group")
    head = ja.isoclip(encoder.model.projectors, *chosen.band("image"), chosen.spectrum).image
    prompts = encoder.texts([PROMPT.format(name.lower()) for name in names]).embeddings
    means = partial(ja.ncm_classifier, labels=labels, num_classes=len(names))
    classifiers = {
        "zero-shot": (ja.zero_shot_classifier(prompts), test.embeddings),
        "ncm": (means(training.embeddings), test.embeddings),
        "ncm-isoclip": (means(training.pre, projector=head), test.pre),
    }
    found = {
        name: classification.classify(classifier, x, truth, len(names))
        for name, (classifier, x) in classifiers.items()
    }
    return {name: _compared(of, found["ncm"]) for name, of in found.items()}


def _compared(result: Result, baseline: Result) -> Result:
    """`result` with its difference to another one, over the queries."""
    if result is baseline:
        return result
    return replace(result, metrics={**result.metrics, **paired(result, baseline)})


def _curve(inversion: ja.Inversion, measure: Callable[[jax.Array], Result]) -> dict[str, np.ndarray]:
    """Mean loss at each step, and the mAP of the embeddings at the kept steps."""
    steps = sorted(inversion.kept)
    return {
        "losses": np.asarray(inversion.losses).mean(0),
        "steps": np.array(steps),
        "mAP_at_step": np.array([measure(inversion.kept[step]).metrics["mAP"] for step in steps]),
    }


def _entry(model: ja.DualEncoder, found: Measured, gap: float, queries: int) -> dict[str, Any]:
    """What `metrics.json` says of one model, but for what its numbers depend on."""
    chosen = found.chosen
    bands = {"band": chosen.band("image"), "auto_band": chosen.auto_band, "text_band": chosen.band("text")}
    ovi, oti = found.texts["ovi"], found.images["oti"]["emoji"]
    few = {name: ovi.metrics[name] for name in ("queries", "steps", "baseline")}
    return {
        "model": model.title,
        "dataset": SCENES,
        "image_retrieval": {name: _by_task(results) for name, results in found.images.items()},
        "text_retrieval": {
            name: _scores(of) | (few if of is ovi else {}) for name, of in found.texts.items()
        },
        "classification": {
            # the mean of percentages: 100 times the mean may differ in the last digit of a float
            name: _scores(of) | {"accuracy": float((100.0 * of.arrays["correct"]).mean())}
            for name, of in found.classes.items()
        },
        "inter_modal": {dataset: _by_task(results) for dataset, results in found.names.items()},
        **{name: {"k_top": top, "k_bottom": bottom} for name, (top, bottom) in bands.items()},
        "pca_rank": chosen.rank,
        "indicators": {
            "modality_gap": gap,
            "singular_values": len(chosen.spectrum.s),
            "effective_rank": float(ja.effective_rank(chosen.spectrum.s)),
            "overlap": {name: of.metrics["overlap"] for name, of in found.histograms.items()},
        },
        "queries": queries,
        "inversions": {
            name: {
                "loss": float(of.arrays["losses"][-1]),
                "mAP_by_step": dict(
                    zip(map(str, of.arrays["steps"]), of.arrays["mAP_at_step"].tolist(), strict=True)
                ),
            }
            for name, of in (("OTI", oti), ("OVI", ovi))
        },
    }


def _scores(result: Result) -> dict[str, float]:
    names = (*image_retrieval.METRICS, "accuracy", "gain", "gain_error")
    return {name: result.metrics[name] for name in names if name in result.metrics}


def _by_task(results: Results) -> dict[str, Any]:
    """The main labelling's scores are the entry's own, the others stand under `tasks`."""
    main, *others = results
    return _scores(results[main]) | {"tasks": {task: _scores(results[task]) for task in others}}


def runs_of(entry: Mapping[str, Any], found: Measured) -> Iterator[Run]:
    """What was measured on one model, as the report shows it; `entry` is what `metrics.json` says of it."""
    model = {"model": entry["model"]}

    def on(dataset: str, **more: str) -> dict[str, Any]:
        version = entry["data_versions"][dataset]
        test = {"version": version, "seed": entry["seed"], "query": "test", "gallery": "test"}
        return {**model, "dataset": dataset, **test, **more}

    def run(task: str, settings: Mapping[str, Any], result: Result, *notes: str) -> Run:
        return Run(task, settings, result.metrics, result.arrays, notes=[*result.notes, *notes])

    for method, results in found.images.items():
        for task, of in results.items():
            yield run(image_retrieval.TASK.name, on(SCENES, task=task, method=method), of)
    for method, of in found.histograms.items():
        yield run(indicators.BY_CLASS.name, on(SCENES, task="emoji", method=method), of)
    for dataset, results in found.names.items():
        for task, of in results.items():
            yield run(text_image.TASK.name, on(dataset, task=task, method="text-image"), of)
    for method, of in found.texts.items():
        notes = [inversion_note(entry).removeprefix("ovi: ").rstrip(".")] if method == "ovi" else []
        yield run(text_task.TASK.name, on(PLAIN, method=method), of, *notes)
    for method, of in found.classes.items():
        yield run(classification.TASK.name, on(SCENES, task="group", method=method), of)
    for (modality, of), dataset in zip(found.chosen.sweeps.items(), (SCENES, PLAIN), strict=True):
        settings = model | {"dataset": dataset, "query": "train", "gallery": "train", "modality": modality}
        yield run(sweep.TASK.name, settings, of)
    bands = {key: list(entry[key].values()) for key in ("band", "auto_band")}
    rank = {"effective_rank": entry["indicators"]["effective_rank"]}
    yield Run("spectrum", model, bands | rank, {"inter_modal": np.asarray(found.chosen.spectrum.s)})
