"""The preprocessing against torchvision's rules, spelled out."""

import numpy as np
import pytest
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.image_processing import ImageProcessor

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (30, 41, 3), dtype=np.uint8)


def test_squash_resizes_both_sides():
    got = ImageProcessor(24)([PICTURE])
    resized = np.asarray(Image.fromarray(PICTURE).resize((24, 24), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(got[0], (resized / 255 - 0.5) / 0.5, atol=1e-6)
    assert got.dtype == np.float32


def test_shortest_side_then_centre_crop():
    processor = ImageProcessor(24, "shortest", "bilinear", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    bilinear = Image.Resampling.BILINEAR
    resized = np.asarray(Image.fromarray(PICTURE).resize((32, 24), bilinear))  # 24 * 41 / 30 = 32.8
    expected = (resized[:, 4:28] / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
    np.testing.assert_allclose(processor([PICTURE])[0], expected, atol=1e-6)
    upright = PICTURE.swapaxes(0, 1)
    resized = np.asarray(Image.fromarray(upright).resize((24, 32), bilinear))
    expected = (resized[4:28] / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
    np.testing.assert_allclose(processor([upright])[0], expected, atol=1e-6)


def test_rgb_comes_after_the_resize():
    """Pillow does not mix the colours of a palette: it takes the nearest pixel."""
    palette = Image.fromarray(PICTURE).quantize(8)
    expected = np.asarray(palette.resize((12, 12), Image.Resampling.BICUBIC).convert("RGB"))
    np.testing.assert_allclose(ImageProcessor(12)([palette])[0], (expected / 255 - 0.5) / 0.5, atol=1e-6)
    other_order = np.asarray(palette.convert("RGB").resize((12, 12), Image.Resampling.BICUBIC))
    assert (expected != other_order).any()


def test_a_batch_of_the_right_size_is_only_normalised():
    batch = RNG.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    processor = ImageProcessor(16)
    np.testing.assert_array_equal(processor(batch), processor(list(batch)))


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "CMYK", "1", "I;16"])
def test_every_mode_of_pillow_becomes_rgb(mode):
    picture = Image.fromarray(PICTURE)
    picture = (
        Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 200) if mode == "I;16" else picture.convert(mode)
    )
    got = ImageProcessor(8)([picture])
    assert got.shape == (1, 8, 8, 3)
    assert np.isfinite(got).all()


def test_damaged_files_are_named(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(PICTURE).save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:300])
    for bad, message in [
        (cut, r"image 7 \(.*cut\.png\) cannot be read as a picture"),
        (tmp_path / "none.png", r"none\.png\): no such file"),
        (tmp_path, "cannot be read as a picture"),
    ]:
        with pytest.raises(JaxalignError, match=message):
            ImageProcessor(8)([whole, bad], start=6)
    with pytest.raises(JaxalignError, match=r"image 0 is an array of shape \(0, 4, 3\)"):
        ImageProcessor(8)([np.zeros((0, 4, 3), np.uint8)])
