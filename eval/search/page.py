"""A page of images: each small, inside the page, and a link to its file. It loads and runs nothing."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.files import write_whole
from jaxalign.eval.report.page import render
from jaxalign.eval.thumbnails import ON_PAGE, thumbnail
from jaxalign.inputs.image_files import opened_image

_THREADS = 8


@dataclass(frozen=True, eq=False)
class Shown:
    """An image on a page.

    Attributes:
      name: what it is called there.
      note: what stands below it.
      uri: what opens when it is clicked; empty for nothing.
      image: uint8 `[h, w, 3]`, upright, at most `ON_PAGE` pixels; None where it cannot be read now.
    """

    name: str
    note: str
    uri: str
    image: np.ndarray | None


def show_files(files: Iterable[tuple[str | os.PathLike[str], str, str]]) -> list[Shown]:
    """Images of which the file, the name and the note are given, read by several threads."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda given: _show(*given), files))


def _show(file: str | os.PathLike[str], name: str, note: str) -> Shown:
    try:
        with opened_image(file, name) as image:
            small = thumbnail(image, ON_PAGE)
    except JaxalignError:
        small = None
    return Shown(name, note, file_uri(file), small)


def file_uri(file: str | os.PathLike[str]) -> str:
    """The address of a local file, whatever its name is made of; links to its folder are resolved, since
    browsers take `link/..` for nothing."""
    folder, name = os.path.split(file)
    return Path(os.path.realpath(folder or "."), name).as_uri()


def write_page(
    file: Path,
    title: str,
    lines: Sequence[str],
    sections: Sequence[tuple[str, Sequence[Shown]]],
    remarks: Sequence[str] = (),
) -> None:
    """Write a page as one file, whole or not at all.

    Args:
      lines: what stands below the title.
      sections: of images, each with its heading, which may be empty.
      remarks: what stands at the end.
    """
    text = render("gallery.html.j2", title=title, lines=lines, sections=sections, credits=" ".join(remarks))
    write_whole(file, text)
