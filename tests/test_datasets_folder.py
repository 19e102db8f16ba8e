"""Any folder of images as a data set."""

import contextlib
import errno
import os
import shutil
from collections import Counter
from pathlib import Path

import dataset_layouts as layouts
import numpy as np
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.datasets import find_dataset, image_folder, load_split, prepare
from jaxalign.eval.features import image_features


@pytest.fixture
def photos(tmp_path):
    """Two classes, one of them with folders of its own; an image without a class; and what is none."""
    names = ("cat/10.jpg", "cat/2.JPG", "dog/old/1.png", "loose.webp", ".hidden/x.jpg", "cat/.x.jpg")
    for seed, name in enumerate(names):
        layouts.write_image(tmp_path / name, seed)
    (tmp_path / "cat" / "notes.txt").write_text("x")
    return tmp_path


def test_subfolders_are_classes(photos):
    examples = load_split(f"folder:{photos}", "all")
    assert examples.file_names == ("cat/2.JPG", "cat/10.jpg", "dog/old/1.png", "loose.webp")
    assert examples.label_names["label"] == ("cat", "dog")
    assert examples.labels["label"].tolist() == [0, 0, 1, -1]
    assert examples.labels["label"].dtype == np.int32
    for i, name in enumerate(examples.file_names):
        assert examples.images.read_bytes(i) == (photos / name).read_bytes()
        assert examples.images[i].size == (24, 18)


def test_the_version_changes_with_the_images_and_their_names(photos):
    version = lambda: load_split(f"folder:{photos}", "all").version
    versions = [version()]
    os.utime(photos / "loose.webp", (0, 0))
    shutil.copy(photos / "loose.webp", photos / "copy")
    (photos / "copy").replace(photos / "loose.webp")
    assert version() == versions[0]
    (photos / "loose.webp").rename(photos / "renamed.webp")
    versions.append(version())
    layouts.write_image(photos / "renamed.webp", 99)
    versions.append(version())
    (photos / "renamed.webp").unlink()
    versions.append(version())
    assert len(set(versions)) == 4


def test_a_folder_without_subfolders_has_no_labels(tmp_path):
    layouts.write_image(tmp_path / "a.jpg", 0)
    examples = load_split(f"folder:{tmp_path}", "all")
    assert examples.labels == {}
    assert len(examples) == 1


def test_folders_of_splits(tmp_path):
    for seed, name in enumerate(("train/cat/a.jpg", "train/dog/b.jpg", "test/dog/c.jpg")):
        layouts.write_image(tmp_path / name, seed)
    assert load_split(f"folder:{tmp_path}", "train").labels["label"].tolist() == [0, 1]
    record = find_dataset(f"folder:{tmp_path}")
    assert (record.splits, record.query, record.gallery) == ({"test": 1, "train": 2}, "test", "train")
    with pytest.raises(JaxalignError, match="known: test, train"):
        load_split(f"folder:{tmp_path}", "all")


def test_folders_that_hold_no_images(tmp_path, photos):
    with pytest.raises(JaxalignError, match=r"nowhere is not there; expected a folder"):
        load_split(f"folder:{tmp_path}/nowhere", "all")
    with pytest.raises(JaxalignError, match="is not a folder"):
        load_split(f"folder:{photos}/loose.webp", "all")
    (tmp_path / "empty").mkdir()
    with pytest.raises(JaxalignError, match=r"no images in .*empty; expected files that end in .apng,"):
        load_split(f"folder:{tmp_path}/empty", "all")
    with pytest.raises(JaxalignError, match="unknown split of"):
        load_split(f"folder:{photos}", "test")


def test_a_folder_has_a_record(photos):
    record = find_dataset(f"folder:{photos}")
    assert (record.splits, record.tasks, record.query, record.gallery) == (
        {"all": 4},
        ("label",),
        "all",
        "all",
    )
    assert record.is_prepared()
    assert record.version == ""  # it follows from what the images are, which nobody has asked for
    assert load_split(record, "all").version
    with pytest.raises(JaxalignError, match="is read where it is"):
        prepare(record)


def test_a_link_that_leads_nowhere_is_named_when_it_is_read(photos, clip, tmp_path_factory):
    before = load_split(f"folder:{photos}", "all").version
    (photos / "dog" / "link.png").symlink_to("nowhere.png")
    examples = load_split(f"folder:{photos}", "all")
    assert examples.version != before
    at = examples.file_names.index("dog/link.png")
    with pytest.raises(JaxalignError, match=r"link.png of .* cannot be read: No such file"):
        examples.images[at]
    store = tmp_path_factory.mktemp("store")
    with pytest.raises(JaxalignError, match=r"link.png .*No such file.*--unreadable leave-out") as caught:
        image_features(clip, examples, store=store)
    assert "\n" not in str(caught.value)
    assert image_features(clip, examples, store=store, unreadable="leave-out").left_out == ("dog/link.png",)


def test_a_file_that_vanishes_while_the_folder_is_read(photos, monkeypatch):
    find = image_folder.find_images

    def find_and_lose(root):
        found = find(root)
        (photos / "loose.webp").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(image_folder, "find_images", find_and_lose)
    examples = load_split(f"folder:{photos}", "all")
    assert "loose.webp" in examples.file_names
    with pytest.raises(JaxalignError, match=r"loose.webp of .* cannot be read: No such file"):
        examples.images[examples.file_names.index("loose.webp")]


