"""The embedded data sets: what they promise, and what happens to a damaged copy."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import Examples, find_dataset, load_split, prepare
from jaxalign.eval.datasets.emoji import scenes
from jaxalign.eval.datasets.emoji.builders import EmojiScenes, encode_png, image_rng
from jaxalign.eval.datasets.emoji.sprites import STYLES, read_emoji, read_sprites
from jaxalign.eval.datasets.prepared import decode_image

NAMES = ("emoji", "emoji-scenes")


@pytest.fixture(scope="module", params=NAMES)
def splits(request, emoji_data_dir) -> tuple[Examples, Examples]:
    """The splits train and test of a data set."""
    train, test = (load_split(request.param, split, emoji_data_dir) for split in ("train", "test"))
    return train, test


@pytest.fixture
def damaged(emoji_data_dir, tmp_path):
    """The folder of a copy of the prepared `emoji` under `tmp_path`, to be damaged."""
    folder = tmp_path / "emoji" / "1.0.0"
    shutil.copytree(emoji_data_dir / "emoji" / "1.0.0", folder)
    return folder


def test_splits_have_the_promised_examples(splits):
    for examples in splits:
        record = find_dataset(examples.dataset)
        n = record.splits[examples.split]
        assert examples.images.shape == (n, 48, 48, 3)
        assert examples.images.dtype == np.uint8
        assert len(examples) == len(examples.captions) == len(set(examples.file_names)) == n
        assert tuple(examples.labels) == tuple(examples.label_names) == record.tasks
        for task, labels in examples.labels.items():
            assert labels.shape == (n,)
            assert labels.dtype == np.int32
            assert labels.min() >= 0
            assert labels.max() < len(examples.label_names[task])


def test_splits_share_no_emoji_and_hold_out_a_fifth(splits):
    train, test = (set(examples.labels["emoji"].tolist()) for examples in splits)
    assert not train & test
    assert len(test) >= 0.2 * (len(train) + len(test))
    assert not set(splits[0].file_names) & set(splits[1].file_names)


def test_every_label_value_occurs_in_both_splits(splits):
    train, test = splits
    for task in set(train.labels) - {"emoji", "subgroup"}:
        every = set(range(len(train.label_names[task])))
        assert set(train.labels[task].tolist()) == set(test.labels[task].tolist()) == every


def test_plain_images_and_captions_come_from_the_sprites(emoji_data_dir):
    test = load_split("emoji", "test", emoji_data_dir)
    for i, (emoji, style, sprite) in enumerate(read_sprites("test")):
        assert test.label_names["emoji"][test.labels["emoji"][i]] == emoji.name
        assert test.label_names["group"][test.labels["group"][i]] == emoji.group
        assert test.label_names["style"][test.labels["style"][i]] == style
        assert test.captions[i] == tuple(scenes.keyword_captions(emoji.name, emoji.keywords))
        assert test.captions[i][0] == f"a picture of {emoji.name}"
        if i % 50 == 0:
            np.testing.assert_array_equal(test.images[i], scenes.compose_plain(sprite))


@pytest.mark.long
def test_captions_of_scenes_tell_the_truth(emoji_data_dir):
    train = load_split("emoji-scenes", "train", emoji_data_dir)
    named = dict.fromkeys(("emoji", "style", "size", "background", "texture", "place"), 0)
    for i, (caption,) in enumerate(train.captions):
        is_ = {task: train.label_names[task][train.labels[task][i]] for task in named}
        words = caption.split()
        named["emoji"] += f" of {is_['emoji']}" in caption
        named["style"] += scenes.SPOKEN_STYLES[is_["style"]] in caption.partition(" of ")[0]
        if words[1] in scenes.SIZES:
            assert words[1] == is_["size"]
            named["size"] += 1
        if words[-1] == "background":
            *texture, colour, _ = caption.rpartition(" on ")[2].split()
            assert colour == is_["background"]
            assert texture in ([], [is_["texture"]])
            named["background"] += 1
            named["texture"] += bool(texture)
        named["place"] += f"at the {is_['place']}" in caption
    share = {task: count / len(train) for task, count in named.items()}
    expected = {
        "emoji": 0.92,
        "style": 0.25,
        "size": 0.2,
        "background": 0.35,
        "texture": 0.105,
        "place": 0.15,
    }
    assert share == pytest.approx(expected, abs=0.03)  # drawn: a share varies by a percent or two


def test_images_on_demand_are_the_same_ones(emoji_data_dir):
    whole = load_split("emoji-scenes", "test", emoji_data_dir)
    lazy = load_split("emoji-scenes", "test", emoji_data_dir, on_demand=True)
    assert lazy.file_names == whole.file_names
    assert lazy.captions == whole.captions
    assert all(np.array_equal(lazy.labels[task], whole.labels[task]) for task in whole.labels)
    for row in (0, 7, len(whole) - 1):
        np.testing.assert_array_equal(np.asarray(lazy.images[row].convert("RGB")), whole.images[row])


@pytest.mark.long
def test_a_scene_depends_on_its_file_name_and_version_only(emoji_data_dir):
    test = load_split("emoji-scenes", "test", emoji_data_dir)
    for i, (emoji, style, sprite) in enumerate(read_sprites("test")):
        if i % 300:
            continue
        rng = image_rng(test.file_names[i], test.version)
        context = scenes.draw_context(rng)
        np.testing.assert_array_equal(test.images[i], scenes.compose_scene(sprite, context, rng))
        said = scenes.draw_caption(emoji.name, emoji.keywords, style, context, rng)
        assert test.captions[i] == (said,)


def test_the_content_of_a_version_is_fixed(emoji_data_dir):
    test = load_split("emoji-scenes", "test", emoji_data_dir)
    rows = [test.file_names, test.captions, *([int(i) for i in labels] for labels in test.labels.values())]
    digest = hashlib.sha256(json.dumps([test.version, *rows]).encode()).hexdigest()
    assert digest[:16] == "0b1ed25fc5eb382d", (
        "the examples have changed: raise VERSION in builders.py, then renew this digest"
    )


def test_preparing_again_gives_the_same_examples(tmp_path, monkeypatch):
    few = list(read_sprites("test"))[:40]
    monkeypatch.setattr("jaxalign.eval.datasets.emoji.sprites.read_sprites", lambda split: iter(few))
    rows = []
    for folder in ("one", "two"):
        builder = EmojiScenes(data_dir=tmp_path / folder, file_format="array_record")
        builder.download_and_prepare()
        source = builder.as_data_source("test", decoders={"image": tfds.decode.SkipDecoding()})
        rows.append([source[i] for i in range(len(source))])
    assert len(rows[0]) == 40
    assert rows[0] == rows[1]


def test_images_are_stored_without_loss():
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3)).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(encode_png(image)), image)


def test_a_prepared_copy_is_plain_tfds(emoji_data_dir):
    builder = tfds.builder_from_directory(emoji_data_dir / "emoji_scenes" / "1.0.0")
    source = builder.as_data_source("test[:5]", decoders={"image": tfds.decode.SkipDecoding()})
    assert [row["index"] for row in source] == [0, 1, 2, 3, 4]
    assert source[0]["image"].startswith(b"\x89PNG")


def test_every_style_has_drawings_of_both_splits():
    emoji = read_emoji()
    assert len({e.name for e in emoji}) == len(emoji)
    for style in STYLES:
        assert {e.split for e in emoji if style in e.styles} == {"train", "test"}


def test_records_agree_with_the_builders(tmp_path):
    for record in map(find_dataset, NAMES):
        builder = record.builder_class()(data_dir=tmp_path)
        assert record.folder(tmp_path) == tmp_path / builder.name / str(builder.version)
        assert set(record.tasks) < set(builder.info.features)
        assert set(builder.RELEASE_NOTES) == {record.version}


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("emoji_scenes", "test", "unknown data set 'emoji_scenes'; did you mean 'emoji-scenes'"),
        ("emoji", "tset", "unknown split of emoji 'tset'; did you mean 'test'"),
        ("emoji", "validation", "known: test, train"),
    ],
)
def test_unknown_names_are_answered_with_known_ones(name, split, message, tmp_path):
    with pytest.raises(JaxalignError, match=message):
        load_split(name, split, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_default_folder_is_that_of_tfds(monkeypatch):
    record = find_dataset("emoji")
    monkeypatch.setenv("TFDS_DATA_DIR", "/data/tfds")
    assert record.folder().as_posix() == "/data/tfds/emoji/1.0.0"
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", "/home/me")
    assert record.folder().as_posix() == "/home/me/tensorflow_datasets/emoji/1.0.0"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxalignError, match=r"cannot prepare emoji in .*TFDS_DATA_DIR"):
        prepare("emoji", tmp_path / "file" / "data")


def test_an_interrupted_preparation_leaves_nothing_that_counts(tmp_path, monkeypatch):
    def interrupted(split):
        yield next(read_sprites(split))
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxalign.eval.datasets.emoji.sprites.read_sprites", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare("emoji", tmp_path)
    assert not find_dataset("emoji").is_prepared(tmp_path)
    assert not list((tmp_path / "emoji").iterdir())


SHARD = "emoji-test.array_record-00000-of-00001"


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / SHARD).unlink(),
        lambda folder: os.truncate(folder / SHARD, 10),
        lambda folder: os.truncate(folder / SHARD, 1_000_000),
        lambda folder: os.truncate(folder / "dataset_info.json", 0),
        lambda folder: (folder / "features.json").unlink(),
        lambda folder: (folder / "features.json").write_text("{"),
        lambda folder: (folder / "emoji.labels.txt").unlink(),
        lambda folder: (folder / "group.labels.txt").write_text("Objects\n"),
        lambda folder: shutil.copy(folder / SHARD, folder / SHARD.replace("test", "train")),
    ],
    ids=[
        "no-shard",
        "stub",
        "half",
        "no-info",
        "no-features",
        "bad-features",
        "no-names",
        "few-names",
        "other-shard",
    ],
)
def test_opening_a_damaged_copy_says_what_to_delete(damaged, damage, tmp_path):
    damage(damaged)
    with pytest.raises(
        JaxalignError, match=f"emoji is damaged .*delete the folder {damaged} and run again"
    ) as error:
        prepare("emoji", tmp_path)
    assert "\n" not in str(error.value)


def test_reading_a_flipped_byte_says_what_to_delete(damaged, tmp_path):
    data = bytearray((damaged / SHARD).read_bytes())
    data[100_000] ^= 0xFF
    (damaged / SHARD).write_bytes(data)
    with pytest.raises(JaxalignError, match=f"delete the folder {damaged}"):
        load_split("emoji", "test", tmp_path)


@pytest.mark.long
def test_tensorflow_is_not_imported(emoji_data_dir):
    code = (
        "import sys; from jaxalign.eval.datasets import load_split; "
        f"load_split('emoji', 'test', {str(emoji_data_dir)!r}); assert 'tensorflow' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_preparing_prints_nothing_where_no_terminal_is(tmp_path, monkeypatch, capfd):
    few = list(read_sprites("test"))[:3]
    monkeypatch.setattr("jaxalign.eval.datasets.emoji.sprites.read_sprites", lambda split: iter(few))
    with pytest.raises(
        JaxalignError, match="3 examples of train were written instead of 8,088; nothing was kept"
    ):
        prepare("emoji", tmp_path)
    assert capfd.readouterr() == ("", "")
