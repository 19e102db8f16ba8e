"""`features:PATH`: every format gives the same features, and what does not belong together is refused."""

import json
import os

import numpy as np
import pytest
from oracles_conversion import write_torch_zip
from pickle_programs import VECTOR, call, mapping, program, row, text, torch_zip

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import find_dataset, load_split
from jaxalign.eval.datasets.data_reading import DataReading
from jaxalign.eval.feature_files import features_record
from jaxalign.eval.feature_files.tables import read_table
from jaxalign.weights.safetensors_files import write_safetensors

N, D = 12, 4
X = np.random.default_rng(0).normal(size=(N, D)).astype(np.float16)
LABELS = np.arange(N) % 3
IDS = np.array([f"{'abc'[i % 3]}/{i:02}.png" for i in range(N)])


def write_csv(path, x=X, labels=LABELS, ids=IDS):
    columns = ",".join(["id", "label", *(f"f{i}" for i in range(x.shape[1]))])
    rows = [
        ",".join(map(str, (i, label, *map(float, row)))) for i, label, row in zip(ids, labels, x, strict=True)
    ]
    path.write_text("\n".join([columns, *rows]) + "\n", encoding="utf-8")


def write_parquet(path, **columns):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = {name: pa.array(list(c) if c.ndim == 2 else c) for name, c in columns.items()}
    pq.write_table(pa.table(table), path)


def write_metadata(folder, part, **columns):
    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    write_parquet(folder / "metadata" / f"metadata_{part}.parquet", **columns)


def clip_retrieval(folder):
    for part, rows in enumerate((slice(0, 7), slice(7, N))):
        (folder / "img_emb").mkdir(parents=True, exist_ok=True)
        np.save(folder / "img_emb" / f"img_emb_{part}.npy", X[rows])
        write_metadata(folder, part, image_path=IDS[rows], caption=IDS[rows], label=LABELS[rows])


def exported(folder):
    folder.mkdir()
    np.save(folder / "embeddings.npy", X)
    (folder / "ids.jsonl").write_text("".join(json.dumps(name) + "\n" for name in IDS.tolist()))


