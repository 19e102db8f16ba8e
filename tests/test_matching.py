"""Labels of two splits under one numbering, and examples that are in both, however the splits are spelled."""

import os
from dataclasses import replace

import dataset_layouts as layouts
import numpy as np
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import Examples, load_split
from jaxalign.eval.datasets.examples import common_labels, count_own, own_positions, renumber_own


def examples(names, labels, split="test", **fields):
    count = len(labels)
    found = Examples(
        dataset="d",
        split=split,
        version="1",
        images=None,
        labels={"label": np.array(labels, np.int32)},
        label_names={"label": tuple(names)},
        captions=(),
        file_names=tuple(f"{i}.png" for i in range(count)),
    )
    return replace(found, **fields)


def test_labels_are_numbered_by_name():
    first, second = examples("bc", [0, 1, -1]), examples("cab", [0, 1, 2, -1], "train")
    one, other, names = common_labels(first, second, "label")
    assert names == ("b", "c", "a")
    assert one.tolist() == [0, 1, -1]
    assert other.tolist() == [1, 2, 0, -1]
    assert [names[i] for i in other[:3]] == list("cab")


def test_one_numbering_is_left_alone_even_with_a_name_twice():
    first = examples(("crane", "crane"), [0, 1])
    one, other, names = common_labels(first, replace(first, split="train"), "label")
    assert (one.tolist(), other.tolist(), names) == ([0, 1], [0, 1], ("crane", "crane"))


def test_what_cannot_be_compared_is_refused():
    twice = examples(("crane", "crane", "cat"), [0, 1, 2])
    with pytest.raises(JaxalignError, match=r"d/test gives several values of 'label' the same name.*d/train"):
        common_labels(twice, examples("ab", [0], "train"), "label")
    with pytest.raises(JaxalignError, match="d/train gives several"):
        common_labels(examples("ab", [0]), replace(twice, split="train"), "label")
    with pytest.raises(JaxalignError, match="unknown task of d/train 'label'"):
        common_labels(twice, replace(twice, split="train", labels={}), "label")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two splits: one image of `test` is a link to one of `train`, one is the same file by a second name."""
    root = tmp_path_factory.mktemp("photos")
    for seed, name in enumerate(("train/cat/a.png", "train/dog/b.png", "train/dog/c.png", "test/cat/a.png")):
        layouts.write_image(root / name, seed)
    (root / "test" / "cat" / "b.png").symlink_to(root / "train" / "dog" / "b.png")
    os.link(root / "train" / "dog" / "c.png", root / "test" / "cat" / "c.png")
    return root


def places(root, query, gallery):
    return own_positions(load_split(f"folder:{root}", query), load_split(f"folder:{root}", gallery)).tolist()


def test_files_of_two_splits_are_the_same_by_what_they_are(photos):
    assert places(photos, "test", "train") == [
        [-1],
        [1],
        [2],
    ]  # the two a.png have nothing but the name in common
    assert places(photos, "train", "test") == [[-1], [1], [2]]
    assert places(photos, "test", "train+test") == [[3, -1], [1, 4], [2, 5]]
    assert places(photos, "train+test", "test+train")[0] == [3, -1]
    assert places(photos, "train+test", "test+train")[1] == [1, 4]


def test_a_folder_is_the_same_however_it_is_spelled(photos, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(photos)
    monkeypatch.chdir(photos.parent)
    plain = load_split(f"folder:{photos}", "test")
    for spelled in (photos.name, f"./{photos.name}/../{photos.name}/", tmp_path / "link"):
        other = load_split(f"folder:{spelled}", "test")
        assert (other.dataset, other.version) == (plain.dataset, plain.version)
        assert own_positions(other, plain).ravel().tolist() == [0, 1, 2]


def test_splits_are_put_together(photos):
    both = load_split(f"folder:{photos}", "test+train")
    assert both.split == "test+train"
    assert both.file_names[::5] == ("test/cat/a.png", "train/dog/c.png")
    assert both.labels["label"].tolist() == [0, 0, 0, 0, 1, 1]
    versions = {load_split(f"folder:{photos}", split).version for split in ("test", "train", "test+train")}
    assert len(versions) == 3
    with pytest.raises(JaxalignError, match=r"the split test\+test has test twice"):
        load_split(f"folder:{photos}", "test+test")


@pytest.mark.long
def test_prepared_splits_have_an_identity_of_their_own(emoji_data_dir):
    load = lambda split: load_split("emoji", split, emoji_data_dir, on_demand=True)
    test, both = load("test"), load("train+test")
    found = own_positions(test, both)
    np.testing.assert_array_equal(found[:, 0], np.arange(len(test)) + len(both) - len(test))
    assert (own_positions(load("train"), test) < 0).all()
    assert count_own(own_positions(both, test)) == len(test)


def test_positions_among_some_queries_and_items():
    positions = np.array([[3, 0], [1, -1], [-1, -1], [2, -1]])
    found = renumber_own(positions, np.array([0, 1, 3]), np.array([0, 2, 3]))
    assert found.tolist() == [[2, 0], [-1, -1], [1, -1]]
    assert count_own(found) == 2
    assert renumber_own(np.full((2, 1), -1), np.arange(2), np.zeros(0, int)).tolist() == [[-1], [-1]]
