"""The files behind docs/real_clip.md: features and weights of trained CLIP models in public repositories."""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxalign.errors import JaxalignError


@dataclass(frozen=True)
class Source:
    """Where something is from; `path` is what `--checkouts` opens below the repository's name."""

    repository: str
    commit: str
    path: str
    licence: str
    what: str

    @property
    def file(self) -> Path:
        return Path(self.repository.rpartition("/")[2], self.path)


SOURCES = {
    "images": Source(
        "bunnieslala/IMAS",
        "34a935ae31b4",
        "caches",
        "none",
        "OpenAI CLIP ViT-B/32: embeddings of images, float16, of unit length",
    ),
    "imagenet": Source(
        "rotem154154/clip_lt",
        "12c514b74847",
        "text_features2.pt",
        "MIT",
        'OpenAI CLIP ViT-B/32: "a photo of a {first WordNet name}" of ImageNet\'s 1,000 classes',
    ),
    "imagenet names": Source(
        "rotem154154/clip_lt", "12c514b74847", "utils/labels_names.py", "MIT", "the names of these classes"
    ),
    "lvis": Source(
        "facebookresearch/Detic",
        "436cda2a2347",
        "datasets/metadata/lvis_v1_clip_a+cname.npy",
        "Apache-2.0",
        'OpenAI CLIP ViT-B/32: "a {name}" of LVIS\'s 1,203 classes, float16',
    ),
    "lvis names": Source(
        "facebookresearch/detectron2",
        "02b5c4e295e9",
        "detectron2/data/datasets/lvis_v1_categories.py",
        "Apache-2.0",
        "the names of these classes",
    ),
    "pairs": Source(
        "Weixin-Liang/Modality-Gap",
        "8e20cb24efa4",
        "Figure_1_Modality_Gap/features_clip.npy",
        "MIT",
        "OpenAI CLIP ViT-B/16: the first 500 pairs of COCO val2017",
    ),
    "projection": Source(
        "BicMak/quickHailoRT",
        "1ff0582f0ccb",
        "src/zero_shot_classification/npy/clip_vit_b_16_text_projection.npy",
        "none (OpenAI's weights: MIT)",
        "OpenAI CLIP ViT-B/16: the text projection, features = x @ W",
    ),
}
WIDTH = 512  # of the embeddings of all these models
FLAT = {
    "imagenet": "imagenet_clip_b32_text_features2.pt",
    "imagenet names": "imagenet_clip_b32_names.txt",
    "lvis": "lvis_v1_clip_a+cname.npy",
    "lvis names": "lvis_v1_names.json",
    "pairs": "modality_gap_clip_b16_coco_pairs.npy",
    "projection": "clip_vit_b_16_text_projection.npy",
}
# Folder at the source, name as printed, name in our catalogue.
DATASETS = (
    ("caltech101", "Caltech", "caltech101"),
    ("dtd", "DTD", "dtd"),
    ("oxford_flowers", "Flowers", "flowers102"),
    ("oxford_pets", "Pets", "pets"),
)
TEXTS = {"imagenet": "ImageNet", "lvis": "LVIS"}


