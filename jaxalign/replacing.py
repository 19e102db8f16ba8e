"""Files and folders that are put in place when they are whole: what fails half-way leaves nothing behind.

They are written beside their place under a name that ends in `.partial`. The process that writes one holds a
lock on it, so what a killed one left is known by its having none, and the next to write there removes it.
"""

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_OLD = ".old"  # ending of what is about to be replaced
_NAME = 55  # characters of a name that are kept: names have 255 bytes at most, a character up to four


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place at the end; its parents are made."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with partial_folder(folder) as partial:
        yield partial
        old = partial.with_name(f"{partial.name}{_OLD}")
        try:
            if folder.exists():  # a folder with something in it cannot be replaced in one step
                folder.rename(old)
            partial.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)


@contextmanager
def replaced_file(file: Path, suffix: str = "") -> Iterator[Path]:
    """An empty file beside `file`, whose name ends in `suffix`, which takes its place at the end."""
    with replaced_files(file, suffix=suffix) as (partial,):
        yield partial


@contextmanager
def replaced_files(*files: Path, suffix: str = "") -> Iterator[list[Path]]:
    """Places beside `files` to write to, each of which takes its file's place at the end, in that order."""
    with ExitStack() as stack:
        partial = [stack.enter_context(_partial(file.absolute(), suffix, False)) for file in files]
        yield partial
        for path, file in zip(partial, files, strict=True):
            path.replace(file)


@contextmanager
def partial_folder(place: Path) -> Iterator[Path]:
    """An empty folder beside `place`, to be moved from; what is left of it at the end is removed."""
    with _partial(place, "", True) as path:
        yield path


@contextmanager
def _partial(place: Path, suffix: str, is_folder: bool) -> Iterator[Path]:
    _remove_abandoned(place)
    name = f".{place.name[:_NAME]}.{secrets.token_hex(4)}"
    made, path = place.with_name(f"{name}.new"), place.with_name(f"{name}.partial{suffix}")
    lock = None
    try:
        if is_folder:
            made.mkdir()
        else:
            made.touch(exist_ok=False)
        lock = _lock(made)
        made.rename(path)  # now that it is locked: by this name others find it
        yield path
    finally:
        for left in (made, path):
            _remove(left)
        if lock is not None:
            os.close(lock)


def _remove_abandoned(place: Path) -> None:
    """Remove what killed processes left beside `place`."""
    pattern = re.compile(rf"\.{re.escape(place.name[:_NAME])}\.[0-9a-f]{{8}}\.partial(\.\w+)?")
    try:
        names = [entry.name for entry in os.scandir(place.parent) if pattern.fullmatch(entry.name)]
    except OSError:  # the place cannot be written either, which is said when it is
        return
    for path in map(place.with_name, names):
        lock = _lock(path)
        if lock is None:
            continue
        if path.suffix == _OLD and not place.exists():  # killed between two steps
            path.rename(place)
        else:
            _remove(path)
        os.close(lock)


def _lock(path: Path) -> int | None:
    """The descriptor that holds the lock on `path`, until it is closed.

    None where another process has it, and where the file system has no locks: nothing is removed there.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
