"""Layouts in which folders or lines of text name the classes.

ImageNet, FGVC-Aircraft, Dogs vs Cats, Caltech-UCSD Birds-200-2011, whose lists number images and classes
from 1, and Places365.
"""

from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.inputs.image_formats import image_endings

from ..image_tree import natural
from ..items import Content, Item
from ..prompts import imagenet_class_names
from ..records import DatasetRecord
from . import broken, is_below, read_lines


def list_images(folder: Path) -> list[Path]:
    """The images in a folder, by their names' endings, in the order of numbers and letters."""
    endings = image_endings()
    found = [path for path in folder.iterdir() if path.suffix.lower() in endings and path.name[0] != "."]
    return sorted(found, key=lambda path: natural(path.name))


def read_imagenet(record: DatasetRecord, root: Path) -> Content:
    """Folders of WordNet ids below `imagenet/images/{train,val}`; labels in the order of the ids, as in TFDS.

    The names are CLIP's (`imagenet_class_names`); CoOp reads the same ones from a file `classnames.txt`.
    """
    names = imagenet_class_names()
    splits = {}
    for split in record.splits:
        folder = root / "imagenet" / "images" / split
        if not folder.is_dir():
            continue  # `check_sources` has let it pass: training images are optional
        classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
        if classes != list(names):
            strange = sorted(set(classes) ^ set(names))
            raise JaxalignError(
                f"{record.name}: {folder} should have a folder for each of 1,000 WordNet ids;"
                f" {len(strange)} are missing or too many, {strange[0]} the first"
            )
        splits[split] = [
            Item(f"{split}/{wnid}/{path.name}", path, (label,))
            for label, wnid in enumerate(classes)
            for path in list_images(folder / wnid)
        ]
    return Content(splits, {"label": tuple(names.values())})


def read_aircraft(record: DatasetRecord, root: Path) -> Content:
    """`images_variant_{train,val,test}.txt` (image, then variant) and `variants.txt` of FGVC-Aircraft."""
    folder = root / "fgvc_aircraft"
    variants = folder / "variants.txt"
    names = tuple(read_lines(record, variants))
    label_of = {name: label for label, name in enumerate(names)}
    splits = {}
    for split in record.splits:
        splits[split] = []
        file = folder / f"images_variant_{split}.txt"
        for line in read_lines(record, file):
            image, _, variant = line.partition(" ")
            if variant not in label_of:
                raise broken(record, file, f"variants of {variants.name}; got {variant!r}")
            path = folder / "images" / f"{image}.jpg"
            splits[split].append(Item(path.name, path, (label_of[variant],)))
    return Content(splits, {"label": names})


# In the archive these two are no images; without them 24,998 are left, which is what the published code
# counts.
DAMAGED = frozenset({"Cat/666.jpg", "Dog/11702.jpg"})


def read_dogs_vs_cats(record: DatasetRecord, root: Path) -> Content:
    """`PetImages/{Cat,Dog}/*.jpg` of Microsoft's archive, cats first."""
    folder = root / "dogs-vs-cats" / "PetImages"
    items = []
    for label, animal in enumerate(("Cat", "Dog")):
        if not (folder / animal).is_dir():
            raise broken(record, folder, "folders Cat and Dog")
        for path in list_images(folder / animal):
            name = f"{animal}/{path.name}"
            if name not in DAMAGED:
                items.append(Item(name, path, (label,)))
    return Content({"train": items}, {"label": ("cat", "dog")})


def read_cub(record: DatasetRecord, root: Path) -> Content:
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


def read_places(record: DatasetRecord, root: Path) -> Content:
    """`places365_val.txt`, `categories_places365.txt` and `val_large/`, in the order of file names.

    The category `/a/apartment_building/outdoor` is named `outdoor apartment building`, as CoOp does for
    SUN397.
    """
    folder = root / "Places365_val"
    categories = [line.rpartition(" ") for line in read_lines(record, folder / "categories_places365.txt")]
    if [number for _, _, number in categories] != [str(i) for i in range(len(categories))]:
        raise broken(record, folder / "categories_places365.txt", "categories numbered from 0")
    names = tuple(" ".join(reversed(name.split("/")[2:])).replace("_", " ") for name, _, _ in categories)
    items = []
    for line in sorted(read_lines(record, folder / "places365_val.txt")):
        name, _, label = line.rpartition(" ")
        if not label.isdecimal() or not is_below(name):
            raise broken(record, folder / "places365_val.txt", f"an image and its label; got {line!r}")
        items.append(Item(name, folder / "val_large" / name, (int(label),)))
    return Content({"val": items}, {"label": names})