def _names(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


# In the order of the labels, that of CoOp's split files.
CLASSES = {
    "caltech101": _names(
        """
        face, leopard, motorbike, accordion, airplane, anchor, ant, barrel, bass, beaver, binocular,
        bonsai, brain, brontosaurus, buddha, butterfly, camera, cannon, car side, ceiling fan,
        cellphone, chair, chandelier, cougar body, cougar face, crab, crayfish, crocodile, crocodile
        head, cup, dalmatian, dollar bill, dolphin, dragonfly, electric guitar, elephant, emu,
        euphonium, ewer, ferry, flamingo, flamingo head, garfield, gerenuk, gramophone, grand piano,
        hawksbill, headphone, hedgehog, helicopter, ibis, inline skate, joshua tree, kangaroo,
        ketch, lamp, laptop, llama, lobster, lotus, mandolin, mayfly, menorah, metronome, minaret,
        nautilus, octopus, okapi, pagoda, panda, pigeon, pizza, platypus, pyramid, revolver, rhino,
        rooster, saxophone, schooner, scissors, scorpion, sea horse, snoopy, soccer ball, stapler,
        starfish, stegosaurus, stop sign, strawberry, sunflower, tick, trilobite, umbrella, watch,
        water lilly, wheelchair, wild cat, windsor chair, wrench, yin yang
        """
    ),
    "oxford_pets": _names(
        """
        abyssinian, american bulldog, american pit bull terrier, basset hound, beagle, bengal,
        birman, bombay, boxer, british shorthair, chihuahua, egyptian mau, english cocker spaniel,
        english setter, german shorthaired, great pyrenees, havanese, japanese chin, keeshond,
        leonberger, maine coon, miniature pinscher, newfoundland, persian, pomeranian, pug, ragdoll,
        russian blue, saint bernard, samoyed, scottish terrier, shiba inu, siamese, sphynx,
        staffordshire bull terrier, wheaten terrier, yorkshire terrier
        """
    ),
}


class Labelled(NamedTuple):
    features: np.ndarray  # float32 [n, 512]
    labels: np.ndarray  # int [n]


class Files:
    """What lies in a folder of checkouts, or flat in a folder of files."""

    def __init__(self, folder: Path, *, flat: bool):
        self.folder, self.flat = folder, flat

    def path(self, name: str) -> Path:
        return self.folder / (FLAT[name] if self.flat else SOURCES[name].file)

    def texts(self, name: str) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """Text embeddings float32 `[n, 512]`, and of each its name and then further ones."""
        path = self.path(name)
        array = read_tensor(path) if path.suffix == ".pt" else np.load(path)
        names = read_literal(self.path(f"{name} names"))
        if isinstance(names, dict):
            synonyms = [tuple(names[i].split(", ")) for i in range(len(names))]
        else:
            in_order = sorted(names, key=lambda entry: entry["id"])
            synonyms = [(entry["name"], *entry["synonyms"]) for entry in in_order]
        if array.shape != (len(synonyms), WIDTH):
            raise JaxalignError(f"{path} has shape {array.shape}; expected ({len(synonyms)}, {WIDTH})")
        return array.astype(np.float32), [tuple(map(plain_name, every)) for every in synonyms]

    def split(self, dataset: str, split: str) -> Labelled | None:
        """The images of `test`, `val` or `train` (16 shots of each class); None where they are not there."""
        found = self._flat(dataset, split) if self.flat else self._checkout(dataset, split)
        if found is None:
            return None
        features, labels = found
        return Labelled(np.asarray(features, np.float32), np.asarray(labels, np.int32))

    def required(self, dataset: str, split: str) -> Labelled:
        """As `split`; raises JaxalignError where it is not there."""
        found = self.split(dataset, split)
        if found is None:
            raise JaxalignError(f"the split {split} of {dataset} is not in {self.folder}; expected it there")
        return found

    def _flat(self, dataset: str, split: str) -> tuple[np.ndarray, np.ndarray] | None:
        file = self.folder / f"clip_b32_{dataset}_{'train16shot' if split == 'train' else split}.npz"
        if file.is_file():
            with np.load(file) as arrays:
                return arrays["features"], arrays["labels"]
        features, labels = (self.folder / f"{dataset}_{split}_{kind}.pt" for kind in "fl")
        return (read_tensor(features), read_tensor(labels)) if features.is_file() else None

    def _checkout(self, dataset: str, split: str) -> tuple[np.ndarray, np.ndarray] | None:
        folder = self.folder / SOURCES["images"].file / dataset
        if split != "train":
            return read_tensor(folder / f"{split}_f.pt"), read_tensor(folder / f"{split}_l.pt")
        # The keys and values of Tip-Adapter: features as columns, labels as one-hot rows.
        keys, values = (read_tensor(folder / f"{kind}_16shots.pt") for kind in ("keys", "values"))
        return (keys.T, values.argmax(1)) if len(keys) == WIDTH else None  # those of DTD are of another model


def read_tensor(path: Path) -> np.ndarray:
    """The one tensor in a file of PyTorch."""
    import torch  # pyright: ignore[reportMissingImports]

    return torch.load(path, weights_only=True, map_location="cpu").numpy()


def read_literal(path: Path) -> Any:
    """The value of the last assignment in a Python file, or what a JSON file holds."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    assignments = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    return ast.literal_eval(assignments[-1].value)


def plain_name(name: str) -> str:
    """Without case, underscores, and what stands in parentheses."""
    return name.partition("(")[0].replace("_", " ").strip().casefold()


def classes_with_text(classes: Sequence[str], names: Sequence[Sequence[str]]) -> dict[int, int]:
    """Of each class that has exactly one text its position among `names`.

    A text is a class's if its first name is; without such a text, if one of its further names is.
    """
    found = {}
    for label, own in enumerate(classes):
        first = [i for i, every in enumerate(names) if every[0] == own]
        texts = first or [i for i, every in enumerate(names) if own in every]
        if len(texts) == 1:
            found[label] = texts[0]
    return found
