"""Arguments of another kind than expected: one line of ours, everywhere that such input comes in."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.specs import find_spec

RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(8, 4)).astype(np.float32), np.arange(8) % 2
HEADS = ja.Projectors(
    ja.Projector(jnp.asarray(RNG.normal(size=(4, 3)))), ja.Projector(jnp.asarray(RNG.normal(size=(4, 3))))
)
SUBSPACE = ja.principal_subspace(X, 2)
BOTH = (LABELS, LABELS)
OPTIONS = {"k_top": (0,), "k_bottom": (0,)}
# Everything public that takes features or embeddings, as a function of them.
TAKES_FEATURES = {
    "projector": HEADS.image,
    "subspace": SUBSPACE.project,
    "subspace mean": lambda x: SUBSPACE.project(X, x),
    "principal_subspace": ja.principal_subspace,
    "retrieval query": lambda x: ja.retrieval_metrics(x, X, *BOTH),
    "retrieval gallery": lambda x: ja.retrieval_metrics(X, x, *BOTH),
    "average_precision": lambda x: ja.average_precision(x, X, np.ones((8, 8), bool)),
    "revisited": lambda x: ja.revisited_metrics(x, X, [{"easy": [0], "hard": [1], "junk": []}] * 8),
    "text_retrieval": lambda x: ja.text_retrieval_metrics(x, LABELS),
    "sweep_bands": lambda x: ja.sweep_bands(HEADS, x, X, *BOTH, **OPTIONS),
    "sweep_ranks": lambda x: ja.sweep_ranks(x, X, X, *BOTH, ranks=(1,)),
    "analyse_bands": lambda x: ja.analyse_bands(HEADS, x, X, *BOTH, bands={"all": (0, 0)}),
    "effective_rank": ja.effective_rank,
    "modality_gap": lambda x: ja.modality_gap(x, X),
    "modality_histograms": lambda x: ja.modality_histograms(X, x),
    "similarity_histograms": lambda x: ja.similarity_histograms(x, LABELS),
    "dogs_versus_cats": lambda x: ja.dogs_versus_cats(x, LABELS, X[:2]),
    "zero_shot": ja.zero_shot_classifier,
    "ensemble": ja.ensemble_text_weights,
    "prototype": lambda x: ja.prototype_classifier(x, LABELS),
    "text weights": lambda x: ja.prototype_classifier(X, LABELS, text_weights=x),
    "ncm": lambda x: ja.ncm_classifier(x, LABELS),
    "lda": lambda x: ja.lda_classifier(x, LABELS),
    "tip_adapter": lambda x: ja.tip_adapter(x, LABELS, text_weights=X[:2]),
    "tip_x": lambda x: ja.tip_x(x, LABELS, text_weights=X[:2]),
    "ape": lambda x: ja.ape(x, LABELS, text_weights=X[:2]),
    "coder": lambda x: ja.coder(x, LABELS, text_weights=X[:2], text_bank=X[:3]),
    "classify": lambda x: ja.prototype_classifier(X, LABELS)(x),
    "predict": lambda x: ja.prototype_classifier(X, LABELS).predict(x),
    "few_shot_accuracy": lambda x: ja.few_shot_accuracy(ja.ncm_classifier, x, LABELS, X, LABELS),
    "few_shot test": lambda x: ja.few_shot_accuracy(ja.ncm_classifier, X, LABELS, x, LABELS),
    "recover": lambda x: ja.recover_image_embeddings(x, X[:4]),
    "recover intra": lambda x: ja.recover_intra_similarities(x, 2),
    "anchors": ja.anchor_conditioning,
}
NO_NUMBERS = {
    "a string": ("features.npy", "a str; expected"),
    "strings": ([["a", "b"]] * 8, "expected"),
    "None": (None, "expected"),
    "an object": (object(), "a object; expected"),
    "ragged": ([[1.0, 2.0], [3.0]], "expected"),
}


OPTIONAL = ("subspace mean", "text weights")


@pytest.mark.parametrize("name", TAKES_FEATURES)
def test_what_is_no_array_of_numbers(name):
    take = TAKES_FEATURES[name]
    for x, message in NO_NUMBERS.values():
        if x is None and name in OPTIONAL:
            continue
        with pytest.raises(JaxalignError, match=message) as caught:
            take(x)
        assert "\n" not in str(caught.value)


@pytest.mark.reference
@pytest.mark.parametrize("take", TAKES_FEATURES.values(), ids=TAKES_FEATURES)
def test_torch_tensors_that_numpy_cannot_read(take):
    torch = pytest.importorskip("torch", reason="needs the extra `reference`")
    with pytest.raises(
        JaxalignError, match=r"torch\.bfloat16 .* pass x\.detach\(\)\.float\(\)\.cpu\(\)\.numpy"
    ):
        take(torch.as_tensor(X).bfloat16())
    with pytest.raises(JaxalignError, match="pass x"):
        take(torch.as_tensor(X).requires_grad_())


# Everything public that takes heads or a spectrum.
TAKES_HEADS = {
    "isoclip": lambda heads: ja.isoclip(heads, 0, 1),
    "decompose": ja.decompose,
    "inter_modal_operator": ja.inter_modal_operator,
    "sweep_bands": lambda heads: ja.sweep_bands(heads, X, X, *BOTH, **OPTIONS),
    "analyse_bands": lambda heads: ja.analyse_bands(heads, X, X, *BOTH, bands={"all": (0, 0)}),
}
TAKES_HEAD = {
    "whiten": ja.whiten,
    "intra_modal_spectrum": ja.intra_modal_spectrum,
    "project_head": SUBSPACE.project_head,
}


@pytest.mark.parametrize("take", TAKES_HEADS.values(), ids=TAKES_HEADS)
def test_what_are_no_heads(take, clip):
    for wrong, kind in (
        (clip, "DualEncoder"),
        (HEADS.image, "Projector"),
        (X, "ndarray"),
        ("emoji-clip", "str"),
    ):
        with pytest.raises(
            JaxalignError, match=rf"^projectors is a {kind}; expected Projectors: pass .*model\.proj"
        ):
            take(wrong)


@pytest.mark.parametrize("take", TAKES_HEAD.values(), ids=TAKES_HEAD)
def test_what_is_no_head(take, clip):
    for wrong, kind in ((clip, "DualEncoder"), (HEADS, "Projectors"), (X, "ndarray")):
        with pytest.raises(
            JaxalignError, match=rf"^projector is a {kind}; expected Projector: pass one head"
        ):
            take(wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ja.select_band(HEADS), "spectrum is a Projectors; expected Spectrum: pass decompose"),
        (lambda: ja.isoclip(HEADS, 0, 1, spectrum=HEADS), "spectrum is a Projectors; expected Spectrum"),
        (lambda: ja.linearize_mlp_head(X), "head_params is a ndarray; expected Mapping: pass model.params"),
        (
            lambda: ja.invert_to_text(HEADS, X),
            "model is a Projectors; expected DualEncoder: pass what jaxalign.l",
        ),
        (lambda: ja.invert_to_image("emoji-clip", X), "model is a str; expected DualEncoder"),
        (lambda: ja.save(HEADS, "nowhere"), "model is a Projectors; expected DualEncoder"),
        (lambda: ja.load(None), "name_or_path is a NoneType; expected the name of a model, or a path"),
        (
            lambda: ja.load("emoji-clip", spec=3),
            "spec is a int; expected a known model's name, or a ModelSpec",
        ),
        (lambda: ja.load("emoji-clip", name=""), "name is ''; expected one line of 1 to 200 characters"),
        (
            lambda: ja.load("emoji-clip", name="a\nb"),
            "name is 'a\\nb'; expected one line of 1 to 200 characters",
        ),
        (lambda: ja.load("emoji-clip", spec="RN50"), "emoji-clip holds its own facts; leave out spec 'RN50'"),
    ],
)
def test_other_kinds(call, message):
    with pytest.raises(JaxalignError, match=f"^{re.escape(message)}"):
        call()


@pytest.mark.parametrize("dtype", ["bf16", "fp32", 16, "torch.float16"])
def test_what_is_no_dtype(dtype, clip, tmp_path):
    calls = {
        "load": lambda: ja.load("emoji-clip", dtype=dtype),
        "DualEncoder": lambda: ja.DualEncoder(clip.spec, clip.params, dtype=dtype),
        "save": lambda: ja.save(clip, tmp_path / "m", dtype=dtype),
        "npz": lambda: ja.save(clip, tmp_path / "m.npz", dtype=dtype),
        "retrieval_metrics": lambda: ja.retrieval_metrics(X, X, *BOTH, dtype=dtype),
        "recover": lambda: ja.recover_intra_similarities(X @ X.T, 2, dtype=dtype),
    }
    for call in calls.values():
        with pytest.raises(JaxalignError, match=f"unknown dtype '{dtype}'; (did you mean|known: )"):
            call()


@pytest.mark.parametrize("name", ["clip-rn50", "dinov2-base", "siglip2-large-patch16-256"])
def test_a_band_that_nobody_printed(name):
    """It is None in every other respect."""
    spec = find_spec(name)
    assert (spec.band, spec.text_band, bool(spec.band), str(spec.band)) == (None, None, False, "None")
    uses = (lambda band: ja.isoclip(HEADS, *band), lambda band: [*band], lambda band: band[0], len)
    for band, use in itertools.product((spec.band, spec.text_band), uses):
        with pytest.raises(JaxalignError, match=rf"^no band is printed for {name}; choose one: ja\.sweep"):
            use(band)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf-hub:timm/ViT-B-16-SigLIP", "is an address; expected the repository alone, timm/ViT-B-16-SigLIP"),
        ("https://huggingface.co/openai/clip-vit-base-patch16", "alone, openai/clip-vit-base-patch16"),
        ("https://huggingface.co/openai/clip-vit-base-patch16/tree/main", "openai/clip-vit-base-patch16"),
        ("https://example.com/weights", "is an address; expected a path, owner/name of a hub repository"),
        (
            "some/one@main",
            "has a revision; expected the repository alone, some/one. For that commit run `hf dow",
        ),
        ("openai/clip-vit-base-patch16@abc", "--revision abc --local-dir DIR` and load DIR"),
        ("./some/one@2", "there is no file or folder ./some/one@2"),
        ("~nobody-of-this-name/clip", "there is no file or folder ~nobody-of-this-name/clip"),
        ("nothing\0", r"there is no file or folder nothing\x00"),
    ],
)
def test_forms_that_are_no_names(name, message):
    with pytest.raises(JaxalignError, match=re.escape(message)):
        ja.load(name)


def test_a_missing_file_is_said_first_and_what_is_near_it(tmp_path, monkeypatch):
    """Never taken for a model of the hub, though a record knows the name of the published file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "epoch_31.pt").touch()
    for name, message in (
        ("ViT-B-16.pt", "there is no file ViT-B-16.pt; the checkpoint that is published under this name is"),
        ("ckpt/epoch_32.pt", "there is no file ckpt/epoch_32.pt; did you mean 'ckpt/epoch_31.pt'?"),
        ("./ckpt/epoch_31/x", "there is no file or folder ./ckpt/epoch_31/x"),
        (
            "emoji-clap",
            "there is no file or folder emoji-clap; unknown model 'emoji-clap'; did you mean 'emoji-clip'",
        ),
    ):
        with pytest.raises(JaxalignError, match=f"^{re.escape(message)}"):
            ja.load(name)


