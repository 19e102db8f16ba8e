"""CoOp's splits on copies of TFDS's own catalogue."""

import json
import shutil

import dataset_layouts as layouts
import numpy as np
import pytest
import tensorflow_datasets as tfds
from test_datasets_tfds import as_tfrecord

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DATASETS, find_dataset, load_split
from jaxalign.eval.datasets.tfds_copies import KEYS

# For each data set: class names of TFDS, and by path of CoOp the split, label and keys of TFDS.
CASES = {
    "caltech101": (
        ["background_google", "crab", "faces"],
        {
            "crab/image_0001.jpg": ("test", 1, {"image/file_name": "image_0001.jpg"}),
            "Faces/image_0001.jpg": ("train", 2, {"image/file_name": "image_0001.jpg"}),
        },
    ),
    "pets": (
        ["Abyssinian", "Bengal"],
        {
            "Bengal_1.jpg": ("test", 1, {"file_name": "Bengal_1.jpg"}),
            "Abyssinian_201.jpg": ("train", 0, {"file_name": "Abyssinian_201.jpg"}),
        },
    ),
    "cars": (
        ["Acura", "Tesla"],
        {
            "cars_test/00001.jpg": ("test", 1, {"id": "00001"}),
            "cars_train/00001.jpg": ("train", 0, {"id": "00001"}),
        },
    ),
    "flowers102": (
        ["pink primrose", "alpine sea holly"],
        {
            "image_00002.jpg": ("validation", 0, {"file_name": "image_00002.jpg"}),
            "image_00001.jpg": ("train", 1, {"file_name": "image_00001.jpg"}),
        },
    ),
    "food101": (
        ["apple_pie", "waffles"],
        {
            "apple_pie/1005649.jpg": ("train", 0, {"id": "apple_pie/1005649"}),
            "waffles/1005649.jpg": ("validation", 1, {"id": "waffles/1005649"}),
        },
    ),
    "eurosat": (
        ["River", "Forest"],
        {
            "River/River_2.jpg": ("train", 0, {"filename": "River_2.jpg"}),
            "Forest/Forest_2.jpg": ("train", 1, {"filename": "Forest_2.jpg"}),
        },
    ),
    "dtd": (
        ["banded", "zigzagged"],
        {
            "zigzagged/zigzagged_0002.jpg": ("test", 1, {"file_name": "zigzagged/zigzagged_0002.jpg"}),
            "banded/banded_0002.jpg": ("train", 0, {"file_name": "banded/banded_0002.jpg"}),
        },
    ),
    "sun397": (
        ["/a/abbey", "/z/zoo"],
        {
            "z/zoo/sun_b.jpg": ("validation", 1, {"file_name": "/z/zoo/sun_b.jpg"}),
            "a/abbey/sun_a.jpg": ("train", 0, {"file_name": "/a/abbey/sun_a.jpg"}),
        },
    ),
}


