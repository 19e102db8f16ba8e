"""One index of one's own images for all commands and folders: an image is what its file's content is."""

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import file_contents, load_split
from jaxalign.eval.datasets.image_tree import find_images
from jaxalign.eval.datasets.images import FileChangedError
from jaxalign.eval.features import FeatureStore, default_store, image_features, image_store
from jaxalign.eval.features.by_content import index_key, part_name
from jaxalign.eval.features.obtain import subset_features
from jaxalign.eval.search import find_library
from jaxalign.inputs.image_files import is_turned, upright


def save(path, seed, orientation=None, size=(20, 14), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
        options["exif"] = exif
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXALIGN_STORE", str(tmp_path / "cache"))
    monkeypatch.setattr(file_contents, "_SETTLED", -(10**18))  # what has just been written is remembered, too
    for i in range(3):
        save(tmp_path / "photos" / f"{i}.png", i)
    save(tmp_path / "photos" / "trip" / "a.jpg", 9, orientation=1)
    save(tmp_path / "photos" / "trip" / "b.jpg", 10, orientation=6)
    return tmp_path / "photos"


@pytest.fixture
def measured(clip, photos, tmp_path):
    """How many images a measurement of a folder computes, and their features by name."""

    def measure(name=f"folder:{photos}", split="all", **options):
        told = []
        features = image_features(
            clip, load_split(name, split), store=tmp_path / "store", progress=told.append, **options
        )
        return sum(told[1:]), dict(zip(features.ids, features.values, strict=True))

    return measure


@pytest.fixture
def searched(clip, photos, tmp_path):
    """The same of a search."""

    def search(folder=photos, **options):
        told = []
        library = find_library(clip, folder, store=tmp_path / "store", progress=told.append, **options)
        return sum(told[1:]), dict(zip(library.names, library.features, strict=True))

    return search


@pytest.mark.long
def test_search_and_measuring_share_what_no_orientation_turns(measured, searched):
    computed, stored = measured()
    assert computed == 5
    computed, shown = searched()
    assert computed == 1
    for name in ("0.png", "1.png", "2.png", "trip/a.jpg"):
        np.testing.assert_array_equal(stored[name], shown[name])
    assert np.abs(stored["trip/b.jpg"] - shown["trip/b.jpg"]).max() > 0.01
    assert (measured()[0], searched()[0]) == (0, 0)


@pytest.mark.long
def test_what_search_has_computed_measuring_finds(measured, searched):
    assert searched()[0] == 5
    assert measured()[0] == 1


def test_an_image_is_found_wherever_it_is(photos, measured, searched, tmp_path, monkeypatch):
    _, before = measured()
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(tmp_path)
    for name in (
        "folder:photos",
        "folder:photos/",
        "classes:./link",
        "folder:../" + tmp_path.name + "/photos",
    ):
        assert measured(name)[0] == 0
    assert measured(f"folder:{photos}/trip")[0] == 0
    (photos / "0.png").rename(photos / "renamed.png")
    (photos / "1.png").rename(photos / "trip" / "moved.png")
    shutil.copy(photos / "2.png", tmp_path / "photos" / "copy.png")
    os.utime(photos / "trip" / "a.jpg", (5, 5))
    computed, after = measured()
    assert computed == 0
    for old, new in {"0.png": "renamed.png", "1.png": "trip/moved.png", "2.png": "copy.png"}.items():
        np.testing.assert_array_equal(after[new], before[old])
    shutil.copytree(photos, tmp_path / "elsewhere")
    assert measured(f"folder:{tmp_path}/elsewhere")[0] == 0
    assert searched(tmp_path / "elsewhere")[0] == 1  # the photo that is turned


@pytest.mark.long
def test_a_changed_file_alone_is_computed(photos, measured, clip):
    measured()
    save(photos / "1.png", 50)
    computed, after = measured()
    assert computed == 1
    expected = clip.encode_image([photos / name for name in after], projected=False)
    np.testing.assert_allclose(np.stack(list(after.values())), expected, rtol=1e-5, atol=1e-5)
    save(photos / "1.png", 1)  # as it was
    assert measured()[0] == 0


def test_equal_images_are_computed_once_and_both_counted(photos, measured, clip, tmp_path):
    shutil.copy(photos / "0.png", photos / "twice.png")
    computed, found = measured()
    assert (computed, len(found)) == (5, 6)
    np.testing.assert_array_equal(found["twice.png"], found["0.png"])
    store = image_store(clip, load_split(f"folder:{photos}", "all"), store=tmp_path / "store")
    assert (store.rows, store.width, store.chunks) == (6, clip.config.image.width, 1)
    np.testing.assert_array_equal(store.read_chunk(0), np.stack(list(found.values())))


def test_drawn_images_are_those_of_the_index(photos, measured, clip, tmp_path):
    _, found = measured()
    examples = load_split(f"folder:{photos}", "all")
    told = []
    drawn = subset_features(clip, examples, np.array([1, 3]), store=tmp_path / "store", progress=told.append)
    assert told == [2]
    for name, values in zip(drawn.ids, drawn.values, strict=True):
        np.testing.assert_array_equal(values, found[name])


def test_models_precisions_and_folders_of_different_readings_are_kept_apart_or_together(
    photos, measured, clip, tmp_path
):
    measured()
    with jax.default_matmul_precision("bfloat16"):
        assert measured()[0] == 5
    assert measured()[0] == 0
    assert len(list((tmp_path / "store").rglob("store.json"))) == 2


def test_two_commands_at_once_make_parts_of_their_own(photos, measured, clip, tmp_path):
    """One embeds another folder while this one has looked, and not begun."""
    save(tmp_path / "other" / "x.png", 70)
    done = []

    def other_meanwhile(count):
        if not done:
            done.append(count)
            measured(f"folder:{tmp_path}/other")

    examples = load_split(f"folder:{photos}", "all")
    image_features(clip, examples, store=tmp_path / "store", progress=other_meanwhile)
    assert (measured()[0], measured(f"folder:{tmp_path}/other")[0]) == (0, 0)


@pytest.mark.parametrize("gone", ["0.png", "trip/b.jpg", None])
@pytest.mark.long
def test_a_part_that_was_not_finished(gone, photos, measured, clip, tmp_path):
    """Its chunks are kept; it is finished where all its images are still there, and else left as it is."""
    ids, expected = load_split(f"folder:{photos}", "all").images.contents, measured()[1]
    place = tmp_path / "killed"
    options = {"chunk": 2, "part": part_name(ids)}
    part = FeatureStore.open(place, index_key(clip), ids, {}, clip.config.image.width, **options)
    part.write(0, np.stack(list(expected.values())[:2]))
    if gone:
        (photos / gone).unlink()
    told = []
    found = image_features(clip, load_split(f"folder:{photos}", "all"), store=place, progress=told.append)
    assert sum(told[1:]) == (2 if gone == "trip/b.jpg" else 3)
    assert len(list(place.rglob("store.json"))) == (2 if gone else 1)
    for name, values in zip(found.ids, found.values, strict=True):
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_a_damaged_chunk_is_computed_anew(photos, measured, tmp_path):
    _, before = measured()
    (chunk,) = (tmp_path / "store").rglob("features/c/*/0")
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    computed, after = measured()
    assert computed == 5
    for name, values in before.items():
        np.testing.assert_array_equal(after[name], values)
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    assert measured(f"folder:{photos}/trip")[0] == 2  # others that the chunk has are not here
    assert measured()[0] == 5


def test_a_file_that_changes_while_it_is_read_ends_the_command(photos, measured, monkeypatch):
    examples = load_split(f"folder:{photos}", "all")
    save(photos / "1.png", 80)
    with pytest.raises(
        FileChangedError, match=r"^1\.png of .*photos has changed since its folder was read; run"
    ):
        examples.images[1]
    (photos / "2.png").write_bytes(b"")
    (photos / "0.png").unlink()
    for row in (0, 2):
        with pytest.raises(FileChangedError, match=r"^\d\.png of .*cannot be read.*; it has changed since"):
            examples.images[row]
    os.utime(photos / "trip" / "a.jpg", (5, 5))
    assert examples.images[3].size == (20, 14)  # touched, and the same


def test_a_change_is_no_image_to_leave_out(photos, clip, tmp_path):
    examples = load_split(f"folder:{photos}", "all")
    (photos / "1.png").write_bytes(b"")
    with pytest.raises(JaxalignError, match="has changed since its folder was read"):
        image_features(clip, examples, store=tmp_path / "store", unreadable="leave-out")
    found = image_features(
        clip, load_split(f"folder:{photos}", "all"), store=tmp_path / "store", unreadable="leave-out"
    )
    assert found.left_out == ("1.png",)


@pytest.fixture
def hashed(monkeypatch):
    """Names of the files that are read for their digests."""
    read, names = file_contents.read_content, []
    monkeypatch.setattr(file_contents, "read_content", lambda file: (names.append(file.name), read(file))[1])
    return names


def contents(folder):
    return file_contents.read_contents(find_images(folder).files)


def test_unchanged_files_are_not_read_again(photos, hashed, tmp_path):
    first = contents(photos)
    assert len(hashed) == 5
    assert [content.turned for content in first] == [False, False, False, False, True]
    hashed.clear()
    (tmp_path / "link").symlink_to(photos)
    assert contents(photos) == contents(tmp_path / "link") == first
    assert hashed == []
    os.utime(photos / "0.png", (7, 7))
    save(photos / "1.png", 60)
    again = contents(photos)
    assert sorted(hashed) == ["0.png", "1.png"]
    assert [one == other for one, other in zip(again, first, strict=True)] == [True, False, True, True, True]


def test_a_file_that_was_written_a_moment_ago_is_not_trusted(photos, hashed, monkeypatch):
    monkeypatch.setattr(file_contents, "_SETTLED", 10**12)
    first = contents(photos)
    assert contents(photos) == first
    assert len(hashed) == 10
    with contextlib.closing(sqlite3.connect(file_contents.memory())) as database, database:
        assert database.execute("SELECT count(*) FROM files").fetchone() == (0,)


@pytest.mark.parametrize("damage", ["text", "cut", "other columns", "folder", "values"])
def test_a_memory_that_is_none_is_done_without_or_made_anew(damage, photos, hashed):
    first, place = contents(photos), file_contents.memory()
    if damage == "text":
        place.write_text("no database" * 1000)
    elif damage == "cut":
        place.write_bytes(place.read_bytes()[:5000])
    elif damage == "folder":
        place.unlink()
        place.mkdir()
    else:
        with contextlib.closing(sqlite3.connect(place)) as database, database:
            if damage == "values":
                database.execute("UPDATE files SET digest = x'ff00'")
            else:
                database.execute("DROP TABLE files")
                database.execute("CREATE TABLE files (mine TEXT)")
    for _ in range(3):
        hashed.clear()
        assert contents(photos) == first
    assert len(hashed) == (5 if damage == "folder" else 0)


def test_features_in_a_bucket_and_no_home_at_all(photos, hashed, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("JAXALIGN_STORE", "gs://bucket/features")
    assert default_store() == "gs://bucket/features"
    assert file_contents.memory().parent == tmp_path / "home" / ".cache" / "jaxalign" / "features"
    monkeypatch.setattr(file_contents, "memory", lambda: Path("~nobody-of-that-name/x").expanduser())
    assert len(contents(photos)) == len(hashed) == 5


def test_a_locked_memory_is_not_waited_for_without_end(photos, hashed, monkeypatch):
    first = contents(photos)
    monkeypatch.setattr(file_contents, "_PATIENCE", 0.05)
    with contextlib.closing(sqlite3.connect(file_contents.memory())) as database, database:
        database.execute("BEGIN EXCLUSIVE")
        hashed.clear()
        assert contents(photos) == first
        assert len(hashed) == 5
        database.rollback()
    hashed.clear()
    assert contents(photos) == first
    assert hashed == []


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 8])
def test_what_is_turned_is_known_before_it_is_decoded(ending, orientation, tmp_path):
    """A TIFF may be said to be turned that Pillow has turned already; it is computed once too often."""
    file = tmp_path / f"a.{ending}"
    save(file, 0, None if ending == "bmp" else orientation)
    with Image.open(file) as image:
        image.load()
        turned = upright(image) is not image
    if ending == "tiff":
        assert is_turned(file) >= turned
    else:
        assert is_turned(file) == turned == (ending != "bmp" and orientation in (3, 8))


def test_what_is_no_image_is_not_turned(tmp_path):
    assert not is_turned(tmp_path / "nowhere")
    assert not is_turned(b"none")
    assert not is_turned(b"\x89PNG\r\n\x1a\n")
