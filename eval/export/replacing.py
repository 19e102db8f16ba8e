"""Files and folders that are put in place when they are whole: what fails half-way leaves nothing behind."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place at the end; its parents are made."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (folder.with_name(f".{folder.name}.{os.getpid()}{end}") for end in ("", ".old"))
    partial.mkdir()
    try:
        yield partial
        if folder.exists():  # a folder with something in it cannot be replaced in one step
            folder.rename(old)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replaced_files(*files: Path) -> Iterator[list[Path]]:
    """Places beside `files` to write to, each of which takes its file's place at the end, in that order."""
    partial = [file.absolute().with_name(f".{file.name}.{os.getpid()}") for file in files]
    with ExitStack() as stack:
        for path in partial:
            stack.callback(path.unlink, missing_ok=True)
        yield partial
        for path, file in zip(partial, files, strict=True):
            path.replace(file)
