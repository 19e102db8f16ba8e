"""The images of a folder: read when they are asked for, and known by what they are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from PIL import Image

from jaxalign.errors import JaxalignError

from .file_contents import Content, is_as_it_was, read_content, read_contents
from .image_tree import ImageFile
from .images import Images

UPRIGHT = "-upright"  # ends the identity of an image that its orientation turns
_CHANGED = "has changed since its folder was read; run the same command again"


class FileChangedError(JaxalignError):
    """An image file is no longer the one that its folder had."""


class FolderImages(Images):
    """Images of which each has an identity that it takes along wherever its file goes.

    An image whose file has become another one since raises `FileChangedError` when it is read.
    """

    def __init__(
        self,
        files: Sequence[ImageFile],
        origin: str,
        *,
        upright: bool = False,
        contents: Sequence[Content] | None = None,
    ):
        """
        Args:
          files: of the images.
          origin, upright: as for `Images`.
          contents: of the files, where they are known.
        """
        self._files = files
        self._contents = read_contents(files) if contents is None else contents
        read = lambda row: self._files[row].path
        super().__init__(read, [file.name for file in files], origin, upright=upright)

    @property
    def contents(self) -> tuple[str, ...]:
        """What each image is: equal for those that look alike to the last bit. Empty for what cannot be read.

        A photo that is turned by its orientation is another image than the same one as it is stored.
        """
        chosen = [self._contents[row] for row in self._rows.tolist()]
        return tuple(f"{of.digest}{UPRIGHT}" if self._upright and of.turned else of.digest for of in chosen)

    @contextmanager
    def opened(self, index: int) -> Iterator[Image.Image]:
        row = int(self._rows[index])
        try:
            with super().opened(index) as image:
                if self._has_changed(row):
                    raise FileChangedError(f"{self._all_ids[row]} of {self._origin} {_CHANGED}")
                yield image
        except FileChangedError:
            raise
        except JaxalignError as error:
            if self._has_changed(row):
                raise FileChangedError(f"{error}; it {_CHANGED}") from error
            raise

    def _has_changed(self, row: int) -> bool:
        """Whether what was just read may be another image than the one that is known."""
        file, digest = self._files[row], self._contents[row].digest
        return digest != "" and not is_as_it_was(file) and read_content(file)[0].digest != digest

    @staticmethod
    def concatenate(parts: "Sequence[FolderImages]") -> "FolderImages":
        chosen = [(part, row) for part in parts for row in part._rows.tolist()]
        return FolderImages(
            [part._files[row] for part, row in chosen],
            "+".join(dict.fromkeys(part._origin for part in parts)),
            contents=[part._contents[row] for part, row in chosen],
        )
