"""The image files below a folder, and what else is there that people would call an image."""

import fnmatch
import functools
import os
import re
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.eval.files import is_own_image
from jaxalign.eval.terminal import say
from jaxalign.inputs.image_formats import HEIF_ENDINGS, OTHER_ENDINGS, image_endings
from jaxalign.local_files import is_there

# What a Mac adds to an archive, and network drives and Windows to folders: thumbnails, and what was deleted.
_SYSTEM = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN")
_NUMBERS = re.compile(r"(\d+)")
OWN, REPEATED, EXCLUDED = "written by jaxalign", "linked folder that is there already", "excluded"


@dataclass(frozen=True, eq=False)
class ImageFile:
    """An image file as it was when its folder was read.

    Attributes:
      path: of the file.
      name: its path below the folder that was read, with slashes.
      is_link: whether it is a link; everything else is said of what that leads to.
      size: bytes. It and the times are 0 for a link that leads nowhere or a file that has gone, which is
        named when it is read.
      times: of the change of the content, which can be set, and of the change of anything, which cannot.
      number: device and number of the file; None where it has gone.
      is_shared: whether the file has several names (hard links).
    """

    path: Path
    name: str
    is_link: bool = False
    size: int = 0
    times: tuple[int, int] = (0, 0)
    number: tuple[int, int] | None = None
    is_shared: bool = False

    @property
    def identity(self) -> Hashable:
        """Of a file with several names, the same for each of them; else None.

        File systems over a network may give one number to several files, but do not say that they are linked.
        """
        return self.state if self.is_shared else None

    @property
    def state(self) -> tuple[int, ...]:
        """Device, number, size and times: what changes when the file does."""
        return (*(self.number or ()), self.size, *self.times)


@dataclass(frozen=True)
class ImageTree:
    """What `find_images` finds.

    Attributes:
      files: of images, by the endings of their names; in the order of numbers and letters.
      not_read: how many others there are, by ending, and by reason where they are left out on purpose.
      closed: names of folders that cannot be listed, with a slash at the end.
    """

    files: tuple[ImageFile, ...]
    not_read: Mapping[str, int]
    closed: tuple[str, ...] = ()


def find_images(root: Path, exclude: Sequence[str] = (), *, skip_closed: bool = False) -> ImageTree:
    """All images below `root`, hidden files and folders and those of systems (`__MACOSX`, `@eaDir`) left
    out.

    Links to folders are followed, each folder once, under the name that it has without them where there is
    one. PNGs that this program has drawn are no images of the folder. Each folder is listed once, and the
    system is asked about each image once.

    Args:
      exclude: patterns of a shell (`*`, `?`, `[...]`) for further files and folders that are left out: by
        their names, or where there is a slash in it, by their paths below `root`.
      skip_closed: whether a folder below `root` that cannot be listed is left out.

    Raises:
      JaxalignError: there is no such folder, or one that cannot be listed: without its images, results would
        be others.
    """
    if not is_there(root) or not root.is_dir():
        what = "is not a folder" if root.exists() else "is not there"
        raise JaxalignError(f"the folder {root} {what}; expected a folder of images")
    files: list[ImageFile] = []
    not_read: Counter[str] = Counter()
    closed: list[str] = []
    patterns = [pattern.rstrip("/") for pattern in exclude]
    excludes = re.compile("|".join(map(fnmatch.translate, patterns)) or "(?!)").match
    by_path = any("/" in pattern for pattern in patterns)
    seen: set[tuple[int, int]] = set()
    folders, links = [root], []
    while folders or links:
        if not folders:
            links.sort()
        folder = folders.pop() if folders else links.pop(0)
        prefix = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        try:
            entries = _list(folder)
        except JaxalignError:
            if folder == root or not skip_closed:
                raise
            closed.append(prefix)
            continue
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen:
            not_read[REPEATED] += 1
            continue
        seen.add((here.st_dev, here.st_ino))
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SYSTEM:
                continue
            if excludes(entry.name) or (by_path and excludes(f"{prefix}{entry.name}")):
                not_read[EXCLUDED] += 1
                continue
            if _is_folder(entry):
                (links if entry.is_symlink() else folders).append(Path(entry.path))
                continue
            ending = os.path.splitext(entry.name)[1].lower()
            if ending not in image_endings():
                not_read[ending] += ending in OTHER_ENDINGS
            elif ending == ".png" and is_own_image(Path(entry.path)):
                not_read[OWN] += 1
            else:
                files.append(_look_at(entry, f"{prefix}{entry.name}"))
    of_part = functools.cache(natural)  # most images share their folders
    in_order = sorted(files, key=lambda file: [of_part(part) for part in file.name.split("/")])
    return ImageTree(tuple(in_order), dict(+not_read), tuple(sorted(closed)))


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A sort key under which `2.jpg` comes before `10.jpg`; of `1`, `01` and `001` no two are equal."""
    parts = [
        (int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in _NUMBERS.split(name)
    ]
    return parts, name


def expected_files(tree: ImageTree) -> str:
    """What a folder without images should have, and what it has instead."""
    instead = f"; it has {describe_not_read(tree.not_read)}" if tree.not_read else ""
    return f"expected files that end in {', '.join(sorted(image_endings()))}{instead}"


def describe_not_read(not_read: Mapping[str, int]) -> str:
    """`3 .heic (HEIF needs the extra heic: pip install 'jaxalign[heic]'), 2 .cr2`: most frequent first."""
    most = sorted(not_read, key=lambda what: (-not_read[what], what))
    named = [f"{not_read[what]:,} {what}" for what in most]
    heif = [i for i, what in enumerate(most) if what in HEIF_ENDINGS]
    if heif:
        named[heif[-1]] += " (HEIF needs the extra heic: pip install 'jaxalign[heic]')"
    return ", ".join(named)


_told: dict[str, Mapping[str, int]] = {}


def tell_not_read(origin: str, not_read: Mapping[str, int]) -> None:
    """Say on standard error what of a split or folder is not read, and keep it for `told_not_read`."""
    from jaxalign.eval.processes import is_first  # here: it imports jax, which a list of data sets needs not

    _told[origin] = not_read
    if not_read and is_first():
        say(f"{origin}: not read: {describe_not_read(not_read)}", sys.stderr)


def told_not_read(datasets: Iterable[str]) -> dict[str, Mapping[str, int]]:
    """What was told last of the splits of these data sets: nothing for those of which everything was read."""
    starts = tuple(f"{name}/" for name in datasets)
    return {origin: what for origin, what in _told.items() if what and origin.startswith(starts)}


def _list(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise JaxalignError(
            f"the folder {folder} cannot be read: {error.strerror}; mend that, or move it elsewhere"
        ) from error


def _look_at(entry: os.DirEntry, name: str) -> ImageFile:
    path, is_link = Path(entry.path), entry.is_symlink()
    try:
        found = entry.stat()
    except OSError:
        return ImageFile(path, name, is_link)
    times, number = (found.st_mtime_ns, found.st_ctime_ns), (found.st_dev, found.st_ino)
    return ImageFile(path, name, is_link, found.st_size, times, number, found.st_nlink > 1)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; as a file it is named when it is read
        return False
