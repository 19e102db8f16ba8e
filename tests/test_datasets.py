"""Preparing and reading data sets from their layouts: images byte for byte, labels, names, splits."""

import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dataset_layouts as layouts
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import DATASETS, builder, find_dataset, load_split, prepare
from jaxalign.eval.datasets.prompts import fill_template, imagenet_class_names
from jaxalign.eval.features import image_features


@pytest.fixture(autouse=True)
def few_imagenet_classes(monkeypatch):
    monkeypatch.setattr(
        "jaxalign.eval.datasets.readers.class_lists.imagenet_class_names", lambda: layouts.IMAGENET_NAMES
    )


@pytest.fixture(scope="module")
def caltech(tmp_path_factory):
    """A small Caltech101, prepared: its record, data folder and source folder."""
    root = tmp_path_factory.mktemp("caltech")
    record = layouts.zhou(root / "raw")
    prepare(record, root / "tfds", root / "raw")
    return record, root / "tfds", root / "raw"


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_a_layout_is_prepared_and_read(name, tmp_path, capfd):
    write, expected = layouts.LAYOUTS[name]
    record = write(tmp_path)
    files = [path for path in tmp_path.rglob("*.*") if path.is_file()]
    for split, labels in expected.items():
        examples = load_split(record, split, tmp_path / "tfds", tmp_path)
        assert (examples.dataset, examples.split, examples.version) == (name, split, "1.0.0")
        assert examples.file_names == examples.images.ids == tuple(labels)
        assert len(examples) == len(examples.images) == len(labels)
        if record.tasks:
            values = examples.labels[record.tasks[0]]
            assert values.dtype == np.int32
            assert values.tolist() == list(labels.values())
        for i, file_name in enumerate(labels):
            (source,) = (path for path in files if path.as_posix().endswith(f"/{file_name}"))
            stored = examples.images.read_bytes(i)
            assert stored == source.read_bytes()
            with Image.open(io.BytesIO(stored)) as image:
                assert examples.images[i].mode == image.mode
                np.testing.assert_array_equal(np.asarray(examples.images[i]), np.asarray(image))
    assert capfd.readouterr() == ("", "")


def test_images_are_stored_byte_for_byte_in_every_mode(caltech):
    record, data_dir, raw = caltech
    modes = set()
    for split in record.splits:
        examples = load_split(record, split, data_dir)
        for i, name in enumerate(examples.file_names):
            original = raw / "caltech-101" / "101_ObjectCategories" / name
            assert examples.images.read_bytes(i) == original.read_bytes()
            modes.add(examples.images[i].mode)
    assert modes == set(layouts.MODES)


def test_a_prepared_copy_is_plain_tfds(caltech):
    _, data_dir, _ = caltech
    folder = data_dir / "jaxalign_caltech101" / "1.0.0"
    source = tfds.builder_from_directory(folder).as_data_source(
        "train[:2]", decoders={"image": tfds.decode.SkipDecoding()}
    )
    assert [(row["index"], row["file_name"], int(row["label"])) for row in source] == [
        (0, b"crab/image_0001.jpg", 0),
        (1, b"Faces/image_0002.jpg", 1),
    ]


def test_class_names_and_prompts(caltech):
    record, data_dir, _ = caltech
    names = load_split(record, "val", data_dir).label_names["label"]
    assert names == ("crab", "face", "Wild_Cat")
    assert fill_template(record.template, names[2]) == "a photo of a Wild Cat."
    assert [len(record.templates[kind]) for kind in ("single", "ensemble")] == [1, 34]


def test_repeated_class_names_stay_as_they_are(tmp_path):
    record = layouts.imagenet(tmp_path)
    examples = load_split(record, "val", tmp_path / "tfds", tmp_path)
    assert examples.label_names["label"] == ("tench", "missile", "missile")
    stored = tfds.builder_from_directory(record.folder(tmp_path / "tfds")).info.features["label"].names
    assert stored == ["tench", "missile (1)", "missile (2)"]


def test_optional_splits_can_be_left_out(tmp_path):
    record = layouts.imagenet(tmp_path, training=False)
    assert len(load_split(record, "val", tmp_path / "tfds", tmp_path)) == 3
    with pytest.raises(
        JaxalignError,
        match=r"^the prepared copy of imagenet has no split train: .*imagenet/images/train; put that in",
    ):
        load_split(record, "train", tmp_path / "tfds", tmp_path)


