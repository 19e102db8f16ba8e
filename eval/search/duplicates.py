"""Images of a folder that are copies of each other: the same bytes, resized, saved anew, or cut a little."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.file_contents import read_contents
from jaxalign.eval.datasets.image_tree import ImageFile, expected_files, find_images, tell_not_read
from jaxalign.eval.datasets.images import FolderImages

from .signatures import LENGTH, Known, differences, read_signatures, vectors

# What is taken for a copy (docs/duplicates.md has what it finds, and what it takes for one wrongly).
NEAR, MOST = 0.8, 8  # cosine of vectors, and how many first images an image is compared with, nearest first
ALIKE = 0.67  # similarity, which is 1 less what `differences` counts
STRETCHED = 0.05  # of the ratio of sides, besides what is rounded to whole pixels
SMALLEST = 8  # pixels of the shorter side; what has less is as good as flat
_ROWS, _COLUMNS = 512, 16384


@dataclass(frozen=True)
class Member:
    """An image of a group.

    Attributes:
      file: where it is.
      size: width and height upright.
      similarity: to the first image of the group, as `find_copies` has it.
      identical: whether its file has the same bytes as that of the first.
    """

    file: ImageFile
    size: tuple[int, int]
    similarity: float
    identical: bool


Group = tuple[Member, ...]


@dataclass(frozen=True)
class Found:
    """The images of a folder that are there several times.

    Attributes:
      folder: where they are.
      images: how many were compared.
      groups: the one first in which most bytes are spare. Of each group the image with the most pixels, of
        these the one with the most bytes, comes first, the others as similar as they are to it.
      left_out: names of images that cannot be read, and of folders that cannot be, with a slash at the end.
      not_read: how many other files look like images, as `find_images` counts them.
      links: how many names lead to a file that has another one.
    """

    folder: Path
    images: int
    groups: tuple[Group, ...]
    left_out: tuple[str, ...]
    not_read: dict[str, int]
    links: int


def spare_bytes(group: Group) -> int:
    """Of all images of a group but the first."""
    return sum(member.file.size for member in group[1:])


def find_duplicates(
    folder: str | os.PathLike[str],
    *,
    exclude: Sequence[str] = (),
    alike: float = ALIKE,
    start: Callable[[int], None] = lambda total: None,
    progress: Callable[[int], None] = lambda count: None,
) -> Found:
    """Group the images of `folder` and of all folders below it; nothing is changed there.

    Args:
      exclude: as of `find_images`.
      alike: similarity from which on an image is a copy.
      start: is told how many different files there are.
      progress: is told how many of them are done since the last call.

    Raises:
      JaxalignError: no such folder, or no image in it.
    """
    root = Path(os.path.expanduser(folder))
    tree = find_images(root, exclude, skip_closed=True)
    tell_not_read(str(root), tree.not_read)
    if not tree.files:
        raise JaxalignError(f"there are no images in {root}; {expected_files(tree)}")
    files = each_file_once(tree.files)
    contents = read_contents(files)
    same: dict[str, list[int]] = {}  # rows by digest
    for row, content in enumerate(contents):
        same.setdefault(content.digest, []).append(row)
    lost = same.pop("", [])
    start(len(same))
    images = FolderImages(files, str(root), upright=True, contents=contents)
    found = read_signatures(images[[rows[0] for rows in same.values()]], tuple(same), progress)
    read: list[tuple[Known, list[int]]] = []
    for one, rows in zip(found, same.values(), strict=True):
        if one is None:
            lost += rows
        else:
            read.append((one, rows))
    read.sort(key=lambda of: (-of[0][0] * of[0][1], -files[of[1][0]].size, of[1][0]))
    groups = _group([one for one, _ in read], [[files[row] for row in rows] for _, rows in read], alike)
    left_out = (*(files[row].name for row in sorted(lost)), *tree.closed)
    links = len(tree.files) - len(files)
    return Found(root, len(files) - len(lost), groups, left_out, dict(tree.not_read), links)


def _group(known: Sequence[Known], files: Sequence[Sequence[ImageFile]], alike: float) -> tuple[Group, ...]:
    """Groups of two files and more, of different contents, the best first, each of which has `files`."""
    sizes = np.array([one[:2] for one in known]).reshape(-1, 2)
    signatures = np.frombuffer(b"".join(one[2] for one in known), np.uint8).reshape(-1, LENGTH)
    copies = zip(*(of.tolist() for of in find_copies(signatures, sizes, alike)), strict=True)
    groups: dict[int, list[Member]] = {}
    for row, (first, similarity) in enumerate(copies):
        members = [Member(file, known[row][:2], similarity, row == first) for file in files[row]]
        groups.setdefault(first, []).extend(members)
    several = [group for group in groups.values() if len(group) > 1]
    for group in several:
        group.sort(key=lambda member: (not member.identical, -member.similarity))
    return tuple(sorted(map(tuple, several), key=lambda group: -spare_bytes(group)))


def each_file_once(files: Sequence[ImageFile]) -> list[ImageFile]:
    """Without names that lead to a file which has another name: links of either kind."""
    seen: set[tuple[int, int] | None] = set()
    again: set[ImageFile] = set()
    for file in sorted(files, key=lambda file: file.is_link):
        # A number alone may be that of several files, on file systems over a network.
        if file.number and file.number in seen and (file.is_link or file.is_shared):
            again.add(file)
        seen.add(file.number)
    return [file for file in files if file not in again]


def find_copies(
    signatures: np.ndarray, sizes: np.ndarray, alike: float = ALIKE, block: int = _ROWS
) -> tuple[np.ndarray, np.ndarray]:
    """Compare each image with those before it that are copies of none themselves, and take the most similar.

    So all images of a group are copies of its first one: a chain of images each of which is like the next
    makes several groups. Flat images and tiny ones are never copies. Memory grows with n, not its square.

    Args:
      signatures: uint8 `[n, LENGTH]`, the best image first.
      sizes: int `[n, 2]`, width and height.
      alike: similarity from which on an image is a copy.
      block: images that are compared at a time; it changes no result.

    Returns:
      int `[n]`, which image each is a copy of, itself for those that are a copy of none; and float32 `[n]`,
      its similarity to that one: 1 less how much they differ.
    """
    first, similarity = np.arange(len(signatures)), np.ones(len(signatures), np.float32)
    vector, varied = vectors(signatures)
    short = sizes.min(1)
    shape = np.stack((np.log(sizes[:, 0] / sizes[:, 1]), STRETCHED + 1 / short))
    rows, firsts = np.flatnonzero(varied & (short >= SMALLEST)), np.empty(0, int)
    for start in range(0, len(rows), block):
        own = rows[start : start + block]
        earlier = _near(own, firsts, vector, shape)
        among = vector[own] @ vector[own].T
        new: list[int] = []  # positions within the block
        for i, row in enumerate(own):
            cosines, images = np.append(earlier[i][0], among[i, new]), np.append(earlier[i][1], own[new])
            images = _nearest(row, images, cosines, shape)[1]
            if len(images):
                sides = np.minimum(short[images], short[row])
                differ = differences(signatures[row], signatures[images], sides, 1 - alike)
                best = int(differ.argmin())
                if differ[best] <= 1 - alike:
                    first[row], similarity[row] = images[best], 1 - differ[best]
                    continue
            new.append(i)
        firsts = np.append(firsts, own[new])
    return first, similarity


def _near(
    rows: np.ndarray, images: np.ndarray, vector: np.ndarray, shape: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each of `rows` cosines and positions of those among `images` that it may be a copy of."""
    found = [(np.empty(0, np.float32), np.empty(0, int))] * len(rows)
    for start in range(0, len(images), _COLUMNS):
        columns = images[start : start + _COLUMNS]
        cosines = vector[rows] @ vector[columns].T
        for i in np.flatnonzero(cosines.max(1) >= NEAR):
            more = _nearest(rows[i], columns, cosines[i], shape)
            found[i] = np.append(found[i][0], more[0]), np.append(found[i][1], more[1])
    return found


def _nearest(
    row: int, images: np.ndarray, cosines: np.ndarray, shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and positions of the nearest `images` that have the shape of `row`, at most `MOST`."""
    at = np.flatnonzero(cosines >= NEAR)
    (ratio, slack), (own, most) = shape[:, images[at]], shape[:, row]
    at = at[np.abs(ratio - own) <= np.maximum(slack, most)]
    at = at[np.argsort(-cosines[at], kind="stable")[:MOST]]
    return cosines[at], images[at]
