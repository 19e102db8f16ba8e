"""The images of a folder that changes, as they are shown: photos are turned as their EXIF orientation says.

Their features are in the index of one's own images, where commands that measure find them, too, unless the
orientation turns the image.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.folder_images import FolderImages
from jaxalign.eval.datasets.image_tree import expected_files, find_images, tell_not_read
from jaxalign.eval.features.by_content import gather
from jaxalign.eval.features.embed import Computing, Progress


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
      computing: as for `image_store`.

    Raises:
      JaxalignError: no such folder, no image in it, one that cannot be read, or an unusable store.
    """
    root = Path(folder).expanduser()
    tree = find_images(root)
    tell_not_read(str(root), tree.not_read)
    hidden = file_number(without)
    files = [file for file in tree.files if hidden is None or file.number != hidden]
    if not files:
        raise JaxalignError(f"there are no images in {root}; {expected_files(tree)}")
    start(len(files))
    images = FolderImages(files, str(root), upright=True)
    found = gather(model, images, str(root), {}, **computing).read().require(str(root))
    numbers = tuple(files[row].number for row in found.rows)
    return Library(root, found.ids, found.values, found.left_out, tree.not_read, numbers)


def file_number(path: str | os.PathLike | None) -> tuple[int, int] | None:
    """As `ImageFile.number`: the same for one file, whatever links call it; None for what is not there."""
    try:
        found = None if path is None else os.stat(path)
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino)