TAKES_WEIGHTS = TAKES_HEAD | {
    "a call": lambda head: head(X),
    "isoclip": lambda head: ja.isoclip(ja.Projectors(head, head), 1, 1),
    "decompose": lambda head: ja.decompose(ja.Projectors(head, head)).s,
}
WEIGHTS = np.random.default_rng(3).integers(-40, 40, (X.shape[1], X.shape[1]))
SAME_WEIGHTS = {
    "big-endian": WEIGHTS.astype(">f4"),
    "big-endian integers": WEIGHTS.astype(">i8"),
    "small integers": WEIGHTS.astype(np.int8),
    "float64": WEIGHTS.astype(np.float64),
    "lists": WEIGHTS.tolist(),
}


@pytest.mark.parametrize("weights", SAME_WEIGHTS.values(), ids=SAME_WEIGHTS)
@pytest.mark.parametrize("take", TAKES_WEIGHTS.values(), ids=TAKES_WEIGHTS)
def test_weights_are_the_same_numbers_in_any_type(take, weights):
    plain = jax.tree.leaves(take(ja.Projector(jnp.asarray(WEIGHTS, jnp.float32))))
    for leaf, expected in zip(jax.tree.leaves(take(ja.Projector(weights))), plain, strict=True):
        np.testing.assert_array_equal(leaf, expected)


