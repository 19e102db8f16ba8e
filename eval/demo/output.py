"""Write a folder of results all at once: nothing appears under its name before everything is complete."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.replacing import partial_folder


@contextlib.contextmanager
def staged_folder(out: str | os.PathLike) -> Iterator[Path]:
    """A scratch folder whose files move into the folder `out` when the block ends without an exception.

    The scratch folder is made at once, on the file system of `out`, so a place that cannot be written is
    found before any work. Other files of an existing `out` stay.

    Raises:
      JaxalignError: `out` is a file, or nothing can be written there.
    """
    out = Path(out).expanduser()
    if out.exists() and not out.is_dir():
        raise JaxalignError(f"the output {out} is a file; pass a folder, new or existing")
    # Inside an existing folder; otherwise beside the first folder that has to be made.
    missing = next((p for p in reversed((out, *out.parents)) if not p.exists()), None)
    place = out if missing is None else missing.parent
    with ExitStack() as stack:
        try:
            stage = stack.enter_context(partial_folder(place.absolute() / out.absolute().name))
        except OSError as error:
            raise JaxalignError(
                f"cannot write to {place} ({error.strerror}); choose another output folder"
            ) from error
        yield stage
        _move(stage, out, existed=missing is None)


def _move(stage: Path, out: Path, existed: bool) -> None:
    try:
        if existed:
            for file in stage.iterdir():
                file.replace(out / file.name)
        else:
            out.parent.mkdir(parents=True, exist_ok=True)
            stage.replace(out)
    except OSError as error:
        raise JaxalignError(f"cannot write to {out} ({error.strerror}); choose another folder") from error
