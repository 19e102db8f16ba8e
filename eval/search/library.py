"""The images of a folder that changes, as they are shown: photos are turned as their EXIF orientation says.

Their features are in the index of one's own images, where commands that measure find them, too, unless the
orientation turns the image.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.image_tree import expected_files, find_images, tell_not_read
from jaxalign.eval.datasets.images import UPRIGHT, FolderImages
from jaxalign.eval.features.by_content import gather
from jaxalign.eval.features.embed import Computing, Progress


@dataclass(frozen=True, eq=False)
class Library:
    """The images of a folder, n of them readable.

    Attributes:
      folder: where they are.
      names: paths below the folder, in the order of numbers and letters.
      features: float32 `[n, d_image]`, pre-projection.
      left_out: names of those that cannot be read, and of folders that cannot be, with a slash at the end.
      not_read: how many other files look like images, by their endings, as `find_images` counts them.
      numbers: of the files, as `ImageFile.number`.
      digests: SHA-256 of the files.
    """

    folder: Path
    names: tuple[str, ...]
    features: np.ndarray
    left_out: tuple[str, ...]
    not_read: Mapping[str, int]
    numbers: tuple[tuple[int, int] | None, ...] = ()
    digests: tuple[str, ...] = ()

    def positions(self, image: str | os.PathLike[str] | int | bytes) -> list[int]:
        """Where an image file is in the library, whatever links to it are called; also of an open file, and
        of the content of one that has no name here."""
        if isinstance(image, bytes):
            digest = hashlib.sha256(image).hexdigest()
            return [row for row, own in enumerate(self.digests) if own == digest]
        number = file_number(image)
        return [] if number is None else [row for row, own in enumerate(self.numbers) if own == number]

    def path(self, row: int) -> str:
        """The file of an image."""
        return os.path.join(self.folder, self.names[row])


def find_library(
    model: DualEncoder,
    folder: str | os.PathLike[str],
    *,
    exclude: Sequence[str] = (),
    without: Sequence[str | os.PathLike[str]] = (),
    start: Progress = lambda total: None,
    **computing: Unpack[Computing],
) -> Library:
    """The images of `folder` and of all folders below it; what the store lacks is computed.

    Args:
      exclude: as of `find_images`.
      without: files that are no images of the library, wherever they are: those that are about to be written.
      start: is told how many images there are.
      computing: as for `image_store`. Where unreadable images are left out, folders are, too.

    Raises:
      JaxalignError: no such folder, no image in it, one that cannot be read, or an unusable store.
    """
    root = Path(os.path.expanduser(folder))
    tree = find_images(root, exclude, skip_closed=computing.get("unreadable") == "leave-out")
    tell_not_read(str(root), tree.not_read)
    hidden = {file_number(path) for path in without} - {None}
    files = [file for file in tree.files if file.number not in hidden]
    if not files:
        raise JaxalignError(f"there are no images in {root}; {expected_files(tree)}")
    start(len(files))
    images = FolderImages(files, str(root), upright=True)
    found = gather(model, images, str(root), **computing).read().require(str(root))
    numbers, contents = tuple(files[row].number for row in found.rows), images.contents
    digests = tuple(contents[row].removesuffix(UPRIGHT) for row in found.rows)
    left_out = found.left_out + tree.closed
    return Library(root, found.ids, found.values, left_out, tree.not_read, numbers, digests)


def file_number(path: str | os.PathLike[str] | int) -> tuple[int, int] | None:
    """As `ImageFile.number`: the same for one file, whatever links call it; None for what is not there."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the latter for a name with a NUL
        return None
    return found.st_dev, found.st_ino
