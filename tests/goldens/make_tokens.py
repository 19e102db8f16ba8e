"""Texts of many kinds and the ids that the original tokenizers give them.

    python tests/goldens/make_tokens.py

Needs jaxalign's extra `reference`. Writes tests/goldens/tokens.json: the texts, the ids of open_clip's
`SimpleTokenizer` in 77 and in 32 places (without the zeros behind), and what its cleaning for SigLIP makes
of them.
"""

import json
import random
import unicodedata
from pathlib import Path

TARGET = Path(__file__).parent / "tokens.json"
PIECES = [
    *(
        "a photo of a cat",
        "it's",
        "I'LL",
        "THEY'VE",
        "dogs'",
        "don\u2019t",
        "'\u017f",
        "\u017fo",
        "rock'n'roll",
    ),
    *("&amp;", "&lt;b&gt;", "&amp;lt;", "&nbsp;", "&#233;", "&copy", "a&b", "<br>", "<start_of_text>"),
    *("<end_of_text>", "!<end_of_text>", "<END_OF_TEXT>", "<|endoftext|>", "<\u017ftart_of_text>", "</w>"),
    *("12345", "3.14", "1st", "\u00bd", "\u00b2", "\u2167", "\u0663\u0664", "\u4e00\u4e8c\u4e09"),
    *("na\u00efve", "e\u0301", "\u00c5NGSTR\u00d6M", "\u212a", "\u0130stanbul", "\ufb01ne", "\u1e9e"),
    *(
        "\u03a3\u03af\u03c3\u03c5\u03c6\u03bf\u03c2",
        "\u039f\u0394\u03a5\u03a3\u03a3\u0395\u03a5\u03a3",
        "a\u0345b",
    ),
    *(
        "\u65e5\u672c\u8a9e",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u0e44\u0e17\u0e22",
        "\u05e9\u05dc\u05d5\u05dd",
    ),
    *("\U0001f600", "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f"),
    *("\t", "\n", "\r\n", "\u00a0", "\u3000", "\u200b", "\x1c", "\x85", "\x00", "\x7f", "\ufeff", "\x1b[31m"),
    *(
        "$$$",
        "...",
        "\u2026",
        "\u201cx\u201d",
        "\u00c3\u00a9",
        "\u00e2\u20ac\u2122",
        "_",
        "a_b",
        "#tag",
        "100%",
    ),
    *("http://x.y/z?q=1&b=2", "C++", "MiXeD", "\uff41\uff42\uff43", "\ufdfa", "x" * 40, "\u00df", "~", "\\"),
]


def draw_text(rng: random.Random) -> str:
    """Pieces with and without spaces, words of one alphabet, or characters from anywhere."""
    kind = rng.random()
    if kind < 0.6:
        return "".join(rng.choice(PIECES) + rng.choice(["", " "]) for _ in range(rng.randrange(1, 12)))
    if kind < 0.8:
        low, high = rng.choice([(32, 127), (0x20, 0x250), (0x250, 0x600), (0x1F00, 0x2C00)])
    else:
        low, high = 0x20, 0x1FFFF
    characters = (chr(rng.randrange(low, high)) for _ in range(rng.randrange(0, 30)))
    # code points that are not assigned yet belong to a class that depends on the version of Unicode
    return "".join(c for c in characters if unicodedata.category(c) not in ("Cn", "Cs"))


def draw_texts(count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [*PIECES, "", " ", "a photo of a dog " * 12, *(draw_text(rng) for _ in range(count))]


def main() -> None:
    from open_clip.tokenizer import SimpleTokenizer, get_clean_fn

    texts = draw_texts(250, seed=0)
    clip, canonicalize = SimpleTokenizer(), get_clean_fn("canonicalize")
    trim = lambda row: row[: max(i for i, token in enumerate(row) if token) + 1]
    rows = [
        {
            "text": text,
            "clip": trim(clip([text])[0].tolist()),
            "clip_32": trim(clip([text], context_length=32)[0].tolist()),
            "canonicalized": canonicalize(text),
        }
        for text in texts
    ]
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    TARGET.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{TARGET}: {len(rows)} texts")


if __name__ == "__main__":
    main()
