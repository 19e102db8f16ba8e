"""The preprocessing against the originals: their rules, their committed results, and themselves."""

import shutil

import numpy as np
import pytest
from goldens.make_preprocessing import FOLDER, SETTINGS, SIDE, image_paths, open_images
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.inputs.image_processing import ImageProcessor
from jaxalign.specs import MODELS

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (30, 41, 3), dtype=np.uint8)
# The originals make the 16-bit grey one white almost everywhere; here it is refused.
READ = [i for i, path in enumerate(image_paths()) if path.name != "grey_16_bit.png"]
PATHS = [image_paths()[i] for i in READ]


def test_squash_resizes_both_sides():
    got = ImageProcessor(24)([IMAGE])
    resized = np.asarray(Image.fromarray(IMAGE).resize((24, 24), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(got[0], (resized / 255 - 0.5) / 0.5, atol=1e-6)
    assert got.dtype == np.float32


def test_shortest_side_then_centre_crop():
    processor = ImageProcessor(24, "shortest", "bilinear", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    bilinear = Image.Resampling.BILINEAR
    resized = np.asarray(Image.fromarray(IMAGE).resize((32, 24), bilinear))  # 24 * 41 / 30 = 32.8
    expected = (resized[:, 4:28] / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
    np.testing.assert_allclose(processor([IMAGE])[0], expected, atol=1e-6)
    upright = IMAGE.swapaxes(0, 1)
    resized = np.asarray(Image.fromarray(upright).resize((24, 32), bilinear))
    expected = (resized[4:28] / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
    np.testing.assert_allclose(processor([upright])[0], expected, atol=1e-6)


def test_rgb_comes_after_the_resize():
    """Pillow does not mix the colours of a palette: it takes the nearest pixel."""
    palette = Image.fromarray(IMAGE).quantize(8)
    expected = np.asarray(palette.resize((12, 12), Image.Resampling.BICUBIC).convert("RGB"))
    np.testing.assert_allclose(ImageProcessor(12)([palette])[0], (expected / 255 - 0.5) / 0.5, atol=1e-6)
    other_order = np.asarray(palette.convert("RGB").resize((12, 12), Image.Resampling.BICUBIC))
    assert (expected != other_order).any()


def test_a_batch_of_the_right_size_is_only_normalised():
    batch = RNG.integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    processor = ImageProcessor(16)
    np.testing.assert_array_equal(processor(batch), processor(list(batch)))


@pytest.mark.parametrize(
    ("pipeline", "name"), [(pipeline, name) for pipeline, names in SETTINGS.items() for name in names]
)
def test_images_of_every_mode_become_what_the_original_makes_of_them(pipeline, name):
    expected = np.load(FOLDER / f"{pipeline}.npz")[name][READ]
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    processor = ImageProcessor(SIDE, mean=mean, std=std, pipeline=pipeline, **SETTINGS[pipeline][name])
    got = processor(PATHS)
    assert len(got) == len(expected) == 17
    if expected.dtype == np.float32:  # of values in [0, 1]; torch adds up the neighbours in another order
        np.testing.assert_allclose(got * std + mean, expected, atol=2e-6)
        return
    pixels = expected.astype(np.float32) / np.float32(255)
    normalised = (pixels - np.array(mean, np.float32)) / np.array(std, np.float32)
    for path, one, other in zip(PATHS, got, normalised, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=path.name)


def test_the_goldens_tell_the_pipelines_apart():
    """Else a wrong pipeline would pass: order of RGB, transparency, rounding, antialiasing."""
    settings = {"resize": "shortest", "resize_size": 27}
    kinds = [{"pipeline": p} for p in ("open_clip", "timm", "transformers")]
    crops = [ImageProcessor(SIDE, **settings, **kind)(PATHS) for kind in kinds]
    squash = [{"pipeline": p} for p in ("transformers", "transformers_float", "big_vision")]
    squashed = [ImageProcessor(SIDE, interpolation="bilinear", **kind)(PATHS) for kind in squash]
    for group in (crops, squashed):
        for i, one in enumerate(group):
            assert all(np.abs(one - other).max() > 0.005 for other in group[:i])


def test_the_orientation_of_exif_is_left_alone():
    with Image.open(FOLDER / "exif_orientation.png") as image:
        assert image.getexif()[0x0112] == 6
    got = ImageProcessor(SIDE)([FOLDER / "exif_orientation.png", FOLDER / "rgb.png"])
    np.testing.assert_array_equal(got[0], got[1])


def test_a_image_that_is_several_times_in_a_list_is_read_once(tmp_path):
    """The threads must not load one image at the same time."""
    path = shutil.copy(FOLDER / "large.png", tmp_path)
    with Image.open(path) as image:
        got = ImageProcessor(SIDE)([image] * 40)
    np.testing.assert_array_equal(got, np.broadcast_to(ImageProcessor(SIDE)([path]), got.shape))


def test_a_batch_is_resized_where_the_crop_is_smaller():
    batch = RNG.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    processor = ImageProcessor(16, "shortest", resize_size=20)
    np.testing.assert_array_equal(processor(batch), processor([Image.fromarray(x) for x in batch]))
    assert (processor(batch) != ImageProcessor(16)(batch)).any()


@pytest.mark.parametrize("copies", [1, 9])
def test_the_first_bad_image_is_the_one_that_is_named(copies):
    with pytest.raises(JaxalignError, match=r"image 104 \(gone\.png\) cannot be read: No such file"):
        ImageProcessor(8)([FOLDER / "large.png"] * 4 + ["gone.png", "none.png"] * copies, start=100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"resize_size": 20}, "resize_size is 20 with resize 'squash' and size 16; expected None"),
        ({"resize": "shortest", "resize_size": 8}, "resize_size is 8 .*from size on"),
        (
            {"resize": "shortest", "pipeline": "big_vision", "interpolation": "bilinear"},
            "knows 'squash' alone",
        ),
        ({"pipeline": "big_vision"}, "interpolation is 'bicubic'; big_vision knows 'bilinear' alone"),
        ({"pipeline": "torch"}, "pipeline is 'torch'; expected one of open_clip, timm"),
    ],
)
def test_settings_that_no_original_has(settings, message):
    with pytest.raises(JaxalignError, match=message):
        ImageProcessor(16, **settings)


def test_damaged_files_are_named(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(IMAGE).save(whole)
    cut = tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:300])
    for bad, message in [
        (cut, r"image 7 \(.*cut\.png\) cannot be read as an image"),
        (tmp_path / "none.png", r"none\.png\) cannot be read: No such file"),
        (tmp_path, r"cannot be read: .* is a folder; expected a file"),
    ]:
        with pytest.raises(JaxalignError, match=message):
            ImageProcessor(8)([whole, bad], start=6)
    with pytest.raises(JaxalignError, match=r"image 0 is an array of shape \(0, 4, 3\)"):
        ImageProcessor(8)([np.zeros((0, 4, 3), np.uint8)])


def _distinct_processors() -> dict[ImageProcessor, str]:
    """The preprocessing of every known checkpoint, once each, and the name of one that has it."""
    found = {}
    for spec in MODELS.values():
        size = spec.towers.image.image_size
        processor = ImageProcessor(
            size, spec.resize, spec.interpolation, spec.mean, spec.std, spec.resize_size, spec.pipeline
        )
        found.setdefault(processor, spec.name)
    return found


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # of the originals, not ours
@pytest.mark.parametrize(
    "processor", [pytest.param(p, id=name) for p, name in _distinct_processors().items()]
)
def test_every_checkpoint_against_the_original(processor):
    if processor.pipeline == "big_vision":
        pytest.skip("TensorFlow is no dependency; its results are committed")
    pytest.importorskip("open_clip", reason="needs the extra `reference`")
    original = {"open_clip": _of_open_clip, "timm": _of_timm}.get(processor.pipeline, _of_transformers)
    got = processor(PATHS)
    expected = original(processor)[READ]
    worst = (np.abs(got - expected) * processor.std).max() * 255
    # In grey values. transformers resizes tensors since version 5, which on these images gives up to 2 more
    # or less; with floats, torch has the weights of the resize in single precision, Pillow in double.
    assert (
        worst
        <= {"open_clip": 0, "timm": 0, "transformers": 2.001, "transformers_float": 0.003}[processor.pipeline]
    )


def _of_open_clip(processor):
    from open_clip import image_transform

    transform = image_transform(
        processor.size,
        is_train=False,
        mean=processor.mean,
        std=processor.std,
        resize_mode=processor.resize,
        interpolation=processor.interpolation,
    )
    return _stack(transform(image) for image in open_images())


def _of_timm(processor):
    from timm.data import create_transform

    transform = create_transform(
        processor.size,
        interpolation=processor.interpolation,
        mean=processor.mean,
        std=processor.std,
        crop_pct=processor.size / (processor.resize_size or processor.size),
    )
    return _stack(transform(image.convert("RGB")) for image in open_images())


def _of_transformers(processor):
    from transformers import BitImageProcessor, SiglipImageProcessor
    from transformers.image_transforms import convert_to_rgb
    from transformers.models.dinov3_vit.image_processing_dinov3_vit import DINOv3ViTImageProcessor

    square = {"height": processor.size, "width": processor.size}
    options = {
        "image_mean": processor.mean,
        "image_std": processor.std,
        "resample": Image.Resampling[processor.interpolation.upper()],
    }
    if processor.resize == "shortest":
        shortest = {"shortest_edge": processor.resize_size or processor.size}
        original = BitImageProcessor(size=shortest, crop_size=square, **options)
    else:
        kind = DINOv3ViTImageProcessor if processor.pipeline == "transformers_float" else SiglipImageProcessor
        original = kind(size=square, **options)
    images = [convert_to_rgb(image, return_numpy=True) for image in open_images()]
    return _stack(original(Image.fromarray(p), return_tensors="pt")["pixel_values"][0] for p in images)


def _stack(tensors) -> np.ndarray:
    return np.stack([np.moveaxis(tensor.numpy(), 0, 2) for tensor in tensors])
