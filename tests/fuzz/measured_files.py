"""Tiny valid ground truths, runs, feature stores and images."""

import io
import json
import pickle
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxalign.eval.datasets import DATASETS, DatasetRecord
from jaxalign.eval.features import FeatureKey, FeatureStore
from jaxalign.eval.tasks.runs import Run, write_run

from .mutant import Part

KEY = FeatureKey("tiny", "0" * 64, {"mean": [0.5, 0.5, 0.5]}, "emoji", "1.0.0", "test", "image", "float32")
IDS = [f"image-{i}" for i in range(10)]
NAMES, QUERIES = ["a", "b", "c"], ["q", "r"]


def record_of(name: str) -> DatasetRecord:
    """The record of a data set, with as many examples as the tiny files have."""
    sizes = {"query": 2, "gallery": 3, "train": 3, "val": 2, "test": 2, "restval": 1}
    record = DATASETS[name]
    return replace(record, splits={split: sizes[split] for split in record.splits})


def _images(folder: str, *names: str) -> dict[str, bytes]:
    return {f"{folder}/{name}": b"" for name in names}


@cache
def revisited() -> tuple[dict[str, bytes], list[Part]]:
    """The files beside a ground truth, and the truth in every protocol of pickle."""
    rows = [
        {"bbx": [1.0, 2.0, 30.5, 40.0], "easy": [0], "hard": [1, 2], "junk": []},
        {"bbx": (1, 2, 3, 4), "easy": [1], "hard": [2], "junk": [0]},
    ]
    arrays: list[dict[str, Any]] = [
        {name: np.array(value, float if name == "bbx" else int) for name, value in row.items()}
        for row in rows
    ]
    arrays[1]["bbx"] = list(arrays[1]["bbx"])  # numbers of NumPy's, one by one
    extra = {"other": (np.zeros((2, 3), order="F"), np.float32(1), b"bytes", None, True, 2**70)}
    truths = [{"imlist": NAMES, "qimlist": QUERIES, "gnd": rows}]
    truths.append({"imlist": tuple(NAMES), "qimlist": QUERIES, "gnd": arrays} | extra)
    files = [pickle.dumps(truth, protocol) for truth in truths for protocol in range(6)]
    images = _images("roxford5k/jpg", *(f"{name}.jpg" for name in NAMES + QUERIES))
    return images, [Part("roxford5k/gnd_roxford5k.pkl", file) for file in files]


def _karpathy() -> list[dict[str, Any]]:
    """Images with captions, of every split."""
    sentences = [{"raw": "a cat"}, {"raw": "one cat"}]
    sizes = {"train": 3, "restval": 1, "val": 2, "test": 2}
    return [
        {"filepath": "x", "filename": f"{split}{i}.jpg", "split": split, "sentences": sentences}
        for split, count in sizes.items()
        for i in range(count)
    ]


