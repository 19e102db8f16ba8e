"""Emoji by other hands than those of the data sets: two sets of the npm package `@iconify/json`.

The web shows CLIP pictures of the very things that its test sets are about, by others than those who made the
test sets. What these two sets draw are the data sets' emoji, the held-out ones among them; the seven sets of
the data sets, from which the held-out drawings are, and their outlined and older versions are not read.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from icon_sets import JSON_BYTES, OTHER_EMOJI, document, render, resolve
from PIL import Image

from jaxalign.eval.datasets.emoji.sprites import Emoji, read_emoji
from jaxalign.local_files import read_json


@dataclass(frozen=True)
class OtherEmoji:
    """Drawings of emoji, premultiplied RGBA, and the digest of what they were rendered from."""

    drawings: list[tuple[Emoji, Image.Image]]
    identity: str

    @classmethod
    def read(cls, package: Path, held_out: bool) -> "OtherEmoji":
        """Render the drawings of training names in `package`, and of held-out ones if asked for."""
        wanted = [e for e in read_emoji() if held_out or e.split == "train"]
        by_letters = {letters(name): e for e in wanted for name in (e.icon, e.name)}
        drawings, digest = [], hashlib.sha256()
        for prefix in OTHER_EMOJI:
            content = read_json(package / "json" / f"{prefix}.json", JSON_BYTES)
            for name in [*content["icons"], *(content.get("aliases") or {})]:
                emoji, icon = by_letters.get(letters(name)), resolve(content, name)
                drawn = None if emoji is None or isinstance(icon, str) else document(icon, content)
                if emoji is not None and drawn is not None:
                    drawings.append((emoji, render(drawn[0])))
                    digest.update(f"{prefix} {name} {drawn[0]}\n".encode())
        return cls(drawings, digest.hexdigest())


def letters(name: str) -> str:
    """A name as all sets spell it: "beach-umbrella-2" and "beachumbrella" are one."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"-\d$", "", name.lower()))