class Copy(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Stands in for a builder of the catalogue."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, names, rows, keys, **options):
        self.names, self.rows, self.keys = names, rows, keys
        super().__init__(**options)

    def _info(self):
        features = {"image": tfds.features.Image(shape=(None, None, 3))}
        features["label"] = tfds.features.ClassLabel(names=self.names)
        features |= {key: tfds.features.Text() for key in self.keys}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        splits = dict.fromkeys(split for split, *_ in self.rows)
        return {split: self._generate_examples(split) for split in splits}

    def _generate_examples(self, wanted):
        for seed, (split, label, keys) in enumerate(self.rows):
            if split == wanted:
                yield seed, {"image": layouts.image_bytes(seed), "label": label, **keys}


def write_copy(root, name, rows=None, file_format="array_record"):
    """TFDS's copy of the case `name`, in its place below `root`."""
    names, paths = CASES[name]
    rows = list(paths.values()) if rows is None else rows
    builder = Copy(names, rows, tuple(rows[0][2]), data_dir=root / "made", file_format=file_format)
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    target, _, version = DATASETS[name].tfds.rpartition(":")
    (root / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(builder.data_dir, root / target / version)


def write_split(root, name):
    """CoOp's split file: all images are in `test`, with labels and names of its own."""
    options = DATASETS[name].options
    rows = [[path, label, f"class_{label}"] for label, path in enumerate(CASES[name][1])]
    layouts.write_json(root / options["folder"] / options["split"], {"train": [], "val": [], "test": rows})


def test_every_copy_of_tfds_has_a_key():
    assert set(KEYS) == set(CASES)
    assert {name for name, record in DATASETS.items() if record.tfds} == set(KEYS)


@pytest.mark.parametrize("name", CASES)
def test_images_of_tfds_labels_of_coop(name, tmp_path):
    write_copy(tmp_path, name)
    write_split(tmp_path / "raw", name)
    examples = load_split(f"{name}@tfds", "test", tmp_path, tmp_path / "raw")
    assert examples.dataset == f"{name}@tfds"
    assert examples.version == find_dataset(f"{name}@tfds").version
    assert examples.version == f"1.0.0+tfds-{DATASETS[name].tfds.partition(':')[2]}"
    assert examples.file_names == tuple(CASES[name][1])
    assert examples.labels["label"].tolist() == [0, 1]
    assert examples.label_names["label"] == ("class_0", "class_1")
    for seed in range(2):
        assert examples.images.read_bytes(seed) == layouts.image_bytes(seed)
        assert np.asarray(examples.images[seed]).shape[:2] == (18, 24)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (slice(0, 1), r"Bengal_1|Abyssinian_201.jpg of the split file is 0 times in oxford_iiit_pet:4.0.0"),
        ((0, 1, 1), "Abyssinian_201.jpg of the split file is 2 times"),
    ],
)
def test_each_image_must_be_there_once(rows, message, tmp_path):
    every = list(CASES["pets"][1].values())
    chosen = every[rows] if isinstance(rows, slice) else [every[i] for i in rows]
    write_copy(tmp_path, "pets", chosen)
    write_split(tmp_path / "raw", "pets")
    with pytest.raises(JaxalignError, match=message):
        load_split("pets@tfds", "test", tmp_path, tmp_path / "raw")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(
        JaxalignError, match="unknown data set with a copy of TFDS 'aircraft'; known: caltech101"
    ):
        load_split("aircraft@tfds", "test", tmp_path, tmp_path)
    with pytest.raises(JaxalignError, match="unknown split of pets@tfds 'tests'; did you mean 'test'"):
        load_split("pets@tfds", "tests", tmp_path, tmp_path)
    with pytest.raises(JaxalignError, match=r"put the splits to .*split_zhou_OxfordPets.json \(from https"):
        load_split("pets@tfds", "test", tmp_path, tmp_path)
    write_split(tmp_path, "pets")
    with pytest.raises(JaxalignError, match=r"no copy of TFDS in .*oxford_iiit_pet/4.0.0"):
        load_split("pets@tfds", "test", tmp_path, tmp_path)


def test_a_copy_of_another_version_is_named_and_not_read(tmp_path):
    write_copy(tmp_path, "pets")
    write_split(tmp_path, "pets")
    copy = tmp_path / "oxford_iiit_pet" / "4.0.0"
    copy.rename(copy.with_name("3.2.0"))
    with pytest.raises(
        JaxalignError,
        match=r"no copy of TFDS in .*/4.0.0, but of version 3.2.0; prepare oxford_iiit_pet:4.0.0",
    ) as error:
        load_split("pets@tfds", "test", tmp_path, tmp_path)
    assert "\n" not in str(error.value)


def test_a_copy_in_tfrecord_gives_the_same(tmp_path):
    """As TFDS writes it by default."""
    write_split(tmp_path, "pets")
    write_copy(tmp_path / "array", "pets")
    copy = "oxford_iiit_pet/4.0.0"
    as_tfrecord(tmp_path / "array" / copy, tmp_path / "tf" / copy)
    both = [load_split("pets@tfds", "test", tmp_path / folder, tmp_path) for folder in ("array", "tf")]
    assert both[0].state == both[1].state
    for row in range(2):
        assert both[0].images.read_bytes(row) == both[1].images.read_bytes(row) == layouts.image_bytes(row)


def test_a_copy_without_its_files_is_named(tmp_path):
    write_copy(tmp_path, "pets")
    write_split(tmp_path, "pets")
    file = tmp_path / "oxford_iiit_pet" / "4.0.0" / "dataset_info.json"
    info = json.loads(file.read_text())
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        split["filepathTemplate"] = split["filepathTemplate"].replace("array_record", "tfrecord")
    file.write_text(json.dumps(info))
    with pytest.raises(JaxalignError, match="cannot be read"):
        load_split("pets@tfds", "test", tmp_path, tmp_path)
