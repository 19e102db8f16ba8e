"""`tfds:NAME`: any data set that TFDS has prepared, in either of its file formats, without TensorFlow."""

import io
import json
import shutil
import struct

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from dataset_layouts import image_bytes
from PIL import Image

from jaxalign import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.big_vision.evaluation import Evaluation
from jaxalign.eval.datasets import load_split
from jaxalign.eval.datasets.data_reading import Keys
from jaxalign.eval.datasets.tfds_copies import TfRecords, tfds_record

COUNT = 9


class Shapes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of somebody else's."""

    VERSION = tfds.core.Version("1.2.0")

    def _info(self):
        features = {
            "picture": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["round", "square"]),
            "kind": tfds.features.ClassLabel(names=["x", "y", "z"]),
            "said": tfds.features.Text(),
            "all_said": tfds.features.Sequence(tfds.features.Text()),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "test": self._generate_examples(100)}

    def _generate_examples(self, first):
        for seed in range(first, first + COUNT):
            said = {"said": f"shape {seed}", "all_said": [f"shape {seed}", "it"]}
            yield seed, {"picture": io.BytesIO(image_bytes(seed)), "label": seed % 2, "kind": seed % 3} | said


def as_tfrecord(source, target):
    """The same copy in TFRecord, as TensorFlow writes it, but for the checksums."""
    shutil.copytree(source, target)
    builder = tfds.builder_from_directory(source)
    for split in builder.info.splits:
        raw = builder.as_data_source(split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES)  # pyright: ignore[reportCallIssue]
        (old,) = target.glob(f"*-{split}.array_record*")
        records = [raw[i] for i in range(len(raw))]
        content = b"".join(struct.pack("<QI", len(x), 0) + x + bytes(4) for x in records)
        old.with_name(old.name.replace("array_record", "tfrecord")).write_bytes(content)
        old.unlink()
    info = json.loads((target / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    for split in info["splits"]:
        split["filepathTemplate"] = split["filepathTemplate"].replace("array_record", "tfrecord")
    (target / "dataset_info.json").write_text(json.dumps(info))


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Folders of prepared data sets by file format."""
    root = tmp_path_factory.mktemp("copies")
    builder = Shapes(data_dir=root / "array_record", file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    as_tfrecord(root / "array_record/shapes/1.2.0", root / "tfrecord/shapes/1.2.0")
    return root


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_images_labels_and_texts_are_the_copys(copies, file_format):
    record = tfds_record("tfds:shapes", Keys(label="label", text="all_said"), copies / file_format)
    assert (record.name, record.tasks, record.splits) == (
        "tfds:shapes/1.2.0",
        ("label",),
        {"train": COUNT, "test": COUNT},
    )
    assert (record.query, record.gallery, record.in_place) == ("test", "train", True)
    examples = load_split(record, "test")
    texts = [texts[0] for texts in examples.captions]
    seeds = [int(text.removeprefix("shape ")) for text in texts]  # TFDS shuffles
    assert sorted(seeds) == list(range(100, 100 + COUNT))
    assert examples.captions[0] == (texts[0], "it")
    assert examples.labels["label"].tolist() == [seed % 2 for seed in seeds]
    assert examples.label_names == {"label": ("round", "square")}
    for row, seed in enumerate(seeds):
        assert examples.images.read_bytes(row) == image_bytes(seed)
    expected = np.asarray(Image.open(io.BytesIO(image_bytes(seeds[3]))))
    np.testing.assert_array_equal(np.asarray(examples.images[3]), expected)
    other = tfds_record("tfds:shapes:1.2.0", Keys(label="kind", text="all_said"), copies / file_format)
    assert load_split(other, "test").content != examples.content


def test_texts_alone(copies):
    keys = Keys(image="none", label="kind", text="said")
    examples = load_split(tfds_record("tfds:shapes", keys, copies / "array_record"), "train")
    assert examples.images is None
    assert len(examples.captions[0]) == 1


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        (
            "tfds:shape",
            Keys(label="kind"),
            "there is no copy of shape in .*; prepare it with tensorflow-datasets",
        ),
        (
            "tfds:shapes:1.3.0",
            Keys(label="kind"),
            "unknown version of tfds:shapes '1.3.0'; did you mean '1.2.0'",
        ),
        ("tfds:shapes", Keys(), "has the labels .*kind.*; say which .--label-key"),
        ("tfds:shapes", Keys(label="labl"), "unknown feature of tfds:shapes 'labl'; did you mean 'label'"),
        ("tfds:shapes", Keys(image="said", label="kind"), "unknown feature of tfds:shapes 'said'"),
        ("tfds:shapes", Keys(image="none", label="kind"), "say which of its features are texts"),
        ("tfds:../shapes", Keys(), "is no name; expected tfds:NAME"),
        ("tfds:", Keys(), "is no name; expected tfds:NAME"),
    ],
)
def test_what_is_not_there_or_not_clear(copies, name, keys, message):
    with pytest.raises(JaxalignError, match=message):
        tfds_record(name, keys, copies / "array_record")


def test_whoever_is_told_a_data_folder_looks_there(copies, capsys):
    folder = str(copies / "array_record")
    devices = {"devices": jax.devices(), "batch_size": 8}
    with pytest.raises(JaxalignError, match=r"has the labels .*kind.*; say which"):
        Evaluation(lambda *given: None, dataset="tfds:shapes", image_size=32, data_dir=folder, **devices)
    assert cli.main(["datasets", "tfds:shapes", "--data-dir", folder]) == 1
    assert "has the labels" in capsys.readouterr().err


def test_split_and_damage_are_named(copies, tmp_path):
    shutil.copytree(copies / "tfrecord", tmp_path / "tfrecord")
    record = tfds_record("tfds:shapes", Keys(label="kind"), tmp_path / "tfrecord")
    with pytest.raises(
        JaxalignError, match=r"unknown split of tfds:shapes/1.2.0 'tests'; did you mean 'test'"
    ):
        load_split(record, "tests")
    (file,) = (tmp_path / "tfrecord").rglob("*-test.tfrecord*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(JaxalignError, match="is cut off, or no TFRecord file"):
        load_split(record, "test")
    first = _end_of_first(whole)
    file.write_bytes(whole[first:])
    with pytest.raises(JaxalignError, match=f"test has {COUNT - 1} examples instead of {COUNT}"):
        load_split(record, "test")
    info = next((tmp_path / "tfrecord").rglob("dataset_info.json")).rename(tmp_path / "dataset_info.json")
    (other := tmp_path / "other" / "shapes" / "1.2.0").mkdir(parents=True)
    (other / info.name).write_text(info.read_text()[:-9])
    with pytest.raises(JaxalignError, match=r"the copy of TFDS in .* cannot be read: .*; prepare it again"):
        tfds_record("tfds:shapes", Keys(label="kind"), tmp_path / "other")


def _end_of_first(content):
    return 12 + struct.unpack_from("<Q", content)[0] + 4


def test_a_record_longer_than_the_file_is_not_read(tmp_path):
    file = tmp_path / "x.tfrecord"
    file.write_bytes(struct.pack("<QI", 1 << 62, 0) + b"abc")
    with pytest.raises(JaxalignError, match="is cut off"):
        TfRecords([file])
    file.write_bytes(b"")
    assert len(TfRecords([file])) == 0