def test_two_splits_one_after_the_other(caltech):
    record, data_dir, _ = caltech
    train, test = (load_split(record, split, data_dir) for split in ("train", "test"))
    both = load_split(record, "train+test", data_dir)
    assert both.split == "train+test"
    assert both.file_names == both.images.ids == train.file_names + test.file_names
    assert both.labels["label"].tolist() == [0, 1, 2, 1, 0]
    for i in range(5):
        part, at = (train, i) if i < 3 else (test, i - 3)
        np.testing.assert_array_equal(np.asarray(both.images[i]), np.asarray(part.images[at]))


def test_select_keeps_images_on_demand(caltech):
    record, data_dir, _ = caltech
    train = load_split(record, "train", data_dir)
    for rows in ([2, 0], np.array([2, 0])):
        few = train.select(rows)
        assert few.file_names == few.images.ids == ("x.jpg", "crab/image_0001.jpg")
        assert few.labels["label"].tolist() == [2, 0]
        np.testing.assert_array_equal(np.asarray(few.images[1]), np.asarray(train.images[0]))
    assert train.select(train.labels["label"] == 1).file_names == ("Faces/image_0002.jpg",)
    assert train.images[1:].ids == train.file_names[1:]
    assert len(list(train.images)) == 3
    with pytest.raises(IndexError):
        train.images[3]


def test_features_come_from_images_on_demand(tmp_path, clip):
    record = layouts.revisited(tmp_path)
    queries = load_split(record, "query", tmp_path / "tfds", tmp_path)
    features = image_features(clip, queries, store=tmp_path / "store", threads=2)
    assert features.ids == queries.file_names
    expected = clip.encode_image(list(queries.images), projected=False)
    np.testing.assert_allclose(features.values, expected, rtol=1e-5, atol=1e-5)
    whole = load_split(record, "query-uncropped", tmp_path / "tfds")
    other = image_features(clip, whole, store=tmp_path / "store")
    assert not np.allclose(other.values[0], features.values[0])


def test_threads_read_the_same_images(caltech):
    record, data_dir, _ = caltech
    train = load_split(record, "train", data_dir)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: np.asarray(train.images[i % 3]).tobytes(), range(60)))
    assert found == [np.asarray(train.images[i % 3]).tobytes() for i in range(60)]


def test_queries_are_cropped_to_their_boxes(tmp_path):
    record = layouts.revisited(tmp_path)
    queries = load_split(record, "query", tmp_path / "tfds", tmp_path)
    whole = load_split(record, "query-uncropped", tmp_path / "tfds", tmp_path)
    assert [image.size for image in whole.images] == [(24, 18), (24, 18)]
    assert [image.size for image in queries.images] == [(18 - 2, 12 - 3), (24, 18)]
    np.testing.assert_array_equal(np.asarray(queries.images[0]), np.asarray(whole.images[0])[3:12, 2:18])
    assert queries.images[[1, 0]][1].size == (16, 9)
    assert queries.ground_truth == whole.ground_truth
    assert queries.ground_truth[1] == {"easy": [1, 2], "hard": [], "junk": [0]}
    with pytest.raises(JaxalignError, match="did you mean 'query-uncropped' or 'gallery'"):
        load_split(record, "gallery-uncropped", tmp_path / "tfds", tmp_path)


def test_captions_need_no_images(tmp_path):
    record = layouts.nocaps(tmp_path)
    examples = load_split(record, "val", tmp_path / "tfds", tmp_path)
    assert examples.images is None
    assert examples.captions == (("A dog.", "One dog."), ("A cat.", "One cat."))
    assert examples.select([1]).captions == (("A cat.", "One cat."),)
    coco = layouts.karpathy(tmp_path, "coco-captions")
    test = load_split(coco, "test", tmp_path / "tfds", tmp_path)
    assert [len(texts) for texts in test.captions] == [3, 3]
    assert test.captions[0][:2] == ("A caption 0 of 1.", "A caption 1 of 1.")


