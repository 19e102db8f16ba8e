"""Annotations in JSON: BDD100K has attributes of each frame, iNaturalist 2021 mini the format of COCO."""

from pathlib import Path
from typing import Any

from ..examples import UNLABELLED
from ..items import Content, Item
from ..records import DatasetRecord
from .lists import broken, integer, is_below, read_json, text

# Attribute of BDD100K's annotations, and its values; `undefined` is no value.
ATTRIBUTES = {
    "weather": ("weather", ("clear", "foggy", "overcast", "partly cloudy", "rainy", "snowy")),
    "time-of-day": ("timeofday", ("dawn/dusk", "daytime", "night")),
    "scene": (
        "scene",
        ("city street", "gas stations", "highway", "parking lot", "residential", "tunnel"),
    ),
}


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
