"""The features of a folder that changes: only images that are new or have changed are computed.

The feature store of a folder is a row of generations. Each holds the images that no earlier one had, and
none is ever changed, apart from being finished. What identifies an image is its path below the folder, its
size and its times of change, of which nobody can set the second one back. Photos are turned as their EXIF
orientation says.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.image_tree import ImageFile, expected_files, find_images, tell_not_read
from jaxalign.eval.datasets.images import Images
from jaxalign.eval.features import FeatureKey, FeatureStore, filled_store, make_key
from jaxalign.eval.features.obtain import Computing, Progress, place_of


@dataclass(frozen=True, eq=False)
class Library:
    """The images of a folder, n of them readable.

    Attributes:
      folder: where they are.
      names: paths below the folder, in the order of numbers and letters.
      features: float32 `[n, d_image]`, pre-projection.
      left_out: names of those that cannot be read.
      not_read: how many other files look like images, by their endings, as `find_images` counts them.
      numbers: of the files, as `ImageFile.number`.
    """

    folder: Path
    names: tuple[str, ...]
    features: np.ndarray
    left_out: tuple[str, ...]
    not_read: Mapping[str, int]
    numbers: tuple[tuple[int, int] | None, ...] = ()

    def position(self, image: str | os.PathLike) -> int | None:
        """Where an image file is in the library, whatever a link calls it; None where it is not."""
        number = file_number(image)
        return None if number is None or number not in self.numbers else self.numbers.index(number)


def find_library(
    model: DualEncoder,
    folder: str | os.PathLike,
    *,
    without: str | os.PathLike | None = None,
    start: Progress = lambda total: None,
    **computing: Unpack[Computing],
) -> Library:
    """The images of `folder` and of all folders below it; what the store lacks is computed.

    Args:
      without: a file that is no image of the library, wherever it is: the one that is about to be written.
      start: is told how many images there are.
      computing: as for `filled_store`.

    Raises:
      JaxalignError: no such folder, no image in it, one that cannot be read, or an unusable store.
    """
    root = Path(folder).expanduser()
    tree = find_images(root)
    tell_not_read(str(root), tree.not_read)
    hidden = file_number(without)
    files = {identify(file): file for file in tree.files if hidden is None or file.number != hidden}
    if not files:
        raise JaxalignError(f"there are no images in {root}; {expected_files(tree)}")
    found: dict[str, np.ndarray | None] = {}
    leaves_out = computing.get("unreadable") == "leave-out"
    progress = computing.get("progress", lambda count: None)

    def fill(number: int, ids: Sequence[str]) -> FeatureStore:
        names = [name_of(key) for key in ids]
        images = Images([root / name for name in names].__getitem__, names, str(root), upright=True)
        told = iter([lambda count: None])  # the first call is about what earlier runs did
        advance = lambda count: next(told, progress)(count)
        key = generation_key(model, root, number)
        return filled_store(model, images, key, ids, {}, names=names, **{**computing, "progress": advance})

    def take(generation: FeatureStore) -> None:
        rows = ((key, row) for key, row in finished_rows(generation) if key in files)
        found.update((key, row) for key, row in rows if row is not None or leaves_out)

    start(len(files))
    generations = find_generations(model, root, computing.get("store"))
    for generation in generations:
        take(generation)
    progress(len(found))
    for number, generation in enumerate(generations):
        unfinished = unfinished_ids(generation, left_out=not leaves_out)
        if unfinished and unfinished <= files.keys():  # else some of its images are gone
            take(fill(number, generation.ids))
    if new := [key for key in files if key not in found]:
        take(fill(len(generations), new))
    return gather(root, files, found, tree.not_read)


def file_number(path: str | os.PathLike | None) -> tuple[int, int] | None:
    """As `ImageFile.number`: the same for one file, whatever links call it; None for what is not there."""
    try:
        found = None if path is None else os.stat(path)
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)


def gather(
    root: Path,
    files: dict[str, ImageFile],
    found: dict[str, np.ndarray | None],
    not_read: Mapping[str, int],
) -> Library:
    """The library of what was found; None stands for an image that was left out."""
    lost = tuple(file.name for key, file in files.items() if found[key] is None)
    kept = {file: row for key, file in files.items() if (row := found[key]) is not None}
    if not kept:
        raise JaxalignError(f"none of the {len(files)} images in {root} can be read, {lost[0]} for one")
    names, numbers = zip(*((file.name, file.number) for file in kept), strict=True)
    return Library(root, names, np.stack(list(kept.values())), lost, not_read, numbers)


def identify(file: ImageFile) -> str:
    """Name, size and times of change; of a link that leads nowhere, the name."""
    return "|".join(map(str, (file.name, file.size, *file.times)))


def name_of(key: str) -> str:
    return key.rsplit("|", 3)[0]


def find_generations(model: DualEncoder, root: Path, store: str | os.PathLike | None) -> list[FeatureStore]:
    """Those that are there, the oldest first."""
    found: list[FeatureStore] = []
    while generation := FeatureStore.find(place_of(store), generation_key(model, root, len(found))):
        found.append(generation)
    return found


def generation_key(model: DualEncoder, root: Path, number: int) -> FeatureKey:
    place = (f"images:{root.absolute()}", str(number), "search", "image")
    return make_key(model, *place, options={"orientation": "upright"})  # others compute images as stored


def finished_rows(generation: FeatureStore) -> Iterator[tuple[str, np.ndarray | None]]:
    """Id and features `[d_image]` of each example of the finished chunks; None for one left out."""
    missing = set(generation.missing())
    for chunk in range(generation.chunks):
        if chunk not in missing:
            for row, values in zip(generation.rows_of(chunk), generation.read_chunk(chunk), strict=True):
                yield generation.ids[row], None if np.isnan(values).any() else values


def unfinished_ids(generation: FeatureStore, left_out: bool) -> set[str]:
    """Of the examples in chunks that are not there, or lack some that were left out."""
    chunks = generation.missing(left_out=left_out)
    return {generation.ids[row] for chunk in chunks for row in generation.rows_of(chunk)}
