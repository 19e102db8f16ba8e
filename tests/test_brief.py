"""What models, splits and results show of themselves: a line or two, whatever their size."""

import inspect

import jax
import numpy as np
import pytest
from conftest import tiny_model

import jaxalign as ja
from jaxalign.brief import brief
from jaxalign.eval.datasets import Examples
from jaxalign.eval.tasks.runs import Run

X, Y = np.random.default_rng(0).normal(size=(12, 8)), np.arange(12) % 3
HEADS = ja.Projectors(ja.Projector(np.eye(8)), ja.Projector(np.eye(8)[:6]))
SPLIT = Examples("mine", "test", "1", X, {"kind": Y}, {"kind": ("a", "b", "c")}, (), tuple("abcdefghijkl"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (HEADS.image, "Projector(kernel=float64 [8, 8], bias=None)"),
        (ja.decompose(HEADS), "Spectrum(u=float32 [8, 6], s=float32 [6], vt=float32 [6, 6])"),
        (ja.principal_subspace(X, rank=2), "Subspace(basis=float32 [8, 2], eigenvalues="),
        (ja.similarity_histograms(X, Y), "SimilarityHistograms(edges=float64 [101], "),
        (ja.lda_classifier(X, Y), "LinearClassifier(kernel=float32 [8, 3], "),
        (SPLIT, "Examples(mine/test 1: 12 images, labelled by kind (3))"),
        (
            Run("spectrum", dict.fromkeys(range(99)), {"mAP": 1.0}),
            "Run(protocol='spectrum', settings={0, 1, 2",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_line_says_what_it_is(value, shown):
    assert repr(value).startswith(shown)
    assert len(repr(value)) < 400


def test_a_model_says_what_goes_in_and_what_comes_out():
    shown = repr(tiny_model("emoji-clip"))
    assert "images of 24 x 24, texts of up to 10 tokens, embeddings [12], float32" in shown


def test_tracers_and_long_sequences():
    shown = []
    jax.jit(lambda x: shown.append(brief(x)))(np.float32(1))
    assert shown == ["float32 []"]
    assert brief(tuple(range(9))) == "(0, 1, 2, 3, 4, 5, ... 3 more)"


def test_a_sweep_is_a_table_in_a_notebook():
    found = ja.sweep_bands(HEADS, X, X, Y, Y, k_top=[0, 1], k_bottom=[0, 2, 5], exclude_self=True)
    page = found._repr_html_()
    assert page.count("<td>") == 6
    assert f"<b>{found.mAP.max() if not np.isnan(found.mAP).any() else np.nanmax(found.mAP):.2f}</b>" in page


def test_signatures_name_their_types_as_they_are_written():
    """ArrayLike, and not the nine types that it stands for."""
    for name in ja.__all__:
        value = getattr(ja, name)
        if inspect.isfunction(value):
            assert "Union[" not in str(inspect.signature(value)), name