FORMATS = {
    "x.npz": lambda path: np.savez(path, features=X, labels=LABELS, ids=IDS),
    "compressed.npz": lambda path: np.savez_compressed(path, embeddings=X, y=LABELS, path=IDS),
    "x.safetensors": lambda path: write_safetensors({"image_features": X, "label": LABELS}, path),
    "x.pt": lambda path: write_torch_zip(path, {"features": X, "targets": LABELS}),
    "x.parquet": lambda path: write_parquet(path, embedding=X, label=LABELS, image_path=IDS),
    "x.csv": write_csv,
    "clip-retrieval": clip_retrieval,
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_features_labels_and_ids(name, tmp_path):
    FORMATS[name](tmp_path / name)
    found = load_split(f"features:{tmp_path / name}", "all")
    np.testing.assert_array_equal(found.features, X)
    np.testing.assert_array_equal(found.labels["label"], LABELS)
    assert found.label_names["label"] == ("0", "1", "2")
    assert found.ids in (tuple(IDS), tuple(map(str, range(N))))


@pytest.mark.parametrize("reading", [DataReading(labels="folders"), DataReading(labels="LABELS")])
def test_an_export_has_its_ids_and_labels_come_from_folders_or_another_file(reading, tmp_path):
    exported(tmp_path / "out")
    np.save(tmp_path / "labels.npy", LABELS)
    reading = DataReading(labels=reading.labels.replace("LABELS", str(tmp_path / "labels.npy")))
    found = load_split(find_dataset(f"features:{tmp_path / 'out'}", reading), "all")
    assert found.ids == tuple(IDS)
    np.testing.assert_array_equal(found.labels["label"], LABELS)


def test_an_npy_is_mapped_and_keeps_its_type(tmp_path):
    np.save(tmp_path / "x.npy", X)
    found = load_split(f"features:{tmp_path / 'x.npy'}", "all").features
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float16
    np.save(tmp_path / "f.npy", np.asfortranarray(X, ">f4"))
    np.testing.assert_array_equal(load_split(f"features:{tmp_path / 'f.npy'}", "all").features, X)


def test_splits_are_files_of_a_folder_or_named_one_by_one(tmp_path):
    for name, rows in (("Train", slice(0, 6)), ("validation", slice(6, 9)), ("test", slice(9, N))):
        np.savez(tmp_path / f"{name}.npz", features=X[rows], labels=LABELS[rows])
    record = find_dataset(f"features:{tmp_path}")
    assert dict(record.splits) == {"train": 6, "val": 3, "test": 3}
    assert (record.query, record.gallery, record.train, record.test) == ("test", "train", "train", "test")
    named = f"features:train={tmp_path}/Train.npz,test={tmp_path}/test.npz"
    np.testing.assert_array_equal(load_split(named, "train+test").features, np.delete(X, [6, 7, 8], 0))


def test_names_of_labels_come_from_a_file_and_tell_absent_classes(tmp_path):
    np.savez(tmp_path / "x.npz", features=X, labels=np.where(LABELS == 1, 3, LABELS))
    (tmp_path / "names.txt").write_text("cat\ndog\nemu\nfox\n")
    read = lambda **options: load_split(
        features_record(f"features:{tmp_path}/x.npz", DataReading(**options)), "all"
    )
    plain, named = read(), read(label_names=f"{tmp_path}/names.txt")
    assert plain.label_names["label"] == ("0", "2", "3")
    assert named.label_names["label"] == ("cat", "dog", "emu", "fox")
    assert named.labels["label"].max() == 3
    assert plain.version != named.version
    (tmp_path / "empty.txt").write_text("\ncat\ndog\nemu\nfox\n")
    with pytest.raises(JaxalignError, match="the name of class 0 is empty"):
        read(label_names=f"{tmp_path}/empty.txt")
    (tmp_path / "names.csv").write_text("cat\ndog\nemu\nfox\ngnu\n")
    with pytest.raises(JaxalignError, match="begins with 'cat'; expected the line `name` above"):
        read(label_names=f"{tmp_path}/names.csv")
    (tmp_path / "names.csv").write_text("name\ncat\ndog\nemu\nfox\n")
    assert read(label_names=f"{tmp_path}/names.csv").label_names == named.label_names


def test_the_version_is_of_all_that_is_read(tmp_path):
    versions = set()
    for x, labels in ((X, LABELS), (X + 1, LABELS), (X, LABELS[::-1])):
        np.savez(tmp_path / "x.npz", features=x, labels=labels)
        versions.add(load_split(f"features:{tmp_path}/x.npz", "all").version)
    assert len(versions) == 3


def refused(tmp_path, match, /, name="x.npz", reading=None, **arrays):
    if arrays:
        np.savez(tmp_path / name, **arrays)
    with pytest.raises(JaxalignError, match=match) as caught:
        find_dataset(f"features:{tmp_path / name}", reading)
    assert "\n" not in str(caught.value)


BAD = {
    "NaN": ("NaN or infinite values in 1 of 12 rows", {"features": np.where(X[3] == X, np.nan, X)}),
    "zero": ("nothing but zeros, no direction, in 2 of 12", {"features": X * (np.arange(N) > 1)[:, None]}),
    "too large": ("NaN or infinite", {"features": X.astype(np.float64) * 1e300}),
    "whole numbers": ("features of int64; expected float16", {"features": np.ones((N, D), int)}),
    "one axis": (r"features of shape \(12,\)", {"features": X[:, 0]}),
    "no row": (r"features of shape \(0, 4\)", {"features": X[:0]}),
    "two": ("features and emb; say which is meant", {"features": X, "emb": X}),
    "unnamed two": ("2 arrays .* and none that is called features", {"a": X, "b": X}),
    "objects": ("expected numbers", {"features": np.array([{}, 1], object)}),
    "length": ("11 labels for the 12 features", {"features": X, "labels": LABELS[1:]}),
    "ids": ("2 ids twice, 'a/00.png' among them", {"features": X, "ids": IDS[[0, 0, 0, *range(3, N)]]}),
    "float labels": ("is float64 of shape", {"features": X, "labels": LABELS / 2}),
    "negative": ("a label is -2", {"features": X, "labels": LABELS - 2}),
    "no label": ("all labels are -1", {"features": X, "labels": LABELS * 0 - 1}),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_one_line(case, tmp_path):
    refused(tmp_path, BAD[case][0], **BAD[case][1])


def test_keys_that_are_asked_for_have_to_be_there(tmp_path):
    refused(
        tmp_path,
        "unknown key .* 'lable'; did you mean 'labels'",
        features=X,
        labels=LABELS,
        reading=DataReading(label_key="lable"),
    )
    refused(
        tmp_path,
        "lies in no folder",
        features=X,
        ids=LABELS + np.arange(N) * 10,
        reading=DataReading(labels="folders"),
    )
    refused(tmp_path, "no ids whose folders", features=X, reading=DataReading(labels="folders"))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    reading = DataReading(label_names=f"{tmp_path}/names.txt")
    refused(tmp_path, "2 names, none for the label 2", features=X, labels=LABELS, reading=reading)


def test_labels_in_another_order_are_refused(tmp_path):
    np.savez(tmp_path / "l.npz", labels=LABELS, ids=IDS[::-1])
    refused(
        tmp_path, "in another order", features=X, ids=IDS, reading=DataReading(labels=f"{tmp_path}/l.npz")
    )


def test_nothing_in_a_file_is_executed(tmp_path):
    ran = tmp_path / "ran"
    code = call("os.system", text(f"touch {ran}"))
    torch_zip(tmp_path / "code.pt", program(code))
    refused(tmp_path, "os.system, which could run code; nothing was executed", name="code.pt")
    torch_zip(tmp_path / "both.pt", program(mapping(features=VECTOR, more=code)))
    refused(tmp_path, "'more' is an object of os.system, and no tensor; nothing was executed", name="both.pt")
    torch_zip(tmp_path / "list.pt", program(mapping(features=VECTOR, more=row(code))))
    refused(tmp_path, "asks for os.system, which could run code; nothing was executed", name="list.pt")
    np.save(tmp_path / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    refused(tmp_path, "expected numbers, .*allow_pickle=False", name="objects.npy")
    assert not ran.exists()


def test_files_that_are_damaged_or_unknown_are_refused(tmp_path):
    np.save(tmp_path / "cut.npy", X)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-1])
    refused(tmp_path, "cut off or damaged", name="cut.npy")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    pytest.importorskip("pyarrow")
    refused(tmp_path, "damaged or no parquet", name="x.parquet")
    (tmp_path / "x.bin").write_bytes(b"")
    refused(tmp_path, "no file of that ending", name="x.bin")
    refused(tmp_path, "there is no file or folder", name="none.npy")
    (tmp_path / "folder").mkdir()
    refused(tmp_path, "no folder of features", name="folder")
    (tmp_path / "x.csv").write_text("id,name,f0\n1,cat,2\n")
    refused(tmp_path, "the column 'name' has no numbers", name="x.csv")
    (tmp_path / "long.csv").write_text("f0\n" + "1" * 200_000)
    refused(tmp_path, "is no CSV", name="long.csv")
    refused(tmp_path, "cannot read", name="x" * 300 + ".npy")
    os.mkfifo(tmp_path / "pipe.npy")
    refused(tmp_path, "is a pipe; expected a file", name="pipe.npy")


def test_a_wide_table_has_its_features_by_their_numbers_and_nothing_else_among_them(tmp_path):
    write = lambda lines: (tmp_path / "x.csv").write_text("\n".join(lines) + "\n")
    write(["label,f10,f2,f1", "0,3,2,1", "1,6,5,4"])
    found = load_split(f"features:{tmp_path / 'x.csv'}", "all").features
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, 5, 6]])
    write(["image_number,f0,f1,label", "1,2,3,0", "2,5,4,1"])
    refused(tmp_path, "the column 'image_number' is not called f0, f1", name="x.csv")
    reading = DataReading(id_key="image_number")
    assert load_split(find_dataset(f"features:{tmp_path / 'x.csv'}", reading), "all").ids == ("1", "2")
    write(["0,1,2", "0.5,0.25,1.5"])
    refused(tmp_path, "its first line counts its columns", name="x.csv")
    write_parquet(tmp_path / "x.parquet", **{"0": X[:, 0], "1": X[:, 1], "2": LABELS})
    own = find_dataset(f"features:{tmp_path / 'x.parquet'}", DataReading(label_key="2"))
    np.testing.assert_array_equal(load_split(own, "all").features, X[:, :2])


