"""Annotations in JSON.

CoOp's `split_zhou_*.json` has splits, labels and class names (Zhou et al., "Learning to Prompt for
Vision-Language Models"), BDD100K attributes of each frame, iNaturalist 2021 mini the format of COCO;
captions are in Karpathy's files for COCO and Flickr30k, and in the validation file of nocaps.
"""

import reprlib
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError

from ..examples import UNLABELLED
from ..items import Content, Item
from ..records import DatasetRecord
from . import broken, integer, is_below, read_json, text

MOST_CLASSES = 1 << 20
SPLIT_FILE = 'lists "train", "val" and "test" of [path, label, class name]'
# Attribute of BDD100K's annotations, and its values; `undefined` is no value.
ATTRIBUTES = {
    "weather": ("weather", ("clear", "foggy", "overcast", "partly cloudy", "rainy", "snowy")),
    "time-of-day": ("timeofday", ("dawn/dusk", "daytime", "night")),
    "scene": ("scene", ("city street", "gas stations", "highway", "parking lot", "residential", "tunnel")),
}


def read_zhou(record: DatasetRecord, root: Path) -> Content:
    """Splits, labels and class names of `{"train" | "val" | "test": [[path, label, class name], ...]}`, in
    the order of the file; paths are relative to the folder of the images."""
    folder = root / record.options["folder"]
    splits, names = read_split_file(record, folder / record.options["split"])
    images = folder / record.options["images"]
    items = lambda rows: [Item(path, images / path, (label,)) for path, label in rows]
    return Content({split: items(rows) for split, rows in splits.items()}, {"label": names})


def read_split_file(
    record: DatasetRecord, file: Path
) -> tuple[dict[str, list[tuple[str, int]]], tuple[str, ...]]:
    """Paths and labels of each split, and the class names in the order of their labels. Raises JaxalignError
    for other contents, a class with two names, a label without a class, or a path that leads out of the
    folder."""
    content = read_json(record, file)
    splits: dict[str, list[tuple[str, int]]] = {}
    names: dict[int, str] = {}
    if not isinstance(content, dict) or not set(record.splits) <= set(content):
        raise broken(record, file, SPLIT_FILE)
    for split in record.splits:
        splits[split] = []
        if not isinstance(content[split], list):
            raise broken(record, file, f"{SPLIT_FILE}; {split} is {reprlib.repr(content[split])}")
        for row in content[split]:
            path, label, name = parse_row(record, file, row)
            if names.setdefault(label, name) != name:
                raise JaxalignError(
                    f"{record.name}: {file} names class {label} both {names[label]!r:.80} and {name!r:.80}"
                )
            splits[split].append((path, label))
    if sorted(names) != list(range(len(names))):
        raise JaxalignError(
            f"{record.name}: {file} has {len(names)} classes with labels {min(names)} to {max(names)};"
            f" expected 0 to {len(names) - 1}"
        )
    return splits, tuple(names[label] for label in range(len(names)))


def parse_row(record: DatasetRecord, file: Path, row: Any) -> tuple[str, int, str]:
    """Path, label and class name of one row."""
    if (
        not isinstance(row, list)
        or [type(x) for x in row] != [str, int, str]
        or not 0 <= row[1] < MOST_CLASSES
    ):
        raise broken(record, file, f"{SPLIT_FILE}; got {reprlib.repr(row)}")
    path, label, name = row
    if not is_below(path):
        raise broken(record, file, f"paths below the folder of the images; got {path!r:.80}")
    return path, label, name


def read_bdd100k(record: DatasetRecord, root: Path) -> Content:
    """`labels/bdd100k_labels_images_*.json` and `images/100k/`, in the order of the lists."""
    folder = root / "bdd100k"
    splits = {}
    for split in record.splits:
        file = folder / "labels" / f"bdd100k_labels_images_{split}.json"
        frames = read_json(record, file)
        if not isinstance(frames, list):
            raise broken(record, file, "a list of frames")
        splits[split] = [
            parse_frame(record, file, folder / "images" / "100k" / split, frame) for frame in frames
        ]
    return Content(splits, {task: values for task, (_, values) in ATTRIBUTES.items()})


