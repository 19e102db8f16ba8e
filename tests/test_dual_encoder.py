"""Images and texts in, features out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_towers import random_tower, tiny_config

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.models import TwoTowersConfig
from jaxalign.specs import find_spec

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 30, 40, 3), dtype=np.uint8)
TEXTS = ["a cat", "a red dog on blue", "apple"]


def test_all_kinds_of_images_agree(model, tmp_path):
    expected = model.encode_image(IMAGES)
    Image.fromarray(IMAGES[1]).save(tmp_path / "1.png")
    mixed = [
        IMAGES[0],
        str(tmp_path / "1.png"),
        tmp_path / "1.png",
        Image.fromarray(IMAGES[3]),
        jnp.asarray(IMAGES[4]),
    ]
    np.testing.assert_allclose(model.encode_image(mixed), expected[jnp.array([0, 1, 1, 3, 4])], atol=1e-5)
    ready = model.image_processor(IMAGES)
    np.testing.assert_allclose(model.encode_image(ready), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode_image(jnp.asarray(ready)), expected, atol=1e-5)
    assert expected.shape == (5, model.config.image.embedding_width)
    assert expected.dtype == jnp.float32


def test_batches_do_not_matter(model):
    np.testing.assert_allclose(
        model.encode_image(IMAGES, batch_size=2), model.encode_image(IMAGES), atol=1e-5
    )
    np.testing.assert_allclose(model.encode_text(TEXTS, batch_size=2), model.encode_text(TEXTS), atol=1e-5)


def test_text_projector_is_the_head(model):
    pre = model.encode_text(TEXTS, projected=False)
    assert pre.shape == (3, model.config.text.width)
    np.testing.assert_allclose(model.projectors.text(pre), model.encode_text(TEXTS), atol=1e-5)


def test_image_projector_is_the_head(clip):
    pre = clip.encode_image(IMAGES, projected=False)
    assert pre.shape == (5, clip.config.image.width)
    np.testing.assert_allclose(clip.projectors.image(pre), clip.encode_image(IMAGES), atol=1e-5)


def test_mlp_head_is_linearised_about_its_input(siglip):
    """With a small MLP the tower's head is x + mlp(LN x), and the projector is close to it."""
    head = siglip.params["img"]["MAPHead_0"]
    quiet = jax.tree.map(lambda p: 1e-3 * p, head["MlpBlock_0"]["Dense_1"])
    params = {
        **siglip.params,
        "img": {
            **siglip.params["img"],
            "MAPHead_0": {**head, "MlpBlock_0": {**head["MlpBlock_0"], "Dense_1": quiet}},
        },
    }
    model = dataclasses.replace(siglip, params=params)
    pre, z = model.encode_image(IMAGES, projected=False), model.encode_image(IMAGES)
    # the linearisation itself: the MLP is small, not zero
    np.testing.assert_allclose(model.projectors.image(pre), z, atol=0.05)
    np.testing.assert_allclose(pre, siglip.encode_image(IMAGES, projected=False), atol=1e-6)


@pytest.mark.long
def test_apply_is_pure_and_differentiable(model):
    x, tokens = model.image_processor(IMAGES[:2]), model.tokenizer(TEXTS[:2])

    def loss(params):
        return (model.apply_image(params, x) * model.apply_text(params, tokens)).sum()

    gradient = jax.jit(jax.grad(loss))(model.params)
    assert float(jnp.abs(gradient["img"]["embedding"]["kernel"]).max()) > 0
    assert float(jnp.abs(gradient["txt"]["Embed_0"]["embedding"]).max()) > 0
    np.testing.assert_allclose(
        jax.jit(model.apply_image)(model.params, x), model.encode_image(IMAGES[:2]), atol=1e-5
    )


def test_apply_under_vmap(clip):
    x = clip.image_processor(IMAGES[:2])
    each = jax.jit(jax.vmap(lambda one: clip.apply_image(clip.params, one[None], projected=False)[0]))(x)
    np.testing.assert_allclose(each, clip.encode_image(IMAGES[:2], projected=False), atol=1e-5)


@pytest.mark.long
def test_reduced_precision_gives_float32_features(clip):
    half = dataclasses.replace(clip, dtype=jnp.bfloat16)
    z = half.encode_image(IMAGES)
    assert z.dtype == jnp.float32
    assert float(jnp.abs(z - clip.encode_image(IMAGES)).max()) > 0
    assert half.encode_text(TEXTS).dtype == jnp.float32


