"""Read the icon sets of the npm package `@iconify/json`: those that are used, and each icon's name and SVG.

The files come from many hands. An icon is read as data: only known elements of SVG, no references outside
of it, no animation, no text; an alias stands for the icon that it names. What is left out, is counted.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.emoji import sprites
from jaxalign.local_files import read_json

LICENCES = ("MIT", "Apache-2.0", "CC0-1.0", "CC-BY-3.0", "CC-BY-4.0", "ISC")
SIDE = 48  # pixels of a drawing
JSON_BYTES = 64 << 20  # the largest set that is used has 14 MB
SVG_CHARACTERS = 60_000
LOGOS = "Logos"
# Logos of software and of its makers, under other categories.
BRANDS = {
    "vscode-icons", "material-icon-theme", "file-icons", "devicon", "devicon-plain", "catppuccin",
    "skill-icons", "gcp", "k8s", "unjs", "fa6-brands", "fa-brands", "fad",
}  # fmt: skip
OTHER_EMOJI = ("fxemoji", "streamline-emojis")  # by hands that the data sets do not have: other_emoji.py
FLAGS = {"circle-flags", "flag", "flagpack", "cif"}
ELEMENTS = {
    "path", "g", "defs", "circle", "ellipse", "rect", "line", "polyline", "polygon", "mask", "clipPath",
    "use", "symbol", "marker", "stop", "linearGradient", "radialGradient", "filter", "feGaussianBlur",
    "feBlend", "feFlood", "feColorMatrix", "feOffset", "feComposite",
}  # fmt: skip
PLAIN_COLOURS = {"none", "currentcolor", "transparent", "inherit"}

# Words of style in ids, as captions say them; empty for what a caption does not say.
SPOKEN = {
    "outline": "outline", "outlined": "outline", "o": "outline", "line": "line", "linear": "line",
    "stroke": "line", "fill": "filled", "filled": "filled", "f": "filled", "solid": "solid",
    "bold": "bold", "thin": "thin", "light": "light", "duotone": "duotone", "duo": "duotone",
    "twotone": "two tone", "tone": "", "two": "", "one": "", "sharp": "sharp", "round": "rounded",
    "rounded": "rounded", "broken": "broken", "flat": "flat", "negative": "negative", "print": "",
    "remix": "", "regular": "", "baseline": "", "alt": "", "variant": "", "small": "", "ios": "",
    "md": "", "expressive": "", "ltr": "", "rtl": "", "mirrored": "", "stipple": "", "transition": "",
    "active": "", "color": "", "basic": "", "turf": "", "badged": "", "alerted": "", "i": "", "ui": "",
    "app": "", "interface": "",
}  # fmt: skip
# Of no other meaning at a name's end; other words are a style where the set says so or often ends so.
ALWAYS = {
    "outline", "outlined", "fill", "filled", "solid", "stroke", "duotone", "twotone", "rounded",
    "linear", "regular", "baseline", "alt", "variant", "badged", "alerted",
}  # fmt: skip
OFTEN = 0.04
SET_STYLES = {
    "pixelarticons": "pixel art", "pixel": "pixel art", "streamline-pixel": "pixel art",
    "memory": "pixel art", "dinkie-icons": "pixel art", "streamline-freehand": "hand drawn",
    "streamline-freehand-color": "hand drawn", "pepicons-pencil": "sketched",
    "game-icons": "silhouette", "pinhead": "map", "maki": "map", "temaki": "map", "roentgen": "map",
    "osmic": "map",
}  # fmt: skip
# Categories that say nothing of what is drawn.
VAGUE = {
    "general", "base", "basic", "content", "interface", "interfaceessential", "other", "others",
    "regular", "ui", "uiactions", "newicons", "action", "actions", "activities", "social", "abstract",
    "system", "rag", "agents", "av", "it", "data", "text", "device", "devices", "edit", "images",
    "image",
}  # fmt: skip


@dataclass(frozen=True)
class IconSet:
    """A set as its file describes it."""

    prefix: str
    title: str
    author: str
    link: str
    licence: str
    version: str
    category: str
    coloured: bool


@dataclass(frozen=True)
class Icon:
    """One drawing: `words` of its name without what is style, `raw` all words of its id."""

    prefix: str
    words: tuple[str, ...]
    raw: tuple[str, ...]
    style: str
    category: str
    size: float
    body: str
    svg: str


def left_out(prefix: str, info: dict[str, Any]) -> str | None:
    """Why the set is not used, or None where it is."""
    if "emoji" in prefix or prefix in sprites.STYLES or info.get("category") == "Emoji":
        return "emoji, of which some are held out"
    if info.get("license", {}).get("spdx") not in LICENCES:
        return "licence"
    if info.get("category") == LOGOS or prefix in BRANDS:
        return "logos, whose names are no words"
    if prefix in FLAGS:
        return "flags, whose names are codes"
    return None


def read_sets(package: Path) -> Iterator[tuple[IconSet, dict[str, Any], str | None]]:
    """Each set of the package folder: its description, its file's content, and why it is left out or None.

    The content is empty where nothing of the set is used.
    """
    collections = read_json(package / "collections.json")
    for prefix, info in sorted(collections.items()):
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", prefix):
            raise JaxalignError(
                f"{package / 'collections.json'}: a set is called {prefix!r}, which is no name of a file"
            )
        reason = left_out(prefix, info)
        used = reason is None or prefix in OTHER_EMOJI
        content = read_json(package / "json" / f"{prefix}.json", JSON_BYTES) if used else {}
        changed = datetime.fromtimestamp(content.get("lastModified", 0), UTC).date()
        author, licence = info.get("author", {}), info.get("license", {})
        described = IconSet(
            prefix,
            info["name"],
            author.get("name", ""),
            author.get("url", ""),
            licence.get("spdx", ""),
            info.get("version") or f"of {changed}",
            info.get("category") or "",
            bool(info.get("palette")),
        )
        yield described, content, reason


def brand_words(package: Path) -> set[str]:
    """The names of the sets of logos: a word that no dictionary has and that stands here is a brand."""
    found = set()
    for prefix in ("simple-icons", "logos"):
        path = package / "json" / f"{prefix}.json"
        found |= set(read_json(path, JSON_BYTES)["icons"]) if path.exists() else set()
    return found


def style_tokens(content: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The first and the last words of ids that are a style in this set: declared ones and frequent ones."""
    names = list(content["icons"])
    ends = Counter(name.split("-")[-1] for name in names)
    starts = Counter(name.split("-")[0] for name in names)
    often = lambda counts: {w for w, n in counts.items() if w in SPOKEN and n >= OFTEN * len(names)}
    declared = lambda key: {w for text in content.get(key) or {} for w in text.split("-") if text}
    return declared("prefixes") | often(starts), declared("suffixes") | often(ends) | ALWAYS


