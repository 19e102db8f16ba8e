"""`apply_image` and `apply_text` in a training loop, and the example that shows one."""

import importlib.util
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "finetune.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("finetune_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.long
def test_three_steps(example, emoji_data_dir):
    settings = example.Settings(
        steps=3, batch=8, evaluate_every=2, held_out=12, rank=4, data_dir=str(emoji_data_dir)
    )
    lines = []
    history = example.finetune(settings, lines.append)
    assert [found["step"] for found in history] == [0, 2, 3]
    assert len(lines) == 3
    methods = ("image-image", "pre", "isoclip-auto", "pca")
    assert all(0 < found[name] <= 100 for found in history for name in methods)
    assert all(np.isfinite(found["loss"]) for found in history[1:])
    before, after = ({k: v for k, v in history[i].items() if k in methods} for i in (0, -1))
    assert before != after


def test_batches_are_pairs_of_one_emoji(example, clip):
    from types import SimpleNamespace

    emoji = np.repeat(np.arange(6), 3)
    images = np.broadcast_to(np.arange(18, dtype=np.uint8)[:, None, None, None], (18, 24, 24, 3))
    captions = tuple((f"photo of {'cat' if e % 2 else 'dog'}",) for e in emoji)
    examples = SimpleNamespace(labels={"emoji": emoji}, images=images, captions=captions)
    batches = example.Batches(clip, examples, example.Settings(batch=5))
    pixels, tokens = batches(3)
    chex.assert_shape(pixels, (2, 5, 24, 24, 3))
    shown = np.rint((pixels[..., 0, 0, 0] * 0.5 + 0.5) * 255).astype(int)  # which image each is
    np.testing.assert_array_equal(emoji[shown[0]], emoji[shown[1]])
    assert (shown[0] != shown[1]).all()
    assert len(set(emoji[shown[0]])) == 5
    np.testing.assert_array_equal(tokens, clip.tokenizer([captions[i][0] for i in shown[0]]))
    again = batches(3)
    chex.assert_trees_all_equal((pixels, tokens), again)


@pytest.mark.long
def test_gradients_are_those_of_the_loss(example, model):
    """Every parameter has a gradient, and along it the loss changes as the gradient says."""
    rng = np.random.default_rng(0)
    pixels = jnp.asarray(rng.normal(size=(2, 4, 24, 24, 3)), jnp.float32)
    tokens = jnp.asarray(rng.integers(4, 14, (4, 10)), jnp.int32).at[:, -1].set(3)
    loss = jax.jit(example.make_loss(model, example.Settings()))
    params = jax.tree.map(jnp.asarray, dict(model.params))
    gradients = jax.grad(loss)(params, pixels, tokens)
    chex.assert_trees_all_equal_shapes_and_dtypes(gradients, params)
    chex.assert_tree_all_finite(gradients)
    without = {
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.asarray(leaf).any()
    }
    assert without <= {"['b']"}  # the example's loss is the softmax one, which has no bias
    squared = sum(float((x**2).sum()) for x in jax.tree.leaves(gradients))
    step = 1e-3 / squared**0.5
    ends = (jax.tree.map(lambda x, g, s=s: x + s * g, params, gradients) for s in (step, -step))
    up, down = (float(loss(p, pixels, tokens)) for p in ends)
    # central difference of a float32 loss: rounding of about 1e-7 over a step of 2e-3 along the unit gradient
    assert (up - down) / (2 * step) == pytest.approx(squared, rel=2e-2)
