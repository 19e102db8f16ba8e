"""What the original implementations do to a text before they split it into tokens."""

import html
import re
import string
from collections.abc import Callable
from typing import Literal

Cleaning = Literal["clip", "mended", "mended_lower", "canonicalize", "siglip", "lower", "lower_ascii"]
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def clean_clip(text: str) -> str:
    """OpenAI's CLIP and open_clip: mended Unicode, HTML entities, single spaces, lower case."""
    return clean_mended(text).lower()


def clean_mended(text: str) -> str:
    """open_clip before a vocabulary of transformers: as `clean_clip`, but the case is kept."""
    return " ".join(_mend(text).split())


def clean_canonicalize(text: str) -> str:
    """open_clip's SigLIP: as `clean_clip`, and underscores are spaces and ASCII punctuation is dropped."""
    text = _mend(text).replace("_", " ").translate(_NO_PUNCTUATION).lower()
    return " ".join(text.split())


def clean_siglip(text: str) -> str:
    """transformers' SiglipTokenizer: lower case, no ASCII punctuation (`_` too), single spaces."""
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


def clean_lower(text: str) -> str:
    """transformers' Siglip2Tokenizer: lower case, and a sigma is the same at the end of a word."""
    return text.replace("\N{GREEK CAPITAL LETTER SIGMA}", "\N{GREEK SMALL LETTER SIGMA}").lower()


def clean_lower_ascii(text: str) -> str:
    """big_vision: `tf.strings.lower` without an encoding, which knows A to Z alone."""
    return text.translate(_ASCII_LOWER)


CLEANERS: dict[str, Callable[[str], str]] = {
    "clip": clean_clip,
    "mended": clean_mended,
    "mended_lower": clean_clip,  # before another vocabulary than CLIP's
    "canonicalize": clean_canonicalize,
    "siglip": clean_siglip,
    "lower": clean_lower,
    "lower_ascii": clean_lower_ascii,
}


def _mend(text: str) -> str:
    """ftfy's repair, then HTML entities; on most English text neither has anything to do."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text)))
