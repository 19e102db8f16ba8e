"""What a step computes, against the whole tower: embeddings and gradients."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles_inversion as oracles
import pytest
from conftest import random_params

import jaxalign as ja
from jaxalign.inversion.image_path import ImagePath
from jaxalign.inversion.prompt import text_path
from jaxalign.inversion.text_path import TextPath
from jaxalign.models import TextTower, TwoTowersConfig
from jaxalign.specs import MODELS

RNG = np.random.default_rng(0)


def spread(n):
    """Weights [n] that make one number of embeddings in which no component is lost."""
    return jnp.asarray(RNG.normal(size=n), jnp.float32)


def same_value_and_gradient(ours, plain, tokens):
    """Both functions of `tokens`: embeddings and gradients to 1e-5 of the largest component."""
    weights = spread(jax.eval_shape(plain, tokens).shape)

    def gradient_and_value(function):
        def number(x):
            z = function(x)
            return (z * weights).sum(), z

        return jax.jit(jax.grad(number, has_aux=True))(tokens)

    results = gradient_and_value(ours), gradient_and_value(plain)
    for got, expected in zip(*results, strict=True):  # gradient, embedding
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5 * float(jnp.abs(expected).max()))


SIMPLER = [pytest.param(template, 1, marks=pytest.mark.long) for template in ("{}", "a photo of {}")]


@pytest.mark.parametrize(("template", "count"), [("red {} on blue", 2), *SIMPLER])
@pytest.mark.long
def test_live_tokens_alone_give_the_embedding_and_gradient_of_all(model, template, count):
    tokens = jnp.asarray(RNG.normal(size=(2, count, model.config.text.width)), jnp.float32)
    path = text_path(model, template, count)
    prepared = path.prepare(model.params["txt"])
    full = lambda x: jnp.stack([oracles.full_text_path(model, template, one) for one in x])
    same_value_and_gradient(lambda x: path(prepared, x), full, tokens)


def pooling_at(model, pooling, causal=True):
    text = replace(model.config.text, pooling=pooling, causal=causal)
    return replace(model, spec=replace(model.spec, towers=replace(model.config, text=text)))


@pytest.mark.long
def test_a_causal_tower_that_pools_the_last_position(clip):
    """Its padding is looked at."""
    model = pooling_at(clip, "last")
    tokens = jnp.asarray(RNG.normal(size=(2, 1, model.config.text.width)), jnp.float32)
    path = text_path(model, "a photo of {}", 1)
    prepared = path.prepare(model.params["txt"])
    full = lambda x: jnp.stack([oracles.full_text_path(model, "a photo of {}", one) for one in x])
    same_value_and_gradient(lambda x: path(prepared, x), full, tokens)


@pytest.mark.parametrize(
    ("pooling", "causal", "message"),
    [
        ("first", True, "has a causal mask and pools 'first'; textual inversion needs"),
        ("end", False, "has no mask and pools 'end'; textual inversion needs"),
        ("argmax", True, "has the id 6, which this tower pools instead of the end token 3"),
    ],
)
def test_texts_that_are_pooled_elsewhere(clip, pooling, causal, message):
    with pytest.raises(ja.JaxalignError, match=message):
        text_path(pooling_at(clip, pooling, causal), "a photo of {}", 1)


def shrunk(config):
    """A text tower's options at a small size, with its own context."""
    return replace(
        config, vocabulary=20, width=32, depth=2, heads=4, mlp_hidden=48, projection=24, end_token=19
    )


TEXT_TOWERS = {shrunk(spec.towers.text): name for name, spec in MODELS.items() if spec.towers.text}


