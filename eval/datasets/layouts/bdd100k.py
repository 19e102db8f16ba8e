"""BDD100K: one JSON list for each split, with the attributes of each frame."""

from pathlib import Path
from typing import Any

from ..content import UNLABELLED, Content, Item, broken, is_below, read_json, text
from ..records import DatasetRecord

# Attribute of the annotation, and its values; `undefined` is no value.
ATTRIBUTES = {
    "weather": ("weather", ("clear", "foggy", "overcast", "partly cloudy", "rainy", "snowy")),
    "time-of-day": ("timeofday", ("dawn/dusk", "daytime", "night")),
    "scene": (
        "scene",
        ("city street", "gas stations", "highway", "parking lot", "residential", "tunnel"),
    ),
}


def read(record: DatasetRecord, root: Path) -> Content:
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
        raise broken(record, file, f"names of pictures; got {name!r}")
    return Item(f"{images.name}/{name}", images / name, labels)


def label_of(value: str, values: tuple[str, ...]) -> int:
    if value == "undefined":
        return UNLABELLED
    if value not in values:
        raise ValueError(f"{value!r} for one of {', '.join(values)}")
    return values.index(value)
