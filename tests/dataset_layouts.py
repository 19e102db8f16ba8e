"""Small data sets as they lie on disk once they are unpacked, with the odd images that real ones have.

Each function writes one below `root` and returns its record, with the numbers of examples that it wrote.
"""

import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from jaxalign.eval.datasets import DATASETS, DatasetRecord

MODES = ("RGB", "L", "CMYK", "RGBA", "P")  # RGBA and palettes are PNG files, whatever their name ends in


def image_bytes(seed: int, size: tuple[int, int] = (24, 18)) -> bytes:
    """An image file: RGB, grey or CMYK as JPEG, transparent or with a palette as PNG."""
    mode = MODES[seed % len(MODES)]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    file = io.BytesIO()
    image = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE) if mode == "P" else None
    image = image or Image.fromarray(pixels).convert(mode)
    image.save(file, "PNG" if mode in ("RGBA", "P") else "JPEG")
    return file.getvalue()


def write_image(path: Path, seed: int, size: tuple[int, int] = (24, 18)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_bytes(seed, size))


def write_json(path: Path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def counted(name: str, **splits: int) -> DatasetRecord:
    return replace(DATASETS[name], splits=splits)


def zhou(root: Path, name: str = "caltech101") -> DatasetRecord:
    """Any data set of CoOp's layout: three classes, images in the folders of two of them and at the top."""
    options = DATASETS[name].options
    folder = root / options["folder"]
    rows = {
        "train": [
            ["crab/image_0001.jpg", 0, "crab"],
            ["Faces/image_0002.jpg", 1, "face"],
            ["x.jpg", 2, "Wild_Cat"],
        ],
        "val": [["crab/image_0002.jpg", 0, "crab"]],
        "test": [["Faces/image_0001.jpg", 1, "face"], ["crab/image_0010.jpg", 0, "crab"]],
    }
    for source in DATASETS[name].sources[:-1]:
        (root / source.path).mkdir(parents=True, exist_ok=True)
    for seed, (path, _, _) in enumerate(row for split in rows.values() for row in split):
        write_image(folder / options["images"] / path, seed)
    write_json(folder / options["split"], rows)
    return counted(name, train=3, val=1, test=2)


def imagenet(root: Path, training: bool = True) -> DatasetRecord:
    """Three classes: patch `imagenet_class_names` with `IMAGENET_NAMES`."""
    for split, per_class in (("train", 2 if training else 0), ("val", 1)):
        for label, wnid in enumerate(IMAGENET_NAMES):
            for i in range(per_class):
                write_image(root / "imagenet" / "images" / split / wnid / f"{split}_{i}.JPEG", 10 * label + i)
    (root / "imagenet" / "images" / "val" / "n01440764" / ".DS_Store").write_text("x")
    return counted("imagenet", train=6, val=3)


IMAGENET_NAMES = {"n01440764": "tench", "n03773504": "missile", "n04008634": "missile"}


def aircraft(root: Path) -> DatasetRecord:
    folder = root / "fgvc_aircraft"
    write_lines(folder / "variants.txt", "707-320", "F/A-18", "Cessna 172")
    write_lines(folder / "images_variant_train.txt", "1025794 F/A-18", "0034309 707-320")
    write_lines(folder / "images_variant_val.txt", "0056978 Cessna 172")
    write_lines(folder / "images_variant_test.txt", "1514522 707-320", "")
    for seed, number in enumerate(("1025794", "0034309", "0056978", "1514522")):
        write_image(folder / "images" / f"{number}.jpg", seed)
    return counted("aircraft", train=2, val=1, test=1)


def cub(root: Path) -> DatasetRecord:
    folder = root / "CUB_200_2011"
    files = (
        "001.Black_footed_Albatross/a_1.jpg",
        "001.Black_footed_Albatross/a_2.jpg",
        "002.Laysan_Tern/l_3.jpg",
    )
    for seed, file in enumerate(files):
        write_image(folder / "images" / file, seed)
    write_lines(folder / "images.txt", *(f"{i} {file}" for i, file in enumerate(files, 1)))
    write_lines(folder / "image_class_labels.txt", "1 1", "2 1", "3 2")
    write_lines(folder / "train_test_split.txt", "1 0", "2 1", "3 1")
    write_lines(folder / "classes.txt", "1 001.Black_footed_Albatross", "2 002.Laysan_Tern")
    return counted("cub", train=2, test=1)


TRUTH = [
    {"bbx": [2.4, 3, 17.6, 12.5], "easy": [0], "hard": [2], "junk": []},
    {"bbx": np.array([0, 0, 24, 18.0]), "easy": np.array([1, 2]), "hard": [], "junk": [np.int64(0)]},
]


def revisited(root: Path, protocol: int = 2) -> DatasetRecord:
    """The ground truth holds lists and NumPy arrays, as pickles of different ages do."""
    folder = root / "roxford5k"
    names = {
        "qimlist": ["all_souls_000013", "radcliffe_2"],
        "imlist": ["worcester_1", "ashmolean_3", "bodleian_4"],
    }
    for seed, name in enumerate((*names["qimlist"], *names["imlist"])):
        write_image(folder / "jpg" / f"{name}.jpg", seed)
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(names | {"gnd": TRUTH}, protocol))
    return counted("roxford5k", query=2, gallery=3)


