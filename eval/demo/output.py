"""Write a folder of results all at once: nothing appears under its name before everything is complete."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from jaxalign.errors import JaxalignError


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
    stage = place / f".{out.name}-{os.getpid()}.partial"
    try:
        stage.mkdir()
    except OSError as error:
        raise JaxalignError(
            f"cannot write to {place} ({error.strerror}); choose another output folder"
        ) from error
    try:
        yield stage
        _move(stage, out, existed=missing is None)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


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