def parse_frame(record: DatasetRecord, file: Path, images: Path, frame: Any) -> Item:
    """The example of one frame."""
    try:
        name, attributes = text(frame["name"]), frame["attributes"]
        labels = tuple(label_of(attributes[key], values) for key, values in ATTRIBUTES.values())
    except (KeyError, TypeError, ValueError) as error:
        raise broken(record, file, f"name and attributes of each frame; got {error}") from None
    if not is_below(name):
        raise broken(record, file, f"names of images; got {name!r}")
    return Item(f"{images.name}/{name}", images / name, labels)


def label_of(value: str, values: tuple[str, ...]) -> int:
    if value == "undefined":
        return UNLABELLED
    if value not in values:
        raise ValueError(f"{value!r} for one of {', '.join(values)}")
    return values.index(value)


def read_inaturalist(record: DatasetRecord, root: Path) -> Content:
    """`annotations/train_mini.json` and `train_mini/`, in the order of the annotations' list of images.

    Class names are the species' common names, or the scientific ones where there is none.
    """
    folder = root / "iNaturalist2021_train"
    file = folder / "annotations" / "train_mini.json"
    content = read_json(record, file)
    try:
        species = sorted(content["categories"], key=lambda row: integer(row["id"]))
        names = tuple(text(row.get("common_name") or row["name"]) for row in species)
        label_of = {row["id"]: label for label, row in enumerate(species)}
        labels = {
            integer(row["image_id"]): label_of[integer(row["category_id"])] for row in content["annotations"]
        }
        if len(label_of) != len(species) or len(labels) != len(content["annotations"]):
            raise TypeError("ids that occur once")
        images = [(text(row["file_name"]), labels[integer(row["id"])]) for row in content["images"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise broken(record, file, f"categories, images and their annotations; no {error}") from None
    strange = [name for name, _ in images if not is_below(name)]
    if strange:
        raise broken(record, file, f"paths of images; got {strange[0]!r}")
    return Content(
        {"train": [Item(name, folder / name, (label,)) for name, label in images]}, {"label": names}
    )


def read_karpathy(record: DatasetRecord, root: Path) -> Content:
    """`dataset_*.json`: a list of images with their split and sentences; captions are the `raw` sentences.

    Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments for Generating Image Descriptions".
    """
    file = root / record.options["file"]
    content = read_json(record, file)
    splits: dict[str, list[Item]] = {split: [] for split in record.splits}
    try:
        for row in content["images"]:
            parts = [text(row[key]) for key in ("filepath", "filename") if key in row or key == "filename"]
            captions = [text(sentence["raw"]) for sentence in row["sentences"]]
            splits[row["split"]].append(captioned(record, root, "/".join(parts), captions))
    except (KeyError, TypeError) as error:
        expected = f"images with filename, sentences and a split of {', '.join(record.splits)}"
        raise broken(record, file, f"{expected}; no {error}") from None
    except ValueError as error:
        raise broken(record, file, str(error)) from None
    return Content(splits)


def read_nocaps(record: DatasetRecord, root: Path) -> Content:
    """`nocaps_val_4500_captions.json`: images and captions, in the order of the captions."""
    file = root / record.options["file"]
    content = read_json(record, file)
    captions: dict[Any, list[str]] = {}
    try:
        for row in content["annotations"]:
            captions.setdefault(integer(row["image_id"]), []).append(text(row["caption"]))
        names = {integer(row["id"]): text(row["file_name"]) for row in content["images"]}
        if len(names) != len(content["images"]):
            raise TypeError("ids that occur once")
        items = [captioned(record, root, names[image], texts) for image, texts in captions.items()]
    except (KeyError, TypeError) as error:
        raise broken(record, file, f"images and annotations with their captions; no {error}") from None
    except ValueError as error:
        raise broken(record, file, str(error)) from None
    return Content({"val": items})


def captioned(record: DatasetRecord, root: Path, name: str, captions: list[str]) -> Item:
    """An image, where it is wanted, and its captions with single spaces."""
    texts = tuple(" ".join(caption.split()) for caption in captions)
    if not texts:
        raise ValueError(f"at least one caption for {name!r}")
    if not is_below(name):
        raise ValueError(f"names of images; got {name!r}")
    return Item(name, root / record.options["images"] / name if record.images else None, (), texts)