def distractors(root: Path) -> DatasetRecord:
    names = [f"{i % 2}/{i:03d}.jpg" for i in range(7)]
    write_lines(root / "revisitop1m" / "revisitop1m.txt", *names)
    for seed, name in enumerate(names):
        write_image(root / "revisitop1m" / "jpg" / name, seed)
    return counted("revisitop1m", distractors=7)


def dogs_vs_cats(root: Path) -> DatasetRecord:
    """With the two damaged files of the archive and what Windows left in it."""
    folder = root / "dogs-vs-cats" / "PetImages"
    for seed, name in enumerate(("Cat/0.jpg", "Cat/2.jpg", "Cat/10.jpg", "Dog/0.jpg", "Dog/1.jpg")):
        write_image(folder / name, seed)
    for name in ("Cat/666.jpg", "Dog/11702.jpg", "Cat/Thumbs.db"):
        (folder / name).write_bytes(b"")
    return counted("dogs-vs-cats", train=5)


def bdd100k(root: Path) -> DatasetRecord:
    weather = {"train": ("rainy", "undefined", "partly cloudy"), "val": ("clear",)}
    for split, kinds in weather.items():
        frames = []
        for i, kind in enumerate(kinds):
            write_image(root / "bdd100k" / "images" / "100k" / split / f"{i:04d}.jpg", i)
            attributes = {"weather": kind, "scene": "gas stations", "timeofday": "dawn/dusk"}
            frames.append(
                {"name": f"{i:04d}.jpg", "attributes": attributes, "timestamp": 10000, "labels": []}
            )
        write_json(root / "bdd100k" / "labels" / f"bdd100k_labels_images_{split}.json", frames)
    return counted("bdd100k", train=3, val=1)


def places365(root: Path) -> DatasetRecord:
    folder = root / "Places365_val"
    write_lines(folder / "categories_places365.txt", "/a/airfield 0", "/a/apartment_building/outdoor 1")
    write_lines(folder / "places365_val.txt", "Places365_val_00000002.jpg 0", "Places365_val_00000001.jpg 1")
    for number in (1, 2):
        write_image(folder / "val_large" / f"Places365_val_0000000{number}.jpg", number)
    return counted("places365", val=2)


def inat2021_mini(root: Path) -> DatasetRecord:
    folder = root / "iNaturalist2021_train"
    names = ["train_mini/00001_Animalia/b.jpg", "train_mini/00000_Plantae/a.jpg"]
    for seed, name in enumerate(names):
        write_image(folder / name, seed)
    annotations = {
        "categories": [
            {"id": 0, "name": "Abies alba", "common_name": "Silver Fir"},
            {"id": 1, "name": "Lumbricus terrestris", "common_name": ""},
        ],
        "images": [{"id": 17, "file_name": names[0]}, {"id": 4, "file_name": names[1]}],
        "annotations": [
            {"id": 0, "image_id": 4, "category_id": 0},
            {"id": 1, "image_id": 17, "category_id": 1},
        ],
    }
    write_json(folder / "annotations" / "train_mini.json", annotations)
    return counted("inat2021-mini", train=2)


