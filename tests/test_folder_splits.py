"""What the subfolders of a folder of images are: splits or classes, by stated rules, and said."""

import os
import subprocess
import sys
import unicodedata

import dataset_layouts as layouts
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.datasets import find_dataset, load_split
from jaxalign.eval.datasets.image_tree import natural


@pytest.fixture
def fill(tmp_path):
    """Writes images into the folder, each with a colour of its own."""

    def write(*names):
        for seed, name in enumerate(names):
            layouts.write_image(tmp_path / name, seed)
        return tmp_path

    return write


SPLITS = ("train/cat/a.png", "train/dog/b.png", "test/dog/c.png")


def splits_of(root, reading="folder:"):
    return find_dataset(f"{reading}{root}").splits


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ("README.txt", ""),
        ("loose.png", "; 1 image outside of them left out"),
        (".hidden/x/y.png", ""),
        ("__MACOSX/train/cat/a.png", ""),
        ("@eaDir/x/a.png", ""),
        ("train/cat/@eaDir/a.png", ""),
        ("docs/notes.txt", ""),
    ],
)
def test_what_lies_beside_splits_does_not_count(beside, said, fill):
    root = fill(*SPLITS)
    path = root / beside
    if path.suffix == ".png":
        fill(beside)
    else:
        path.parent.mkdir(exist_ok=True)
        path.write_text("hi")
    record = find_dataset(f"folder:{root}")
    assert record.splits == {"train": 2, "test": 1}
    assert list(record.splits) == ["train", "test"]  # in this order, whatever the file system gives
    assert record.reading == (
        f"{root} is read as splits train (2 images), test (1 image), with 2 classes: cat, dog;"
        f" test has no image of cat{said}"
    )
    assert load_split(record, "test").labels["label"].tolist() == [1]


@pytest.mark.parametrize(
    ("names", "canonical"),
    [
        (("Train", "TEST"), ("train", "test")),
        (("train", "valid"), ("train", "val")),
        (("training", "Validation"), ("train", "val")),
        (("dev", "testing"), ("val", "test")),
        (("VAL",), ("val",)),
    ],
)
def test_names_of_splits_and_what_they_are_called_here(names, canonical, fill):
    root = fill(*(f"{name}/cat/{i}.png" for i, name in enumerate(names)))
    assert tuple(splits_of(root)) == canonical
    for name, split in zip(names, canonical, strict=True):
        for spelled in (split, name, split.upper()):
            examples = load_split(f"folder:{root}", spelled)
            assert (examples.split, len(examples)) == (split, 1)
            assert examples.file_names[0].startswith(f"{name}/cat/")


@pytest.mark.parametrize(
    ("names", "query", "gallery"),
    [
        (("val", "train"), "val", "train"),
        (("val", "test"), "test", "test"),
        (("train", "val", "test"), "test", "train"),
        (("train",), "train", "train"),
    ],
)
def test_which_splits_are_queries_and_gallery(names, query, gallery, fill):
    record = find_dataset(f"folder:{fill(*(f'{name}/cat/{i}.png' for i, name in enumerate(names)))}")
    assert (record.query, record.gallery, record.test, record.train) == (query, gallery, query, gallery)


def test_a_mixture_is_refused_and_can_be_said(fill):
    root = fill(*SPLITS, "bus/d.png", "car/e.png")
    with pytest.raises(JaxalignError) as caught:
        find_dataset(f"folder:{root}")
    assert str(caught.value) == (
        f"{root} has folders with names of splits (test, train) beside others (bus, car); say what is meant:"
        f" splits:{root} takes the former as splits and leaves the others out, classes:{root} takes all of"
        " them as classes"
    )
    assert splits_of(root, "splits:") == {"train": 2, "test": 1}
    assert "2 images outside of them left out" in find_dataset(f"splits:{root}").reading
    examples = load_split(f"classes:{root}", "all")
    assert examples.label_names["label"] == ("bus", "car", "test", "train")
    assert examples.labels["label"].tolist() == [0, 1, 2, 3, 3]
    assert (
        len(
            {
                load_split(f"{name}:{root}", split).dataset
                for name, split in (("splits", "test"), ("classes", "all"))
            }
        )
        == 2
    )