@cache
def lists() -> dict[str, tuple[dict[str, bytes], list[Part]]]:
    """By data set: the files beside a list of examples in JSON, and that list."""
    rows = {"train": [["a.jpg", 0, "cat"], ["b.jpg", 1, "dog"], ["c.jpg", 0, "cat"]]}
    rows |= {
        "val": [["d.jpg", 0, "cat"], ["e.jpg", 1, "dog"]],
        "test": [["f.jpg", 1, "dog"], ["g.jpg", 0, "cat"]],
    }
    images = _karpathy()
    captions = [{"image_id": i // 2, "caption": f"a cat {i}"} for i in range(4)]
    named = [{"id": i, "file_name": f"{i}.jpg"} for i in range(3)]
    attributes = {"weather": "clear", "timeofday": "night", "scene": "highway"}
    frames = [{"name": f"{i}.jpg", "attributes": attributes} for i in range(3)]
    species = [{"id": i, "name": f"Felis {i}", "common_name": "cat"} for i in range(2)]
    seen = [{"image_id": i, "category_id": i % 2} for i in range(3)]
    content = {
        "eurosat": (
            "eurosat/split_zhou_EuroSAT.json",
            rows,
            _images("eurosat/2750", *(f"{x}.jpg" for x in "abcdefg")),
        ),
        "coco": (
            "COCO2014/dataset_coco.json",
            {"images": images},
            _images("COCO2014/x", *(image["filename"] for image in images)),
        ),
        "nocaps": (
            "nocaps/nocaps_val_4500_captions.json",
            {"annotations": captions, "images": named},
            _images("nocaps/images", "0.jpg", "1.jpg", "2.jpg"),
        ),
        "bdd100k": (
            "bdd100k/labels/bdd100k_labels_images_train.json",
            frames,
            _images("bdd100k/images/100k", *(f"{s}/{i}.jpg" for s in ("train", "val") for i in range(3)))
            | {"bdd100k/labels/bdd100k_labels_images_val.json": json.dumps(frames[:2]).encode()},
        ),
        "inat2021-mini": (
            "iNaturalist2021_train/annotations/train_mini.json",
            {"categories": species, "annotations": seen, "images": named},
            _images("iNaturalist2021_train", "0.jpg", "1.jpg", "2.jpg"),
        ),
    }
    return {
        name: (files, [Part(path, json.dumps(value).encode())])
        for name, (path, value, files) in content.items()
    }


@cache
def runs() -> dict[str, bytes]:
    """Runs of several protocols; the arrays of each lie beside it."""
    facts = {
        "model": "tiny",
        "dataset": "cub",
        "version": "1.0.0",
        "query": "test",
        "gallery": "test",
        "task": "label",
    }
    grid = {"k_top": np.arange(2), "k_bottom": np.arange(2), "mAP": np.array([[1, 2], [3, np.nan]])}
    counts = {"same": np.array([1, 4, 0]), "different": np.array([4, 1, 0]), "edges": np.linspace(-1, 1, 4)}
    made = (
        (
            "image-retrieval",
            {"method": "image-image"},
            {"mAP": 9.0},
            {"average_precision": np.array([10, 20.0])},
        ),
        (
            "few-shot",
            {"method": "prototype"},
            {"accuracy": {"1": 5.0}},
            {"accuracy": np.ones((2, 1)), "shots": np.array([1, 2])},
        ),
        ("band-sweep", {"method": "isoclip"}, {"best": {"k_top": 1, "k_bottom": 0}}, grid),
        (
            "spectrum",
            {},
            {"band": [1, 0], "auto_band": [0, 0]},
            {"inter_modal": np.ones(3), "image": np.ones(3)},
        ),
        ("class-indicator", {}, {"overlap": 0.5}, counts),
    )
    with tempfile.TemporaryDirectory() as folder:
        for protocol, more, metrics, arrays in made:
            run = Run(protocol, facts | more, metrics, arrays, 1.5, left_out={"cub/test": ["a"]})
            write_run(folder, run)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@cache
def store() -> dict[str, bytes]:
    """The files of a complete store below its root."""
    with tempfile.TemporaryDirectory() as folder:
        labels = {"emoji": np.arange(10) % 3}
        made = FeatureStore.open(folder, KEY, IDS, labels, 5, chunk=4)
        for chunk in range(made.chunks):
            made.write(chunk, np.ones((len(made.rows_of(chunk)), 5), np.float32))
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in Path(folder).rglob("*")
            if path.is_file()
        }


_IMAGES: tuple[tuple[str, str, str, dict], ...] = (
    *(("png", mode, "PNG", {}) for mode in ("RGB", "L", "P", "1", "LA", "RGBA", "I;16")),
    *(("jpg", mode, "JPEG", {}) for mode in ("RGB", "L", "CMYK")),
    ("jpg", "RGB", "JPEG", {"progressive": True, "quality": 95}),
    ("jpg", "RGB", "MPO", {}),
    *(("gif", mode, "GIF", {}) for mode in ("P", "L")),
    ("gif", "P", "GIF", {"save_all": True, "loop": 0}),
    ("png", "RGB", "PNG", {"save_all": True}),
    ("webp", "RGB", "WEBP", {"lossless": True}),
    ("webp", "RGBA", "WEBP", {"quality": 50}),
    ("webp", "RGB", "WEBP", {"save_all": True}),
    ("tif", "RGB", "TIFF", {}),
    *(
        ("tif", "RGB", "TIFF", {"compression": how})
        for how in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate")
    ),
    ("tif", "1", "TIFF", {"compression": "group4"}),
    ("tif", "F", "TIFF", {}),
    *(("bmp", mode, "BMP", {}) for mode in ("RGB", "P", "1")),
    *(("ppm", mode, "PPM", {}) for mode in ("RGB", "L", "1")),
    ("avif", "RGB", "AVIF", {"speed": 10}),
    ("jp2", "RGB", "JPEG2000", {}),
    ("tga", "RGBA", "TGA", {"compression": "tga_rle"}),
    ("dib", "RGB", "DIB", {}),
    ("ico", "RGBA", "ICO", {"sizes": [(16, 16)]}),
    ("icns", "RGBA", "ICNS", {}),
    ("pcx", "P", "PCX", {}),
    ("sgi", "RGB", "SGI", {}),
    ("dds", "RGBA", "DDS", {}),
    ("qoi", "RGB", "QOI", {}),
    ("blp", "P", "BLP", {}),
    ("msp", "1", "MSP", {}),
    ("xbm", "1", "XBM", {}),
)


@cache
def images() -> list[Part]:
    """A small image in each format that Pillow writes; one that this Pillow lacks is left out."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 256, (18, 24, 3), np.uint8))
    made = []
    Image.init()
    for suffix, mode, name, options in _IMAGES:
        if name not in Image.SAVE:
            continue
        grey = colours.convert("L")
        image = (
            grey.convert("I").point(lambda x: x * 200).convert(mode)
            if mode == "I;16"
            else colours.convert(mode)
        )
        if options.get("save_all") or name == "MPO":
            options = options | {"save_all": True, "append_images": [image.rotate(90)]}
        buffer = io.BytesIO()
        image.save(buffer, name, **options)
        made.append(Part(f"image.{suffix}", buffer.getvalue()))
    return made
