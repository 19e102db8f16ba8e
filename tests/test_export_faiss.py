"""`jaxalign export --faiss`: an index that finds what our own exact ranking finds."""

import json
import sys

import numpy as np
import pytest
from test_export import export as export
from test_export import photos as photos
from test_export import saved as saved
from test_export import synthetic

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.export import require_faiss, write_faiss

DEPTH = 10


@pytest.fixture(scope="module")
def faiss():
    try:
        found = require_faiss()
    except JaxalignError as error:
        pytest.skip(str(error))
    found.omp_set_num_threads(1)  # its threads wait for each other, badly where others are busy
    return found


def first_results(query, gallery):
    """What our ranking finds where everything is relevant, so that scores alone decide."""
    labels = np.zeros(len(query), int), np.zeros(len(gallery), int)
    return ja.retrieval_metrics(query, gallery, *labels, per_query=True)["per_query"]["first_results"]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return synthetic(tmp_path_factory.mktemp("store"), 1000, 32)


def test_the_exact_index_finds_what_our_ranking_finds(faiss, gallery, tmp_path):
    made, values = gallery
    facts = write_faiss(tmp_path / "x.faiss", made)
    index = faiss.read_index(str(tmp_path / "x.faiss"))
    assert (index.ntotal, index.d, index.metric_type) == (1000, 32, faiss.METRIC_INNER_PRODUCT)
    query = np.random.default_rng(1).standard_normal((64, 32), np.float32)
    scores, found = index.search(query / np.linalg.norm(query, axis=1, keepdims=True), DEPTH)
    np.testing.assert_array_equal(found, first_results(query, values))
    exact = np.take_along_axis(
        (query / np.linalg.norm(query, axis=1, keepdims=True))
        @ (values / np.linalg.norm(values, axis=1, keepdims=True)).T,
        found,
        1,
    )
    np.testing.assert_allclose(scores, exact, atol=1e-6)
    ids = [json.loads(line) for line in (tmp_path / "x.faiss.ids.jsonl").read_text().splitlines()]
    assert ids == list(made.store.ids)
    assert json.loads((tmp_path / "x.faiss.json").read_text()) == facts


@pytest.mark.long
def test_an_index_with_lists_finds_the_same_where_all_lists_are_searched(faiss, gallery, tmp_path):
    made, values = gallery
    write_faiss(tmp_path / "x", made, factory="IVF16,Flat")
    index = faiss.read_index(str(tmp_path / "x"))
    query = values[:50] / np.linalg.norm(values[:50], axis=1, keepdims=True)
    faiss.extract_index_ivf(index).nprobe = 16
    np.testing.assert_array_equal(index.search(query, DEPTH)[1], first_results(values[:50], values))
    write_faiss(tmp_path / "small", made, factory="IVF16,PQ8x4")
    assert faiss.read_index(str(tmp_path / "small")).ntotal == 1000
    # 4 bytes and an id of 8 for 32 numbers of 4; the rest are centroids
    assert (tmp_path / "small").stat().st_size < (tmp_path / "x").stat().st_size / 3


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("IVF1001,Flat", "train 'IVF1001,Flat' on 1000 embeddings"),
        ("PQ7", "embeddings 32 wide"),
        ("Nonsense", "FAISS cannot make the index 'Nonsense'"),
        ("IDMap,Flat", "FAISS cannot add embeddings to 'IDMap,Flat' "),
        ("SQ8,IDMap2", "FAISS cannot add embeddings to 'SQ8,IDMap2' "),
        ("\udcff", r"FAISS cannot make the index '\\udcff'"),
        # These would end the process, or give an index without vectors.
        *[
            (factory, "its numbers are 1 or more")
            for factory in ("PQ4x0", "HNSW0", "HNSW1,Flat", "IVF0,Flat")
        ],
    ],
)
def test_what_faiss_cannot_do_is_one_line_and_leaves_nothing(faiss, gallery, tmp_path, factory, said):
    with pytest.raises(JaxalignError, match=said) as caught:
        write_faiss(tmp_path / "x", gallery[0], factory=factory)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_the_command(faiss, export, tmp_path):
    status, said = export("--faiss", tmp_path / "x.faiss", "--method", "pre", "--faiss-index", "HNSW8")
    assert (status, "11 embeddings 32 wide" in said) == (0, True), said
    assert faiss.read_index(str(tmp_path / "x.faiss")).ntotal == 11
    assert json.loads((tmp_path / "x.faiss.json").read_text())["index"] == "HNSW8"


def test_without_faiss_the_error_names_the_extra_before_anything_is_embedded(export, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    status, said = export("--faiss", tmp_path / "x.faiss")
    assert (status, "pip install 'jaxalign[index]'" in said) == (1, True)
    assert not (tmp_path / "store").exists()
