"""Layouts in which folders or plain lists name the classes: ImageNet, FGVC-Aircraft, Dogs vs Cats."""

import re
from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.inputs.image_formats import image_endings
from jaxalign.local_files import read_limited

from ..content import LIST_LIMIT, Content, Item, broken
from ..prompts import imagenet_class_names
from ..records import DatasetRecord


def list_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, by their names' endings, in the order of numbers and letters."""
    endings = image_endings()
    found = [path for path in folder.iterdir() if path.suffix.lower() in endings and path.name[0] != "."]
    return sorted(found, key=lambda path: natural(path.name))


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key under which `2.jpg` comes before `10.jpg`; of `1`, `01` and `001` no two are equal."""
    parts = [
        (int(part), "") if part.isascii() and part.isdigit() else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]
    return parts, name


def read_imagenet(record: DatasetRecord, root: Path) -> Content:
    """Folders of WordNet ids below `imagenet/images/{train,val}`; labels in the order of the ids, as in TFDS.

    The names are CLIP's (`imagenet_class_names`); CoOp reads the same ones from a file `classnames.txt`.
    """
    names = imagenet_class_names()
    splits = {}
    for split in record.splits:
        folder = root / "imagenet" / "images" / split
        if not folder.is_dir():
            continue  # `check_sources` has let it pass: training pictures are optional
        classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if classes != list(names):
            strange = sorted(set(classes) ^ set(names))
            raise JaxalignError(
                f"{record.name}: {folder} should have a folder for each of 1,000 WordNet ids; "
                f"{len(strange)} are"
                f" missing or too many, {strange[0]} the first"
            )
        splits[split] = [
            Item(f"{split}/{wnid}/{path.name}", path, (label,))
            for label, wnid in enumerate(classes)
            for path in list_pictures(folder / wnid)
        ]
    return Content(splits, {"label": tuple(names.values())})


def read_aircraft(record: DatasetRecord, root: Path) -> Content:
    """`images_variant_{train,val,test}.txt` (picture, then variant) and `variants.txt` of FGVC-Aircraft."""
    folder = root / "fgvc_aircraft"
    variants = folder / "variants.txt"
    names = tuple(read_lines(record, variants))
    label_of = {name: label for label, name in enumerate(names)}
    splits = {}
    for split in record.splits:
        splits[split] = []
        file = folder / f"images_variant_{split}.txt"
        for line in read_lines(record, file):
            picture, _, variant = line.partition(" ")
            if variant not in label_of:
                raise broken(record, file, f"variants of {variants.name}; got {variant!r}")
            path = folder / "images" / f"{picture}.jpg"
            splits[split].append(Item(path.name, path, (label_of[variant],)))
    return Content(splits, {"label": names})


# In the archive these two are no pictures; without them 24,998 are left, which is what the published code
# counts.
DAMAGED = frozenset({"Cat/666.jpg", "Dog/11702.jpg"})


def read_dogs_vs_cats(record: DatasetRecord, root: Path) -> Content:
    """`PetImages/{Cat,Dog}/*.jpg` of Microsoft's archive, cats first."""
    folder = root / "dogs-vs-cats" / "PetImages"
    items = []
    for label, animal in enumerate(("Cat", "Dog")):
        if not (folder / animal).is_dir():
            raise broken(record, folder, "folders Cat and Dog")
        for path in list_pictures(folder / animal):
            name = f"{animal}/{path.name}"
            if name not in DAMAGED:
                items.append(Item(name, path, (label,)))
    return Content({"train": items}, {"label": ("cat", "dog")})


def read_lines(record: DatasetRecord, file: Path) -> list[str]:
    """The lines of a list without blank ones."""
    if not file.is_file():
        raise JaxalignError(f"{record.name}: there is no {file}; unpack the archive again")
    text = read_limited(file, LIST_LIMIT).decode("utf-8-sig")  # editors of Windows begin it with a mark
    return [line.strip() for line in text.splitlines() if line.strip()]