def test_an_unreadable_image_is_named(clip, tmp_path):
    (tmp_path / "no.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(JaxalignError, match=r"image 1 \(.*no\.png\) cannot be read as an image"):
        clip.encode_image([IMAGES[0], tmp_path / "no.png"], batch_size=1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images is empty"),
        ("a.png", "images is a str; expected a list"),
        (Image.fromarray(IMAGES[0]), "images is a Image; expected a list"),
        (IMAGES[0], r"images has shape \(30, 40, 3\); expected uint8"),
        (IMAGES[..., :2], r"expected uint8 \[n, h, w, 3\]"),
        (IMAGES / 255, r"preprocessed images have shape \(5, 30, 40, 3\); expected \[n, 24, 24, 3\]"),
        (IMAGES.astype(np.int32), "pixels are int32; expected floats"),
        (np.full((2, 24, 24, 3), np.nan, np.float32), "image 0 has NaN"),
        ([IMAGES[0] / 255], "image 0 is an array of float64; expected uint8"),
        ([IMAGES[0], IMAGES], r"image 1 is an array of shape \(5, 30, 40, 3\)"),
        ([3], "image 0 is a int; expected a PIL image"),
    ],
)
def test_wrong_images(clip, images, message):
    with pytest.raises(JaxalignError, match=message):
        clip.encode_image(images)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("a cat", "texts is one string"),
        ([], "texts is empty"),
        (["a", 3], "text 1 is a int"),
        (5, "texts is a int"),
    ],
)
def test_wrong_texts(clip, texts, message):
    with pytest.raises(JaxalignError, match=message):
        clip.encode_text(texts)


def test_wrong_arrays_for_apply(clip):
    with pytest.raises(JaxalignError, match=r"expected int32 \[n, 10\]"):
        clip.apply_text(clip.params, np.zeros((2, 9), np.int32))
    with pytest.raises(JaxalignError, match=r"expected int32 \[n, 10\]"):
        clip.apply_text(clip.params, np.zeros((2, 10)))
    with pytest.raises(JaxalignError, match="pixels are uint8"):
        clip.apply_image(clip.params, IMAGES)
    with pytest.raises(JaxalignError, match="batch_size is 0"):
        clip.encode_image(IMAGES, batch_size=0)
    with pytest.raises(JaxalignError, match="dtype is int32"):
        dataclasses.replace(clip, dtype=jnp.int32)


def test_without_tokenizer_it_says_what_is_missing(clip):
    bare = dataclasses.replace(clip, tokenizer=None)
    with pytest.raises(JaxalignError, match=r"without tokenizer\.json"):
        bare.encode_text(TEXTS)
    np.testing.assert_allclose(
        bare.apply_text(bare.params, clip.tokenizer(TEXTS)), clip.encode_text(TEXTS), atol=1e-5
    )


def other_model(kind, clip, name):
    """A tiny image tower of `kind` beside `clip`'s text tower, or alone, with the facts of `name`."""
    image, spec = tiny_config(kind), find_spec(name)
    params = {"img": random_tower(image)}
    if spec.towers.text is None:
        spec = dataclasses.replace(spec, towers=TwoTowersConfig(image, None), position_resampling=None)
        return DualEncoder(dataclasses.replace(spec, resize_size=None), params)
    width = image.embedding_width
    text = dataclasses.replace(clip.config.text, projection=width)
    kernel = jnp.asarray(RNG.normal(size=(text.width, width)), jnp.float32)
    params |= {"txt": {**clip.params["txt"], "head": {"kernel": kernel}}, "t": clip.params["t"]}
    spec = dataclasses.replace(
        spec, towers=TwoTowersConfig(image, text), start_token=2, pad_token=0, inversion_patches=1
    )
    return DualEncoder(spec, params, clip.tokenizer)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("resnet", "RN50"), ("eva02", "EVA02-B-16"), ("pe", "PE-Core-B-16"), ("dinov2", "dinov2-base")],
)
@pytest.mark.long
def test_image_projectors_of_all_kinds_are_their_heads(clip, kind, name):
    model = other_model(kind, clip, name)
    pre, z = model.encode_image(IMAGES, projected=False), model.encode_image(IMAGES)
    np.testing.assert_allclose(model.image_projector(pre), z, atol=1e-5)
    assert (model.image_projector.bias is not None) == (kind in ("resnet", "eva02"))


