"""Parts of resized images: pixel for pixel what Pillow's whole resize has there, in bounded memory."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxalign.inputs import resampling
from jaxalign.inputs.image_processing import ImageProcessor
from jaxalign.inputs.resampling import resize_floats, resize_part, resize_tensorflow

MODES = ("RGB", "L", "RGBA", "LA", "P", "1", "F", "CMYK", "YCbCr", "LAB", "HSV", "PA")


def draw(mode, width, height, rng):
    """Noise with black and white areas in every channel."""
    if mode == "F":
        return Image.fromarray(rng.random((height, width), np.float32))
    noise = rng.integers(0, 256, (4, height, width), dtype=np.uint8)
    noise[:, : height // 3] = rng.choice([0, 255], (4, 1, 1))
    bands = [Image.fromarray(band) for band in noise]
    if mode in ("P", "1"):
        return Image.merge("RGB", bands[:3]).convert(mode)
    count = len(Image.new(mode, (1, 1)).getbands())
    return bands[0] if count == 1 else Image.merge(mode, bands[:count])


def sizes(rng):
    """Width and height of an image, size that it is resized to, and the part of it that is kept."""
    side = int(rng.choice([8, 24, 33]))
    resized = side + int(rng.choice([0, 0, 1, 5]))
    width, height = (int(n) for n in rng.permutation([rng.integers(1, 60), rng.integers(1, 600)]))
    if rng.random() < 0.3:
        return width, height, (side, side), (0, 0, side, side)
    scaled = max(int(resized * max(width, height) / min(width, height)), resized)
    size = (resized, scaled) if width <= height else (scaled, resized)
    left, top = ((length - side) // 2 for length in size)
    return width, height, size, (left, top, left + side, top + side)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("mode", MODES)
def test_a_part_is_that_of_the_whole_resize(mode, interpolation, monkeypatch):
    rng = np.random.default_rng(len(mode))
    for _ in range(8):
        width, height, size, box = sizes(rng)
        image = draw(mode, width, height, rng)
        expected = image.resize(size, Image.Resampling[interpolation.upper()]).crop(box)
        monkeypatch.setattr(resampling, "LARGEST", int(rng.choice([1, 500, 5000])))
        got = resize_part(image, size, box, interpolation)
        if mode in ("P", "PA", "1"):
            got, expected = got.convert("RGB"), expected.convert("RGB")
        assert got.tobytes() == expected.tobytes(), (width, height, size, box)


@pytest.mark.parametrize("size", [(700, 2), (2, 700), (1, 345), (1038, 3)])
@pytest.mark.long
def test_very_long_images_have_the_pixels_of_the_originals(size, tmp_path, monkeypatch):
    """With the bound as it is, which all of them exceed."""
    image = draw("RGB", *size, np.random.default_rng(0))
    image.save(tmp_path / "long.png")
    kinds = [{}, {"pipeline": "transformers"}, {"pipeline": "timm", "resize_size": 240}]
    processors = [ImageProcessor(224, "shortest", **kind) for kind in kinds]
    got = [processor([tmp_path / "long.png"]) for processor in processors]
    monkeypatch.setattr(resampling, "LARGEST", 1 << 40)
    for processor, one in zip(processors, got, strict=True):
        np.testing.assert_array_equal(one, processor([image]))


def peak(call) -> int:
    """Bytes that this process has more, at most, during a call."""
    status = lambda name: int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("the system does not measure the peak of a process anew")
    before = status("VmRSS")
    call()
    return status("VmHWM") - before


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (3, 100_000), (1_000_000, 1)])
def test_memory_is_bounded_by_what_is_kept(size, tmp_path):
    """Before the crop the first would be 14,672,000 x 224 pixels, 13 GB."""
    path = tmp_path / "thin.png"
    Image.new("RGB", size, (200, 30, 40)).save(path)
    processor = ImageProcessor(224, "shortest", mean=(0, 0, 0), std=(1, 1, 1))
    processor([Image.new("RGB", (9, 9))])
    assert peak(lambda: processor([path])) < 60 << 20
    np.testing.assert_allclose(processor([path])[0, ::50, ::50] * 255, np.full((5, 5, 3), (200, 30, 40)))


def test_columns_of_a_squashed_image_are_made_some_at_a_time(monkeypatch):
    """As long as Pillow resizes rows first, as it does before version 13, the image between is tall."""
    image = draw("RGB", 3, 900, np.random.default_rng(1))
    monkeypatch.setattr(resampling, "_knows_height_first", lambda: False)
    rows_first = image.resize((24, 900)).resize((24, 24))
    monkeypatch.setattr(resampling, "LARGEST", 5000)
    assert resize_part(image, (24, 24), (0, 0, 24, 24), "bicubic").tobytes() == rows_first.tobytes()


def test_floats_and_tensorflow_take_tall_images_as_others():
    image = draw("RGB", 3, 5000, np.random.default_rng(2))
    floats = resize_floats(image, 12, "bilinear")
    channels = np.asarray(image, np.float32) / 255
    for band in range(3):
        expected = Image.fromarray(channels[..., band]).resize((12, 12), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(floats[..., band], np.asarray(expected))
    pixels = np.asarray(image)
    rows = resize_tensorflow(pixels[:, :1].repeat(12, 1), 12)
    np.testing.assert_array_equal(resize_tensorflow(pixels, 12)[:, 0], rows[:, 0])
