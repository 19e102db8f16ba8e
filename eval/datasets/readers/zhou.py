"""CoOp's layout: a folder of images and `split_zhou_*.json`, which has splits, labels and class names.

The file holds `{"train" | "val" | "test": [[path, label, class name], ...]}`; the paths are relative to the
images' folder. Zhou et al., "Learning to Prompt for Vision-Language Models".
"""

import reprlib
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError

from ..items import Content, Item
from ..records import DatasetRecord
from .lists import broken, is_below, read_json

MOST_CLASSES = 1 << 20
EXPECTED = 'lists "train", "val" and "test" of [path, label, class name]'


def read(record: DatasetRecord, root: Path) -> Content:
    """Splits, labels and class names of the file, in its order."""
    folder = root / record.options["folder"]
    splits, names = read_split_file(record, folder / record.options["split"])
    images = folder / record.options["images"]
    return Content(
        {
            split: [Item(path, images / path, (label,)) for path, label in rows]
            for split, rows in splits.items()
        },
        {"label": names},
    )


def read_split_file(
    record: DatasetRecord, file: Path
) -> tuple[dict[str, list[tuple[str, int]]], tuple[str, ...]]:
    """Paths and labels of each split, and the class names in the order of their labels.

    Raises:
      JaxalignError: not JSON, other contents, a class with two names, a label without a class, or a path
        that leads out of the folder.
    """
    content = read_json(record, file)
    splits: dict[str, list[tuple[str, int]]] = {}
    names: dict[int, str] = {}
    if not isinstance(content, dict) or not set(record.splits) <= set(content):
        raise broken(record, file, EXPECTED)
    for split in record.splits:
        splits[split] = []
        if not isinstance(content[split], list):
            raise broken(record, file, f"{EXPECTED}; {split} is {reprlib.repr(content[split])}")
        for row in content[split]:
            path, label, name = parse_row(record, file, row)
            if names.setdefault(label, name) != name:
                raise JaxalignError(
                    f"{record.name}: {file} names class {label} both {names[label]!r:.80} and {name!r:.80}"
                )
            splits[split].append((path, label))
    if sorted(names) != list(range(len(names))):
        raise JaxalignError(
            f"{record.name}: {file} has {len(names)} classes with labels {min(names)} to "
            f"{max(names)}; expected 0 to"
            f" {len(names) - 1}"
        )
    return splits, tuple(names[label] for label in range(len(names)))


def parse_row(record: DatasetRecord, file: Path, row: Any) -> tuple[str, int, str]:
    """Path, label and class name of one row."""
    if (
        not isinstance(row, list)
        or [type(x) for x in row] != [str, int, str]
        or not 0 <= row[1] < MOST_CLASSES
    ):
        raise broken(record, file, f"{EXPECTED}; got {reprlib.repr(row)}")
    path, label, name = row
    if not is_below(path):
        raise broken(record, file, f"paths below the folder of the images; got {path!r:.80}")
    return path, label, name
