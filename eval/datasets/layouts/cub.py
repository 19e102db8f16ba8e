"""Caltech-UCSD Birds-200-2011: lists that number pictures and classes from 1."""

from pathlib import Path

from ..content import Content, Item, broken, is_below
from ..records import DatasetRecord
from .class_folders import read_lines


def read(record: DatasetRecord, root: Path) -> Content:
    """`images.txt`, `image_class_labels.txt`, `train_test_split.txt` and `classes.txt` of `CUB_200_2011/`.

    Class names are without their number: `001.Black_footed_Albatross` is `Black_footed_Albatross`.
    """
    folder = root / "CUB_200_2011"
    files, classes, training, names = (
        read_numbered(record, folder / f"{name}.txt")
        for name in ("images", "image_class_labels", "train_test_split", "classes")
    )
    splits: dict[str, list[Item]] = {"train": [], "test": []}
    for number, file in files.items():
        label, is_training = classes.get(number, ""), training.get(number, "")
        if label not in names or is_training not in ("0", "1") or not is_below(file):
            raise broken(record, folder, f"a class and a split for {file!r}, number {number} of images.txt")
        item = Item(file, folder / "images" / file, (int(label) - 1,))
        splits["train" if is_training == "1" else "test"].append(item)
    return Content(splits, {"label": tuple(name.partition(".")[2] for name in names.values())})


def read_numbered(record: DatasetRecord, file: Path) -> dict[str, str]:
    """`number value` on each line."""
    pairs = (line.partition(" ") for line in read_lines(record, file))
    return {number: value for number, _, value in pairs}