@pytest.mark.parametrize("lines", ["f0,label\n1,01\n2,1\n3,001\n", "label\n01\n1\n"])
def test_classes_that_a_table_spells_apart_are_not_made_one_number(lines, tmp_path):
    np.save(tmp_path / "x.npy", X[: lines.count("\n") - 1])
    (tmp_path / "l.csv").write_text(lines)
    reading = DataReading(labels=str(tmp_path / "l.csv"), label_key="label")
    refused(tmp_path, "has 01 and 1, one number in two spellings", name="x.npy", reading=reading)
    (tmp_path / "l.csv").write_text("label\n0\n-0\n07\n07\n")
    assert read_table(tmp_path / "l.csv").entries["label"].read().tolist() == [0, 0, 7, 7]


def test_only_line_feeds_end_the_lines_of_jsonl(tmp_path):
    file = tmp_path / "x.JSONL"
    file.write_text('"a\u2028b"\n"c"\n', encoding="utf-8")
    assert read_table(file).entries[""].read().tolist() == ["a\u2028b", "c"]


def test_parquet_without_the_column_or_with_ragged_rows(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    write_parquet(tmp_path / "x.parquet", embedding=X)
    refused(tmp_path, "unknown key .* 'emb'", name="x.parquet", reading=DataReading(features_key="emb"))
    pq.write_table(pa.table({"embedding": [[1.0, 2.0], [3.0], [4.0]]}), tmp_path / "r.parquet")
    refused(tmp_path, "rows of different lengths", name="r.parquet")
    pq.write_table(pa.table({"embedding": [[1.0, 2.0], None]}), tmp_path / "n.parquet")
    refused(tmp_path, "lacks 1 values|different lengths", name="n.parquet")


def test_splits_of_other_widths_and_missing_label_files_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", X)
    np.save(tmp_path / "b.npy", X[:, :2])
    np.save(tmp_path / "l.npy", LABELS)
    both = f"features:train={tmp_path}/a.npy,test={tmp_path}/b.npy"
    with pytest.raises(JaxalignError, match=r"different widths \(train 4, test 2\)"):
        find_dataset(both)
    with pytest.raises(JaxalignError, match="says nothing of the split train"):
        find_dataset(both, DataReading(labels=f"{tmp_path}/l.npy"))
    with pytest.raises(JaxalignError, match="gives train twice"):
        find_dataset(f"features:train={tmp_path}/a.npy,training={tmp_path}/b.npy")
