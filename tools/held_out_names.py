"""Whether a text bears the name of a held-out emoji: what the strict variant of the corpus leaves out."""

import re
from collections.abc import Iterable, Sequence
from functools import cache

from jaxalign.eval.datasets.emoji.sprites import read_emoji

LONGEST = 4  # words that together may spell a name as one word ("honey pot" and "honeypot")
EMPTY = {"a", "an", "the", "of", "with", "and", "in", "on", "for", "s"}
IRREGULAR = {
    "men": "man", "women": "woman", "people": "person", "persons": "person", "children": "child",
    "mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth", "wolves": "wolf",
    "knives": "knife", "leaves": "leaf", "loaves": "loaf", "oxen": "ox", "cacti": "cactus",
    "fungi": "fungus", "dice": "die", "grey": "gray", "colour": "color", "colours": "color",
    "doughnut": "donut", "doughnuts": "donut", "mosquitoes": "mosquito", "shelves": "shelf",
    "scarves": "scarf", "elves": "elf", "halves": "half", "moustache": "mustache",
    "eyeglasses": "glasses", "eyeglass": "glasses", "capricornus": "capricorn",
}  # fmt: skip


@cache
def forms(word: str) -> frozenset[str]:
    """The word, and what it may be the plural or the -ing, -ed or -y form of."""
    found = {word, IRREGULAR.get(word, word)}
    for ending, *ends in (
        ("s", ""),
        ("es", ""),
        ("ies", "y"),
        ("ing", "", "e"),
        ("ed", "", "e"),
        ("y", "", "e"),
    ):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2:
            found |= {stem + end for end in ends}
            if len(stem) > 3 and stem[-1] == stem[-2]:
                found.add(stem[:-1])
    return frozenset(found)


def all_forms(words: Iterable[str]) -> frozenset[str]:
    return frozenset(form for word in words for form in forms(word))


def plain_words(text: str) -> list[str]:
    """Lower-case words and numbers without what stands between them."""
    return re.findall(r"[a-z0-9]+", text.lower().replace("\u00f1", "n"))


@cache
def held_out_names() -> tuple[str, ...]:
    return tuple(e.name for e in read_emoji() if e.split == "test")


class Names:
    """Names that a text must not bear: every word of one, in any order and form, or its letters in a row."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = []
        self.by_form: dict[str, set[int]] = {}
        for name in names:
            words = plain_words(name)
            needed = [w for w in words if w not in EMPTY] or words
            for form in {form for word in needed for form in forms(word)}:
                self.by_form.setdefault(form, set()).add(len(self.names))
            self.names.append((name, needed, "".join(words)))
        self.glued = {glued: i for i, (_, _, glued) in enumerate(self.names)}

    def borne_by(self, words: Sequence[str], beside: frozenset[str] = frozenset()) -> str | None:
        """The first of the names that `words` bear, or None.

        Args:
          beside: `all_forms` of further words, which may complete a name that one of `words` begins.
        """
        words = [w for word in words for w in plain_words(word)]
        present = all_forms(words)
        for i in sorted({i for form in present for i in self.by_form.get(form, ())}):
            name, needed, _ = self.names[i]
            if all(not present.isdisjoint(forms(n)) or not beside.isdisjoint(forms(n)) for n in needed):
                return name
        for start in range(len(words)):
            for end in range(start + 1, min(start + LONGEST, len(words)) + 1):
                for form in forms("".join(words[start:end])) & self.glued.keys():
                    return self.names[self.glued[form]][0]
        return None
