"""Text in figures: names come from files, and matplotlib does not draw everything that is in them."""

from jaxalign.errors import printable


def drawable(text: str) -> str:
    """`text` as one line, without characters that the font lacks, of which matplotlib would warn."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    return "".join(c if font.get_char_index(ord(c)) else "\N{WHITE SQUARE}" for c in printable(text))
