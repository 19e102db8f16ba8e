"""What this program draws carries its name, so that it does not take it for a photo of the user's."""

from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.local_files import open_regular

MARK = {"Software": "jaxalign"}  # metadata, as matplotlib's `savefig` takes them
_WRITTEN = b"\x89PNG\r\n\x1a\n", b"tEXtSoftware\0jaxalign"


def is_own_image(path: Path) -> bool:
    """Whether the PNG `path` has the mark, which lies at its beginning; also where it cannot be read, no."""
    if not path.is_file():  # also of a link: a pipe or a device is not opened
        return False
    try:
        with open_regular(path) as file:
            start = file.read(128)
    except (JaxalignError, OSError):
        return False
    return start.startswith(_WRITTEN[0]) and _WRITTEN[1] in start
