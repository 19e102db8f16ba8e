"""What features may be made of: any scale and type of number gives the right cosines, or one line."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from conftest import tiny_model
from jax.sharding import Mesh

import jaxalign as ja
from jaxalign import features
from jaxalign.features import as_features, as_rows, normalize
from jaxalign.sharding import AXIS

RNG = np.random.default_rng(0)
WHOLE = RNG.integers(-999, 1000, (60, 9))  # exact in every type, whatever power of two they are times
LABELS = RNG.integers(0, 4, 60)
SCORES, SAME, OWN = oracles.cosine(WHOLE, WHOLE), LABELS[:, None] == LABELS, np.eye(60, dtype=bool)
RIGHT = oracles.retrieval_metrics(SCORES, SAME & ~OWN, OWN)
ONE_DEVICE = Mesh(np.asarray(jax.devices()[:1]), (AXIS,))
FAR = {
    "float64-tiny": WHOLE * 1e-50,
    "float64-subnormal": WHOLE * 2.0**-1074,
    "float64-huge": WHOLE * 1e300,
    "float64-every-scale": WHOLE * 10.0 ** RNG.integers(-300, 300, (60, 1)),
    "float32-subnormal": (WHOLE * 2.0**-149).astype(np.float32),
    "float32-least-normal": (WHOLE * 2.0**-136).astype(np.float32),
    "float32-huge": (WHOLE * 2.0**117).astype(np.float32),
    "bfloat16-subnormal": (WHOLE % 128 * 2.0**-133).astype(jnp.bfloat16),
    "int64": WHOLE * 10**12,
    "uint64": (WHOLE + 1000).astype(np.uint64) * np.uint64(10**15),
    "big-endian": WHOLE.astype(">f4"),
    "big-endian-integers": WHOLE.astype(">i8"),
    "long": WHOLE.astype(np.longdouble) * np.longdouble(2) ** -1080,
    "lists": [[value * 10**12 for value in row] for row in WHOLE.tolist()],
    "nothing-masked": np.ma.masked_array(WHOLE * 1e-50, np.zeros(WHOLE.shape, bool)),
}


def right(x):
    values = np.asarray(x, np.longdouble)
    values = values / np.abs(values).max(axis=1, keepdims=True)
    return oracles.retrieval_metrics(oracles.cosine(values, values), SAME & ~OWN, OWN)


@pytest.mark.parametrize("mesh", [None, ONE_DEVICE], ids=["none", "mesh"])
@pytest.mark.parametrize("name", FAR)
def test_numbers_of_every_scale_and_type(name, mesh):
    x = FAR[name]
    found = ja.retrieval_metrics(x, x, LABELS, LABELS, exclude_self=True, mesh=mesh)
    assert found == pytest.approx(right(x), abs=1e-9)


@pytest.mark.parametrize("name", ["float64-tiny", "float32-subnormal", "bfloat16-subnormal", "int64"])
def test_in_blocks(name, monkeypatch):
    monkeypatch.setattr(features, "_STREAMED", 100)
    x = FAR[name]
    found = ja.retrieval_metrics(x, x, LABELS, LABELS, exclude_self=True)
    assert found == pytest.approx(right(x), abs=1e-9)


@pytest.mark.long
def test_under_jit():
    x = FAR["float32-subnormal"]
    precision = jax.jit(ja.average_precision)(x, x, SAME & ~OWN, ignore=OWN)
    # percent, of which float32 has seven digits
    assert 100 * np.mean(precision) == pytest.approx(RIGHT["mAP"], abs=1e-4)
    with jax.enable_x64(True):
        precision = jax.jit(ja.average_precision)(FAR["float64-tiny"], WHOLE * 1e300, SAME & ~OWN, ignore=OWN)
    # percent, of which float32 has seven digits
    assert 100 * np.mean(precision) == pytest.approx(RIGHT["mAP"], abs=1e-4)


def test_what_is_near_one_stays_as_it_is():
    x = RNG.normal(size=(5, 3)) * 10.0 ** np.array([[0], [20], [-20], [9], [-29]])
    np.testing.assert_array_equal(as_features("x", x), x.astype(np.float32))
    np.testing.assert_array_equal(as_rows("x", x[0]), x[0].astype(np.float32))
    assert as_rows("x", x[0].astype(np.float16)).dtype == jnp.float16


def test_small_rows_have_a_gradient():
    assert np.isfinite(jax.grad(lambda x: normalize(x).sum())(jnp.full((2, 3), 1e-35))).all()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (WHOLE.astype(object), "query is an array of object; expected an array of real numbers"),
        (WHOLE.astype(str), "query is an array of <U21; expected an array of real"),
        ([[10**400, 1], [1, 2]], "query is a list of list; expected an array of real numbers"),
        (WHOLE.astype("M8[s]"), r"query is an array of datetime64\[s\]; expected an array of real"),
        ([[1, 2], [3]], "query is a list of list; expected an array of real numbers"),
        (np.ma.masked_equal(WHOLE, WHOLE[0, 0]), "query has masked values; leave those examples out"),
        (np.where(WHOLE > 900, np.inf, WHOLE), "query has NaN or infinite values"),
        (jax.random.key(0), "query is an array of key<fry>; expected an array of real"),
    ],
)
def test_what_is_no_number_is_one_line(x, message):
    with pytest.raises(ja.JaxalignError, match=message) as caught:
        ja.retrieval_metrics(x, WHOLE, LABELS, LABELS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("block_size", [7.5, "7", True, 0, np.float64(7)])
def test_block_sizes_are_whole(block_size):
    for mesh in (None, ONE_DEVICE):
        with pytest.raises(ja.JaxalignError, match=f"block_size is {block_size}; expected a positive number"):
            ja.retrieval_metrics(WHOLE, WHOLE, LABELS, LABELS, block_size=block_size, mesh=mesh)


# Where a row is more than its direction.


def uses_of_lengths():
    model = tiny_model("emoji-clip")
    wide = np.tile(WHOLE, (1, 4))[:, : model.config.image.width]
    text = np.tile(WHOLE, 2)[:20, : model.config.image.embedding_width]
    sweep = {"k_top": [0, 1], "k_bottom": [0]}
    few = {"shots": (2,), "seeds": (1,)}
    classifier = ja.ncm_classifier(WHOLE, LABELS)
    fixed = dataclasses.replace(classifier, normalize=False)
    return {
        "sweep_bands": lambda c: ja.sweep_bands(
            model.projectors, wide * c, wide * c, LABELS, LABELS, **sweep
        ),
        "analyse_bands": lambda c: ja.analyse_bands(model.projectors, wide * c, wide * c, LABELS, LABELS),
        "ncm": lambda c: ja.ncm_classifier(WHOLE * c, LABELS),
        "prototype": lambda c: ja.prototype_classifier(WHOLE * c, LABELS, normalize=False),
        "lda": lambda c: ja.lda_classifier(WHOLE * c, LABELS, normalize=False),
        "few-shot": lambda c: ja.few_shot_accuracy(
            ja.ncm_classifier, WHOLE * c, LABELS, WHOLE * c, LABELS, **few
        ),
        "classify": lambda c: fixed(WHOLE * c),
        "subspace": lambda c: ja.principal_subspace(text * c, 2),
        "project": lambda c: ja.principal_subspace(text, 2).project(text * c),
        "projector": lambda c: model.projectors.image(wide * c),
        "ranks": lambda c: ja.sweep_ranks(
            text, text * c, text * c, LABELS[:20], LABELS[:20], ranks=[2], mean=text.mean(0)
        ),
    }


@pytest.mark.parametrize("name", uses_of_lengths())
@pytest.mark.long
def test_lengths_that_float32_does_not_hold_are_refused(name):
    use = uses_of_lengths()[name]
    for scale in (1e-50, 1e200):
        with pytest.raises(ja.JaxalignError, match=r"numbers of about .*, which float32 does"):
            use(scale)
    use(np.int64(10**12))


# Where only directions count.


def uses_of_directions():
    text = RNG.normal(size=(4, 9))
    classifier = ja.zero_shot_classifier(text)
    return {
        "zero-shot": lambda x: classifier(x),
        "predict": lambda x: classifier.predict(x, mesh=ONE_DEVICE),
        "prototype": lambda x: ja.prototype_classifier(x, LABELS, text_weights=text)(WHOLE),
        "tip": lambda x: ja.tip_adapter(x, LABELS, text_weights=text)(x),
        "ensemble": lambda x: ja.ensemble_text_weights(np.reshape(x, (4, 15, 9))),
        "search": lambda x: (
            ja.search_hyperparameters(
                ja.tip_adapter(WHOLE, LABELS, text_weights=text), x, LABELS, alpha=[0.1, 1]
            ).accuracy
        ),
        "histograms": lambda x: ja.similarity_histograms(x, LABELS).same,
        "gap": lambda x: ja.modality_gap(x, text),
        "dogs": lambda x: ja.dogs_versus_cats(x, LABELS, ks=(1,), shots=(1,)).precision_at[1],
        "subspace": lambda x: ja.principal_subspace(x, 2, normalize=True).mean,
        "ranks": lambda x: ja.sweep_ranks(text, x, x, LABELS, LABELS, ranks=[1, 2]).mAP,
        "spectrum": lambda x: ja.effective_rank(np.abs(np.asarray(x[0], np.float64))),
    }


@pytest.mark.parametrize("name", uses_of_directions())
@pytest.mark.long
def test_directions_have_no_scale(name):
    use = uses_of_directions()[name]
    expected = use(WHOLE.astype(np.float32))
    for x in (WHOLE * 2.0**-170, WHOLE * 2**40, (WHOLE * 2.0**-149).astype(np.float32)):
        np.testing.assert_allclose(use(x), expected, rtol=2e-6, atol=2e-6)
