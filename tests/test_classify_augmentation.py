"""Random crops and flips of few-shot training images."""

import numpy as np
import pytest
from PIL import Image

import jaxalign as ja
from jaxalign.eval.datasets import load_split
from jaxalign.eval.features import image_features
from jaxalign.eval.features.obtain import Augmented, augment, random_box, subset_features


def test_crops_keep_half_the_area_or_more_and_their_shape():
    rng = np.random.default_rng(0)
    for width, height in ((100, 80), (300, 20), (7, 50)):
        for _ in range(200):
            left, top, right, bottom = random_box(width, height, rng)
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            if (width, height) == (100, 80):
                ratio, area = (right - left) / (bottom - top), (right - left) * (bottom - top)
                # Sides are whole pixels: 0.5 of one in 60 or more.
                assert 0.74 <= ratio <= 1.36
                assert 0.49 <= area / (width * height) <= 1


def test_half_of_the_images_are_flipped():
    ramp = Image.fromarray(np.tile(np.linspace(0, 255, 64, dtype=np.uint8), (64, 1))).convert("RGB")
    crops = [np.asarray(augment(ramp, 16, np.random.default_rng(seed)), int) for seed in range(300)]
    flipped = np.mean([crop[0, 0, 0] > crop[0, -1, 0] for crop in crops])
    # A fair coin 300 times: 4 standard deviations of 0.029.
    assert abs(flipped - 0.5) < 0.12


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("augmented")
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        (root / name).mkdir()
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(root / name / f"{i}.png")
    return load_split(f"folder:{root}", "all")


def test_a_crop_depends_on_the_image_and_the_seed_alone(photos):
    first, again = Augmented(photos, 24, 1), Augmented(photos.select([4, 2]), 24, 1)
    np.testing.assert_array_equal(first[2], again[1])
    assert (np.asarray(first[2]) != np.asarray(Augmented(photos, 24, 2)[2])).any()


def test_features_of_the_drawn_images_alone(photos, tmp_path):
    model = ja.load("emoji-clip")
    rows = np.array([1, 4])
    plain = subset_features(model, photos, rows, store=tmp_path)
    whole = image_features(model, photos, store=tmp_path)
    assert plain.ids == tuple(photos.ids[i] for i in rows)
    # Batches of another size are summed in another order.
    np.testing.assert_allclose(plain.values, whole.values[rows], atol=1e-4)
    augmented = subset_features(model, photos, rows, augmentation=1, store=tmp_path)
    other = subset_features(model, photos, rows, augmentation=2, store=tmp_path)
    assert np.abs(augmented.values - plain.values).max() > 0.01
    assert np.abs(augmented.values - other.values).max() > 0.01
    crops = [Augmented(photos.select(rows), 48, 1)[i] for i in range(2)]
    # batches of another size, as above
    np.testing.assert_allclose(augmented.values, model.encode_image(crops, projected=False), atol=1e-4)
