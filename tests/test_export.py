"""`jaxalign export --npy`: the embeddings of a method, whole or not there, in memory that does not grow."""

import json
import tracemalloc

import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval import export as galleries
from jaxalign.eval.datasets import Examples, load_split
from jaxalign.eval.datasets.examples import collect_captions
from jaxalign.eval.export import Gallery, write_npy
from jaxalign.eval.features import FeatureStore
from jaxalign.eval.features.key import FeatureKey
from jaxalign.eval.tasks.methods import MethodOptions, find_method
from jaxalign.eval.tasks.projecting import image_embeddings
from jaxalign.eval.tasks.workspace import Workspace

NAMES = ("cat", "dog", "red apple", "blue photo", "apple")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(11):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 26, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    ja.save(tiny_model("emoji-clip"), folder)
    return folder


@pytest.fixture
def export(saved, photos, tmp_path, capsys):
    """The command's exit status and what it printed, for further arguments."""

    def run(*arguments, model=saved, dataset=f"folder:{photos}"):
        options = ["--model", model, "--dataset", dataset, "--store", tmp_path / "store"]
        status = cli.main(["export", *map(str, [*options, *arguments])])
        said = capsys.readouterr()
        return status, said.out if status == 0 else said.err

    return run


def read(folder):
    rows = np.load(folder / "embeddings.npy", mmap_mode="r")
    ids = [json.loads(line) for line in (folder / "ids.jsonl").read_text(encoding="utf-8").splitlines()]
    return rows, ids, json.loads((folder / "export.json").read_text(encoding="utf-8"))


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def features_of(model, photos):
    return np.asarray(model.encode_image(sorted(photos.glob("*.png")), projected=False))


