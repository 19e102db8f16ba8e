"""Data sets that are not as they should be: what is missing or broken is said in one line."""

import hashlib
import io
import json
import pickle
import subprocess
import sys

import dataset_layouts as layouts
import numpy as np
import pytest
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import load_split, prepare
from jaxalign.eval.datasets.images import Images
from jaxalign.eval.datasets.readers.revisited import read_plain_pickle


@pytest.fixture(autouse=True)
def few_imagenet_classes(monkeypatch):
    monkeypatch.setattr(
        "jaxalign.eval.datasets.readers.class_lists.imagenet_class_names", lambda: layouts.IMAGENET_NAMES
    )


# What is wrong with the sources.


def test_missing_sources_say_what_to_put_where(tmp_path):
    with pytest.raises(JaxalignError) as error:
        load_split("caltech101", "test", tmp_path / "tfds", tmp_path)
    said = str(error.value)
    assert (
        f"the images, unpacked to {tmp_path / 'caltech-101' / '101_ObjectCategories'} (from https://" in said
    )
    assert f"the splits to {tmp_path / 'caltech-101' / 'split_zhou_Caltech101.json'} (from https://" in said
    assert "\n" not in said
    assert not (tmp_path / "tfds").exists()


def edit(path, old: str, new: str):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def split_file(root):
    return root / "caltech-101" / "split_zhou_Caltech101.json"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: split_file(root).write_text('{"train": ['), r"is not valid JSON .*get the file again"),
        (lambda root: split_file(root).write_text("[]"), r'expected \(lists "train", "val" and "test"'),
        (lambda root: split_file(root).write_bytes(b'{"\xff": 1}'), r"not (valid JSON|in UTF-8)"),
        (lambda root: edit(split_file(root), '["x.jpg", 2,', '["x.jpg", "two",'), r"got \['x.jpg', 'two'"),
        (
            lambda root: edit(split_file(root), '["x.jpg", 2,', '["x.jpg", 7,'),
            r"3 classes with labels 0 to 7",
        ),
        (lambda root: edit(split_file(root), '"x.jpg", 2, "Wild_Cat"', '"x.jpg", 0, "cat"'), "class 0 both"),
        (lambda root: edit(split_file(root), '"x.jpg"', '"../../x.jpg"'), "paths below the folder"),
        (lambda root: edit(split_file(root), '"x.jpg"', '"/etc/passwd"'), "paths below the folder"),
        (
            lambda root: edit(split_file(root), "crab/image_0010", "crab/image_0002"),
            "1 file name is there twice, 'crab/image_0002.jpg' the first",
        ),
        (
            lambda root: edit(split_file(root), "crab/image_0010", "crab/image_0011"),
            r"1 image is missing, .*crab/image_0011.jpg the first",
        ),
        (
            lambda root: edit(split_file(root), '["crab/image_0002.jpg", 0, "crab"]', ""),
            "val has 0 examples instead of 1",
        ),
    ],
)
def test_a_split_file_that_is_wrong(damage, message, tmp_path):
    record = layouts.zhou(tmp_path)
    damage(tmp_path)
    with pytest.raises(JaxalignError, match=message) as error:
        prepare(record, tmp_path / "tfds", tmp_path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("caltech101: ")
    assert not (tmp_path / "tfds" / "jaxalign_caltech101").exists()


def test_wrong_counts_are_an_error(tmp_path):
    layouts.zhou(tmp_path)
    with pytest.raises(
        JaxalignError, match=r"caltech101: train has 3 examples instead of 4,128; get the lists"
    ):
        prepare("caltech101", tmp_path / "tfds", tmp_path)


@pytest.mark.parametrize(
    ("write", "file", "old", "new", "message"),
    [
        (layouts.aircraft, "fgvc_aircraft/images_variant_val.txt", "Cessna 172", "A380", "got 'A380'"),
        (layouts.cub, "CUB_200_2011/image_class_labels.txt", "3 2", "3 9", "a class and a split for '002"),
        (layouts.bdd100k, "bdd100k/labels/bdd100k_labels_images_val.json", '"clear"', '"sunny"', "'sunny'"),
        (layouts.bdd100k, "bdd100k/labels/bdd100k_labels_images_val.json", "attributes", "x", "'attributes'"),
        (layouts.places365, "Places365_val/places365_val.txt", "2.jpg 0", "2.jpg 5", "5 of Places365_val_00"),
        (layouts.places365, "Places365_val/places365_val.txt", "2.jpg 0", "2.jpg", "an image and its label"),
        (
            layouts.inat2021_mini,
            "iNaturalist2021_train/annotations/train_mini.json",
            '"category_id": 1',
            '"category_id": 5',
            "no 5",
        ),
        (layouts.karpathy, "COCO2014/dataset_coco.json", '"restval"', '"rest"', "no 'rest'"),
        (layouts.nocaps, "nocaps/nocaps_val_4500_captions.json", '"image_id": 3', '"image_id": 8', "no 8"),
        (layouts.distractors, "revisitop1m/revisitop1m.txt", "0/000.jpg", "../0.jpg", "got '../0.jpg'"),
    ],
)
def test_annotations_that_are_wrong(write, file, old, new, message, tmp_path):
    record = write(tmp_path)
    edit(tmp_path / file, old, new)
    with pytest.raises(JaxalignError, match=message) as error:
        prepare(record, tmp_path / "tfds", tmp_path)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{record.name}: ")


def test_folders_that_are_not_imagenets(tmp_path):
    record = layouts.imagenet(tmp_path)
    (tmp_path / "imagenet" / "images" / "val" / "n00000001").mkdir()
    with pytest.raises(JaxalignError, match="1 are missing or too many, n00000001 the first"):
        prepare(record, tmp_path / "tfds", tmp_path)


# What is wrong with the images.


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"<html>404</html>", "cannot identify it as"),
        (layouts.image_bytes(0)[:300], "[Tt]runcated"),
        (layouts.image_bytes(3)[:60], ""),
    ],
    ids=["empty", "html", "truncated-jpeg", "truncated-png"],
)
def test_a_image_that_cannot_be_read_is_named(content, reason, tmp_path):
    record = layouts.zhou(tmp_path)
    (tmp_path / "caltech-101" / "101_ObjectCategories" / "x.jpg").write_bytes(content)
    examples = load_split(record, "train", tmp_path / "tfds", tmp_path)
    assert examples.images[0].size == (24, 18)
    with pytest.raises(JaxalignError, match=f"^x.jpg of caltech101/train cannot be .*: .*{reason}") as error:
        examples.images[2]
    assert "\n" not in str(error.value)
    assert "BytesIO" not in str(error.value)


