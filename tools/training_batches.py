"""The batches that the embedded models are trained on: emoji in scenes, and icons beside them.

Images and captions of step s are drawn from (seed, s) alone, so a run that was stopped resumes as it was. All
names of a batch differ, and an icon is about something that no other name in it is about: no false negatives.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from held_out_names import Names, all_forms, held_out_names
from icon_corpus import Corpus, head_word
from other_emoji import OtherEmoji
from PIL import Image
from training_images import INKS, WHITE, Layout, as_image, backgrounds, draw_inks, draw_layout, paste_all
from training_words import Words, caption_words

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.emoji import scenes
from jaxalign.eval.datasets.emoji.sprites import Emoji, read_sprites
from jaxalign.local_files import open_regular, read_limited

PLAIN_SHARE = 0.4
PATCH = 8
WRONG, VAGUE, PARTIAL = 0.03, 0.04, 0.1  # shares of captions: another name, the category alone, a word less
TITLED, ARTICLE, INKED, AFTER = 0.08, 0.2, 0.25, 0.25  # probabilities; AFTER: "bell icon, in red"
KIND_BOUNDS = np.cumsum(scenes.KIND_WEIGHTS)


class Settings(Protocol):
    """What of the training's settings a batch depends on."""

    @property
    def steps(self) -> int: ...
    @property
    def full_steps(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def kept_patches(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def icon_share(self) -> float: ...


def singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


class IconNames:
    """Which icons a batch has: things first, each once at most, then a name about each, then a drawing."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        members: dict[str, list[int]] = {}
        for i, head in enumerate(corpus.heads):
            members.setdefault(singular(head), []).append(i)
        self.numbers = {thing: number for number, thing in enumerate(members)}
        weights = [np.sqrt([len(corpus.rows[i]) for i in own]) for own in members.values()]
        self.members = [np.array(own) for own in members.values()]
        self.bounds = [np.cumsum(w) / w.sum() for w in weights]
        drawings = [sum(len(corpus.rows[i]) for i in own) for own in members.values()]
        self.log_weights = np.log(drawings) / 2
        self.quiet = self._quiet()

    def _quiet(self) -> np.ndarray:
        """Names beside which captions say nothing, bool: with more they would bear a held-out one.

        A square in red is a red square.
        """
        quiet = np.zeros(len(self.corpus.names), bool)
        if self.corpus.variant == "strict":
            forbidden, beside = Names(held_out_names()), {*caption_words(), *INKS}
            said = [text for texts in self.corpus.texts for drawing in texts for text in drawing[:2]]
            styles = {word for text in set(said) for word in text.split()}
            beside = all_forms(beside | styles)
            for i, name in enumerate(self.corpus.names):
                categories = {w for drawing in self.corpus.texts[i] for w in drawing[2].split()}
                quiet[i] = forbidden.borne_by([*name.split(), *sorted(categories)], beside) is not None
        return quiet

    def draw(self, count: int, taken: list[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Indices of `count` names and of a drawing of each; none about what the names `taken` are about."""
        scores = self.log_weights + rng.gumbel(size=len(self.log_weights))
        about = {word for name in taken for word in (head_word(name.split()), name.split()[-1])}
        scores[[self.numbers[w] for w in map(singular, about) if w in self.numbers]] = -np.inf
        free = int(np.isfinite(scores).sum())
        if count > free:
            raise JaxalignError(f"{count} icons for a batch: the corpus has {free} for it; take fewer")
        things = np.sort(np.argpartition(-scores, count - 1)[:count])
        at = rng.random((2, count))
        names = np.array(
            [self.members[t][np.searchsorted(self.bounds[t], u)] for t, u in zip(things, at[0], strict=True)]
        )
        drawings = np.array([int(u * len(self.corpus.rows[i])) for i, u in zip(names, at[1], strict=True)])
        return names, drawings


@dataclass(frozen=True)
class Examples:
    """The sprites by emoji, and the corpus of icons where there is one."""

    emoji: list[Emoji]
    sprites: list[list[tuple[str, Image.Image]]]  # (style or empty, premultiplied RGBA)
    icons: IconNames | None = None

    @classmethod
    def read(cls, corpus: Corpus | None = None, others: OtherEmoji | None = None) -> "Examples":
        """The training sprites of the data sets, and `others`' drawings of any name."""
        by_name: dict[str, tuple[Emoji, list]] = {}
        for emoji, style, sprite in read_sprites("train"):
            by_name.setdefault(emoji.name, (emoji, []))[1].append((style, sprite.convert("RGBa")))
        for emoji, sprite in others.drawings if others else ():
            by_name.setdefault(emoji.name, (emoji, []))[1].append(("", sprite))
        icons = None if corpus is None else IconNames(corpus)
        return cls([e for e, _ in by_name.values()], [s for _, s in by_name.values()], icons)

    def icon_sprite(self, name: int, drawing: int) -> Image.Image:
        assert self.icons is not None
        coloured, row = self.icons.corpus.rows[name][drawing]
        return as_image((self.icons.corpus.colour if coloured else self.icons.corpus.alpha)[row])


def keep_to_corpus(
    state: Path, corpus: Corpus | None, others: OtherEmoji | None = None, warm_start: Path | None = None
) -> None:
    """Note in the folder `state` what its run is trained on, and after which model; refuse others."""
    own = f"{corpus.identity} {corpus.variant}" if corpus else "no icons"
    own += f", other emoji {others.identity}" if others else ""
    if warm_start:
        with open_regular(warm_start / "model.safetensors") as file:
            own += f", after {hashlib.file_digest(file, 'sha256').hexdigest()}"
    own += "\n"
    note = state / "corpus.txt"
    if not note.exists():
        begun = (state / "checkpoint.msgpack").exists()  # before there were icons
        note.write_text("no icons\n" if begun else own, encoding="utf-8")
    if (noted := read_limited(note, 1000).decode("utf-8", "replace")) != own:
        raise JaxalignError(
            f"the run in {state} is trained on the corpus {noted.strip()!r}, not on {own.strip()!r}; "
            "give the same, or another folder"
        )


def said_name(name: str, category: str, other: str, u: np.ndarray) -> str:
    """The name as the web has it: whole nearly always, else partial, vague or wrong; u uniform [2]."""
    if u[0] < WRONG:
        return other
    if u[0] < WRONG + VAGUE and category:
        return category
    words = name.split()
    if u[0] > 1 - PARTIAL and len(words) > 1:
        del words[int(u[1] * len(words))]
    return " ".join(words)


def icon_caption(
    name: str,
    texts: tuple[str, str, str],
    ink: str,
    background: str,
    context: scenes.Context | None,
    u: np.ndarray,
) -> str:
    """One caption of an icon: "a small outline picture of bell in red on striped blue background".

    Args:
      name: as it is said; `texts` are title of the set, style and category.
      ink: of a drawing without colours of its own; empty for others.
      background: empty where it is white; said of images that are no scenes, too.
      context: of a scene, else None.
      u: uniform [12].
    """
    title, style, category = texts
    size = context.size if context and u[0] < scenes.SIZED else ""
    style = style if u[1] < scenes.STYLED else ""
    title = title if u[2] < TITLED else ""
    kind = scenes.KINDS[int(np.searchsorted(KIND_BOUNDS[:-1], u[3], side="right"))]
    ink = f"in {ink}" if ink and u[4] < INKED else ""
    place = f"at the {context.place}" if context and u[5] < scenes.PLACED else ""
    texture = context.texture if context and u[6] < scenes.TEXTURED else ""
    where = f"on {texture} {background} background" if background and u[7] < scenes.COLOURED else ""
    if u[8] < AFTER:
        noun = ("icon", "symbol", "drawing", "")[int(u[9] * 4)]
        parts = [f"{size} {name} {noun}", f"{style} {title}", f"{ink} {place} {where}"]
        return ", ".join(" ".join(part.split()) for part in parts if part.strip())
    more = f", {category}" if category and category != name and u[10] < scenes.EXPLAINED else ""
    article = article_of(name) if u[11] < ARTICLE else ""
    words = f"{size} {style} {title} {kind} of {article} {name}{more} {ink} {place} {where}".split()
    return " ".join([article_of(words[0]), *words])


def describe(
    icons: IconNames, chosen: tuple[int, int, int], ink: int, layout: Layout, k: int, u: np.ndarray
) -> str:
    """The caption of image `k`, an icon.

    Args:
      chosen: indices of its name, of its drawing, and of the name that a wrong caption gives.
      u: uniform [14].
    """
    name, drawing, other = chosen
    title, style, category = icons.corpus.texts[name][drawing]
    said = said_name(icons.corpus.names[name], category, icons.corpus.names[other], u[12:])
    if icons.quiet[[name, other]].any():
        kind = scenes.KINDS[int(u[3] * len(scenes.KINDS))]
        return f"{article_of(kind)} {kind} of {said}"
    coloured = icons.corpus.rows[name][drawing, 0]
    on = layout.background[k]
    background = "" if on == WHITE else tuple(scenes.BACKGROUNDS)[on]
    return icon_caption(
        said, (title, style, category), "" if coloured else INKS[ink], background, layout.context(k), u
    )


def article_of(word: str) -> str:
    return "an" if word[0] in "aeio" else "a"


def draw_batch(examples: Examples, words: Words, causal: bool, t: Settings, step: int):
    """Pixels uint8 [b, SIDE, SIDE, 3], tokens int32 [b, CONTEXT], kept patches int32 [b, k] of one step."""
    rng = np.random.default_rng((t.seed, step))
    pixels, texts = draw_pairs(examples, t.batch, round(t.batch * t.icon_share), rng)
    patches = (scenes.SIDE // PATCH) ** 2
    kept = rng.random((t.batch, patches)).argsort(1)[:, : t.kept_patches].astype(np.int32)
    full = np.broadcast_to(np.arange(patches, dtype=np.int32), (t.batch, patches))
    return pixels, words.tokenize(texts, causal), full if step >= t.steps - t.full_steps else kept


def draw_pairs(
    examples: Examples, count: int, icons: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[str]]:
    """Images uint8 [count, SIDE, SIDE, 3] and their captions: emoji, then so many icons."""
    chosen = rng.permutation(len(examples.emoji))[: count - icons]
    if len(chosen) < count - icons:
        raise JaxalignError(
            f"{count - icons} emoji for a batch: there are {len(chosen)}; take a smaller one, or more icons"
        )
    drawn = rng.random(len(chosen))
    own = [examples.sprites[i][int(u * len(examples.sprites[i]))] for i, u in zip(chosen, drawn, strict=True)]
    plain = rng.random(count) < PLAIN_SHARE
    layout = draw_layout(plain, (np.arange(count) < len(chosen)) | (rng.random(count) < 0.5), rng)
    inks = draw_inks(layout, rng)
    captions = [
        scenes.draw_caption(e.name, e.keywords, style, layout.context(k), rng)
        for k, (e, (style, _)) in enumerate(zip((examples.emoji[i] for i in chosen), own, strict=True))
    ]
    sprites = [sprite for _, sprite in own]
    if icons:
        if examples.icons is None:
            raise JaxalignError("a share of icons without a corpus of icons; give one with --icons")
        names, drawings = examples.icons.draw(icons, [examples.emoji[i].name for i in chosen], rng)
        u, others = rng.random((icons, 14)), rng.integers(len(examples.icons.corpus.names), size=icons)
        for k, (name, drawing) in enumerate(zip(names, drawings, strict=True), start=len(chosen)):
            sprites.append(examples.icon_sprite(name, drawing))
            row = k - len(chosen)
            captions.append(
                describe(examples.icons, (name, drawing, others[row]), inks[k], layout, k, u[row])
            )
    return paste_all(backgrounds(layout, rng), sprites, layout, inks), captions
