"""The feature store: whole, verified, resumable; every kind of damage and misuse is one clear error."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.eval.features import FeatureKey, FeatureStore
from jaxalign.eval.features.key import weights_digest

KEY = FeatureKey(
    model="tiny",
    weights="0" * 64,
    spec={"mean": [0.5, 0.5, 0.5]},
    dataset="emoji",
    version="1.0.0",
    split="test",
    modality="image",
    dtype="float32",
)
IDS = [f"image-{i}" for i in range(10)]
LABELS = {"emoji": np.arange(10) % 3}
VALUES = np.random.default_rng(0).normal(size=(10, 5)).astype(np.float32)


def open_store(root, key=KEY, ids=IDS, labels=LABELS, **options):
    return FeatureStore.open(root, key, ids, labels, 5, chunk=4, **options)


def fill(store, chunks=None):
    for chunk in store.missing() if chunks is None else chunks:
        rows = store.rows_of(chunk)
        store.write(chunk, VALUES[rows.start : rows.stop])


def chunk_file(store, chunk):
    return Path(store.url.removeprefix("file://")) / "features" / "c" / str(chunk) / "0"


def test_what_is_written_is_read(tmp_path):
    store = open_store(tmp_path)
    assert store.missing() == [0, 1, 2]
    fill(store)
    features = FeatureStore.find(tmp_path, KEY).read()
    np.testing.assert_array_equal(features.values, VALUES)
    assert features.ids == tuple(IDS)
    beside = json.loads((chunk_file(store, 0).parents[3] / "examples.json").read_text())
    assert beside == {"ids": IDS, "labels": {"emoji": LABELS["emoji"].tolist()}}
    assert features.left_out == ()


def test_a_store_that_is_not_there_is_none(tmp_path):
    assert FeatureStore.find(tmp_path, KEY) is None


def test_an_unfinished_store_goes_on_where_it_stopped(tmp_path):
    fill(open_store(tmp_path), [1])
    store = open_store(tmp_path)
    assert store.missing() == [0, 2]
    with pytest.raises(JaxalignError, match=r"lacks 2 of 3 chunks"):
        store.read()
    before = chunk_file(store, 1).stat().st_mtime_ns
    fill(store)
    np.testing.assert_array_equal(store.read().values, VALUES)
    assert chunk_file(store, 1).stat().st_mtime_ns == before


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(FeatureKey)])
def test_every_field_of_the_key_changes_the_folder(field):
    other = {"spec": {"mean": [0.4, 0.5, 0.5]}, "options": {"template": "{}"}}.get(field, "other")
    changed = dataclasses.replace(KEY, **{field: other})
    assert changed.folder != KEY.folder
    assert changed.digest != KEY.digest


def test_rows_left_out_are_named_and_absent(tmp_path):
    store = open_store(tmp_path)
    fill(store, [0, 2])
    values = VALUES[4:8].copy()
    values[:] = np.nan  # a whole chunk of them, which zarr would not store by itself
    store.write(1, values)
    features = store.read()
    assert features.left_out == tuple(IDS[4:8])
    assert features.ids == (*IDS[:4], *IDS[8:])
    np.testing.assert_array_equal(features.values, np.delete(VALUES, slice(4, 8), axis=0))


@pytest.mark.parametrize("damage", ["bit", "cut", "empty"])
def test_a_damaged_chunk_is_noticed_and_computed_anew(tmp_path, damage):
    store = open_store(tmp_path)
    fill(store)
    file = chunk_file(store, 1)
    content = bytearray(file.read_bytes())
    content[17] ^= 4
    file.write_bytes({"bit": bytes(content), "cut": bytes(content[:30]), "empty": b""}[damage])
    store = open_store(tmp_path)
    assert store.missing() == [1]
    with pytest.raises(JaxalignError, match="damaged"):
        store.read()
    fill(store)
    np.testing.assert_array_equal(store.read().values, VALUES)


def test_misuse_is_one_clear_error(tmp_path):
    with pytest.raises(JaxalignError, match="'image-1' among them"):
        open_store(tmp_path, ids=[*IDS[:9], "image-1"])
    with pytest.raises(JaxalignError, match="emoji has 9"):
        open_store(tmp_path, labels={"emoji": np.arange(9)})
    with pytest.raises(JaxalignError, match="no examples"):
        open_store(tmp_path, ids=[], labels={})
    store = open_store(tmp_path)
    with pytest.raises(JaxalignError, match=r"shape \(3, 5\); expected \(4, 5\)"):
        store.write(0, VALUES[:3])
    with pytest.raises(JaxalignError, match="other examples"):
        open_store(tmp_path, ids=[*IDS[:9], "image-nine"])


def test_a_store_of_another_version_is_refused(tmp_path):
    store = open_store(tmp_path)
    header = chunk_file(store, 0).parents[3] / "store.json"
    header.write_text(json.dumps(json.loads(header.read_text()) | {"version": 99}))
    with pytest.raises(JaxalignError, match="version 99"):
        open_store(tmp_path)
    header.write_text("{")
    with pytest.raises(JaxalignError, match="damaged"):
        open_store(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxalignError, match=r"cannot (write|open) file://"):
        open_store(tmp_path / "file")


@pytest.mark.long
def test_two_processes_do_not_fill_one_store(tmp_path):
    store = open_store(tmp_path)
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_feature_store import open_store\n"
        "from jaxalign.errors import JaxalignError\n"
        "try:\n"
        "    with open_store(sys.argv[1]).locked(): print('locked')\n"
        "except JaxalignError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with store.locked():
        held = subprocess.run(command, capture_output=True, text=True, check=True)
    free = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "another process is filling" in held.stdout
    assert free.stdout == "locked\n"


def test_a_folder_with_any_name_holds_a_store(tmp_path):
    """Blanks and the like are quoted in the URL, but not in the name of the lock."""
    root = tmp_path / "my store #1 50% ä"
    store = open_store(root)
    with store.locked():
        fill(store)
    np.testing.assert_array_equal(open_store(root).read().values, VALUES)
    assert [path.name for path in tmp_path.iterdir()] == [root.name]


def test_long_and_odd_names_become_folders(tmp_path):
    key = dataclasses.replace(KEY, dataset=f"folder:/{'a very long name/' * 30}", model="日本" * 80)
    fill(open_store(tmp_path, key))
    assert FeatureStore.find(tmp_path, key).missing() == []
    assert max(len(part) for part in key.folder.split("/")) <= 200
    assert key.folder.endswith(key.digest[:16])


def test_a_store_keeps_the_chunk_it_was_made_with(tmp_path):
    fill(open_store(tmp_path), [0])
    store = FeatureStore.open(tmp_path, KEY, IDS, LABELS, 5, chunk=100)
    assert (store.chunk, store.missing()) == (4, [1, 2])


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folders")
def test_a_place_that_can_only_be_read_is_named(tmp_path):
    with pytest.raises(JaxalignError, match=r"cannot write file:///proc/.*choose another folder") as caught:
        open_store("/proc/jaxalign")
    assert "\0" not in str(caught.value)


def test_the_digest_of_weights_is_remembered_for_the_same_arrays_only():
    params = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.zeros(2)}
    digest = weights_digest(params)
    assert weights_digest({"b": params["b"], "a": dict(params["a"])}) == digest
    assert weights_digest({"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.zeros(2)}) == digest
    for changed in (jnp.ones(2), jnp.zeros((2, 1)), jnp.zeros(2, jnp.bfloat16)):
        assert weights_digest(params | {"b": changed}) != digest
    assert weights_digest(params) == digest
    mutable = {"a": np.zeros(3, np.float32)}
    before = weights_digest(mutable)
    mutable["a"][0] = 1
    assert weights_digest(mutable) != before


def test_every_flipped_bit_of_the_header_is_noticed_or_without_effect(tmp_path):
    store = open_store(tmp_path)
    fill(store)
    folder = chunk_file(store, 0).parents[3]
    said = set()
    for name in ("store.json", "examples.json"):
        content = (folder / name).read_bytes()
        for at in range(len(content)):
            damaged = bytearray(content)
            damaged[at] ^= 1 << at % 7
            (folder / name).write_bytes(damaged)
            for use in (open_store, lambda root: FeatureStore.find(root, KEY)):
                try:
                    use(tmp_path)
                except JaxalignError as error:
                    said.add(str(error).partition("(")[2][:20])
        (folder / name).write_bytes(content)
    assert len(said) > 3
    np.testing.assert_array_equal(open_store(tmp_path).read().values, VALUES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("store.json", [], "was written as None version None"),
        ("store.json", {"content": None}, "does not say how many rows"),
        ("store.json", {"content": {"rows": 10, "width": 5, "chunk": 0, "dtype": "float32"}}, "does not say"),
        ("store.json", {"key": {}}, "it is of other features than its folder's name says"),
        ("examples.json", [], "expected ids and labels of 10 examples"),
        ("examples.json", {"ids": IDS, "labels": {"emoji": [0.5] * 10}}, "expected ids and labels"),
        ("examples.json", {"ids": IDS[:9], "labels": {}}, "expected ids and labels"),
        ("examples.json", None, "expected ids and labels"),
    ],
)
def test_a_header_that_says_something_else_is_one_line(name, content, message, tmp_path):
    store = open_store(tmp_path)
    file = chunk_file(store, 0).parents[3] / name
    if content is None:
        file.unlink()
    elif isinstance(content, dict) and name == "store.json":
        file.write_text(json.dumps(json.loads(file.read_text()) | content))
    else:
        file.write_text(json.dumps(content))
    with pytest.raises(JaxalignError, match=message):
        FeatureStore.find(tmp_path, KEY)


def nest(path):
    path.write_text("[" * 200_000 + "]" * 200_000)


def grow(path):
    path.touch()
    os.truncate(path, 1 << 40)


@pytest.mark.parametrize("name", ["store.json", "examples.json", "features/zarr.json", "features/c/1/0"])
@pytest.mark.parametrize("make", [os.mkfifo, grow, nest])
def test_files_that_tensorstore_would_not_survive_are_one_line(tmp_path, name, make):
    """It waits for a pipe, ends the process for want of memory, and crashes at a deep nesting."""
    fill(open_store(tmp_path))
    (path,) = tmp_path.rglob(name)
    path.unlink()
    make(path)
    with pytest.raises(JaxalignError, match=r"damaged|lacks 1 of"):
        FeatureStore.find(tmp_path, KEY).read()


def test_labels_beyond_32_bits_are_one_line(tmp_path):
    open_store(tmp_path)
    (path,) = tmp_path.rglob("examples.json")
    content = json.loads(path.read_text())
    next(iter(content["labels"].values()))[0] = 1 << 31
    path.write_text(json.dumps(content))
    with pytest.raises(JaxalignError, match=r"examples.json is damaged"):
        FeatureStore.find(tmp_path, KEY)