def test_an_image_only_model_says_that_it_has_no_text_tower(clip):
    model = other_model("dinov2", clip, "dinov2-base")
    assert model.encode_image(IMAGES).shape == (5, model.config.image.width)
    for ask in (
        lambda: model.projectors,
        lambda: model.encode_text(TEXTS),
        lambda: model.apply_text(model.params, np.zeros((1, 10), np.int32)),
        model.require_tokenizer,
    ):
        with pytest.raises(
            JaxalignError, match="'dinov2-base' is an image tower alone: it has no text tower"
        ):
            ask()


def test_published_layout_of_siglip_transposes_both_heads(siglip):
    paper, published = siglip.projectors, siglip.with_layout("reference").projectors
    for one, other in ((paper.image, published.image), (paper.text, published.text)):
        np.testing.assert_allclose(one.kernel, other.kernel.T)
        np.testing.assert_allclose(one.bias, other.bias)


def test_published_layout_of_eva_drops_a_bias_and_transposes_the_text_head(clip):
    model = other_model("eva02", clip, "EVA02-B-16")
    paper, published = model.projectors, model.with_layout("reference").projectors
    assert paper.image.bias is not None
    assert published.image.bias is None
    np.testing.assert_array_equal(paper.image.kernel, published.image.kernel)
    np.testing.assert_array_equal(paper.text.kernel, published.text.kernel.T)


@pytest.mark.long
def test_published_layout_of_the_perception_encoder_skips_the_residual_mlp(clip):
    """Same projectors, another feature: with the MLP silenced the two agree."""
    model = other_model("pe", clip, "PE-Core-B-16")
    published = model.with_layout("reference")
    feature = lambda m: m.encode_image(IMAGES, projected=False)
    assert np.abs(feature(model) - feature(published)).max() > 0.1
    np.testing.assert_array_equal(model.projectors.image.kernel, published.projectors.image.kernel)
    np.testing.assert_allclose(published.encode_image(IMAGES), model.encode_image(IMAGES), atol=1e-6)
    head = model.params["img"]["MAPHead_0"]
    silent = {**head["MlpBlock_0"], "Dense_1": jax.tree.map(jnp.zeros_like, head["MlpBlock_0"]["Dense_1"])}
    params = {**model.params, "img": {**model.params["img"], "MAPHead_0": {**head, "MlpBlock_0": silent}}}
    quiet = dataclasses.replace(model, params=params)
    np.testing.assert_allclose(feature(quiet), feature(published), atol=1e-5)


def test_other_models_have_one_layout(clip):
    with pytest.raises(JaxalignError, match="unknown layout 'refrence'; did you mean 'reference'"):
        clip.with_layout("refrence")
    np.testing.assert_array_equal(
        clip.projectors.text.kernel, clip.with_layout("reference").projectors.text.kernel
    )


def test_floats_that_look_unprocessed_are_refused(clip):
    """In [0, 1] or up to 255, whatever their type; what cannot be told from normalised images passes."""
    side = clip.config.image.image_size
    images = RNG.integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    bright = RNG.integers(150, 170, (1, side, side, 3), dtype=np.uint8)
    ready = clip.image_processor(images)
    resized = images / 255 * 1.1 - 0.05
    for wrong in (images / 255, images.astype(np.float32), resized, images // 32 / 255, images - 120.0):
        for kind in (np.float32, np.float16, jnp.bfloat16):
            with pytest.raises(
                JaxalignError, match=r"look unprocessed; normalised ones go .*astype\('uint8'\)"
            ):
                clip.encode_image(jnp.asarray(wrong, kind))
    for right in (ready, clip.image_processor(bright), 1.5 * ready, np.zeros_like(ready), ready[:1] * 0 - 1):
        assert clip.encode_image(right).shape == (len(right), 12)
    spec = dataclasses.replace(clip.spec, mean=(0.0,) * 3, std=(1.0,) * 3)
    unscaled = dataclasses.replace(clip, spec=spec)
    assert unscaled.encode_image(images / 255).shape == (2, 12)


def test_deep_grey_images_are_refused(clip, tmp_path):
    Image.fromarray(RNG.integers(0, 65536, (30, 40)).astype(np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(JaxalignError, match=r"image 1 \(.*deep\.png\) is grey with more than 8 bits"):
        clip.encode_image([IMAGES[0], tmp_path / "deep.png"])
