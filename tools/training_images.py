"""Many images at once, as `scenes` composes them one at a time: for training, where only speed differs.

The data sets' images are those of `scenes`; these come from the same distributions, not from the same draws.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from jaxalign.eval.datasets.emoji import scenes

SIDE = scenes.SIDE
COLOURS = np.array(list(scenes.BACKGROUNDS.values()), np.float32)
INKS = (*scenes.BACKGROUNDS, "white")  # colours that an icon without colours of its own is drawn in
INK_VALUES = np.concatenate([COLOURS, np.full((1, 3), 255, np.float32)])
SIDES = np.array(list(scenes.SIZES.values()))
SMALLEST = 32  # side of a sprite on an image that is no scene
CONTRAST = 100  # least distance of an ink from both shades of the background, of 442
PLAIN = scenes.TEXTURES.index("plain")
WHITE = len(COLOURS)  # the background that only images have that are no scenes


@dataclass(frozen=True)
class Layout:
    """Contexts of n images: indices into the labels of `scenes`; no scene where `size` and `place` are -1."""

    background: np.ndarray
    texture: np.ndarray
    size: np.ndarray
    place: np.ndarray
    side: np.ndarray
    left: np.ndarray
    top: np.ndarray

    def context(self, i: int) -> scenes.Context | None:
        """What a caption may say of image `i`; None where it is no scene."""
        if self.size[i] < 0:
            return None
        labels = (tuple(scenes.BACKGROUNDS), scenes.TEXTURES, tuple(scenes.SIZES), scenes.PLACES)
        indices = (self.background[i], self.texture[i], self.size[i], self.place[i])
        return scenes.Context(*(values[int(k)] for values, k in zip(labels, indices, strict=True)))


def draw_layout(plain: np.ndarray, white: np.ndarray, rng: np.random.Generator) -> Layout:
    """Contexts of the images: no scene where `plain`, and on white where `white`, too; bool [n] both."""
    n = len(plain)
    counts = (len(COLOURS), len(scenes.TEXTURES), len(SIDES), len(scenes.PLACES))
    background, texture, size, place = (rng.integers(count, size=n) for count in counts)
    background, texture = np.where(plain & white, WHITE, background), np.where(plain, PLAIN, texture)
    side = np.where(plain, rng.integers(SMALLEST, SIDE + 1, n), SIDES[size] + rng.integers(-2, 3, n))
    room = SIDE - side
    near = [np.clip(room * i // 2 + rng.integers(-1, 2, n), 0, room) for i in (place % 3, place // 3)]
    left, top = (np.where(plain, (rng.random(n) * (room + 1)).astype(int), at) for at in near)
    return Layout(background, texture, np.where(plain, -1, size), np.where(plain, -1, place), side, left, top)


def patterns(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """The textures of the backgrounds, uint8 [n, SIDE, SIDE]: 0 is one shade, 255 the other."""
    n = len(layout.side)
    phase = rng.uniform(0, 14, (n, 2)).astype(np.float32)
    angle, period = rng.uniform(0, np.pi, n), rng.uniform(7, 14, n).astype(np.float32)
    found = np.zeros((n, SIDE, SIDE), np.uint8)
    steps = np.arange(SIDE, dtype=np.float32)
    for number, texture in enumerate(scenes.TEXTURES):
        i = np.flatnonzero(layout.texture == number)
        if texture in ("striped", "gradient"):
            x, y = (f(angle[i, None]).astype(np.float32) * steps for f in (np.cos, np.sin))
            along = (x + phase[i, :1])[:, None] + y[:, :, None]
            if texture == "striped":
                found[i] = (along / period[i, None, None] % 1 < 0.5) * np.uint8(255)
            else:
                low, high = along.min((1, 2), keepdims=True), along.max((1, 2), keepdims=True)
                found[i] = (along - low) * (255 / (high - low)) + 0.5
        elif texture in ("dotted", "checkered"):
            x, y = ((steps + phase[i, k : k + 1]) / period[i, None] for k in (0, 1))
            if texture == "dotted":
                near = ((x % 1 - 0.5) ** 2)[:, None] + ((y % 1 - 0.5) ** 2)[:, :, None]
                found[i] = (near < 0.09) * np.uint8(255)
            else:
                found[i] = (x.astype(int)[:, None] + y.astype(int)[:, :, None]) % 2 * 255
        elif texture == "grainy":
            found[i] = rng.integers(0, 256, (len(i), SIDE, SIDE), np.uint8)
    return found


def backgrounds(layout: Layout, rng: np.random.Generator) -> Image.Image:
    """The images without their sprites, one below the other: see `scenes.background`."""
    n = len(layout.side)
    varied = rng.uniform(-14, 14, (n, 3)).astype(np.float32) * (layout.background != WHITE)[:, None]
    colour = INK_VALUES[layout.background] + varied
    shade = np.where(colour.mean(1) < 128, 55, -55)[:, None, None]
    palette = np.full((n, 256, 4), 255, np.uint8)
    amounts = np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    palette[..., :3] = np.clip(np.rint(colour[:, None] + shade * amounts), 0, 255)
    colours = palette.view(np.uint32)[..., 0]
    pixels = np.take_along_axis(colours, patterns(layout, rng).reshape(n, -1).astype(np.intp), axis=1)
    return Image.frombytes("RGB", (SIDE, SIDE * n), pixels.tobytes(), "raw", "RGBX")


def legible() -> np.ndarray:
    """Whether an ink can be read on a background in both its shades, bool [backgrounds and white, inks]."""
    shade = np.where(INK_VALUES.mean(1, keepdims=True) < 128, 55, -55)
    shades = np.stack([INK_VALUES, np.clip(INK_VALUES + shade, 0, 255)])
    shades[1, WHITE] = 255
    return np.linalg.norm(shades[:, :, None] - INK_VALUES, axis=-1).min(0) >= CONTRAST


LEGIBLE = legible()


def draw_inks(layout: Layout, rng: np.random.Generator) -> np.ndarray:
    """For each image the index of an ink that can be read on its background, int [n]."""
    return np.where(LEGIBLE[layout.background], rng.random((len(layout.side), len(INKS))), -1).argmax(1)


def as_image(pixels: np.ndarray) -> Image.Image:
    """A sprite uint8: alpha [h, w], or premultiplied RGBA [h, w, 4]."""
    mode = "L" if pixels.ndim == 2 else "RGBa"
    return Image.frombuffer(mode, pixels.shape[1::-1], np.ascontiguousarray(pixels), "raw", mode, 0, 1)


def paste_all(
    canvas: Image.Image, sprites: list[Image.Image], layout: Layout, inks: np.ndarray
) -> np.ndarray:
    """Blend the sprites into the images of `canvas`, which changes; uint8 [n, SIDE, SIDE, 3].

    Args:
      sprites: each of mode L, drawn in its ink, or RGBa.
      inks: indices into INKS.
    """
    colours = [tuple(map(int, value)) for value in INK_VALUES]
    boxes = zip(sprites, layout.side.tolist(), layout.left.tolist(), layout.top.tolist(), strict=True)
    for i, (sprite, side, left, top) in enumerate(boxes):
        if sprite.width != side:
            sprite = sprite.resize((side, side), Image.Resampling.LANCZOS)
        if sprite.mode == "RGBa":
            sprite = sprite.convert(
                "RGBA"
            )  # a colour above its opacity, as resizing leaves it, would overflow
        source = colours[inks[i]] if sprite.mode == "L" else sprite
        canvas.paste(source, (left, top + SIDE * i, left + side, top + SIDE * i + side), sprite)
    return np.asarray(canvas).reshape(-1, SIDE, SIDE, 3)