@pytest.mark.long
@pytest.mark.parametrize("config", TEXT_TOWERS, ids=TEXT_TOWERS.values())
def test_every_backbone_at_its_own_context(config):
    """ "start a photo of v end", all positions of the context; once for each kind of text tower there is."""
    spec = MODELS[TEXT_TOWERS[config]]
    image = replace(MODELS["emoji-clip"].towers.image, image_size=8, projection=24)
    params = random_params(TwoTowersConfig(image, config, False))["txt"]
    before = (1, 2, 3) if spec.start_token is None else (0, 1, 2, 3)
    padding = (0,) * (config.context - len(before) - 2)
    path = TextPath(config, jnp.dtype("float32"), before, 1, (19,) if config.causal else (19, *padding))
    prepared = path.prepare(params)
    ids = jnp.array([*before, 5, 19, *padding])[None]
    tower = TextTower(config).bind({"params": params})

    def full(tokens):
        x = tower.embed(ids).at[:, len(before)].set(tokens[0])
        return tower.project(tower.pool(tower.encode(x)[0], ids))

    tokens = jnp.asarray(RNG.normal(size=(1, 1, config.width)), jnp.float32)
    same_value_and_gradient(lambda x: path(prepared, x), full, tokens)


@pytest.mark.parametrize("live", ["pairs", "products"])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.long
def test_gradient_in_float64_is_the_slope_of_the_numpy_tower(clip, causal, live):
    config = replace(clip.config.text, causal=causal, depth=2)
    before, after = (2, 4), ((3,) if live == "pairs" else (6, 7, 8, 9, 3))
    tokens, ids = RNG.normal(size=(2, config.width)), [*before, 0, 0, *after]
    weights = RNG.normal(size=config.projection)
    embed = lambda x: oracles.text_embedding(clip.params["txt"], config, np.array(ids), [2, 3], x)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), jnp.float64), clip.params["txt"])
        path = TextPath(config, jnp.dtype("float64"), before, 2, after)
        prepared = path.prepare(params)

        @partial(jax.grad, has_aux=True)
        def gradient_and_embedding(x):
            z = path(prepared, x[None])[0]
            return z @ weights, z

        gradient, z = jax.jit(gradient_and_embedding)(jnp.asarray(tokens))
        assert gradient.dtype == jnp.float64
        np.testing.assert_allclose(z, embed(tokens), rtol=1e-6, atol=1e-6)  # the towers' LayerNorm is float32
        for direction in RNG.normal(size=(3, *tokens.shape)):
            slope = (embed(tokens + 1e-5 * direction) - embed(tokens - 1e-5 * direction)) @ weights / 2e-5
            # the prefix passed through the tower's LayerNorm, which is float32
            np.testing.assert_allclose((gradient * direction).sum(), slope, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.long)])
def test_patches_are_repeated_in_reading_order(clip, count):
    path = ImagePath(clip.config.image, clip.dtype, count)
    tokens = jnp.asarray(RNG.normal(size=(2, count, 32)), jnp.float32)
    params = clip.params["img"]
    full = lambda x: jnp.stack([oracles.full_image_path(clip, one) for one in x])
    same_value_and_gradient(lambda x: path(path.prepare(params), x), full, tokens)


@pytest.mark.long
def test_attention_pool_too(siglip):
    path = ImagePath(siglip.config.image, siglip.dtype, 2)
    tokens = jnp.asarray(RNG.normal(size=(1, 2, 32)), jnp.float32)
    full = lambda x: oracles.full_image_path(siglip, x[0])[None]
    same_value_and_gradient(lambda x: path(path.prepare(siglip.params["img"]), x), full, tokens)


def test_no_gradient_of_a_parameter_is_formed(clip):
    """The backward pass holds as many products with kernels as the forward one, not twice as many."""
    path = text_path(clip, "a photo of {}", 1)
    prepared = path.prepare(clip.params["txt"])
    tokens = jnp.zeros((3, 1, clip.config.text.width))
    forward = lambda x: path(prepared, x).sum()
    count = lambda f: str(jax.make_jaxpr(f)(tokens)).count("dot_general")
    plain, both = count(forward), count(jax.grad(forward))
    assert both <= 2 * plain + 2 * clip.config.text.depth  # two products of the cached keys and values each
