"""Pictures and texts in, features out."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxalign.errors import JaxalignError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (5, 30, 40, 3), dtype=np.uint8)
TEXTS = ["a cat", "a red dog on blue", "apple"]


def test_all_kinds_of_images_agree(model, tmp_path):
    expected = model.encode_image(PICTURES)
    Image.fromarray(PICTURES[1]).save(tmp_path / "1.png")
    mixed = [
        PICTURES[0],
        str(tmp_path / "1.png"),
        tmp_path / "1.png",
        Image.fromarray(PICTURES[3]),
        jnp.asarray(PICTURES[4]),
    ]
    np.testing.assert_allclose(model.encode_image(mixed), expected[jnp.array([0, 1, 1, 3, 4])], atol=1e-5)
    ready = model.image_processor(PICTURES)
    np.testing.assert_allclose(model.encode_image(ready), expected, atol=1e-5)
    np.testing.assert_allclose(model.encode_image(jnp.asarray(ready)), expected, atol=1e-5)
    assert expected.shape == (5, model.config.image.embedding_width)
    assert expected.dtype == jnp.float32


def test_batches_do_not_matter(model):
    np.testing.assert_allclose(
        model.encode_image(PICTURES, batch_size=2), model.encode_image(PICTURES), atol=1e-5
    )
    np.testing.assert_allclose(model.encode_text(TEXTS, batch_size=2), model.encode_text(TEXTS), atol=1e-5)


def test_text_projector_is_the_head(model):
    pre = model.encode_text(TEXTS, projected=False)
    assert pre.shape == (3, model.config.text.width)
    np.testing.assert_allclose(model.projectors.text(pre), model.encode_text(TEXTS), atol=1e-5)


def test_image_projector_is_the_head(clip):
    pre = clip.encode_image(PICTURES, projected=False)
    assert pre.shape == (5, clip.config.image.width)
    np.testing.assert_allclose(clip.projectors.image(pre), clip.encode_image(PICTURES), atol=1e-5)


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
    pre, z = model.encode_image(PICTURES, projected=False), model.encode_image(PICTURES)
    np.testing.assert_allclose(model.projectors.image(pre), z, atol=0.05)
    np.testing.assert_allclose(pre, siglip.encode_image(PICTURES, projected=False), atol=1e-6)


def test_apply_is_pure_and_differentiable(model):
    x, tokens = model.image_processor(PICTURES[:2]), model.tokenizer(TEXTS[:2])

    @jax.jit
    def loss(params):
        return (model.apply_image(params, x) * model.apply_text(params, tokens)).sum()

    gradient = jax.grad(loss)(model.params)
    assert float(jnp.abs(gradient["img"]["embedding"]["kernel"]).max()) > 0
    assert float(jnp.abs(gradient["txt"]["Embed_0"]["embedding"]).max()) > 0
    np.testing.assert_allclose(
        jax.jit(model.apply_image)(model.params, x), model.encode_image(PICTURES[:2]), atol=1e-5
    )


def test_apply_under_vmap(clip):
    x = clip.image_processor(PICTURES[:2])
    each = jax.vmap(lambda one: clip.apply_image(clip.params, one[None], projected=False)[0])(x)
    np.testing.assert_allclose(each, clip.encode_image(PICTURES[:2], projected=False), atol=1e-5)


def test_reduced_precision_gives_float32_features(clip):
    half = dataclasses.replace(clip, dtype=jnp.bfloat16)
    z = half.encode_image(PICTURES)
    assert z.dtype == jnp.float32
    assert float(jnp.abs(z - clip.encode_image(PICTURES)).max()) > 0
    assert half.encode_text(TEXTS).dtype == jnp.float32


def test_an_unreadable_picture_is_named(clip, tmp_path):
    (tmp_path / "no.png").write_bytes(b"\x89PNG not really")
    with pytest.raises(JaxalignError, match=r"image 1 \(.*no\.png\) cannot be read as a picture"):
        clip.encode_image([PICTURES[0], tmp_path / "no.png"], batch_size=1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "images is empty"),
        ("a.png", "images is a str; expected a list"),
        (Image.fromarray(PICTURES[0]), "images is a Image; expected a list"),
        (PICTURES[0], r"images has shape \(30, 40, 3\); expected uint8"),
        (PICTURES[..., :2], r"expected uint8 \[n, h, w, 3\]"),
        (PICTURES / 255, r"preprocessed images have shape \(5, 30, 40, 3\); expected \[n, 24, 24, 3\]"),
        (PICTURES.astype(np.int32), "pixels are int32; expected floats"),
        (np.full((2, 24, 24, 3), np.nan, np.float32), "image 0 has NaN"),
        ([PICTURES[0] / 255], "image 0 is an array of float64; expected uint8"),
        ([PICTURES[0], PICTURES], r"image 1 is an array of shape \(5, 30, 40, 3\)"),
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
        clip.apply_image(clip.params, PICTURES)
    with pytest.raises(JaxalignError, match="batch_size is 0"):
        clip.encode_image(PICTURES, batch_size=0)
    with pytest.raises(JaxalignError, match="dtype is int32"):
        dataclasses.replace(clip, dtype=jnp.int32)


def test_without_tokenizer_it_says_what_is_missing(clip):
    bare = dataclasses.replace(clip, tokenizer=None)
    with pytest.raises(JaxalignError, match=r"without tokenizer\.json"):
        bare.encode_text(TEXTS)
    np.testing.assert_allclose(
        bare.apply_text(bare.params, clip.tokenizer(TEXTS)), clip.encode_text(TEXTS), atol=1e-5
    )