@pytest.mark.long
def test_a_folder_of_images_as_the_model_embeds_it(export, photos, tmp_path):
    status, said = export("--npy", tmp_path / "out", "--json", tmp_path / "facts.json")
    assert (status, "11 embeddings 12 wide" in said) == (0, True)
    rows, ids, facts = read(tmp_path / "out")
    model = tiny_model("emoji-clip")
    np.testing.assert_allclose(rows, unit(image_embeddings(model, features_of(model, photos))), atol=1e-6)
    assert rows.dtype == np.float32
    assert rows.flags.c_contiguous
    assert ids == [f"{i:02}.png" for i in range(11)] == list(load_split(f"folder:{photos}", "all").ids)
    expected = {"method": "image-image", "rows": 11, "width": 12, "left_out": 0, "dtype": "float32"}
    assert expected.items() <= facts.items()
    assert json.loads((tmp_path / "facts.json").read_text()) == facts | {"path": str(tmp_path / "out")}


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *(("emoji-clip", method) for method in ("pre", "whitened", "isoclip", "isoclip-auto", "pca")),
        ("emoji-siglip", "image-image"),  # its residual MLP
        ("emoji-siglip", "pca-mean"),
    ],
)
@pytest.mark.long
def test_every_method_gives_what_it_gives_to_all_features_at_once(
    method, name, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(galleries, "ROWS", 4)
    model, options = tiny_model(name), MethodOptions(band=(1, 2), rank=3, class_names=NAMES)
    workspace = Workspace(store=tmp_path)
    gallery = galleries.open_gallery(workspace, model, f"folder:{photos}", method=method, options=options)
    pre = features_of(model, photos)
    found = find_method(method, model, "image", options)
    # As many at a time as the command: XLA rounds another batch otherwise, by 1e-6, which a small gap in the
    # spectrum of five texts makes 4e-6 of the subspace.
    texts = model.encode_text(found.texts, batch_size=len(found.texts)) if found.texts else None
    expected = np.asarray(found.fit(model, subspace_texts=texts, gallery=pre)(pre))
    # a mean of eleven, in another order, in float32
    np.testing.assert_allclose(np.concatenate(list(gallery.blocks())), unit(expected), atol=2e-6)
    assert gallery.shape == expected.shape


def test_half_precision_and_a_second_export_in_the_place_of_the_first(export, tmp_path):
    assert export("--npy", tmp_path / "out")[0] == 0
    exact = np.array(read(tmp_path / "out")[0])
    arguments = ["--npy", tmp_path / "out", "--npy-dtype", "float16"]
    assert export(*arguments)[0] == 0
    rows, _, facts = read(tmp_path / "out")
    np.testing.assert_array_equal(rows, exact.astype(np.float16))
    assert facts["dtype"] == "float16"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_unreadable_images_are_neither_rows_nor_ids(export, photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in photos.glob("*.png"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "05.png").write_bytes(b"no image")
    arguments = ["--npy", tmp_path / "out", "--unreadable", "leave-out", "--method", "pre"]
    status, said = export(*arguments, dataset=f"folder:{folder}")
    assert (status, "1 left out" in said) == (0, True)
    rows, ids, facts = read(tmp_path / "out")
    keep = [i for i in range(11) if i != 5]
    np.testing.assert_allclose(rows, unit(features_of(tiny_model("emoji-clip"), photos)[keep]), atol=1e-6)
    assert ids == [f"{i:02}.png" for i in keep]
    assert facts["left_out"] == 1


def synthetic(root, rows, width, embed=lambda pre: pre):
    key = FeatureKey("m", "w", {}, "d", "1", "s", "image", "float32")
    store = FeatureStore.open(root, key, [f"{i}\n" for i in range(rows)], {}, width)
    values = np.random.default_rng(0).standard_normal((rows, width), np.float32)
    for chunk in range(store.chunks):
        store.write(chunk, values[np.asarray(store.rows_of(chunk))])
    return Gallery(store, embed), values


def test_memory_does_not_grow_with_the_gallery(tmp_path, monkeypatch):
    monkeypatch.setattr(galleries, "ROWS", 512)
    peaks = []
    for rows in (4096, 16384):
        gallery, values = synthetic(tmp_path / f"{rows}", rows, 128)
        write_npy(tmp_path / "warm", gallery)
        tracemalloc.start()
        write_npy(tmp_path / "out", gallery)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        np.testing.assert_allclose(read(tmp_path / "out")[0], unit(values), atol=1e-6)
        assert read(tmp_path / "out")[1] == list(gallery.store.ids)
    # the mask of readable rows and their positions grow, by 9 bytes each; a row has 512
    assert peaks[1] < peaks[0] + 24 * (16384 - 4096)


def test_what_fails_half_way_leaves_the_earlier_export_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(galleries, "ROWS", 256)
    whole, _ = synthetic(tmp_path / "store", 1000, 8)
    write_npy(tmp_path / "out", whole)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    calls = []

    def fails(pre):
        calls.append(len(pre))
        if len(calls) == 4:  # the first is traced for its shape
            raise JaxalignError("enough")
        return pre

    with pytest.raises(JaxalignError, match="enough"):
        write_npy(tmp_path / "out", Gallery(whole.store, fails))
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    calls.clear()
    with pytest.raises(JaxalignError, match="enough"):
        write_npy(tmp_path / "new", Gallery(whole.store, fails))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store"]


def test_captions(saved, tmp_path, export, monkeypatch):
    texts = ["a photo of cat", "dog on blue", "red apple", "apple", "a dog, a cat"]
    examples = Examples(
        dataset="emoji-scenes",
        split="test",
        version="1.0.0",
        images=None,
        labels={},
        label_names={},
        captions=((texts[0], texts[1]), (texts[2],), (texts[3], texts[4])),
        file_names=("x", "y", "z"),
    )
    monkeypatch.setattr("jaxalign.eval.tasks.workspace.load_split", lambda *_: examples)
    arguments = ["--modality", "text", "--npy", tmp_path / "out", "--method", "isoclip", "--band", "1", "2"]
    status, said = export(*arguments, dataset="emoji-scenes")
    assert status == 0, said
    rows, ids, facts = read(tmp_path / "out")
    assert (facts["modality"], facts["band"]) == ("text", [1, 2])
    model = ja.load(saved)
    head = ja.isoclip(model.projectors, 1, 2).text
    expected = head(model.encode_text(texts, projected=False))
    np.testing.assert_allclose(rows, unit(expected), atol=1e-6)
    assert ids == list(collect_captions(examples.captions, examples.ids).ids)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "npy"),
        (["--npy", "out", "--faiss", "x"], 2, "npy"),
        (["--npy", "out", "--method", "isoklip"], 1, "did you mean"),
        (["--npy", "out", "--method", "oti"], 1, "oti inverts queries"),
        (["--npy", "out", "--method", "isoclip"], 1, "--band K_TOP K_BOTTOM"),
        (["--npy", "out", "--npy-dtype", "int8"], 2, "npy-dtype"),
        (["--npy", "full"], 1, "not empty"),
        (["--npy", "full/file"], 1, "it is a file"),
        (["--npy", "out", "--modality", "text"], 1, "no captions"),
    ],
)
def test_bad_usage(arguments, status, said, export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    found, message = export(*arguments)
    lines = [line for line in message.splitlines() if " is read as " not in line]  # what a folder is
    assert (found, said in message, len(lines)) == (status, True, 1), message
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "full" / "file").read_text() == "mine"