@pytest.mark.parametrize("at", ["", "dog"])
def test_a_folder_that_cannot_be_listed_is_an_error(at, photos, monkeypatch):
    """Its images would be missing from the results, and nobody would know."""
    scan = os.scandir

    def refuse(path):
        if os.fspath(path) == os.fspath(photos / at):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", lambda path: [entry.name for entry in refuse(path)])
    with pytest.raises(
        JaxalignError, match=rf"the folder {photos / at} cannot be read: Permission denied; mend"
    ):
        load_split(f"folder:{photos}", "all")


def test_a_image_that_vanished_is_named(photos):
    examples = load_split(f"folder:{photos}", "all")
    (photos / "loose.webp").unlink()
    with pytest.raises(JaxalignError, match=r"loose.webp of .* cannot be read: No such file"):
        examples.images[3]


def test_linked_folders_are_followed_once(photos, tmp_path_factory):
    """Under the name without links where there is one; loops end, and what is there already is counted."""
    outside = tmp_path_factory.mktemp("outside")
    layouts.write_image(outside / "deep" / "a.jpg", 7)
    for name, target in {
        "a link": outside,
        "another": outside / "deep",
        "dog/up": photos,
        "kitten": photos / "cat",
    }.items():
        (photos / name).symlink_to(target, target_is_directory=True)
    tree = image_folder.find_images(photos)
    names = [file.name for file in tree.files]
    assert names == [
        "a link/deep/a.jpg",
        "cat/2.JPG",
        "cat/10.jpg",
        "dog/old/1.png",
        "loose.webp",
    ]
    assert tree.not_read == {"linked folder that is there already": 3}
    examples = load_split(f"folder:{photos}", "all")
    assert examples.images.read_bytes(0) == (outside / "deep" / "a.jpg").read_bytes()


def test_what_looks_like_an_image_and_is_not_read_is_counted(photos, tmp_path, capsys):
    for name in ("a.CR2", "b.cr2", "c.svg", "d.MOV", "e.txt", ".f.nef", "cat/g.psd"):
        (photos / name).write_bytes(b"x")
    for name in ("h.jfif", "i.tga", "j.jp2"):
        layouts.write_image(photos / name, 3)
    examples = load_split(f"folder:{photos}", "all")
    assert {"h.jfif", "i.tga", "j.jp2"} <= set(examples.file_names)
    assert examples.not_read == {".cr2": 2, ".svg": 1, ".psd": 1}
    said = capsys.readouterr().err
    assert said == f"folder:{photos}/all: not read: 2 .cr2, 1 .psd, 1 .svg\n"
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.nef").write_bytes(b"x")
    with pytest.raises(JaxalignError, match=r"no images in .*raw; expected files that .*; it has 1 \.nef$"):
        load_split(f"folder:{tmp_path}/raw", "all")


def test_what_this_program_draws_is_no_image_of_a_folder(photos):
    from matplotlib.figure import Figure

    from jaxalign.eval.figures import save

    save(Figure(figsize=(1, 1)), photos / "runs" / "plot.png")
    examples = load_split(f"folder:{photos}", "all")
    assert (len(examples), examples.not_read) == (4, {"written by jaxalign": 1})


class Asked:
    """What `os.scandir` gives, which counts how often the system is asked about each image."""

    def __init__(self, entry: os.DirEntry, counts: Counter):
        self._entry, self._counts = entry, counts

    def __getattr__(self, name):
        return getattr(self._entry, name)

    def stat(self):
        self._counts[self._entry.path] += 1
        return self._entry.stat()


def test_a_command_reads_a_folder_once(tmp_path, monkeypatch):
    """Each folder is listed once and each image asked about once, whatever splits the command looks at; and
    once more when its features are computed, as it may have changed."""
    root, counts, scan, stat = tmp_path / "in", Counter(), os.scandir, os.stat
    for seed, name in enumerate(("train/cat/1.jpg", "train/dog/1.jpg", "test/cat/2.jpg", "test/dog/2.jpg")):
        layouts.write_image(root / name, seed)

    @contextlib.contextmanager
    def listing(path):
        counts[os.fspath(path)] += 1
        with scan(path) as entries:
            yield [Asked(entry, counts) for entry in entries]

    def asking(path, **options):
        if str(path).endswith(".jpg"):
            counts[os.fspath(path)] += 1
        return stat(path, **options)

    inside = lambda path: root in (Path(path), *Path(path).parents)
    monkeypatch.setattr(os, "scandir", lambda path=".": listing(path) if inside(path) else scan(path))
    monkeypatch.setattr(os, "stat", asking)
    options = ["--store", f"{tmp_path}/store", "--out", f"{tmp_path}/runs", "--methods", "image-image"]
    for times in (2, 1):
        counts.clear()
        assert cli.main(["retrieve", "--dataset", f"folder:{root}", *options]) == 0
        assert len(counts) == 7 + 4
        assert {count for path, count in counts.items() if path.endswith(".jpg")} == {times}
        assert {count for path, count in counts.items() if not path.endswith(".jpg")} == {1}
