"""The towers against slow or independent computations, at random weights."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.models import ImageTower, TextTower, TwoTowersConfig
from jaxalign.models.attention import MultiHeadDotProductAttention
from jaxalign.models.image_tower import PatchEmbedding
from jaxalign.models.layers import ACTIVATIONS, LayerNorm
from jaxalign.models.transformer import EncoderBlock

RNG = np.random.default_rng(0)
close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def pixels(model, n=3):
    side = model.config.image.image_size
    return normal(n, side, side, 3)


def test_layer_norm_keeps_the_digits_of_a_large_offset():
    x = 1000 + RNG.normal(size=(4, 64))
    exact = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    params = {"scale": jnp.ones(64), "bias": jnp.zeros(64)}
    got = LayerNorm(1e-5).apply({"params": params}, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, exact, atol=2e-4)  # the input itself is rounded to 6e-5


def test_attention_is_flax_attention():
    x = normal(2, 5, 12)
    theirs = nn.MultiHeadDotProductAttention(num_heads=3)
    params = jax.tree.map(lambda p: normal(*p.shape), theirs.init(jax.random.key(0), x)["params"])
    ours, _ = MultiHeadDotProductAttention(3).bind({"params": params})(x)
    close(ours, theirs.apply({"params": params}, x))


@pytest.mark.parametrize("use_bias", [True, False])
def test_patch_embedding_is_a_strided_convolution(use_bias):
    x, params = (
        normal(2, 12, 12, 3),
        {"kernel": normal(4, 4, 3, 7)} | ({"bias": normal(7)} if use_bias else {}),
    )
    conv = nn.Conv(7, (4, 4), (4, 4), padding="VALID", use_bias=use_bias).apply({"params": params}, x)
    close(PatchEmbedding(4, 7, use_bias).apply({"params": params}, x), conv.reshape(2, 9, 7))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_zero_at_zero_with_slope_one_half(name):
    f = ACTIVATIONS[name]
    slope = (f(0.25) - f(-0.25)) / 0.5  # of the odd part, which is linear: relu has no other at zero
    assert f(0.0) == 0
    close(slope, 0.5)


@pytest.mark.long
def test_a_cached_prefix_changes_nothing(clip):
    @jax.jit
    def encode(x):
        tower = TextTower(clip.config.text).bind({"params": clip.params["txt"]})
        first, cache = tower.encode(x[:, :4])
        rest, _ = tower.encode(x[:, 4:], start=4, cache=cache)
        last, _ = tower.encode(x[:, 4:], start=4, cache=cache, only=slice(-1, None))
        return tower.encode(x)[0], jnp.concatenate([first, rest], 1), last

    whole, in_two_parts, last = encode(normal(2, 9, clip.config.text.width))
    close(in_two_parts, whole)
    close(last, whole[:, -1:])


def test_a_causal_tower_ignores_what_follows_the_first_end_token(clip):
    tokens = np.array([[2, 4, 7, 3, 0, 0, 0, 0, 0, 0], [2, 4, 7, 3, 9, 3, 8, 3, 5, 5]])
    one, other = clip.apply_text(clip.params, tokens)
    close(one, other)


@pytest.mark.long
def test_a_bidirectional_tower_attends_over_the_padding(siglip):
    tokens = np.array([[4, 7, 3, 0, 0, 0, 0, 0, 0, 0], [4, 7, 3, 0, 0, 0, 5, 0, 0, 0]])
    one, other = siglip.apply_text(siglip.params, tokens)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.long
def test_where_a_text_tower_pools(clip, causal):
    """The end token's position, that of the largest id, the first or the last, whatever the mask."""
    tokens = np.array([[2, 4, 13, 3, 0, 3, 0, 0, 0, 1], [2, 3, 7, 12, 11, 12, 8, 3, 5, 5]])
    for pooling, positions in {"end": (3, 1), "argmax": (2, 3), "first": (0, 0), "last": (9, 9)}.items():
        config = dataclasses.replace(clip.config.text, causal=causal, pooling=pooling)
        tower = TextTower(config).bind({"params": clip.params["txt"]})
        encoded = tower.encode(tower.embed(tokens))[0]
        _, out = tower(tokens)
        close(out["pre_logits"], encoded[jnp.arange(2), jnp.array(positions)])
    assert dataclasses.replace(clip.config.text, causal=causal).pools_at == ("end" if causal else "last")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.long
