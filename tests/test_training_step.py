"""The training step of the embedded models: the library's numbers, and runs that go on as they were."""

import dataclasses
import importlib
import signal
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tokenizers import Tokenizer

import jaxalign
from jaxalign.errors import JaxalignError
from jaxalign.models import TwoTowers
from jaxalign.specs import find_spec
from jaxalign.weights.availability import EMBEDDED

WORDS, BATCH = 30, 6


@pytest.fixture(scope="module")
def tools():
    """Imports a module of the folder tools."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "tools"))
        yield importlib.import_module


@pytest.fixture(scope="module")
def small(tools):
    """Model, vectors and parameters by the name of a spec: two narrow towers."""
    sizes = tools("training_sizes")
    step = tools("training_step")
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(WORDS, step.WORD)).astype(np.float32)
    learns = (rng.random((WORDS, 1)) < 0.4).astype(np.float32)
    vectors = step.WordVectors.of(basis, learns)

    def build(name):
        narrow = sizes.Sizes(image_width=32, image_heads=2, image_depth=2, text_width=16, text_heads=2)
        model = TwoTowers(sizes.sized(find_spec(name), narrow, WORDS).towers)
        params = step.initial_params(model, 1, vectors.learned)
        keys = iter(jax.random.split(jax.random.key(2), len(jax.tree.leaves(params))))
        moved = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), params)
        return model, vectors, moved, (basis, learns)

    return build


def draw(step):
    """A batch from the number of its step alone."""
    rng = np.random.default_rng(step)
    kept = rng.random((BATCH, 36)).argsort(1)[:, :5].astype(np.int32)
    tokens = rng.integers(4, WORDS, (BATCH, 20)).astype(np.int32)
    tokens[:, 12:] = 0
    tokens[:, 11] = 3
    return rng.integers(0, 256, (BATCH, 48, 48, 3), np.uint8), tokens, kept


@pytest.mark.parametrize("name", ["emoji-clip", "emoji-siglip"])
@pytest.mark.long
def test_loss_and_gradients_are_those_of_the_library(tools, small, name):
    step = tools("training_step")
    model, vectors, params, (basis, learns) = small(name)
    pixels, tokens, kept = draw(0)

    def plain_loss(params, own):
        table = basis @ params["words"]["map"] + learns * own
        p = params["model"]
        variables = {"params": p | {"txt": p["txt"] | {"Embed_0": {"embedding": table}}}}
        scaled = (jnp.asarray(pixels, jnp.float32) / 255 - 0.5) / 0.5
        zimg, _ = model.apply(variables, scaled, method=lambda m, x: m.img(x, kept_patches=jnp.asarray(kept)))
        ztxt, _ = model.apply(variables, tokens, method=lambda m, x: m.txt(x))
        return step.contrastive_loss(zimg, ztxt, p["t"][0], p["b"][0] if "b" in p else None)

    learned = np.flatnonzero(learns)
    own = jnp.zeros((WORDS, 16)).at[learned].set(params["words"]["own"])
    with jax.default_matmul_precision("highest"):
        loss, (gradients, of_own) = jax.jit(jax.value_and_grad(plain_loss, (0, 1)))(params, own)
        gradients["words"]["own"] = of_own[learned]
        fast = jax.jit(jax.value_and_grad(lambda p: step.batch_loss(model, p, vectors, draw(0))))(params)
    # sums of gradients over all tokens in float32, in another order
    chex.assert_trees_all_close(fast, (loss, gradients), atol=1e-5, rtol=1e-4)


@pytest.mark.long
def test_rounded_products_have_the_same_gradients_nearly(tools):
    blocks = tools("training_blocks")
    x, kernel, g = (jax.random.normal(jax.random.key(i), s) for i, s in enumerate([(9, 8), (8, 5), (9, 5)]))
    gradients = {
        dense: jax.grad(lambda *a, dense=dense: (dense(*a) * g).sum(), (0, 1, 2))(x, kernel, g[0])
        for dense in (blocks.exact_dense, blocks.rounded_dense)
    }
    exact, rounded = gradients.values()
    chex.assert_trees_all_equal_shapes_and_dtypes(exact, rounded)
    for a, b in zip(exact, rounded, strict=True):
        assert float(jnp.linalg.norm(a - b) / jnp.linalg.norm(a)) < 0.01


def test_the_whole_table_is_what_a_batch_sees(tools, small):
    _, vectors, params, (basis, learns) = small("emoji-clip")
    table = tools("training_step").with_embedding(params, vectors)["txt"]["Embed_0"]["embedding"]
    own = np.zeros((WORDS, 16), np.float32)
    own[np.flatnonzero(learns)] = params["words"]["own"]
    np.testing.assert_allclose(table, basis @ params["words"]["map"] + own, atol=1e-5)
    np.testing.assert_allclose(table[:7], vectors.embed(params["words"], jnp.arange(7)), atol=1e-5)


def test_a_table_is_taken_apart_as_it_was_put_together(tools, small):
    step = tools("training_step")
    _, _, params, _ = small("emoji-clip")
    basis = np.random.default_rng(3).normal(size=(WORDS, step.WORD)).astype(np.float32)
    vectors = step.WordVectors.of(basis, np.ones((WORDS, 1)) * (np.arange(WORDS)[:, None] < 9))
    params["words"]["own"] = jax.random.normal(jax.random.key(0), (9, 16))
    whole = step.with_embedding(params, vectors)
    again = step.with_embedding(step.without_embedding(whole, vectors), vectors)
    chex.assert_trees_all_close(again, whole, atol=1e-5)


def test_a_run_goes_on_from_an_exported_model(tools, tmp_path):
    train, step = tools("train_embedded"), tools("training_step")
    exported = jaxalign.load("emoji-clip")
    folder = EMBEDDED / "emoji-clip"
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    size = tokenizer.get_vocab_size()
    learns = np.arange(size)[:, None] >= step.WORD  # as many words without a vector as there are directions
    vectors = step.WordVectors.of(np.eye(size, step.WORD, dtype=np.float32), learns)
    model = TwoTowers(exported.spec.towers)
    fresh = step.initial_params(model, 1, vectors.learned)
    params = train.exported_params(folder, fresh, tokenizer, vectors)
    chex.assert_trees_all_close(step.with_embedding(params, vectors), exported.params, atol=1e-6)
    with pytest.raises(JaxalignError, match="another model or other sizes"):
        train.exported_params(EMBEDDED / "emoji-siglip", fresh, tokenizer, vectors)
    with pytest.raises(JaxalignError, match="has other words"):
        train.exported_params(folder, fresh, tools("training_words").build_tokenizer(["goose"]), vectors)
    earlier = train.read_losses(folder)
    train.finish({"params": params, "losses": np.array([0.5, 0.25])}, vectors, tmp_path, earlier)
    assert train.read_losses(tmp_path) == [*earlier, 0.5, 0.25]


@pytest.mark.long
def test_a_run_that_was_ended_goes_on_as_it_was(tools, small, tmp_path):
    train, step = tools("train_embedded"), tools("training_step")
    model, vectors, params, _ = small("emoji-clip")
    optimizer = step.make_optimizer(train.Training(steps=6, warmup=2, descent=2))
    step_fn = step.make_step(model, optimizer, vectors)

    def begin(steps=6):
        copy = jax.tree.map(jnp.array, params)
        losses = np.zeros(steps, np.float32)
        return {"step": 0, "params": copy, "optimizer": optimizer.init(copy), "losses": losses}

    whole, halved = begin(), begin(4)  # which was meant to end after 4 steps, and is made longer
    assert train.train(whole, step_fn, draw, 6, 10, tmp_path / "whole") is None
    assert train.train(halved, step_fn, draw, 2, 10, tmp_path / "half") is None
    halved = train.restore(tmp_path / "half", begin(), descent=2)
    assert halved["step"] == 2
    train.train(halved, step_fn, draw, 6, 10, tmp_path / "half")
    chex.assert_trees_all_equal(whole, halved)
    for steps in (5, 7):
        with pytest.raises(JaxalignError, match="at step 6 one of the two no longer has the constant rate"):
            train.restore(tmp_path / "half", begin(steps), descent=2)


@pytest.mark.long
def test_a_signal_ends_a_run_after_a_step(tools, small, tmp_path):
    train = tools("train_embedded")
    run = {"step": 0, "params": 0, "optimizer": 0, "losses": np.zeros(9, np.float32)}

    def step_fn(params, state, *batch):
        if params == 3:
            signal.raise_signal(signal.SIGTERM)
        return params + 1, state, 0.5

    before = signal.getsignal(signal.SIGTERM)
    assert train.train(run, step_fn, lambda step: (), 9, 100, tmp_path / "checkpoint") == signal.SIGTERM
    assert run["step"] == train.restore(tmp_path / "checkpoint", run, 0)["step"] == 4
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_checkpoint_of_another_run_is_refused(tools, tmp_path):
    train = tools("train_embedded")
    run = {"step": 3, "params": {"map": np.zeros((2, 3))}, "optimizer": 0, "losses": np.zeros(9, np.float32)}
    train.save(tmp_path / "checkpoint", run)
    with pytest.raises(JaxalignError, match=r"\['map'\] is \(2, 3\), not \(2, 4\)"):
        train.restore(tmp_path / "checkpoint", run | {"params": {"map": np.zeros((2, 4))}}, 0)
    with pytest.raises(JaxalignError, match="of another run"):
        train.restore(tmp_path / "checkpoint", run | {"params": {"own": np.zeros(2)}}, 0)


def test_sizes(tools, tmp_path):
    sizes = tools("training_sizes")
    as_is = find_spec("emoji-clip")
    assert sizes.sized(as_is, sizes.AS_IN_SPEC, as_is.towers.text.vocabulary) == as_is
    wide = sizes.sized(find_spec("emoji-clip"), sizes.Sizes(image_width=320, embedding_width=96), 99).towers
    assert (wide.image.heads, wide.image.mlp_hidden, wide.image.projection) == (5, 960, 96)
    assert (wide.text.projection, wide.text.vocabulary) == (96, 99)
    for name, wrong, said in (
        ("emoji-siglip", {"embedding_width": 64}, "no linear image projector"),
        ("emoji-clip", {"image_width": 200}, "give the heads"),
        ("emoji-clip", {"text_depth": 0}, "text_depth = 0"),
    ):
        with pytest.raises(JaxalignError, match=said):
            sizes.sized(find_spec(name), sizes.Sizes(**wrong), 99)
    sizes.keep_to_sizes(tmp_path, "emoji-clip", sizes.AS_IN_SPEC, 99)
    sizes.keep_to_sizes(tmp_path, "emoji-clip", sizes.AS_IN_SPEC, 99)
    assert sizes.noted_spec(tmp_path, "emoji-clip") == sizes.sized(as_is, sizes.AS_IN_SPEC, 99)
    with pytest.raises(JaxalignError, match="of another model"):
        sizes.keep_to_sizes(tmp_path, "emoji-clip", sizes.Sizes(text_depth=3), 99)


@pytest.mark.parametrize("name", ["emoji-clip", "emoji-siglip"])
def test_muon_moves_the_maps_between_hidden_layers(tools, small, name):
    train, step = tools("train_embedded"), tools("training_step")
    _, _, params, _ = small(name)
    optimizer = step.make_optimizer(train.Training(warmup=0, weight_decay=0, learning_rate=1e-2))
    gradients = jax.tree.map(lambda x: jax.random.normal(jax.random.key(3), x.shape), params)
    moved, _ = optimizer.update(gradients, optimizer.init(params), params)
    block = moved["model"]["img"]["Transformer"]["encoderblock_1"]
    attention = block["MultiHeadDotProductAttention_0"]
    for update, width in (
        (attention["query"]["kernel"].reshape(32, 32), 32),
        (attention["out"]["kernel"].reshape(32, 32), 32),
        (block["MlpBlock_0"]["Dense_0"]["kernel"], 96),
    ):
        # all singular values within Newton-Schulz's band; Adam's would reach from about 0 to 2
        values = np.linalg.svd(update, compute_uv=False) / (0.2 * np.sqrt(width) * 1e-2)
        assert values.min() > 0.5
        assert values.max() < 1.3
    # Adam's first update is of one size everywhere
    for update in (moved["words"]["own"], moved["model"]["txt"]["head"]["kernel"]):
        size = np.abs(update)
        assert size.max() > 0.005
        assert size.min() > 0.99 * size.max()


def test_projectors_may_be_free_of_weight_decay(tools, small):
    train, step = tools("train_embedded"), tools("training_step")
    _, _, params, _ = small("emoji-clip")
    zero = jax.tree.map(jnp.zeros_like, params)

    def moved(decay):
        optimizer = step.make_optimizer(
            dataclasses.replace(train.Training(warmup=0), projector_decay=decay, weight_decay=1.0)
        )
        updates, _ = optimizer.update(zero, optimizer.init(params), params)
        return {k: float(jnp.abs(updates["model"][k]["head"]["kernel"]).max()) for k in ("img", "txt")}

    assert min(moved(True).values()) > 0
    assert moved(False) == {"img": 0, "txt": 0}
