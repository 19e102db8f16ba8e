"""A number, or a feature, that is found again is that of this input: all that changes it is the same."""

import json
import os
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
import tokenizers
from conftest import WORDS
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import load_split
from jaxalign.eval.datasets.prepared import content_digest
from jaxalign.eval.features import image_features
from jaxalign.eval.features.key import make_key
from jaxalign.eval.tasks import pairs
from jaxalign.eval.tasks.classification import measure_classification
from jaxalign.eval.tasks.classifying import Classifying
from jaxalign.eval.tasks.degrees_of_freedom import measure_degrees_of_freedom
from jaxalign.eval.tasks.image_retrieval import Retrieving, measure_image_retrieval
from jaxalign.eval.tasks.indicators import Indicating, Indicators
from jaxalign.eval.tasks.labelled import LabelledPair
from jaxalign.eval.tasks.methods import MethodOptions
from jaxalign.eval.tasks.pairs import CaptionPair, ImagePair
from jaxalign.eval.tasks.runs import Result
from jaxalign.eval.tasks.text_retrieval import measure_text_retrieval
from jaxalign.eval.tasks.views import measure_view
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.inputs.tokenization import JsonVocabulary

PLAIN = Retrieving(methods=("image-image",))


def noise(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)).save(path)


def write(root, **splits):
    """Images of a class are copies of one image: whoever compares names finds all of them."""
    for split, classes in splits.items():
        for name in classes:
            for copy in range(2):
                noise(root / split / name / f"{copy}.png", sum(map(ord, name)))
    return f"folder:{root}"


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs", tmp_path / "store")


@pytest.fixture
def photos(tmp_path):
    """Case `test` without a class of `train`: numbers of its own would be other classes'."""
    return write(tmp_path / "photos", train=("cat", "dog", "emu"), test=("dog", "emu"))


def retrieve(workspace, model, dataset, query="", gallery="", **settings):
    pair = ImagePair(workspace, model, dataset, query, gallery)
    return measure_image_retrieval(pair, replace(PLAIN, **settings))[0]


def features(model, dataset, split):
    examples = load_split(dataset, split)
    return np.asarray(model.encode_image(list(examples.images)))


def test_replaced_gallery_and_training_images_are_noticed(workspace, clip, photos, tmp_path):
    before = retrieve(workspace, clip, photos)
    ncm = lambda: measure_classification(LabelledPair(workspace, clip, photos), Classifying(("ncm",)))[0]
    mean = ncm()
    assert retrieve(workspace, clip, photos).digest == before.digest
    for name, other in (("cat", "dog"), ("dog", "emu"), ("emu", "cat")):  # in `train` alone
        for copy in range(2):
            noise(tmp_path / "photos" / "train" / name / f"{copy}.png", sum(map(ord, other)))
    after = retrieve(workspace, clip, photos)
    assert (before.metrics["recall_at_1"], after.metrics["recall_at_1"]) == (100, 0)
    assert (mean.metrics["accuracy"], ncm().metrics["accuracy"]) == (100, 0)
    assert before.settings["version"] == after.settings["version"]
    assert before.settings["gallery_version"] != after.settings["gallery_version"]


