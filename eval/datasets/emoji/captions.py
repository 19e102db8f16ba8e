"""Captions as they are on the web: the name nearly always, style, size, colour and place sometimes."""

from collections.abc import Sequence

import numpy as np

from .scenes import Context

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
NAMED, STYLED, SIZED, PLACED, COLOURED, TEXTURED, EXPLAINED = (
    0.92,
    0.25,
    0.2,
    0.15,
    0.35,
    0.3,
    0.15,
)  # probabilities


def draw_caption(
    name: str, keywords: Sequence[str], style: str, context: Context | None, rng: np.random.Generator
) -> str:
    """One caption of a picture, for example "a small noto picture of red apple on blue background".

    Args:
      keywords: CLDR keywords; one replaces the name in the few captions that do not give it, or follows it.
      context: of a scene; None for a plain picture, whose caption never speaks of size, place or background.
    """
    said = rng.random(6)
    words = []
    if context and said[0] < SIZED:
        words.append(context.size)
    if said[1] < STYLED:
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
