"""Build the sprites and the table of names that the data sets `emoji` and `emoji-scenes` are prepared from.

Reads the SVG emoji sets and the Unicode data from npm packages, writes one lossless WebP sheet for each
drawing style and `emoji.json` to `eval/datasets/emoji/`. The same packages give the same files.

    npm install --prefix /tmp/emoji emojibase-data unicode-emoji-json \
        @iconify-json/{noto,noto-v1,twemoji,openmoji,fluent-emoji,fluent-emoji-flat,emojione}
    pip install -e '.[build]'
    python tools/build_emoji.py /tmp/emoji/node_modules
"""

import hashlib
import io
import json
import re
import unicodedata
from pathlib import Path

import resvg_py
import tyro
from PIL import Image
from rich.progress import track

STYLES = ("noto", "noto-v1", "twemoji", "openmoji", "fluent-emoji", "fluent-emoji-flat", "emojione")
SPRITE = 48  # pixels
COLUMNS = 40  # sprites in a row of a sheet
HELD_OUT_PERCENT = 22
TARGET = Path(__file__).parents[1] / "eval" / "datasets" / "emoji"


def slug(name: str) -> str:
    """The icon name that the sets give to a Unicode emoji name."""
    plain = unicodedata.normalize("NFKD", re.sub("['\u2019]", "", name)).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")


def is_held_out(name: str) -> bool:
    """Whether the hash of `name` puts it into the test split."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 100 < HELD_OUT_PERCENT


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def keywords_by_emoji(packages: Path) -> dict[str, tuple[str, list[str]]]:
    """Subgroup and CLDR keywords of each emoji, keyed by its characters without variation selectors."""
    subgroups = read_json(packages / "emojibase-data/meta/groups.json")["subgroups"]
    rows = read_json(packages / "emojibase-data/en/data.json")
    return {
        row["emoji"].replace("\ufe0f", ""): (subgroups[str(row["subgroup"])], row.get("tags", []))
        for row in rows
        if "subgroup" in row
    }


def read_names(packages: Path) -> list[dict]:
    """One row for each emoji: no flags, skin tones, components or direction variants."""
    extra = keywords_by_emoji(packages)
    rows = []
    for emoji, entry in read_json(packages / "unicode-emoji-json/data-by-emoji.json").items():
        if entry["group"] in ("Flags", "Component") or "facing right" in entry["name"]:
            continue
        name = entry["name"].lower().replace("\u2019", "'").replace("#", " hash ").replace("*", " asterisk ")
        name = re.sub(r"[^\w\s'&+-]", " ", name)
        name = " ".join(name.split())
        subgroup, keywords = extra[emoji.replace("\ufe0f", "")]
        rows.append(
            {
                "name": name,
                "icon": slug(entry["name"]),
                "emoji": emoji,
                "group": entry["group"],
                "subgroup": subgroup,
                "keywords": [
                    k.lower() for k in keywords if k.lower() != name and re.search("[a-z]", k.lower())
                ],
                "split": "test" if is_held_out(name) else "train",
            }
        )
    return rows


def icon_svg(icons: dict, name: str) -> str | None:
    """The SVG document of an icon of an Iconify set, or None where the set lacks it."""
    while name in icons.get("aliases", {}):
        name = icons["aliases"][name]["parent"]
    if name not in icons["icons"]:
        return None
    icon = icons["icons"][name]
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return f'<svg {names} width="{SPRITE}" height="{SPRITE}" viewBox="{box}">{icon["body"]}</svg>'


def render_style(packages: Path, style: str, rows: list[dict]) -> Image.Image:
    """Draw the sheet of one style, in the order of `rows`; adds the style to the rows that it has."""
    icons = read_json(packages / "@iconify-json" / style / "icons.json")
    sprites = []
    for row in track(rows, f"{style:18}"):
        svg = icon_svg(icons, row["icon"])
        if svg is None:
            continue
        png = resvg_py.svg_to_bytes(svg_string=svg, width=SPRITE, height=SPRITE)
        sprites.append(Image.open(io.BytesIO(bytes(png))).convert("RGBA"))
        row["styles"].append(style)
    sheet = Image.new("RGBA", (COLUMNS * SPRITE, -(-len(sprites) // COLUMNS) * SPRITE))
    for i, sprite in enumerate(sprites):
        sheet.paste(sprite, (i % COLUMNS * SPRITE, i // COLUMNS * SPRITE))
    return sheet


def main(packages: Path, /, target: Path = TARGET) -> None:
    """Write the sheets and `emoji.json` from the npm packages in `packages` (a node_modules folder)."""
    rows = [row | {"styles": []} for row in read_names(packages)]
    for style in STYLES:
        sheet = render_style(packages, style, rows)
        sheet.save(target / f"sprites-{style}.webp", lossless=True, method=6)
    versions = {
        p: read_json(packages / p / "package.json")["version"]
        for p in ("emojibase-data", "unicode-emoji-json")
    }
    versions |= {s: read_json(packages / "@iconify-json" / s / "package.json")["version"] for s in STYLES}
    table = {"sprite": SPRITE, "columns": COLUMNS, "versions": versions, "emoji": rows}
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).replace('{"name"', '\n{"name"')
    (target / "emoji.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    tyro.cli(main)
