"""Modality inversion against the plain way: every token through the tower, one example at a time."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles_inversion as oracles
import pytest

import jaxalign as ja
from jaxalign.errors import JaxalignError

KEY = jax.random.key(7)
STEPS = 8
KEEP = (STEPS, 0, 4)
RNG = np.random.default_rng(0)
# Adam divides by the gradient's own size, so a rounding difference in a tiny component grows: 1e-3, not 1e-5
near = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)


def targets(model, n=5):
    return jnp.asarray(RNG.normal(size=(n, model.config.text.projection)), jnp.float32)


def start(i, shape):
    return 0.02 * jax.random.normal(jax.random.fold_in(KEY, i), shape)


@pytest.fixture(scope="module")
def inverted(model):
    """Five examples, and what they were to become; one compilation for many tests."""
    wanted = targets(model)
    return wanted, ja.invert_to_text(model, wanted, steps=STEPS, keep=KEEP, key=KEY)


def test_text_inversion_is_the_plain_loop(model, inverted):
    wanted, got = inverted
    assert got.tokens.shape == (5, 1, model.config.text.width)
    assert got.losses.shape == (5, STEPS)
    assert list(got.kept) == sorted(KEEP)
    np.testing.assert_array_equal(got.kept[STEPS], got.embeddings)
    np.testing.assert_array_equal(got.updates, [STEPS] * 5)
    assert (got.losses[:, -1] < got.losses[:, 0] - 0.01).all()
    embed = jax.jit(partial(oracles.full_text_path, model, "a photo of {}"))
    for i in (0, 4):
        losses, z = oracles.plain_descent(embed, wanted[i], start(i, got.tokens.shape[1:]), STEPS)
        near(got.losses[i], losses)
        near(got.embeddings[i], z)
        near(got.embeddings[i], embed(got.tokens[i]))
        near(got.kept[0][i], embed(start(i, got.tokens.shape[1:])))
        z = got.kept[4][i]
        near(1 - z @ wanted[i] / jnp.linalg.norm(z) / jnp.linalg.norm(wanted[i]), losses[4])


@pytest.mark.long
def test_image_inversion_is_the_plain_loop(model):
    wanted = targets(model, 2)
    got = ja.invert_to_image(model, wanted, steps=STEPS, num_patches=2, key=KEY)
    assert got.tokens.shape == (2, 2, model.config.image.width)
    embed = jax.jit(partial(oracles.full_image_path, model))
    losses, z = oracles.plain_descent(embed, wanted[1], start(1, got.tokens.shape[1:]), STEPS)
    near(got.losses[1], losses)
    near(got.embeddings[1], z)
    assert (got.losses[:, -1] < got.losses[:, 0] - 0.1).all()


@pytest.mark.long
def test_an_example_depends_neither_on_its_batch_nor_on_lengths(model, inverted):
    wanted, whole = inverted
    sizes = []
    split = ja.invert_to_text(
        model,
        wanted * 50,
        steps=STEPS,
        keep=KEEP,
        key=KEY,
        batch_size=2,
        on_batch=lambda rows, part: sizes.append((rows.tolist(), len(part.tokens))),
    )
    assert sizes == [([0, 1], 2), ([2, 3], 2), ([4], 1)]
    jax.tree.map(near, split, whole)


@pytest.mark.long
def test_an_interrupted_run_goes_on_with_what_is_missing(clip):
    wanted = targets(clip)
    invert = partial(ja.invert_to_text, clip, steps=STEPS, key=KEY, batch_size=2)
    done = {}

    def store(rows, part):
        done.update(zip(rows.tolist(), np.asarray(part.embeddings), strict=True))
        if len(done) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert(wanted, on_batch=store)
    missing = [i for i in range(5) if i not in done]
    assert missing == [4]
    rest = invert(wanted[jnp.array(missing)], indices=missing)
    found = np.stack([*(done[i] for i in range(4)), *np.asarray(rest.embeddings)])
    near(found, invert(wanted).embeddings)


@pytest.mark.long
def test_converged_examples_stay_where_they_are(clip):
    """Alone and beside one that goes on; the loss of the easy one has reached its floor."""
    wanted = targets(clip, 2)
    easy = ja.invert_to_text(clip, wanted, steps=60, key=KEY).embeddings[0]
    wanted = wanted.at[0].set(easy)
    run = partial(ja.invert_to_text, clip, steps=120, key=KEY, keep=(0, 119, 120))
    got = run(wanted, tolerance=0.02)
    updates, losses = np.asarray(got.updates), np.asarray(got.losses)
    assert (updates < 120).all()
    assert updates[0] != updates[1]
    for i, taken in enumerate(updates):
        assert (losses[i, taken:] == losses[i, taken]).all()
        assert losses[i, taken - 10 : taken + 1].min() > losses[i, : taken - 9].min() - 0.02
        plain = run(wanted[i : i + 1], steps=int(taken), keep=(), indices=[i])
        near(got.embeddings[i], plain.embeddings[0])
        near(got.tokens[i], plain.tokens[0])
    np.testing.assert_array_equal(got.kept[119], got.embeddings)
    np.testing.assert_array_equal(got.kept[120], got.embeddings)


@pytest.mark.long
def test_warm_start(clip, inverted):
    wanted = targets(clip, 2)
    cat = clip.params["txt"]["Embed_0"]["embedding"][7]
    got = ja.invert_to_text(clip, wanted, steps=1, initial=cat[None], keep=(0,))
    (embedding,) = clip.encode_text(["a photo of cat"])
    near(got.kept[0], jnp.stack([embedding] * 2))
    again = ja.invert_to_text(clip, wanted, steps=1, initial=got.tokens, keep=(0,))
    near(again.kept[0], got.embeddings)


@pytest.mark.long
def test_bfloat16_tower_keeps_the_optimiser_in_float32(clip):
    wanted = targets(clip, 3)
    run = partial(ja.invert_to_text, image_embeddings=wanted, steps=40, key=KEY)
    exact, rounded = run(clip), run(dataclasses.replace(clip, dtype=jnp.bfloat16))
    assert {x.dtype for x in jax.tree.leaves(rounded)} == {jnp.dtype("float32"), jnp.dtype("int32")}
    # bfloat16 has 8 bits: 0.4 % in each product; after 40 steps the losses still agree to two digits
    np.testing.assert_allclose(rounded.losses, exact.losses, atol=0.03)


@pytest.mark.long
def test_inversion_under_jit_with_the_default_number_of_patches(clip):
    invert = lambda x: ja.invert_to_image(clip, x, steps=1, key=KEY).tokens
    assert jax.jit(invert)(targets(clip, 2)).shape == (2, clip.spec.inversion_patches, 32)


@pytest.mark.long
def test_examples_that_cannot_be_inverted(clip):
    wanted = np.asarray(targets(clip, 5))
    bad = wanted.copy()
    bad[1, 0], bad[3], bad[4, 2] = np.nan, 0, np.inf
    invert = partial(ja.invert_to_text, clip, steps=2, key=KEY, keep=(1,), indices=np.arange(100, 105))
    with pytest.raises(JaxalignError, match="in 3 of 5 examples: 101, 103, 104; leave them out, or"):
        invert(bad, on_batch=lambda rows, part: pytest.fail("work was done"))
    parts = []
    got = invert(bad, skip_invalid=True, on_batch=lambda rows, part: parts.append(part))
    alone = invert(wanted)
    for x, y in zip(jax.tree.leaves(got)[:-1], jax.tree.leaves(alone)[:-1], strict=True):
        assert np.isnan(x[jnp.array([1, 3, 4])]).all()
        np.testing.assert_array_equal(x[jnp.array([0, 2])], y[jnp.array([0, 2])])
    np.testing.assert_array_equal(got.updates, [2, 0, 2, 0, 0])
    np.testing.assert_array_equal(parts[0].embeddings, got.embeddings)


@pytest.mark.long
def test_memory_grows_with_the_batch_and_not_with_the_steps(clip):
    from jaxalign.inversion.descent import Descent, descend
    from jaxalign.inversion.image_path import ImagePath

    path = ImagePath(clip.config.image, clip.dtype, 4)

    def peak(n, steps):
        descent = Descent(steps, 0.02, 0.01, (), None)
        arguments = (clip.params["img"], jnp.ones((n, 12)), jnp.zeros((n, 4, 32)))
        return descend.lower(path, descent, *arguments).compile().memory_analysis().temp_size_in_bytes

    few = peak(8, 4)
    assert peak(8, 400) - few < 8 * 400 * 4 * 3  # the losses
    assert peak(32, 4) < 4.5 * few
    assert 1 / 3 < few / (8 * 4 * path.floats) < 3  # what the batch size is computed from


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
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"key": None}, "key is missing; expected"),
        ({"initial": np.ones((2, 20))}, r"initial has shape \(2, 20\); expected \[1, 20\] for all"),
        ({"initial": np.full((1, 20), np.nan)}, "initial has NaN"),
        ({"indices": [0, 1]}, r"indices have shape \(2,\)"),
        ({"mesh": jax.make_mesh((1,), ("model",))}, "mesh has the axes 'model'; expected one called 'data'"),
    ],
)
def test_wrong_arguments(clip, arguments, message):
    with pytest.raises(JaxalignError, match=message):
        ja.invert_to_text(clip, targets(clip, 1), **{"key": KEY, **arguments})


def test_wrong_embeddings_and_models(clip):
    good = np.ones((4, 12), np.float32)
    for invert, name in ((ja.invert_to_text, "image_embeddings"), (ja.invert_to_image, "text_embeddings")):
        for bad, message in (
            (good[:, :5], rf"{name} has shape \(4, 5\); expected \[n, 12\]"),
            (good[0], rf"{name} has shape \(12,\)"),
            (good[:0], rf"{name} has shape \(0, 12\)"),
        ):
            with pytest.raises(JaxalignError, match=message):
                invert(clip, bad, key=KEY)
    with pytest.raises(JaxalignError, match="num_patches is 10; expected at most the 9 patches"):
        ja.invert_to_image(clip, good, num_patches=10, key=KEY)
    with pytest.raises(JaxalignError, match="tokenizer"):
        ja.invert_to_text(dataclasses.replace(clip, tokenizer=None), good, key=KEY)


def test_towers_that_cannot_be_inverted_through():
    image_only, convolutional = (
        ja.DualEncoder(ja.find_spec(name), {}) for name in ("dinov2-base", "clip-rn50")
    )
    for invert in (ja.invert_to_text, ja.invert_to_image):
        with pytest.raises(JaxalignError, match="dinov2-base"):
            invert(image_only, np.ones((1, 768)), key=KEY)
    with pytest.raises(JaxalignError, match="is a ResNet; expected a vision transformer"):
        ja.invert_to_image(convolutional, np.ones((1, 1024)), key=KEY)