def test_an_animated_image_shows_its_first_frame():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    shown = Images(lambda row: file.getvalue(), ["a.gif"], "test")[0]
    assert shown.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_an_oversized_image_is_named(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = layouts.image_bytes(0)
    with pytest.raises(JaxalignError, match=r"big.jpg of test cannot be read as an image: Image size"):
        Images(lambda row: data, ["big.jpg"], "test")[0]


# What is wrong with a prepared copy.


@pytest.mark.parametrize("damage", ["digit", "cut", "version", "gone"])
def test_a_damaged_index_says_what_to_delete(damage, tmp_path):
    record = layouts.zhou(tmp_path)
    prepare(record, tmp_path / "tfds", tmp_path)
    folder = record.folder(tmp_path / "tfds")
    file = folder / "train.index.json"
    text = file.read_text()
    file.write_text(text.replace("[0,1,2]", "[0,1,1]") if damage == "digit" else text[:100])
    if damage == "gone":
        file.unlink()
    if damage == "version":
        content = json.dumps({"version": 99})
        file.write_text(f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}\n")
    with pytest.raises(
        JaxalignError, match=f"caltech101 is damaged .*delete the folder {folder} and run again"
    ):
        load_split(record, "train", tmp_path / "tfds")
    assert len(load_split(record, "test", tmp_path / "tfds")) == 2


def test_a_flipped_byte_in_a_shard_is_found_when_it_is_read(tmp_path):
    record = layouts.zhou(tmp_path)
    prepare(record, tmp_path / "tfds", tmp_path)
    shard = next(record.folder(tmp_path / "tfds").glob("*train.array_record*"))
    data = bytearray(shard.read_bytes())
    data[500] ^= 0xFF
    shard.write_bytes(data)
    examples = load_split(record, "train", tmp_path / "tfds")
    with pytest.raises(JaxalignError, match="the prepared copy of caltech101 is damaged"):
        list(examples.images)


# Writing the copy.


def test_a_killed_preparation_is_cleared_away(tmp_path):
    record = layouts.zhou(tmp_path)
    orphan = tmp_path / "tfds" / record.builder_name / "incomplete.ABCDEF_1.0.0"
    orphan.mkdir(parents=True)
    (orphan / "shard").write_bytes(b"x" * 1000)
    prepare(record, tmp_path / "tfds", tmp_path)
    assert [path.name for path in orphan.parent.iterdir()] == ["1.0.0"]


@pytest.mark.long
def test_processes_that_prepare_at_once_share_one_copy(tmp_path):
    layouts.aircraft(tmp_path)
    code = (
        "from dataclasses import replace; from jaxalign.eval.datasets import find_dataset, load_split; "
        "record = replace(find_dataset('aircraft'), splits={'train': 2, 'val': 1, 'test': 1}); "
        f"print(load_split(record, 'test', {str(tmp_path / 'tfds')!r}, {str(tmp_path)!r}).file_names)"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [run.communicate() for run in runs] == [(b"('1514522.jpg',)\n", b"")] * 2
    assert len(list((tmp_path / "tfds" / "jaxalign_aircraft").iterdir())) == 1


def test_too_little_space_is_said_before_the_work(tmp_path, monkeypatch):
    record = layouts.zhou(tmp_path)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("jaxalign.eval.datasets.prepared.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(JaxalignError, match=r"caltech101 needs 0.0 GB in .*, and 0.0 GB are free; choose"):
        prepare(record, tmp_path / "tfds", tmp_path)
    assert not list((tmp_path / "tfds").rglob("*.array_record*"))


# Pickles.


class Malice:
    """A pickle that leaves a file behind when it is loaded by `pickle.load`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", range(6))
def test_ground_truth_of_every_pickle_protocol(protocol, tmp_path):
    layouts.revisited(tmp_path, protocol)
    stored = read_plain_pickle(tmp_path / "roxford5k" / "gnd_roxford5k.pkl")
    for row, expected in zip(stored["gnd"], layouts.TRUTH, strict=True):
        for key, value in expected.items():
            np.testing.assert_array_equal(row[key], value)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    record = layouts.revisited(tmp_path)
    file = tmp_path / "roxford5k" / "gnd_roxford5k.pkl"
    witness = tmp_path / "witness"
    file.write_bytes(pickle.dumps({"imlist": [], "qimlist": [], "gnd": [Malice(witness)]}))
    with pytest.raises(JaxalignError, match=r"is refused: .* asks for (io|_io|builtins).open"):
        prepare(record, tmp_path / "tfds", tmp_path)
    assert not witness.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2, 3])[:-2],
        pickle.dumps(np.array([{}], object)),
        b"cos\nsystem\n(S'true'\ntR.",
        b"cnumpy\ndtype\n.",
        b"Pother\n.",
    ],
    ids=["empty", "text", "cut", "objects", "system", "bare-global", "persistent"],
)
def test_pickles_of_anything_else(content, tmp_path):
    record = layouts.revisited(tmp_path)
    (tmp_path / "roxford5k" / "gnd_roxford5k.pkl").write_bytes(content)
    with pytest.raises(JaxalignError) as error:
        prepare(record, tmp_path / "tfds", tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.pop("gnd"), "'gnd'"),
        (lambda stored: stored["gnd"].pop(), "2 queries and 1 ground truths"),
        (lambda stored: stored["gnd"][0].update(easy=[3]), "positions of the 3 images"),
        (lambda stored: stored["gnd"][0].update(bbx=[5, 0, 1, 9]), "left, top, right, bottom"),
        (lambda stored: stored["gnd"][0].update(bbx=[0, 0, float("nan"), 9]), "left, top, right, bottom"),
        (lambda stored: stored["imlist"].append("../x"), r"got '\.\./x'"),
    ],
)
def test_ground_truth_that_is_wrong(change, message, tmp_path):
    record = layouts.revisited(tmp_path)
    file = tmp_path / "roxford5k" / "gnd_roxford5k.pkl"
    stored = pickle.loads(file.read_bytes())
    change(stored)
    file.write_bytes(pickle.dumps(stored))
    with pytest.raises(JaxalignError, match=message):
        prepare(record, tmp_path / "tfds", tmp_path)