def test_the_mean_of_the_patches(clip, after):
    """Of the normalised patches, or normalised itself."""
    config = dataclasses.replace(clip.config.image, pooling="avg", class_token=True, norm_after_pool=after)
    params, x = clip.params["img"], pixels(clip, 2)
    plain = dataclasses.replace(config, depth=2)
    tower = ImageTower(plain).bind({"params": params})
    tokens = tower._with_positions(tower.embedding(x), None)
    tokens = tower.pre_norm(tokens) if plain.pre_norm else tokens
    norm = params["Transformer"]["encoder_norm"]

    def normalise(y):
        y = y - y.mean(-1, keepdims=True)
        y = y / jnp.sqrt((y * y).mean(-1, keepdims=True) + config.norm_epsilon)
        return y * norm["scale"] + norm["bias"]

    for i in range(config.depth):
        block = EncoderBlock(config.block).bind({"params": params["Transformer"][f"encoderblock_{i}"]})
        tokens, _ = block(tokens)
    patches = tokens[:, 1:]
    expected = normalise(patches.mean(1)) if after else normalise(patches).mean(1)
    close(tower(x)[1]["pre_logits"], expected)


@pytest.mark.long
def test_all_patches_kept_is_no_patch_dropout(model):
    x, count = pixels(model, 2), model.config.image.num_patches
    tower = ImageTower(model.config.image)
    embed = jax.jit(lambda kept: tower.bind({"params": model.params["img"]})(x, kept_patches=kept)[0])
    close(embed(jnp.broadcast_to(jnp.arange(count), (2, count))), model.apply_image(model.params, x))


def test_the_last_block_computes_only_what_is_pooled(clip):
    """The class token alone in the last block gives what slicing it off afterwards does."""

    @jax.jit
    def encode(x):
        tower = ImageTower(clip.config.image).bind({"params": clip.params["img"]})
        return tower.Transformer(x)[0][:, :1], tower.Transformer(x, only=slice(0, 1))[0]

    close(*encode(normal(2, 10, clip.config.image.width)))


@pytest.mark.long
def test_bfloat16_stays_near(model):
    x = pixels(model)
    exact = model.apply_image(model.params, x)
    half = dataclasses.replace(model, dtype=jnp.bfloat16).apply_image(model.params, x)
    assert half.dtype == jnp.bfloat16
    cosine = (
        (exact * half.astype(jnp.float32)).sum(-1)
        / jnp.linalg.norm(exact, axis=-1)
        / jnp.linalg.norm(half.astype(jnp.float32), axis=-1)
    )
    assert cosine.min() > 0.99


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("image", {"image_size": 7}, "image_size 7 is smaller than patch_size 8"),
        ("image", {"class_token": False}, "pooling is 'cls' without a class token"),
        ("image", {"pool_heads": 5}, "width 32 is not a multiple of 5 pool_heads"),
        ("image", {"rope": "pe", "heads": 16}, "heads are 2 wide; expected a multiple of 4"),
        ("image", {"registers": -1}, "registers = -1"),
        ("image", {"heads": 3}, "width 32 is not a multiple of 3 heads"),
        ("image", {"activation": "quick_gellu"}, "did you mean 'quick_gelu'"),
        ("text", {"depth": 0}, "depth = 0; expected sizes of 1 or more"),
        ("text", {"end_token": 99}, "end_token is 99; expected an id below"),
        ("text", {"projection": 5}, "the image tower ends in width"),
    ],
)
def test_sizes_that_do_not_fit_are_named(clip, part, change, message):
    towers = {"image": clip.config.image, "text": clip.config.text}
    build = lambda: TwoTowersConfig(
        **(towers | {part: dataclasses.replace(towers[part], **change)}), logit_bias=False
    )
    with pytest.raises(JaxalignError, match=message):
        build()
