"""Word vectors from WordNet, for words that no training caption has.

A dual encoder trained on some 1,300 names has never read most of the words of the other names. WordNet says
what they mean. A word is described by the synsets of its first senses, their hypernyms, their lemmas and the
words of their glosses, weighted by inverse document frequency and reduced by a truncated SVD.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfTransformer

SENSES = 3
DECAY = 0.75  # per hypernym step
PARTS = {"noun": ("n", 1.0), "verb": ("v", 0.4), "adj": ("a", 0.6), "adv": ("r", 0.3)}
UPWARD = ("@", "@i", "&", "\\")  # hypernym, instance hypernym, similar to, pertains to
Synset = tuple[list[str], list[str], list[str]]  # lemmas, hypernyms, words of the gloss


def read_wordnet(folder: Path) -> tuple[dict[str, Synset], dict[str, list[tuple[str, float]]]]:
    """Parse the `dict` folder: synsets by identifier, and for each lemma its senses with weights."""
    synsets: dict[str, Synset] = {}
    senses: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for part, (letter, weight) in PARTS.items():
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if line.startswith(" "):
                continue
            head, _, gloss = line.partition("|")
            f = head.split()
            count = int(f[3], 16)
            lemmas = [w.lower() for w in f[4 : 4 + 2 * count : 2]]
            pointers = f[5 + 2 * count :]
            quadruples = [pointers[i : i + 4] for i in range(0, 4 * int(f[4 + 2 * count]), 4)]
            up = [
                part.replace("s", "a") + offset for symbol, offset, part, _ in quadruples if symbol in UPWARD
            ]
            words = [
                w for w in re.findall(r"[a-z]+", gloss.split('"')[0].lower()) if w not in ENGLISH_STOP_WORDS
            ]
            synsets[letter + f[0]] = (lemmas, up, words)
        for line in (folder / f"index.{part}").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" "):
                f = line.split()
                for i, offset in enumerate(f[-int(f[2]) :][:SENSES]):
                    senses[f[0]].append((letter + offset, weight / (1 + i)))
    return synsets, senses


def base_forms(word: str) -> list[str]:
    """The word, then what is left without a plural, -ing or -ed ending."""
    forms = [word]
    for ending, *replacements in (
        ("ies", "y"),
        ("es", "", "e"),
        ("s", ""),
        ("ing", "", "e"),
        ("ed", "", "e"),
        ("er", "", "e"),
    ):
        if word.endswith(ending) and len(word) > len(ending) + 2:
            stem = word[: -len(ending)]
            forms += [stem + r for r in replacements]
            if len(stem) > 2 and stem[-1] == stem[-2]:
                forms.append(stem[:-1])
    return forms


def describe(
    word: str, synsets: dict[str, Synset], senses: dict[str, list[tuple[str, float]]]
) -> dict[str, float]:
    """Weighted features of a word; empty for a word that WordNet lacks."""
    features: dict[str, float] = defaultdict(float)
    lemma = next((form for form in base_forms(word) if form in senses), None)
    for synset, weight in senses.get(lemma or "", ()):
        frontier, share = [synset], weight
        seen = set()
        while frontier and share > 0.05:
            for s in frontier:
                features["=" + s] = max(features["=" + s], share)
            seen.update(frontier)
            frontier = [h for s in frontier for h in synsets[s][1] if h in synsets and h not in seen]
            share *= DECAY
        lemmas, _, gloss = synsets[synset]
        for other in (*lemmas, *gloss):
            features[other] += 0.4 * weight
    if lemma:
        features[lemma] += 1.0
    return features


def word_vectors(words: Sequence[str], folder: Path, width: int) -> np.ndarray:
    """Vectors float32 [len(words), width] of unit length; zero where WordNet has no such word."""
    synsets, senses = read_wordnet(folder)
    features = [describe(word, synsets, senses) for word in words]
    counts = TfidfTransformer(sublinear_tf=False).fit_transform(DictVectorizer().fit_transform(features))
    vectors = TruncatedSVD(width, random_state=0).fit_transform(counts)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6).astype(np.float32)
