"""What holds for every kind of image tower."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_towers import KINDS, VITS, random_tower, tiny_config

from jaxalign.models import ImageTower, ImageTowerConfig, image_tower
from jaxalign.models.resnet import FrozenBatchNorm
from jaxalign.models.rope import rotate, rotation_table

RNG = np.random.default_rng(0)
close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
every_kind = pytest.mark.parametrize("kind", KINDS)
every_vit = pytest.mark.parametrize("kind", VITS)


@cache
def tower(kind):
    """Module, parameters and five images."""
    config = tiny_config(kind)
    pixels = RNG.normal(size=(5, config.image_size, config.image_size, 3))
    return image_tower(config), random_tower(config), jnp.asarray(pixels, jnp.float32)


@cache
def run(kind):
    module, _, _ = tower(kind)
    return jax.jit(lambda p, x: module.bind({"params": p})(x))


@every_kind
def test_the_embedding_is_the_head_of_the_pre_projection_feature(kind):
    module, params, x = tower(kind)
    z, out = run(kind)(params, x)
    pre, config = out["pre_logits"], module.config
    assert pre.shape == (5, config.width)
    assert z.shape == (5, config.embedding_width)
    if "head" in params:
        close(z, pre @ params["head"]["kernel"] + params["head"].get("bias", 0))
    elif kind == "siglip":
        assert np.abs(z - pre).max() > 0.1
    else:
        close(z, pre)


@every_kind
def test_no_image_gives_no_embedding(kind):
    module, params, x = tower(kind)
    z, _ = jax.eval_shape(lambda p, x: module.bind({"params": p})(x), params, x[:0])
    assert z.shape == (0, module.config.embedding_width)


@every_kind
def test_images_do_not_see_each_other(kind):
    _, params, x = tower(kind)
    one, other = run(kind)(params, x)[0], run(kind)(params, x.at[2].multiply(-1))[0]
    assert np.abs(one[2] - other[2]).max() > 1e-3
    close(np.delete(one, 2, 0), np.delete(other, 2, 0))


@every_kind
@pytest.mark.long
def test_every_parameter_matters(kind):
    """A gradient that is zero is a parameter that is read nowhere; keys' bias alone cancels in a softmax."""
    config = tiny_config(kind)
    config = replace(config, depth=1) if isinstance(config, ImageTowerConfig) else config
    module, params, x = image_tower(config), random_tower(config), tower(kind)[2]
    gradient = jax.jit(jax.grad(lambda p: jnp.square(module.bind({"params": p})(x)[0]).sum()))(params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rotated = getattr(module.config, "rope", None) is not None and "encoderblock" in name
        if "key/bias" in name and not rotated:
            assert jnp.abs(leaf).max() < 1e-3, name
        else:
            assert jnp.abs(leaf).max() > 1e-4, name


@every_kind
@pytest.mark.long
def test_bfloat16_stays_near(kind):
    module, params, x = tower(kind)
    exact = run(kind)(params, x)[0]
    half, _ = jax.jit(image_tower(module.config, jnp.bfloat16).apply)({"params": params}, x)
    assert half.dtype == jnp.bfloat16
    half = half.astype(jnp.float32)
    cosine = (exact * half).sum(-1) / jnp.linalg.norm(exact, axis=-1) / jnp.linalg.norm(half, axis=-1)
    assert cosine.min() > 0.99


@every_vit
@pytest.mark.long
def test_all_patches_kept_is_no_patch_dropout_in_any_order(kind):
    module, params, x = tower(kind)
    order = np.stack([RNG.permutation(9) for _ in x])
    embed = jax.jit(lambda kept: module.bind({"params": params})(x, kept_patches=kept)[0])
    close(embed(order), run(kind)(params, x)[0])


@every_vit
@pytest.mark.long
def test_encode_takes_what_the_patch_embedding_gives(kind):
    module, params, x = tower(kind)
    bound = module.bind({"params": params})
    close(jax.jit(bound.encode)(bound.embedding(x))[0], run(kind)(params, x)[0])


@every_vit
@pytest.mark.long
def test_the_last_block_computes_only_what_is_pooled(kind):
    module, params, _ = tower(kind)
    config = module.config

    @jax.jit
    def encode(x):
        bound = module.bind({"params": params})
        rotation = bound._rotation(None)
        whole, _ = bound.Transformer(x, rotation=rotation)
        return [
            (whole[:, only], bound.Transformer(x, rotation=rotation, only=only)[0])
            for only in (slice(0, 1), slice(-3, None))
        ]

    for whole, part in encode(jnp.asarray(RNG.normal(size=(2, config.num_prefix + 9, 32)), jnp.float32)):
        close(part, whole)


@every_vit
def test_patches_at_other_places_are_another_image(kind):
    """Positions, learned or rotary, reach the embedding."""
    _, params, x = tower(kind)
    moved = jnp.roll(x, 4, axis=2)
    assert np.abs(run(kind)(params, moved)[0] - run(kind)(params, x)[0]).max() > 1e-3


@pytest.mark.long
def test_pixels_beyond_the_last_whole_patch_are_not_seen():
    config = tiny_config("siglip")
    params = random_tower(config)
    x = jnp.asarray(RNG.normal(size=(2, 14, 14, 3)), jnp.float32)
    wider = jax.jit(ImageTower(replace(config, image_size=14)).apply)({"params": params}, x)[0]
    close(wider, jax.jit(ImageTower(config).apply)({"params": params}, x[:, :12, :12])[0])


def complex_rotation(kind, x, side, reference):
    """The formulas of the three papers with complex numbers, in float64, patch by patch: x [side^2, h]."""
    h = x.shape[1]
    k = np.arange(h // 4)
    result = np.empty_like(x)
    for place in range(side * side):
        i, j = divmod(place, side)
        if kind == "eva02":
            a, b = (c / side * reference * 10000.0 ** (-4 * k / h) for c in (i, j))
        elif kind == "pe":
            a, b = (c * 10000.0 ** (-4 * k / h) for c in (j + 1, i + 1))
        else:
            a, b = (2 * np.pi * (2 * (c + 0.5) / side - 1) / 100.0 ** (4 * k / h) for c in (i, j))
        turn = np.exp(1j * np.concatenate([a, b]))
        if kind == "dinov3":
            y = (x[place, : h // 2] + 1j * x[place, h // 2 :]) * turn
            result[place] = np.concatenate([y.real, y.imag])
        else:
            y = (x[place, ::2] + 1j * x[place, 1::2]) * turn
            result[place] = np.stack([y.real, y.imag], 1).reshape(h)
    return result


@pytest.mark.parametrize("side", [3, 14])
@pytest.mark.parametrize("kind", ["eva02", "pe", "dinov3"])
def test_rotation_is_multiplication_by_complex_numbers(kind, side):
    x = RNG.normal(size=(2 + side * side, 16))
    reference = 16 if kind == "eva02" else None
    tables = rotation_table(kind, side, 16, reference=reference, prefix=2)
    got = rotate(jnp.asarray(x, jnp.float32)[None, :, None], tuple(map(jnp.asarray, tables)), kind)[0, :, 0]
    np.testing.assert_array_equal(got[:2], x[:2].astype(np.float32))
    # float32 angles of up to 14 patches, whose sine and cosine are taken
    np.testing.assert_allclose(got[2:], complex_rotation(kind, x[2:], side, reference), atol=2e-5)


def test_eva_grids_of_every_size_span_the_pretraining_grid():
    """Row i of a grid that is twice as fine lies where row i / 2 does."""
    coarse = rotation_table("eva02", 7, 16, reference=16)[0].reshape(7, 7, 16)
    fine = rotation_table("eva02", 14, 16, reference=16)[0].reshape(14, 14, 16)
    np.testing.assert_allclose(fine[::2, ::2], coarse, atol=1e-5)


def test_frozen_batch_norm_is_an_affine_map():
    x = RNG.normal(size=(2, 3, 3, 4))
    params = {name: RNG.uniform(0.5, 2, 4) for name in ("scale", "bias", "mean", "var")}
    exact = (x - params["mean"]) / np.sqrt(params["var"] + 1e-5) * params["scale"] + params["bias"]
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), params)
    close(FrozenBatchNorm(1e-5).apply({"params": params}, jnp.asarray(x, jnp.float32)), exact)


def test_defaults_are_those_of_the_first_two_models():
    """A configuration that was saved before the other kinds existed means the same."""
    cls = tiny_config("clip")
    assert isinstance(cls, ImageTowerConfig)
    sizes = {name: getattr(cls, name) for name in ("image_size", "patch_size", "width", "depth", "heads")}
    rest = {"mlp_hidden": 8, "activation": "gelu", "norm_epsilon": 1e-5, "projection": None}
    by_cls = ImageTowerConfig(**sizes, **rest, pooling="cls")
    by_map = ImageTowerConfig(**sizes, **rest, pooling="map")
    assert (by_cls.num_prefix, by_map.num_prefix) == (1, 0)
    assert by_cls.rope is None
    assert not any((by_cls.pre_norm, by_cls.layer_scale, by_cls.sub_norm, by_cls.gated_mlp))
