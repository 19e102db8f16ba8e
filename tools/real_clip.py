"""Numbers on trained CLIP models, out of public repositories: the tables of docs/real_clip.md, as Markdown.

    python tools/real_clip.py --checkouts DIR > real_clip.md

DIR has a folder for each repository of `real_clip_files.SOURCES`, called as the repository is and at the
commit named there; with `--files DIR` the same content lies flat, under other names. Reading PyTorch's files
needs torch (the extra `reference`); nothing in them is executed.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from real_clip_files import CLASSES, DATASETS, SOURCES, TEXTS, Files, Labelled, classes_with_text

import jaxalign as ja
from jaxalign.classifiers import find_grid
from jaxalign.errors import JaxalignError
from jaxalign.eval.paper.tables import find_table
from jaxalign.eval.tasks.classification import classify
from jaxalign.eval.tasks.classifying import FewShotSettings
from jaxalign.eval.tasks.few_shot import Pool, few_shot
from jaxalign.eval.tasks.image_retrieval import retrieval
from jaxalign.eval.tasks.indicators import class_indicator, modality_indicator
from jaxalign.eval.tasks.projecting import SUBSPACES
from jaxalign.eval.tasks.task import paired_gain

RANKS = (64, 128, 256, 384)
SPLITS = ("train", "test", "val")
FEWEST = 10  # classes with a text: fewer are no classification worth a number


def variants() -> Iterator[tuple[str, dict[str, Any]]]:
    """The variants of PCA<- for one set of texts: two that differ in the texts alone are one here."""
    named: dict[tuple[bool, bool], list[str]] = {}
    for name in ("paper", "code", "readme"):
        named.setdefault((SUBSPACES[name].center, SUBSPACES[name].normalize), []).append(name)
    for (center, normalize), names in named.items():
        yield ", ".join(names), {"center": center, "normalize": normalize}


def measure_retrieval(files: Files) -> dict[str, Any]:
    """By data set: mAP of image-image, and of PCA<- by texts, variant and rank; its gain at rank 256."""
    texts = {name: files.texts(name)[0] for name in TEXTS}
    found = {}
    for dataset, *_ in DATASETS:
        x, y = files.required(dataset, "test")
        find = lambda z, y=y: retrieval(z, z, y, y, exclude_self=True)
        plain = find(x)
        scores: dict[str, Any] = {"image-image": plain.metrics["mAP"], "queries": len(y), "pca": {}}
        for name, embedded in texts.items():
            for variant, options in variants():
                spaces = {rank: ja.principal_subspace(embedded, rank, **options) for rank in RANKS}
                runs = {rank: find(space.project(x)) for rank, space in spaces.items()}
                unit = x / np.linalg.norm(x, axis=1, keepdims=True)
                mean = find(spaces[256].project(unit, unit.mean(0)))
                arrays = (runs[256].arrays["average_precision"], plain.arrays["average_precision"])
                scores["pca"][f"{name}, {variant}"] = {
                    **{str(rank): run.metrics["mAP"] for rank, run in runs.items()},
                    "mean": mean.metrics["mAP"],
                    **paired_gain(*arrays),
                }
        found[dataset] = scores
    return found


def measure_few_shot(files: Files) -> dict[str, Any]:
    """By data set with 16 shots: accuracy from images alone, all classes, before and after PCA<-."""
    space = ja.principal_subspace(files.texts("imagenet")[0])
    found: dict[str, Any] = {}
    for dataset, *_ in DATASETS:
        train, test = files.split(dataset, "train"), files.required(dataset, "test")
        if train is None:
            continue
        for name in ("prototype", "lda"):
            for after, embed in (("", np.asarray), (" PCA<-", space.project)):
                found.setdefault(dataset, {})[name + after] = few_shot_accuracy(
                    name,
                    support=embed(train.features),
                    labels=train.labels,
                    features=embed(test.features),
                    test=test,
                )
    return found


def few_shot_accuracy(
    name: str, *, support: Any, labels: np.ndarray, features: Any, test: Labelled, **options: Any
) -> float:
    """Accuracy in percent with all 16 shots of each class: a draw of all of them is no draw."""
    settings = FewShotSettings(name, "text_weights" in options, shots=(16,), seeds=(1,))
    classes = int(labels.max()) + 1
    result = few_shot(Pool(labels, support), features, test.labels, classes, settings, **options)
    return result.metrics["accuracy"]["16"]


def measure_with_names(files: Files) -> dict[str, Any]:
    """By data set and texts: accuracy on the classes that have a text, zero-shot and with 16 shots."""
    found = {}
    for dataset, _, own in DATASETS:
        train = files.split(dataset, "train")
        if dataset not in CLASSES or train is None:
            continue
        for name in TEXTS:
            embedded, names = files.texts(name)
            classes = CLASSES[dataset]
            texts = classes_with_text(classes, names)
            if len(texts) < FEWEST:
                continue
            splits = {split: among(files.required(dataset, split), texts) for split in SPLITS}
            scores = accuracies(splits, embedded[list(texts.values())], own)
            counts = {"classes": len(texts), "images": len(splits["test"].labels)}
            named = [f"{classes[label]}: {names[text][0]}" for label, text in texts.items()]
            found[f"{dataset}, {name}"] = counts | scores | {"names": named}
    return found


def among(split: Labelled, texts: Mapping[int, int]) -> Labelled:
    """The images of the classes that have a text, these numbered anew."""
    kept = np.isin(split.labels, list(texts))
    return Labelled(split.features[kept], np.searchsorted(list(texts), split.labels[kept]))


def accuracies(splits: Mapping[str, Labelled], weights: np.ndarray, dataset: str) -> dict[str, float]:
    """In percent on `test`: by the texts `weights` `[c, d]`, by 16 shots, and by both."""
    train, test, val = (splits[split] for split in SPLITS)
    zero_shot = classify(ja.zero_shot_classifier(weights), test.features, test.labels, len(weights))
    scores = {"zero-shot": zero_shot.metrics["accuracy"]}
    few = partial(
        few_shot_accuracy, test=test, support=train.features, labels=train.labels, features=test.features
    )
    scores |= {name: few(name) for name in ("prototype", "lda")}
    scores |= {
        f"{name} + text": few(name, text_weights=weights) for name in ("prototype", "lda", "tip-adapter")
    }
    tuned = {"validation": (val.features, val.labels), "grid": find_grid("published", "tip-adapter", dataset)}
    return scores | {"tip-adapter, tuned": few("tip-adapter", text_weights=weights, **tuned)}


def measure_indicators(files: Files) -> dict[str, Any]:
    """By data set the overlap of same-class and different-class cosines, before and after PCA<-."""
    space = ja.principal_subspace(files.texts("imagenet")[0])
    found = {}
    for dataset, *_ in DATASETS:
        x, y = files.required(dataset, "test")
        found[dataset] = {
            name: dict(class_indicator(z, y).metrics)
            for name, z in (("image-image", x), ("pca", np.asarray(space.project(x))))
        }
    return found


def measure_pairs(files: Files) -> dict[str, Any]:
    """The pairs of images and captions: the indicators by modality, and how often the one finds the other."""
    images, texts = np.load(files.path("pairs")).astype(np.float32)
    pair = np.arange(len(images))
    matches = {
        "image finds text": ja.retrieval_metrics(images, texts, pair, pair)["recall_at_1"],
        "text finds image": ja.retrieval_metrics(texts, images, pair, pair)["recall_at_1"],
    }
    return {**modality_indicator(images, texts).metrics, **matches, "pairs": len(images)}


def measure_projection(files: Files) -> dict[str, Any]:
    """The spectrum of the one head: eigenvalues of W W^T, descending, and what they add up to."""
    kernel = np.load(files.path("projection")).astype(np.float32)
    head = ja.Projector(kernel)
    eigenvalues = np.asarray(ja.intra_modal_spectrum(head), np.float64)
    shares = eigenvalues / eigenvalues.sum()
    return {
        "directions": len(eigenvalues),
        "at": {str(at): float(eigenvalues[at - 1]) for at in (1, 2, 10, 50, 128, 256, 384, 462, 502, 512)},
        "ten largest": float(shares[:10].sum()),
        "fifty largest": float(shares[:50].sum()),
        "fifty smallest": float(shares[-50:].sum()),
        "effective rank": float(ja.effective_rank(np.sqrt(eigenvalues))),
        "kernel": list(kernel.shape),
    }


def measure(files: Files) -> dict[str, Any]:
    """All numbers, by section."""
    return {
        "retrieval": measure_retrieval(files),
        "few-shot": measure_few_shot(files),
        "names": measure_with_names(files),
        "indicators": measure_indicators(files),
        "pairs": measure_pairs(files),
        "projection": measure_projection(files),
    }


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown; numbers in one decimal."""
    shown = lambda cell: f"{cell:.1f}" if isinstance(cell, float) else str(cell)
    lines = [columns, ["---"] * len(columns), *[list(map(shown, row)) for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def printed() -> dict[tuple[str, str], float]:
    """Table 3 of Reevaluating, CLIP B/32, by method and data set."""
    rows = find_table("reevaluating-table3").rows()
    return {(r["method"], r["dataset"]): float(r["value"]) for r in rows if r["backbone"] == "CLIP B/32"}


def retrieval_section(found: Mapping[str, Any]) -> Iterator[str]:
    paper = printed()
    rows = []
    for dataset, name, _ in DATASETS:
        scores, pca = found[dataset], found[dataset]["pca"]["imagenet, paper, code"]
        gain = f"{pca['gain']:+.1f} ± {pca['gain_error']:.1f}"
        told = (paper["Original", name], paper["PCA<-", name])
        rows.append([name, scores["queries"], scores["image-image"], told[0], pca["256"], told[1], gain])
    heads = ["data set", "images", "image-image", "printed", "PCA<-", "printed", "gain"]
    yield table(heads, rows)
    yield "All texts, variants and ranks:"
    rows = [
        [name, TEXTS[texts], variant, *(scores[str(rank)] for rank in RANKS), scores["mean"]]
        for dataset, name, _ in DATASETS
        for key, scores in found[dataset]["pca"].items()
        for texts, _, variant in [key.partition(", ")]
    ]
    yield table(["data set", "names", "variant", *(f"rank {rank}" for rank in RANKS), "256, eq. 12"], rows)


def few_shot_section(images: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[str]:
    names = {dataset: name for dataset, name, _ in DATASETS}
    columns = list(next(iter(images.values()), {}))
    yield table(["all classes, 16 shots", *columns], [[names[d], *s.values()] for d, s in images.items()])
    if not named:
        return
    columns = [name for name in next(iter(named.values())) if name not in ("classes", "images", "names")]
    rows = []
    for key, scores in named.items():
        dataset, _, texts = key.partition(", ")
        counts = [names[dataset], TEXTS[texts], scores["classes"], scores["images"]]
        rows.append([*counts, *(scores[name] for name in columns)])
    yield table(["classes with a text", "names", "classes", "images", *columns], rows)
    for key, scores in named.items():
        dataset, _, texts = key.partition(", ")
        yield f"{names[dataset]}, {TEXTS[texts]} (class: text): {'; '.join(scores['names'])}."


def indicator_section(classes: Mapping[str, Any], pairs: Mapping[str, Any]) -> Iterator[str]:
    three = lambda *values: [f"{value:.3f}" for value in values]
    rows = [
        [name, "PCA<-" if method == "pca" else method, *three(*(scores[key] for key in INDICATORS))]
        for dataset, name, _ in DATASETS
        for method, scores in classes[dataset].items()
    ]
    yield table(["data set", "method", *(key.replace("_", " ") for key in INDICATORS)], rows)
    rows = [[key.replace("_", " "), *three(pairs[key])] for key in BY_MODALITY]
    rows += [[f"{key}, %", pairs[key]] for key in ("image finds text", "text finds image")]
    yield table([f"{pairs['pairs']} pairs of COCO, ViT-B/16", "measured"], rows)


INDICATORS = ("overlap", "iou", "same_mean", "different_mean")
BY_MODALITY = ("gap", "overlap", "iou", "image_image_mean", "image_text_mean", "text_text_mean")


def projection_section(found: Mapping[str, Any]) -> Iterator[str]:
    rows = [["eigenvalue " + at, f"{value:.4g}"] for at, value in found["at"].items()]
    shares = ("ten largest", "fifty largest", "fifty smallest")
    rows += [[f"share of the {name}", f"{found[name]:.1%}"] for name in shares]
    rows.append(["effective rank of the singular values", found["effective rank"]])
    yield table([f"of {found['directions']}, descending", "measured"], rows)


def source_section() -> Iterator[str]:
    rows = [[s.what, s.repository, f"`{s.commit}`", f"`{s.path}`", s.licence] for s in SOURCES.values()]
    yield table(["what", "repository", "commit", "path", "licence"], rows)


def page(found: Mapping[str, Any]) -> str:
    """All sections as Markdown."""
    sections = {
        "Retrieval": retrieval_section(found["retrieval"]),
        "Classification": few_shot_section(found["few-shot"], found["names"]),
        "Indicators": indicator_section(found["indicators"], found["pairs"]),
        "Spectrum": projection_section(found["projection"]),
        "Sources": source_section(),
    }
    return "\n\n".join(part for title, parts in sections.items() for part in (f"## {title}", *parts)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Numbers on trained CLIP models, as Markdown.")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--checkouts", type=Path, metavar="DIR", help="a folder for each repository")
    place.add_argument("--files", type=Path, metavar="DIR", help="the same content, flat")
    given = parser.parse_args()
    try:
        print(page(measure(Files(given.files or given.checkouts, flat=given.files is not None))), end="")
    except (JaxalignError, OSError) as error:
        sys.exit(f"real_clip: error: {error}")


if __name__ == "__main__":
    main()