def test_integer_weights_beyond_32_bits_are_not_cut_off():
    large = WEIGHTS.astype(np.int64) * 10**10
    expected = X.astype(np.float64) @ large
    # float32 rounds numbers of 1e10 to some 1e3, and their sums a little more
    np.testing.assert_allclose(ja.Projector(large)(X), expected, rtol=1e-6, atol=1e5)


@pytest.mark.parametrize("take", TAKES_WEIGHTS.values(), ids=TAKES_WEIGHTS)
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (WEIGHTS * 1e-50, "kernel has numbers of about .*, which float32 does not hold well"),
        (WEIGHTS * 1e50, "kernel has numbers of about .*, which float32 does not hold well"),
        (WEIGHTS.astype(str), "kernel is an array of <U"),
        (None, "kernel is a"),
        (WEIGHTS[0], r"a projector's kernel has shape .*; expected \[d_in, d\]"),
    ],
)
def test_what_are_no_weights(take, weights, message):
    with pytest.raises(JaxalignError, match=message):
        take(ja.Projector(weights))


@pytest.mark.parametrize("name", ["intra_modal_spectrum", "decompose"])
@pytest.mark.parametrize("scale", [1e-26, 1e26])
def test_a_spectrum_that_float32_does_not_hold(name, scale):
    head = ja.Projector(jnp.asarray(WEIGHTS * scale, jnp.float32))
    with pytest.raises(JaxalignError, match=r"spectrum has numbers of about .*, which float32 does not hold"):
        TAKES_WEIGHTS[name](head)