def split_id(name: str, starts: set[str], ends: set[str]) -> tuple[list[str], list[str]]:
    """The words of an icon's name, and the words of style around it."""
    words, styles = name.split("-"), []
    if words[0] in starts and len(words) > 1:
        styles.append(words.pop(0))
    is_number = lambda w: re.fullmatch(r"\d+(px|x\d+)?|v\d+", w)
    while len(words) > 1 and (words[-1] in ends or is_number(words[-1]) or len(words[-1]) == 1):
        styles.insert(0, words.pop())
    words = [re.sub(r"(?<=[a-z]{3})\d+$", "", w) for w in words]
    return [w for w in words if not w.isdigit() and w not in ("alt", "variant")], styles


def spoken_style(prefix: str, styles: list[str]) -> str:
    """At most two words of style, as a caption says them."""
    said = [SPOKEN.get(w, "") for w in styles]
    return " ".join(dict.fromkeys(w for w in (SET_STYLES.get(prefix, ""), *said) if w))


def spoken_category(text: str) -> str:
    """A category as a caption says it ("FoodDrink" is "food drink"); empty where it says nothing."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower()
    words = " ".join(re.findall(r"[a-z]+", words))
    return "" if words.replace(" ", "") in VAGUE or len(words.split()) > 3 else words


def document(icon: dict[str, Any], content: dict[str, Any]) -> tuple[str, float] | None:
    """The SVG document of an icon and the height of its grid; None where it is not understood."""
    body = icon["body"]
    sizes = [icon.get(key, content.get(key, default)) for key, default in
             (("left", 0), ("top", 0), ("width", 16), ("height", 16))]  # fmt: skip
    numbers = all(isinstance(x, int | float) and abs(x) < 1e5 for x in sizes)
    links = re.findall(r"(?:href\s*=\s*[\"']|url\(\s*[\"']?)(.)", body)
    if not numbers or min(sizes[2:]) <= 0 or len(body) > SVG_CHARACTERS or "<!" in body or "<?" in body:
        return None
    if not set(re.findall(r"<\s*([a-zA-Z:]+)", body)) <= ELEMENTS or set(links) - {"#"}:
        return None
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    box = " ".join(f"{x:g}" for x in sizes)
    return f'<svg {names} width="48" height="48" viewBox="{box}">{body}</svg>', sizes[3]


def render(svg: str) -> Image.Image:
    """The drawing, SIDE pixels wide, premultiplied RGBA."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE, skip_system_fonts=True)
    with Image.open(io.BytesIO(bytes(png))) as image:
        return image.convert("RGBA").convert("RGBa")