CHANGES = {
    "mean": lambda spec: replace(spec, mean=(0.1, 0.2, 0.9)),
    "resample": lambda spec: replace(spec, interpolation="bilinear"),
    "activation": lambda spec: replace(
        spec, towers=replace(spec.towers, image=replace(spec.towers.image, activation="gelu"))
    ),
    "eps": lambda spec: replace(
        spec, towers=replace(spec.towers, image=replace(spec.towers.image, norm_epsilon=0.5))
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.long
def test_facts_of_the_model_are_part_of_the_answer(change, workspace, clip, tmp_path):
    for seed in range(12):
        noise(tmp_path / "p" / f"class{seed % 3}" / f"{seed}.png", seed)
    dataset = f"folder:{tmp_path / 'p'}"
    other = replace(clip, spec=CHANGES[change](clip.spec))
    before, after = retrieve(workspace, clip, dataset), retrieve(workspace, other, dataset)
    assert before.settings["weights"] == after.settings["weights"]
    assert before.digest != after.digest
    fresh = retrieve(replace(workspace, out=None, store=tmp_path / "fresh"), other, dataset)
    assert after.metrics == fresh.metrics


def with_words(model, words):
    """The model with a tokenizer of other words for the same ids."""
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    return replace(model, tokenizer=replace(model.tokenizer, vocabulary=JsonVocabulary(backend)))


@pytest.mark.long
def test_the_tokenizer_is_part_of_the_answer(workspace, clip, emoji_data_dir, monkeypatch):
    workspace, collect = replace(workspace, data_dir=emoji_data_dir), pairs.collect_captions
    monkeypatch.setattr(pairs, "collect_captions", lambda texts, ids: collect(texts[:200], ids[:200]))
    other = with_words(clip, [*WORDS[:4], *WORDS[:3:-1]])
    settings = Retrieving(methods=("text-text",))
    measure = lambda workspace, model: measure_text_retrieval(
        CaptionPair(workspace, model, "emoji", "test"), settings
    )[0]
    before, after = measure(workspace, clip), measure(workspace, other)
    assert before.settings["tokenizer"] != after.settings["tokenizer"]
    assert before.metrics != after.metrics
    fresh = replace(workspace, out=None, store=workspace.store / "fresh")
    assert measure(fresh, other).metrics == after.metrics
    key = lambda model, modality: make_key(model, "d", "1", "s", modality)
    assert key(clip, "text").folder != key(other, "text").folder
    assert key(clip, "image") == key(other, "image")  # images know of no tokenizer


def test_class_names_and_templates_are_part_of_the_answer(workspace, clip, photos, monkeypatch):
    pair = ImagePair(workspace, clip, photos)
    other = ImagePair(workspace, clip, photos)
    other.record = replace(pair.record, template="red {}")
    assert pair.text_settings("label") != other.text_settings("label")
    for name in ("degrees_of_freedom.degrees_of_freedom", "views.embedding_views"):
        # The question is what they are called with.
        monkeypatch.setattr(f"jaxalign.eval.tasks.{name}", lambda *given, **options: Result({"x": 1}))
    found = {}
    for last in ("blue", "red"):
        names = MethodOptions(class_names=(*"abcdefghi", "cat", "dog", last), rank=2)
        indicators = Indicators(workspace, clip, photos, Indicating(("image-image",), names))
        found[last] = measure_degrees_of_freedom(indicators).digest, measure_view(indicators, "pca").digest
    assert not set(found["blue"]) & set(found["red"])


@pytest.mark.long
def test_copies_of_one_version_are_told_apart(emoji_data_dir, clip, tmp_path):
    """Two folders of prepared data, with the same names and sizes of files, and other images in one shard."""
    for name in ("one", "two"):
        shutil.copytree(emoji_data_dir / "emoji", tmp_path / name / "emoji")
    (shard,) = (tmp_path / "two" / "emoji" / "1.0.0").glob("*-test.array_record-*")
    load = lambda name: load_split("emoji", "test", tmp_path / name, on_demand=True)
    assert load("one").state == load("two").state == load_split("emoji", "test", emoji_data_dir).state
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    stat = shard.stat()
    shard.write_bytes(content)
    os.utime(shard, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    folder = shard.parent
    files = [shard, folder / "emoji.labels.txt"]
    assert content_digest(folder, "test", files) != content_digest(folder, "other", files[1:])
    remembered = json.loads((folder / "test.digest.json").read_text())
    assert sorted(remembered["files"]) == sorted(path.name for path in files)
    (folder / "test.digest.json").write_text("[" * 100_000)  # damaged: taken anew
    assert content_digest(folder, "test", files) == remembered["digest"]


def test_what_it_remembers_is_no_answer_for_another_file(tmp_path):
    file = tmp_path / "shard"
    file.write_bytes(b"one")
    first = content_digest(tmp_path, "test", [file])
    stat = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = content_digest(tmp_path, "test", [file])
    file.write_bytes(b"one")
    assert first != second
    assert content_digest(tmp_path, "test", [file]) == first


def test_a_complete_store_is_read_without_a_lock(clip, photos, tmp_path, monkeypatch):
    examples = load_split(photos, "test")
    first = image_features(clip, examples, store=tmp_path / "store")

    def refuse(*arguments, **options):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    again = image_features(clip, examples, store=tmp_path / "store")
    np.testing.assert_array_equal(again.values, first.values)
    with pytest.raises(JaxalignError, match=r"cannot write .*lock"):
        image_features(clip, load_split(photos, "train"), store=tmp_path / "store")


def test_products_of_another_precision_are_other_features(clip, photos):
    examples = load_split(photos, "test")
    key = lambda: make_key(clip, examples.dataset, examples.state, "test", "image")
    plain = key()
    with jax.default_matmul_precision("bfloat16"):
        assert key() != plain
