"""Small images of every mode, and what the original implementations make of them.

    python tests/goldens/make_preprocessing.py images open_clip timm transformers
    python tests/goldens/make_preprocessing.py big_vision       (needs tensorflow, 2.21 here)

The first needs jaxalign's extra `reference`. Writes tests/goldens/preprocessing/: the images, and for each
original an `.npz` with one array [images, side, side, 3] for each of its settings: uint8, or float32 where
it resizes floats. `SETTINGS` says which settings of ImageProcessor they belong to.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FOLDER = Path(__file__).parent / "preprocessing"
SIDE = 24
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "open_clip": {
        "shortest_bicubic": {"resize": "shortest"},
        "shortest_bilinear": {"resize": "shortest", "interpolation": "bilinear"},
        "squash_bicubic": {"resize": "squash"},
        "squash_bilinear": {"resize": "squash", "interpolation": "bilinear"},
    },
    "timm": {
        "whole": {"resize": "shortest"},
        "crop": {"resize": "shortest", "resize_size": 27},
    },
    "transformers": {
        "clip": {"resize": "shortest"},
        "siglip": {"resize": "squash"},
        "siglip2": {"resize": "squash", "interpolation": "bilinear"},
        "dinov2": {"resize": "shortest", "resize_size": 29},
    },
    "transformers_float": {"dinov3": {"resize": "squash", "interpolation": "bilinear"}},
    "big_vision": {"squash": {"resize": "squash", "interpolation": "bilinear"}},
}


def paint(height: int, width: int, channels: int = 3) -> np.ndarray:
    """Waves, an edge and noise, uint8 [height, width, channels]; black and white occur."""
    rng = np.random.default_rng(height * 1000 + width)
    y, x = np.mgrid[:height, :width, :1][:2]
    wave = 128 + 150 * np.sin(x / (3 + np.arange(channels)) + y / 7) * np.cos(y / 5)
    wave[height // 3 :, : width // 2] = 255 - wave[height // 3 :, : width // 2]
    noisy = wave + rng.normal(scale=20, size=(height, width, channels))
    return noisy.clip(0, 255).astype(np.uint8)


def make_images() -> None:
    FOLDER.mkdir(exist_ok=True)
    rgb, alpha = Image.fromarray(paint(37, 52)), Image.fromarray(paint(37, 52, 4)[..., 3])
    grey, palette = rgb.convert("L"), rgb.quantize(16)
    save = lambda image, name, **options: image.save(FOLDER / name, **options)
    save(rgb, "rgb.png")
    save(grey, "grey.png")
    save(grey.convert("1"), "one_bit.png")
    save(Image.fromarray(paint(37, 52).astype(np.uint16)[..., 0] * 257), "grey_16_bit.png")
    save(Image.merge("LA", (grey, alpha)), "grey_alpha.png")
    save(Image.merge("RGBA", (*rgb.split(), alpha)), "rgb_alpha.png")
    save(palette, "palette.png")
    save(palette, "palette_transparent_colour.gif", transparency=3)
    save(palette, "palette_alpha.png", transparency=bytes(range(0, 256, 16)))
    save(rgb, "rgb_transparent_colour.png", transparency=rgb.getpixel((5, 5)))
    save(rgb.convert("CMYK"), "cmyk.tiff", compression="tiff_lzw")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees, which none of the originals does
    save(rgb, "exif_orientation.png", exif=exif)
    for name, height, width in [
        ("tall", 71, 30),
        ("wide", 25, 90),
        ("square", 24, 24),
        ("small", 9, 13),
        ("flat", 3, 60),
        ("large", 150, 131),
    ]:
        save(Image.fromarray(paint(height, width)), f"{name}.png")


def open_images() -> list[Image.Image]:
    """In the order of their names, loaded, so that no file stays open."""
    images = []
    for path in image_paths():
        with Image.open(path) as image:
            image.load()
        images.append(image)
    return images


def image_paths() -> list[Path]:
    return sorted(path for path in FOLDER.iterdir() if path.suffix != ".npz")


def apply(transform: Callable[[Image.Image], Any]) -> np.ndarray:
    """uint8 [images, side, side, 3] of a transform that gives float [3, side, side] in [0, 1]."""
    pixels = np.stack([np.asarray(transform(image)) for image in open_images()]) * 255
    if np.abs(pixels - pixels.round()).max() > 1e-4:
        raise SystemExit("a transform did not give whole grey values")
    return np.moveaxis(pixels.round().astype(np.uint8), 1, 3)


def from_open_clip() -> dict[str, np.ndarray]:
    from open_clip import image_transform

    arrays = {}
    for name in SETTINGS["open_clip"]:
        mode, interpolation = name.split("_")
        arrays[name] = apply(
            image_transform(
                SIDE,
                is_train=False,
                mean=(0, 0, 0),
                std=(1, 1, 1),
                resize_mode=mode,
                interpolation=interpolation,
            )
        )
    return arrays


def from_timm() -> dict[str, np.ndarray]:
    from timm.data import create_transform

    arrays = {}
    for name, settings in SETTINGS["timm"].items():
        transform = create_transform(
            SIDE,
            interpolation="bicubic",
            mean=(0, 0, 0),
            std=(1, 1, 1),
            crop_pct=SIDE / settings.get("resize_size", SIDE),
        )
        arrays[name] = apply(lambda image, t=transform: t(image.convert("RGB")))
    return arrays


def from_transformers() -> dict[str, np.ndarray]:
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    square, plain = {"height": SIDE, "width": SIDE}, {"image_mean": [0] * 3, "image_std": [1] * 3}
    processors = {
        "clip": CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=square, **plain),
        "siglip": SiglipImageProcessorPil(size=square, resample=3, **plain),
        "siglip2": SiglipImageProcessorPil(size=square, resample=2, **plain),
        "dinov2": BitImageProcessorPil(size={"shortest_edge": 29}, crop_size=square, **plain),
    }
    return {
        name: apply(lambda image, p=processor: p(image)["pixel_values"][0])
        for name, processor in processors.items()
    }


def from_transformers_float() -> dict[str, np.ndarray]:
    """The processor has no conversion to RGB of its own: it gets what the others make of an image."""
    from transformers.image_transforms import convert_to_rgb
    from transformers.models.dinov3_vit.image_processing_dinov3_vit import DINOv3ViTImageProcessor

    processor = DINOv3ViTImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=[0] * 3, image_std=[1] * 3
    )
    arrays = [
        processor(Image.fromarray(convert_to_rgb(image, return_numpy=True)), return_tensors="np")
        for image in open_images()
    ]
    return {"dinov3": np.moveaxis(np.concatenate([a["pixel_values"] for a in arrays]), 1, 3)}


def from_big_vision() -> dict[str, np.ndarray]:
    """The body of big_vision's `pp/ops_image.py:get_resize`, after `tf.io.decode_image(channels=3)`."""
    import tensorflow as tf

    arrays = []
    for image in open_images():
        floats = tf.image.resize(
            np.asarray(image.convert("RGB")), (SIDE, SIDE), method="bilinear", antialias=False
        )
        arrays.append(tf.cast(tf.clip_by_value(floats, 0, 255), tf.uint8).numpy())
    return {"squash": np.stack(arrays)}


ORIGINALS = {
    "open_clip": (from_open_clip,),
    "timm": (from_timm,),
    "transformers": (from_transformers, from_transformers_float),
    "big_vision": (from_big_vision,),
}


def main(names: list[str]) -> None:
    if "images" in names:
        make_images()
    for name in names:
        for make in ORIGINALS.get(name, ()):
            arrays = make()
            np.savez_compressed(FOLDER / f"{make.__name__.removeprefix('from_')}.npz", **arrays)
            print(make.__name__, {k: v.shape for k, v in arrays.items()})


if __name__ == "__main__":
    main(sys.argv[1:])
