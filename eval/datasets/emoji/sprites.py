"""The shipped sprites and names, as `tools/build_emoji.py` wrote them."""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).parent
STYLES = ("noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "emojione")


@dataclass(frozen=True)
class Emoji:
    """One emoji: name, characters, group, subgroup, CLDR keywords, split (`train`, `test`), styles."""

    name: str
    icon: str
    emoji: str
    group: str
    subgroup: str
    keywords: tuple[str, ...]
    split: str
    styles: tuple[str, ...]


@functools.cache
def read_table() -> dict:
    return json.loads((FOLDER / "emoji.json").read_text(encoding="utf-8"))


@functools.cache
def read_emoji() -> tuple[Emoji, ...]:
    """All emoji in Unicode order."""
    rows = read_table()["emoji"]
    return tuple(
        Emoji(**row | {"keywords": tuple(row["keywords"]), "styles": tuple(row["styles"])}) for row in rows
    )


def read_sprites(split: str | None = None) -> Iterator[tuple[Emoji, str, Image.Image]]:
    """Every (emoji, style, RGBA sprite), style by style, of one split or of all."""
    side, columns = read_table()["sprite"], read_table()["columns"]
    for style in STYLES:
        with Image.open(FOLDER / f"sprites-{style}.webp") as sheet:
            sheet.load()
        drawn = [emoji for emoji in read_emoji() if style in emoji.styles]
        for i, emoji in enumerate(drawn):
            if split in (None, emoji.split):
                left, top = i % columns * side, i // columns * side
                yield emoji, style, sheet.crop((left, top, left + side, top + side))
