"""`jaxalign duplicates`: the images of a folder that are there several times."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from .options import Excluded, JsonFile, NullPaths, PageFile, PathsAlone, UsageError, option
from .printing import (
    STANDARD_OUTPUT,
    check_file,
    first_names,
    only_results,
    print_table,
    write_json,
    write_paths,
)

if TYPE_CHECKING:
    from jaxalign.eval.search.duplicates import Found, Member


@dataclass(frozen=True)
class Duplicates:
    """Group the images of FOLDER that are copies of each other, and delete nothing.

    Copies have the same bytes, or look the same: resized, saved anew, a little brighter, with up to 2 % cut
    off their edges, turned as EXIF says. No model is asked. Of each group the image with the most pixels
    comes first, of these the one with the most bytes; all others are copies of that one. Images of almost one
    colour, or with less than 8 pixels on a side, count as copies only where their bytes are the same.

    A link to a file is no copy of it. What an image is like is kept by its content: the next call reads only
    new images, wherever files were moved. What is left out of FOLDER is said by `jaxalign search --help`.

    --paths gives a path on each line and an empty line after each group, as fdupes does.

    Examples:
      jaxalign duplicates ~/photos
      jaxalign duplicates ~/photos --page duplicates.html --json duplicates.json
      jaxalign duplicates ~/photos --paths
      jaxalign duplicates ~/photos --omit-first -0 | xargs -0 mv --backup=numbered -t ~/copies
    """

    folder: Annotated[Path, tyro.conf.Positional, option("Images to search, subfolders included.", "FOLDER")]
    exclude: Excluded = ()
    groups: Annotated[
        int,
        option(
            "Groups on the terminal and on the page, those first whose copies take most space; --json and"
            " --paths have all.",
            "N",
        ),
    ] = 100
    paths: PathsAlone = False
    null: NullPaths = False
    omit_first: Annotated[
        bool,
        option(
            "Print all but the first of each group with --paths or -0, as one list: what could go. Look at it"
            " before you delete any of it."
        ),
    ] = False
    page: PageFile = None
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.eval.progress import Watch
        from jaxalign.eval.search.duplicates import find_duplicates

        self._check()
        with only_results(STANDARD_OUTPUT if self._paths_alone else None):
            watch = Watch()
            with watch.shown(str(self.folder)):
                found = find_duplicates(
                    self.folder, exclude=self.exclude, start=watch.start, progress=watch.advance
                )
            write_json(self.json, to_json(found))
            if self._paths_alone:
                write_paths(paths_of(found, self.omit_first), b"\0" if self.null else b"\n")
            else:
                print_groups(found, self.groups)
            if self.page is not None:
                write_groups(found, self.groups, self.page)
            self._say(found)

    @property
    def _paths_alone(self) -> bool:
        return self.paths or self.null

    def _check(self) -> None:
        if self.groups < 1:
            raise UsageError(f"--groups is {self.groups}; expected 1 or more")
        if self.omit_first and not self._paths_alone:
            raise UsageError("--omit-first is about --paths and -0; give one of them")
        if self._paths_alone and self.json == STANDARD_OUTPUT:
            raise UsageError("--paths and --json - both go to standard output; give --json a file")
        if self.page is not None and self.page.suffix.lower() != ".html":
            raise UsageError(f"--page is {self.page}; expected a file name that ends in .html")
        check_file(self.page)
        check_file(self.json)

    def _say(self, found: "Found") -> None:
        from jaxalign.eval.terminal import say

        for line in summary(found):
            say(line)
        if not self._paths_alone and len(found.groups) > self.groups:
            say(f"{len(found.groups) - self.groups:,} more groups: see --groups, --paths and --json")
        if self.page is not None:
            say(f"Wrote {self.page}")


def summary(found: "Found") -> list[str]:
    """What was found, and what was left out."""
    from jaxalign.eval.search.duplicates import spare_bytes

    count = sum(len(group) - 1 for group in found.groups)
    spare = bytes_shown(sum(map(spare_bytes, found.groups)))
    lines = [f"{found.images:,} images: {count:,} copies in {len(found.groups):,} groups take {spare}"]
    if not count:
        lines = [f"{found.images:,} images, none of them there twice"]
    if found.links:
        lines.append(f"{found.links:,} links to images that are there under another name")
    if found.left_out:
        lines.append(f"{len(found.left_out):,} left out, unreadable: {first_names(found.left_out)}")
    return lines


def bytes_shown(count: int) -> str:
    """`1.2 MB`: bytes in units of 1000."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


def likeness(member: "Member", is_first: bool) -> str:
    """How like the first of its group an image is."""
    if is_first:
        return "first"
    return "same bytes" if member.identical else f"{member.similarity:.2f}"


def paths_of(found: "Found", omit_first: bool) -> Iterator[str]:
    """As any program opens them: none is taken for an option. An empty one after each group."""
    for group in found.groups:
        for member in group[omit_first:]:
            path = os.fspath(member.file.path)
            yield os.path.join(os.curdir, path) if path.startswith("-") else path
        if not omit_first:
            yield ""


def to_json(found: "Found") -> dict[str, Any]:
    """All groups; files by their names below the folder."""
    from jaxalign.eval.search.duplicates import spare_bytes

    def image(member: "Member") -> dict[str, Any]:
        width, height = member.size
        facts = {"file": member.file.name, "width": width, "height": height, "bytes": member.file.size}
        return facts | {"similarity": round(member.similarity, 4), "same_bytes": member.identical}

    return {
        "folder": os.path.join(os.getcwd(), found.folder),
        "images": found.images,
        "links": found.links,
        "left_out": list(found.left_out),
        "not_read": dict(found.not_read),
        "groups": [
            {"spare_bytes": spare_bytes(group), "images": [image(member) for member in group]}
            for group in found.groups
        ],
    }


def print_groups(found: "Found", most: int) -> None:
    """A table of the first groups, each below its number."""
    rows = []
    for number, group in enumerate(found.groups[:most], 1):
        for i, member in enumerate(group):
            size = f"{member.size[0]} x {member.size[1]}"
            row = [member.file.name, size, bytes_shown(member.file.size), likeness(member, i == 0)]
            rows.append([str(number) if i == 0 else "", *row])
    if rows:
        print_table("", ["", "image", "pixels", "size", "similarity"], rows, left=2)


def write_groups(found: "Found", most: int, page: Path) -> None:
    """The first groups as a page."""
    from jaxalign.eval.search.duplicates import spare_bytes
    from jaxalign.eval.search.page import show_files, write_page

    def note(member: "Member", is_first: bool) -> str:
        told = likeness(member, is_first)
        told = f"similarity {told}" if told[0].isdigit() else told
        return f"{member.size[0]} x {member.size[1]}, {bytes_shown(member.file.size)}, {told}"

    shown = found.groups[:most]
    files = [(m.file.path, m.file.name, note(m, i == 0)) for group in shown for i, m in enumerate(group)]
    images = iter(show_files(files))
    sections = [
        (
            f"{i}. {len(group)} images, {bytes_shown(spare_bytes(group))} in copies",
            [next(images) for _ in group],
        )
        for i, group in enumerate(shown, 1)
    ]
    first, *remarks = summary(found)
    lines = [first, "Nothing was deleted. The first image of a group has the most pixels."]
    if len(shown) < len(found.groups):
        lines.append(f"Shown are the {most:,} groups whose copies take most space.")
    write_page(page, f"Duplicates in {found.folder}", lines, sections, remarks)