def is_coloured(body: str) -> bool:
    """Whether the drawing has colours of its own; masks do not count, whose colours are opacities."""
    drawn = re.sub(r"<mask.*?</mask>", "", body, flags=re.DOTALL)
    values = re.findall(r"(?:fill|stroke|stop-color|flood-color)\s*[=:]\s*[\"']?\s*([^\"';>\s]+)", drawn)
    colours = {v.lower() for v in values if not v.startswith("url(")} - PLAIN_COLOURS
    return bool(colours) or "currentColor" not in body


def resolve(content: dict[str, Any], name: str) -> dict[str, Any] | str:
    """The icon that `name` stands for, or why there is none."""
    seen: set[str] = set()
    aliases = content.get("aliases") or {}
    while name in aliases and name not in seen:
        seen.add(name)
        alias = aliases[name]
        if set(alias) & {"rotate", "hFlip", "vFlip"}:
            return "a turned alias"
        if alias.get("hidden"):
            return "withdrawn"
        name = alias["parent"]
    if name not in content["icons"]:
        return "an alias of nothing"
    return "withdrawn" if content["icons"][name].get("hidden") else content["icons"][name]


def read_icons(described: IconSet, content: dict[str, Any], reasons: Counter[str]) -> Iterator[Icon]:
    """The icons of a set; counts in `reasons` why others are left out."""
    starts, ends = style_tokens(content)
    usual = (content.get("suffixes") or {}).get("", "").lower()
    categories: dict[str, list[str]] = {}
    for category, names in (content.get("categories") or {}).items():
        for name in names:
            categories.setdefault(name, []).append(category)
    for name in [*content["icons"], *(content.get("aliases") or {})]:
        icon = resolve(content, name)
        words, styles = split_id(name, starts, ends)
        of_icon = categories.get(name, [])
        is_brand = {words[0] if words else "", *words[-1:]} & {"brand", "logo", "logos", "social", "wordmark"}
        if isinstance(icon, str):
            reasons[icon] += 1
        elif is_brand or any(re.search("brand|logo|social media", c, re.IGNORECASE) for c in of_icon):
            reasons["a logo"] += 1
        elif not words or len(words) > 4 or max(map(len, words)) < 2:
            reasons["no name, or a long one"] += 1
        elif re.search("<(animate|set)", icon["body"]):
            reasons["animated"] += 1
        elif (drawn := document(icon, content)) is None:
            reasons["an unknown element"] += 1
        else:
            category = next(filter(None, map(spoken_category, of_icon)), "")
            style = spoken_style(described.prefix, styles or [usual])
            raw = tuple(re.findall("[a-z0-9]+", name.lower()))
            yield Icon(described.prefix, tuple(words), raw, style, category, drawn[1], icon["body"], drawn[0])
