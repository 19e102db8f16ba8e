"""An emoji on a coloured, textured background at a size and a place, and captions as they are on the web: the
name nearly always, style, size, colour and place sometimes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

SIDE = 48  # pixels of an image
BACKGROUNDS = {
    "red": (205, 50, 45),
    "orange": (240, 145, 40),
    "yellow": (245, 215, 70),
    "green": (70, 160, 75),
    "blue": (55, 105, 205),
    "purple": (130, 70, 170),
    "pink": (240, 150, 190),
    "brown": (125, 85, 55),
    "gray": (150, 150, 150),
    "black": (35, 35, 40),
}
TEXTURES = ("plain", "striped", "dotted", "checkered", "gradient", "grainy")
SIZES = {"small": 22, "medium": 31, "large": 42}  # side of the emoji in pixels
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")
PIXEL_Y, PIXEL_X = np.mgrid[:SIDE, :SIDE].astype(np.float32)
KINDS = ("photo", "picture", "image", "icon", "drawing", "emoji")
KIND_WEIGHTS = (0.4, 0.25, 0.15, 0.08, 0.07, 0.05)
SPOKEN_STYLES = {
    "noto": "noto",
    "noto-v1": "old noto",
    "twemoji": "twemoji",
    "openmoji": "openmoji",
    "fluent-emoji": "glossy fluent",
    "fluent-emoji-flat": "flat fluent",
    "emojione": "emojione",
}
# Probabilities of what a caption says.
NAMED, STYLED, SIZED, PLACED, COLOURED, TEXTURED, EXPLAINED = 0.92, 0.25, 0.2, 0.15, 0.35, 0.3, 0.15


@dataclass(frozen=True)
class Context:
    """Everything about a scene that is not its main concept."""

    background: str
    texture: str
    size: str
    place: str


def draw_context(rng: np.random.Generator) -> Context:
    """Independent uniform labels."""
    options = (tuple(BACKGROUNDS), TEXTURES, tuple(SIZES), PLACES)
    return Context(*(values[rng.integers(len(values))] for values in options))


def background(context: Context, rng: np.random.Generator) -> np.ndarray:
    """The empty scene, float32 [SIDE, SIDE, 3] in 0..255: two shades of a colour in the texture's pattern."""
    colour = np.array(BACKGROUNDS[context.background], np.float32) + rng.uniform(-14, 14, 3)
    y, x = PIXEL_Y, PIXEL_X
    angle, period, phase = rng.uniform(0, np.pi), rng.uniform(7, 14), rng.uniform(0, 14, 2)
    along = np.cos(angle) * x + np.sin(angle) * y + phase[0]
    u, v = (x + phase[0]) / period, (y + phase[1]) / period
    match context.texture:
        case "striped":
            amount = (along / period % 1 < 0.5).astype(np.float32)
        case "dotted":
            amount = ((u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < 0.09).astype(np.float32)
        case "checkered":
            amount = ((u.astype(int) + v.astype(int)) % 2).astype(np.float32)
        case "gradient":
            amount = (along - along.min()) / np.ptp(along)
        case "grainy":
            amount = rng.random((SIDE, SIDE), np.float32)
        case _:
            amount = np.zeros((SIDE, SIDE), np.float32)
    shade = 55 if colour.mean() < 128 else -55  # towards white on dark colours, towards black on bright ones
    return np.clip(colour + shade * amount[..., None], 0, 255)


def paste(canvas: np.ndarray, sprite: Image.Image, side: int, left: int, top: int) -> np.ndarray:
    """Blend `sprite` (RGBA), scaled to `side` pixels, into float `canvas` [h, w, 3]; uint8 [h, w, 3]."""
    if sprite.width != side:
        small = sprite.convert("RGBa").resize((side, side), Image.Resampling.LANCZOS, reducing_gap=None)
        sprite = small.convert("RGBA")
    rgba = np.asarray(sprite, np.float32)
    window = canvas[top : top + side, left : left + side]
    alpha = rgba[..., 3:] / 255
    canvas[top : top + side, left : left + side] = window + alpha * (rgba[..., :3] - window)
    return np.rint(canvas).astype(np.uint8)


def compose_scene(sprite: Image.Image, context: Context, rng: np.random.Generator) -> np.ndarray:
    """The image of `sprite` in `context`, uint8 [SIDE, SIDE, 3]; size and place vary by two pixels."""
    side = SIZES[context.size] + int(rng.integers(-2, 3))
    room = SIDE - side
    column, row = PLACES.index(context.place) % 3, PLACES.index(context.place) // 3
    left, top = (int(np.clip(room * i // 2 + rng.integers(-1, 2), 0, room)) for i in (column, row))
    return paste(background(context, rng), sprite, side, left, top)


def compose_plain(sprite: Image.Image, side: int = SIDE, left: int = 0, top: int = 0) -> np.ndarray:
    """The image of `sprite` on white, uint8 [SIDE, SIDE, 3]."""
    return paste(np.full((SIDE, SIDE, 3), 255, np.float32), sprite, side, left, top)


def draw_caption(
    name: str, keywords: Sequence[str], style: str, context: Context | None, rng: np.random.Generator
) -> str:
    """One caption of a picture, for example "a small noto picture of red apple on blue background".

    Args:
      style: one of SPOKEN_STYLES, or empty where the caption says none.
      keywords: CLDR keywords; one replaces the name in the few captions that do not give it, or follows it.
      context: of a scene; None for a plain picture, whose caption never speaks of size, place or background.
    """
    said = rng.random(6)
    words = []
    if context and said[0] < SIZED:
        words.append(context.size)
    if style and said[1] < STYLED:
        words.append(SPOKEN_STYLES[style])
    words += [str(rng.choice(KINDS, p=KIND_WEIGHTS)), "of"]
    keyword = keywords[int(rng.integers(len(keywords)))] if keywords else name
    words.append(name if said[2] < NAMED else keyword)
    if said[2] < EXPLAINED and keyword != name:
        words.append(f", {keyword}")
    if context and said[3] < PLACED:
        words.append(f"at the {context.place}")
    if context and said[4] < COLOURED:
        words.append("on")
        if said[5] < TEXTURED:
            words.append(context.texture)
        words.append(f"{context.background} background")
    article = "an" if words[0][0] in "aeio" else "a"
    return " ".join([article, *words]).replace(" ,", ",")


def keyword_captions(name: str, keywords: Sequence[str], most: int = 4) -> list[str]:
    """Captions for text-to-text: the name first, then one for each pair of CLDR keywords.

    A keyword that stands in the name is left out: what is left asks for meaning, not for shared words.
    """
    rest = [k for k in keywords if not set(k.split()) & set(name.split())]
    pairs = [rest[i : i + 2] for i in range(0, len(rest), 2)][:most]
    return [f"a picture of {name}", *(f"a picture of {' and '.join(pair)}" for pair in pairs)]