def test_bdd100k_has_three_labels(tmp_path):
    examples = load_split(layouts.bdd100k(tmp_path), "train", tmp_path / "tfds", tmp_path)
    assert tuple(examples.labels) == ("weather", "time-of-day", "scene")
    assert {task: values.tolist() for task, values in examples.labels.items()} == {
        "weather": [4, -1, 3],
        "time-of-day": [0, 0, 0],
        "scene": [1, 1, 1],
    }
    assert examples.label_names["time-of-day"] == ("dawn/dusk", "daytime", "night")


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (layouts.inat2021_mini, ("Silver Fir", "Lumbricus terrestris")),
        (layouts.places365, ("airfield", "outdoor apartment building")),
        (layouts.cub, ("Black_footed_Albatross", "Laysan_Tern")),
        (layouts.dogs_vs_cats, ("cat", "dog")),
    ],
)
def test_label_names(write, names, tmp_path):
    record = write(tmp_path)
    split = next(iter(record.splits))
    assert load_split(record, split, tmp_path / "tfds", tmp_path).label_names["label"] == names


@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS[name].builder.endswith("zhou:read")])
def test_every_few_shot_data_set_is_in_the_folders_of_coop(name, tmp_path):
    record = layouts.zhou(tmp_path, name)
    assert load_split(record, "test", tmp_path / "tfds", tmp_path).labels["label"].tolist() == [1, 0]


def test_large_data_sets_are_in_shards_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SHARD_BYTES", 2 * len(layouts.image_bytes(0)))
    record = layouts.distractors(tmp_path)
    prepared = prepare(record, tmp_path / "tfds", tmp_path)
    assert len(prepared.info.splits["distractors"].shard_lengths) > 2
    examples = load_split(record, "distractors", tmp_path / "tfds")
    for i, name in enumerate(examples.file_names):
        assert examples.images.read_bytes(i) == (tmp_path / "revisitop1m" / "jpg" / name).read_bytes()


def test_preparing_and_reading_do_without_tensorflow(tmp_path):
    layouts.aircraft(tmp_path)
    code = (
        "import sys; from dataclasses import replace; "
        "from jaxalign.eval.datasets import find_dataset, load_split; "
        "record = replace(find_dataset('aircraft'), splits={'train': 2, 'val': 1, 'test': 1}); "
        f"examples = load_split(record, 'train', {str(tmp_path / 'tfds')!r}, {str(tmp_path)!r}); "
        "assert examples.images[0].size == (24, 18); assert 'tensorflow' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


# The table.


def test_records_are_complete():
    printed = [record.printed for record in DATASETS.values() if record.printed]
    assert len(set(printed)) == len(printed) == 19
    for record in DATASETS.values():
        known = {*record.splits}
        for used in (record.query, record.gallery, record.train, record.test):
            assert not used or set(used.split("+")) <= known, record.name
        assert record.licence
        assert record.protocol
        assert record.templates["single"] == (record.template,)
        assert all(template.count("{}") == 1 for kind in record.templates.values() for template in kind)
        assert record.distractors in ("", *DATASETS)
        assert callable(record.builder_class())
        assert record.needs_no_sources == record.name.startswith("emoji")


def test_imagenet_names_are_those_of_clip():
    names = imagenet_class_names()
    assert len(names) == 1000
    assert list(names) == sorted(names)
    assert (names["n01440764"], names["n02085620"], names["n15075141"]) == (
        "tench",
        "Chihuahua",
        "toilet paper",
    )
    assert len(set(names.values())) == 998


def test_unknown_names(tmp_path):
    with pytest.raises(JaxalignError, match="unknown data set 'caltech'; did you mean 'caltech101'"):
        load_split("caltech", "test", tmp_path)
    with pytest.raises(JaxalignError, match="unknown split of caltech101 'tets'; did you mean 'test'"):
        load_split("caltech101", "train+tets", tmp_path)


def test_a_copy_of_another_version_is_not_read(caltech):
    record, data_dir, _ = caltech
    with pytest.raises(JaxalignError, match=r"not prepared in version 1.1.0 \(but in 1.0.0\), and its data"):
        load_split(replace(record, version="1.1.0"), "test", data_dir)
    assert find_dataset(record) is record