def karpathy(root: Path, name: str = "coco") -> DatasetRecord:
    """COCO's images lie in two folders, Flickr30k's in one."""
    record = DATASETS[name]
    is_coco = name.startswith("coco")
    rows = []
    for i, split in enumerate(("train", "test", "val", "test")):
        row = {"filename": f"{i}.jpg", "split": split, "imgid": i}
        row["sentences"] = [{"raw": f" A  caption\n{j} of {i}. ", "sentid": j} for j in range(2 + i % 2)]
        path = root / record.options["images"]
        if is_coco:
            row["filepath"] = "val2014"
            path /= "val2014"
        if record.images:
            write_image(path / f"{i}.jpg", i)
        rows.append(row)
    if is_coco:
        rows.append(rows[0] | {"filename": "r.jpg", "split": "restval"})
        for folder in ("train2014", "val2014"):
            (root / "COCO2014" / folder).mkdir(parents=True, exist_ok=True)
        write_image(root / "COCO2014" / "val2014" / "r.jpg", 9)
    write_json(root / record.options["file"], {"images": rows, "dataset": name})
    splits = {"train": 1, "val": 1, "test": 2} | ({"restval": 1} if is_coco else {})
    return counted(name, **splits)


def nocaps(root: Path, name: str = "nocaps-captions") -> DatasetRecord:
    images = [{"id": 3, "file_name": "c.jpg"}, {"id": 1, "file_name": "a.jpg"}]
    said = [(1, "A dog."), (3, "A cat."), (1, "One dog."), (3, "One cat.")]
    annotations = [{"id": i, "image_id": image, "caption": text} for i, (image, text) in enumerate(said)]
    write_json(root / DATASETS[name].options["file"], {"images": images, "annotations": annotations})
    for seed, row in enumerate(images):
        write_image(root / "nocaps" / "images" / row["file_name"], seed)
    return counted(name, val=2)


# The file names and the first label of each split; None where there are no labels.
Expected = dict[str, dict[str, int | None]]
LAYOUTS: dict[str, tuple[Callable[[Path], DatasetRecord], Expected]] = {
    "caltech101": (
        zhou,
        {
            "train": {"crab/image_0001.jpg": 0, "Faces/image_0002.jpg": 1, "x.jpg": 2},
            "val": {"crab/image_0002.jpg": 0},
            "test": {"Faces/image_0001.jpg": 1, "crab/image_0010.jpg": 0},
        },
    ),
    "imagenet": (
        imagenet,
        {
            "val": {
                "val/n01440764/val_0.JPEG": 0,
                "val/n03773504/val_0.JPEG": 1,
                "val/n04008634/val_0.JPEG": 2,
            }
        },
    ),
    "aircraft": (
        aircraft,
        {
            "train": {"1025794.jpg": 1, "0034309.jpg": 0},
            "val": {"0056978.jpg": 2},
            "test": {"1514522.jpg": 0},
        },
    ),
    "cub": (
        cub,
        {
            "train": {"001.Black_footed_Albatross/a_2.jpg": 0, "002.Laysan_Tern/l_3.jpg": 1},
            "test": {"001.Black_footed_Albatross/a_1.jpg": 0},
        },
    ),
    "roxford5k": (
        revisited,
        {
            "query-uncropped": {"all_souls_000013.jpg": None, "radcliffe_2.jpg": None},
            "gallery": {"worcester_1.jpg": None, "ashmolean_3.jpg": None, "bodleian_4.jpg": None},
        },
    ),
    "revisitop1m": (distractors, {"distractors": {f"{i % 2}/{i:03d}.jpg": None for i in range(7)}}),
    "dogs-vs-cats": (
        dogs_vs_cats,
        {"train": {"Cat/0.jpg": 0, "Cat/2.jpg": 0, "Cat/10.jpg": 0, "Dog/0.jpg": 1, "Dog/1.jpg": 1}},
    ),
    "bdd100k": (
        bdd100k,
        {
            "train": {"train/0000.jpg": 4, "train/0001.jpg": -1, "train/0002.jpg": 3},
            "val": {"val/0000.jpg": 0},
        },
    ),
    "places365": (places365, {"val": {"Places365_val_00000001.jpg": 1, "Places365_val_00000002.jpg": 0}}),
    "inat2021-mini": (
        inat2021_mini,
        {"train": {"train_mini/00001_Animalia/b.jpg": 1, "train_mini/00000_Plantae/a.jpg": 0}},
    ),
    "coco": (
        karpathy,
        {
            "test": {"val2014/1.jpg": None, "val2014/3.jpg": None},
            "restval": {"val2014/r.jpg": None},
        },
    ),
    "flickr30k": (lambda root: karpathy(root, "flickr30k"), {"test": {"1.jpg": None, "3.jpg": None}}),
    "nocaps": (lambda root: nocaps(root, "nocaps"), {"val": {"a.jpg": None, "c.jpg": None}}),
}
