"""`jaxalign duplicates`: the images of a folder that are there several times."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxalign.eval.terminal import Stages, say

from .options import Excluded, JsonFile, NullPaths, PageFile, PathsAlone, UsageError, option
from .printing import (
    STANDARD_OUTPUT,
    check_ending,
    counted,
    only_results,
    print_table,
    told_left_out,
    write_json,
    write_paths,
)

if TYPE_CHECKING:
    from jaxalign.eval.search.duplicates import Found, Group, Member


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
    min_similarity: Annotated[
        float,
        option(
            "Lowest similarity of a copy to the first of its group: from 0.67, since below others are taken"
            " for copies, to 1, where nothing differs.",
            "S",
        ),
    ] = 0.67
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
        from jaxalign.eval.search.duplicates import find_duplicates

        self._check()
        with only_results(STANDARD_OUTPUT if self._paths_alone else None):
            what: dict[str, Any] = {"exclude": self.exclude, "alike": self.min_similarity}
            with Stages().stage("compare", str(self.folder)) as advance:
                found = find_duplicates(self.folder, **what, start=advance.start, progress=advance)
            write_json(self.json, to_json(found))
            if self._paths_alone:
                write_paths(paths_of(found, self.omit_first), b"\0" if self.null else b"\n")
            else:
                print_groups(found, self.groups)
            if self.page is not None:
                write_groups(found, self.groups, self.page)
            for line in (*summary(found, self.groups), *([f"Wrote {self.page}"] if self.page else [])):
                say(line)

    @property
    def _paths_alone(self) -> bool:
        return self.paths or self.null

    def _check(self) -> None:
        if not 0.67 <= self.min_similarity <= 1:
            raise UsageError(f"--min-similarity is {self.min_similarity}; expected a number from 0.67 to 1")
        if self.groups < 1:
            raise UsageError(f"--groups is {self.groups}; expected 1 or more")
        if self.omit_first and not self._paths_alone:
            raise UsageError("--omit-first is about --paths and -0; give one of them")
        if self._paths_alone and self.json == STANDARD_OUTPUT:
            raise UsageError("--paths and --json - both go to standard output; give --json a file")
        check_ending("page", self.page, ".html")


def summary(found: "Found", most: int) -> list[str]:
    """What was found, and what of it is not shown or was left out."""
    from jaxalign.eval.search.duplicates import spare_bytes

    count, spare = sum(len(group) - 1 for group in found.groups), sum(map(spare_bytes, found.groups))
    copies = f"{counted(count, 'copy', 'copies')} in {counted(len(found.groups), 'group')}"
    told = f"{copies}, {amount(spare)}" if count else "no copies"
    lines = [f"{counted(found.images, 'image')}: {told}"]
    if len(found.groups) > most:
        lines.append(f"The table and the page show the first {most:,}; --json and --paths have all groups")
    if found.links:
        lines.append(f"{counted(found.links, 'link')} to images that are there under another name")
    if found.left_out:
        lines.append(told_left_out(found.left_out))
    return lines


def amount(count: int) -> str:
    """Bytes as people read them: `1.2 MB`, in units of 1000."""
    unit, size = next((of for of in (("GB", 1e9), ("MB", 1e6)) if count >= of[1]), ("kB", 1e3))
    return f"{count / size:,.1f} {unit}"


def facts(group: "Group") -> "Iterator[tuple[Member, list[str]]]":
    """Each image with what is said of it: pixels, bytes, and how like the first it is."""
    for i, member in enumerate(group):
        alike = "same bytes" if member.identical else f"similarity {member.similarity:.2f}"
        size = f"{member.size[0]} x {member.size[1]}"
        yield member, [size, amount(member.file.size), *([alike] if i else [])]


def print_groups(found: "Found", most: int) -> None:
    """A table of the first groups, each beside its number."""
    rows = []
    for number, group in enumerate(found.groups[:most], 1):
        for i, (member, told) in enumerate(facts(group)):
            rows.append(["" if i else str(number), member.file.name, *told])
    if rows:
        print_table("", ["", "image", "pixels", "bytes", "to the first"], rows, left=2)


def write_groups(found: "Found", most: int, page: Path) -> None:
    """The first groups as a page."""
    from jaxalign.eval.search.duplicates import spare_bytes
    from jaxalign.eval.search.page import show_files, write_page

    shown = found.groups[:most]
    told = (fact for group in shown for fact in facts(group))
    images = iter(show_files((member.file.path, member.file.name, ", ".join(of)) for member, of in told))
    heading = lambda group: f"{len(group)} images, {amount(spare_bytes(group))} in copies"
    sections = [(f"{i}. {heading(group)}", [next(images) for _ in group]) for i, group in enumerate(shown, 1)]
    lines = [*summary(found, most), "Nothing was deleted. The first image of a group has the most pixels."]
    write_page(page, f"Duplicates in {found.folder}", lines, sections)


def paths_of(found: "Found", omit_first: bool) -> Iterator[str]:
    """Those of all groups, and an empty one after each whole group."""
    for group in found.groups:
        yield from (os.fspath(member.file.path) for member in group[omit_first:])
        if not omit_first:
            yield ""


def to_json(found: "Found") -> dict[str, Any]:
    """All groups; files by their names below the folder."""

    def image(member: "Member") -> dict[str, Any]:
        (width, height), similarity = member.size, round(member.similarity, 4)
        file = {"file": member.file.name, "width": width, "height": height, "bytes": member.file.size}
        return file | {"similarity": similarity, "same_bytes": member.identical}

    return {
        "folder": os.path.join(os.getcwd(), found.folder),
        "images": found.images,
        "links": found.links,
        "left_out": list(found.left_out),
        "not_read": dict(found.not_read),
        "groups": [[image(member) for member in group] for group in found.groups],
    }
