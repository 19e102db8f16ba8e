"""Modality inversion against the plain way: every token through the tower, one example at a time."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTower, TextTower

KEY = jax.random.key(7)
STEPS = 8
RNG = np.random.default_rng(0)
# Adam divides by the gradient's own size, so a rounding difference in a tiny component grows: 1e-3, not 1e-5
near = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)


def targets(model, n=5):
    return jnp.asarray(RNG.normal(size=(n, model.config.text.projection)), jnp.float32)


def full_text_path(model, template, tokens):
    """Embedding [d] of the template with pseudo-tokens [p, width]: all positions, tokenized as a whole."""
    marked = template.replace("{}", " ".join(["dog"] * len(tokens)))
    ids = model.tokenizer([marked])
    where = np.flatnonzero(ids[0] == 8)  # the token of "dog"
    tower = TextTower(model.config.text).bind({"params": model.params["txt"]})
    x = tower.embed(ids).at[0, where].set(tokens)
    return tower.project(tower.pool(tower.encode(x)[0], ids))[0]


def full_image_path(model, patches):
    """Embedding [d] of pseudo-patches [p, width], placed one by one."""
    count = model.config.image.num_patches
    x = jnp.stack([patches[i * len(patches) // count] for i in range(count)])
    return ImageTower(model.config.image).bind({"params": model.params["img"]}).encode(x[None])[0][0]


def plain_descent(embed, target, tokens, steps):
    """Losses [steps] and final embedding of one example, step by step, with the paper's numbers."""
    optimizer = optax.adamw(0.02, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.01)
    state, losses = optimizer.init(tokens), []

    @jax.jit
    def loss(tokens):
        z = embed(tokens)
        return 1 - z @ target / jnp.linalg.norm(z) / jnp.linalg.norm(target)

    for _ in range(steps):
        value, gradient = jax.value_and_grad(loss)(tokens)
        updates, state = optimizer.update(gradient, state, tokens)
        tokens = optax.apply_updates(tokens, updates)
        losses.append(value)
    return np.array(losses), embed(tokens)


def start(i, shape):
    return 0.02 * jax.random.normal(jax.random.fold_in(KEY, i), shape)


@pytest.fixture(scope="module")
def inverted(model):
    """Five examples, and what they were to become; one compilation for many tests."""
    wanted = targets(model)
    return wanted, ja.invert_to_text(model, wanted, steps=STEPS, keep=(STEPS, 0, 4), key=KEY)


@pytest.mark.parametrize("template", ["red {} on blue", "{}"])
def test_live_tokens_alone_give_the_embedding_and_gradient_of_all(model, template):
    tokens = jnp.asarray(RNG.normal(size=(2, 2, model.config.text.width)), jnp.float32)
    prompt, params = ja.inversion._prompt(model, template, 2), model.params["txt"]
    weights = targets(model, 2)

    def short(tokens):
        z = prompt(params, prompt.prepare(params), tokens)
        return (z * weights).sum(), z

    def full(tokens):
        z = jnp.stack([full_text_path(model, template, x) for x in tokens])
        return (z * weights).sum(), z

    got, expected = (jax.jit(jax.grad(f, has_aux=True))(tokens) for f in (short, full))
    for ours, plain in zip(got, expected, strict=True):  # gradient, embedding
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


def test_text_inversion_is_the_plain_loop(model, inverted):
    wanted, got = inverted
    assert got.tokens.shape == (5, 1, model.config.text.width)
    assert got.losses.shape == (5, STEPS)
    embed = jax.jit(partial(full_text_path, model, "a photo of {}"))
    for i in (0, 4):
        losses, z = plain_descent(embed, wanted[i], start(i, got.tokens.shape[1:]), STEPS)
        near(got.losses[i], losses)
        near(got.embeddings[i], z)
        near(got.embeddings[i], embed(got.tokens[i]))