def test_what_cannot_be_told_is_one_line(fill, tmp_path):
    root = fill("train/cat/a.png", "Training/cat/b.png")
    with pytest.raises(JaxalignError, match=r"the folders Training and train .* are both the split train"):
        find_dataset(f"folder:{root}")
    (tmp_path / "plain").mkdir()
    layouts.write_image(tmp_path / "plain" / "cat" / "a.png", 0)
    with pytest.raises(JaxalignError, match=r"no folder in .*plain has the name of a split"):
        find_dataset(f"splits:{tmp_path}/plain")
    layouts.write_image(tmp_path / "mac" / "__MACOSX" / "a.png", 0)
    with pytest.raises(JaxalignError, match="no images in"):
        find_dataset(f"folder:{tmp_path}/mac")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cat", "Cat"),
        ("1", "01"),
        (unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")),
        ("cat", "cat "),
        ("golden_retriever", "golden retriever"),
    ],
)
def test_classes_of_two_splits_that_differ_in_spelling_alone(one, other, fill):
    root = fill(f"train/{one}/a.png", f"test/{other}/b.png")
    with pytest.raises(JaxalignError, match="differ only in case, Unicode form or leading zeros"):
        find_dataset(f"folder:{root}")
    fill(f"train/{other}/c.png")  # both are in one split: two classes
    assert len(load_split(f"folder:{root}", "train").label_names["label"]) == 2


@pytest.mark.parametrize(
    "names",
    [
        ("train2017", "val2017"),
        ("train-set", "Test-Set"),
        ("query", "gallery"),
        ("1_train", "2_test"),
        ("bounding_box_train", "bounding_box_test", "query"),
    ],
)
def test_folders_that_sound_like_splits_are_no_classes_unless_said(names, fill):
    root = fill(*(f"{name}/{c}/a.png" for name in names for c in ("cat", "dog")))
    with pytest.raises(JaxalignError, match=r"sound like names of splits.*expected one of train, .*classes:"):
        find_dataset(f"folder:{root}")
    assert splits_of(root, "classes:") == {"all": 2 * len(names)}


def test_one_word_of_a_split_among_classes_is_a_class(fill):
    root = fill("test tube/a.png", "beaker/b.png")
    assert splits_of(root) == {"all": 2}
    assert splits_of(fill("photos of tests/a.png", "x/b.png")) == {"all": 4}


def test_a_split_is_in_a_sum_once_however_it_is_spelled(fill):
    root = fill("train/cat/a.png", "Valid/cat/b.png", "Valid/dog/c.png")
    for split in ("valid+val", "val+Validation", "train+val+dev"):
        with pytest.raises(JaxalignError, match="has val twice; expected each once"):
            load_split(f"folder:{root}", split)
    assert len(load_split(f"folder:{root}", "Train+VAL")) == 3


def test_one_class_alone_is_not_measured(fill, tmp_path, capsys):
    """As where the folders of splits are one level further down."""
    root = fill("images/train/cat/a.png", "images/test/dog/b.png")
    command = ["retrieve", "--dataset", f"folder:{root}", "--store", str(tmp_path / "s"), "--methods"]
    assert cli.main([*command, "image-image"]) == 1
    assert "has one class alone, 'images', in which every image is right" in capsys.readouterr().err


def test_orders_are_total():
    names = ["1", "01", "001", "2", "10", "a", "A", "é", "é", "a1", "a01"]
    expected = ["001", "01", "1", "2", "10", "A", "a", "a01", "a1", "é", "é"]
    assert [sorted(order, key=natural) for order in (names, names[::-1])] == [expected, expected]


@pytest.mark.long
def test_labels_and_files_do_not_depend_on_the_hash_seed(fill):
    root = fill(*(f"{name}/{i}.png" for name in ("1", "01", "001", "2") for i in range(2)))
    examples = load_split(f"folder:{root}", "all")
    assert examples.label_names["label"] == ("001", "01", "1", "2")
    assert examples.labels["label"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert examples.file_names[:3] == ("001/0.png", "001/1.png", "01/0.png")
    code = (
        "import sys; from jaxalign.eval.datasets import load_split;"
        " e = load_split(f'folder:{sys.argv[1]}', 'all');"
        " print(e.version, e.label_names['label'], e.labels['label'].tolist())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code, root],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "3")
    }
    assert len(said) == 1
    assert examples.version in said.pop()


def test_the_version_tells_a_file_that_was_given_its_old_time(fill):
    root = fill("cat/a.png", "dog/b.png")
    file, before = root / "cat" / "a.png", load_split(f"folder:{root}", "all")
    stat = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert load_split(f"folder:{root}", "all").version != before.version


def test_the_version_of_a_split_tells_what_its_labels_mean(fill):
    root = fill(*SPLITS)
    before = load_split(f"folder:{root}", "test")
    fill("train/ape/d.png")
    after = load_split(f"folder:{root}", "test")
    assert (before.labels["label"].tolist(), after.labels["label"].tolist()) == ([1], [2])
    assert before.version != after.version


def test_datasets_says_where_a_folder_is(fill, capsys):
    root = fill(*SPLITS)
    assert cli.main(["datasets", f"folder:{root}"]) == 0
    said = capsys.readouterr().out
    assert "prepared in" not in said
    assert f"read where it is, {root}\n" in said
    assert "is read as splits train (2 images), test (1 image)" in said