def test_image_inversion_is_the_plain_loop(model):
    wanted = targets(model, 2)
    got = ja.invert_to_image(model, wanted, steps=STEPS, num_patches=2, key=KEY)
    assert got.tokens.shape == (2, 2, model.config.image.width)
    embed = jax.jit(partial(full_image_path, model))
    losses, z = plain_descent(embed, wanted[1], start(1, got.tokens.shape[1:]), STEPS)
    near(got.losses[1], losses)
    near(got.embeddings[1], z)
    assert (got.losses[:, -1] < got.losses[:, 0] - 0.1).all()


def test_losses_go_down(inverted):
    losses = inverted[1].losses
    assert (losses[:, -1] < losses[:, 0] - 0.01).all()


def test_an_example_does_not_depend_on_its_batch(model, inverted):
    wanted, whole = inverted
    split = ja.invert_to_text(model, wanted, steps=STEPS, keep=(STEPS, 0, 4), key=KEY, batch_size=2)
    jax.tree.map(near, split, whole)


def test_kept_steps(model, inverted):
    wanted, got = inverted
    assert list(got.kept) == [STEPS, 0, 4]
    np.testing.assert_array_equal(got.kept[STEPS], got.embeddings)
    embed = jax.jit(partial(full_text_path, model, "a photo of {}"))
    for steps in (0, 4):
        near(got.kept[steps][1], plain_descent(embed, wanted[1], start(1, got.tokens.shape[1:]), steps)[1])


def test_lengths_do_not_matter(model, inverted):
    wanted, got = inverted
    scaled = ja.invert_to_text(model, wanted * 50, steps=STEPS, keep=(STEPS, 0, 4), key=KEY)
    near(scaled.embeddings, got.embeddings)


def test_default_number_of_patches_and_inversion_under_jit(clip):
    invert = lambda x: ja.invert_to_image(clip, x, steps=1, key=KEY).tokens
    assert jax.jit(invert)(targets(clip, 2)).shape == (2, clip.spec.inversion_patches, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"template": "a photo"}, r"has \{\} 0 times; expected it once"),
        ({"template": "{} and {}"}, r"has \{\} 2 times"),
        ({"template": "red " * 8 + "{}"}, "takes 11 tokens; expected at most 10"),
        ({"num_tokens": 6}, "with 6 pseudo-tokens takes 11 tokens"),
        ({"template": "a <end> {}"}, "contains the end token"),
        ({"steps": 0}, "steps is 0; expected 1 or more"),
        ({"num_tokens": 0}, "num_tokens is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"keep": (151,)}, "keep has 151; expected step counts from 0 to 150"),
    ],
)
def test_wrong_arguments(clip, arguments, message):
    with pytest.raises(JaxalignError, match=message):
        ja.invert_to_text(clip, targets(clip, 1), key=KEY, **arguments)


def test_wrong_embeddings(clip):
    good = np.ones((4, 12), np.float32)
    nan, zero = good.copy(), good.copy()
    nan[2, 0], zero[3] = np.nan, 0
    for invert, name in ((ja.invert_to_text, "image_embeddings"), (ja.invert_to_image, "text_embeddings")):
        for bad, message in (
            (good[:, :5], rf"{name} has shape \(4, 5\); expected \[n, 12\]"),
            (good[0], rf"{name} has shape \(12,\)"),
            (nan, rf"{name} has NaN .*first: 2"),
            (zero, rf"{name} is all zero in row 3"),
        ):
            with pytest.raises(JaxalignError, match=message):
                invert(clip, bad, key=KEY)
    with pytest.raises(JaxalignError, match="num_patches is 10; expected at most the 9 patches"):
        ja.invert_to_image(clip, good, num_patches=10, key=KEY)
    with pytest.raises(JaxalignError, match=r"without tokenizer\.json"):
        ja.invert_to_text(dataclasses.replace(clip, tokenizer=None), good, key=KEY)
