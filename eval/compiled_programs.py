"""Compiled programs are kept, so that a command compiles anew only what it has not computed before.

This is JAX's persistent compilation cache. An entry is found by what is computed, by XLA's version and by its
options; a folder is for one kind of processor, whose instructions the programs use.
"""

import hashlib
import os
import platform
import shutil
import warnings
from pathlib import Path

CACHE = "~/.cache/jaxalign/compiled"
FOLDER, LEAST = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
MOST = 1 << 30  # bytes: what a folder holds at most before it is begun anew


def keep_compiled_programs() -> None:
    """Tell JAX by its environment, before it is imported, to keep what takes at least 50 ms to compile.

    Whoever has set $JAX_COMPILATION_CACHE_DIR, be it to nothing, is left alone. Nothing is kept where others
    can write, for what lies there is run.
    """
    # An entry that cannot be read or written costs time, and changes nothing.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if FOLDER in os.environ:  # this may be one of several processes, of which the first has set it
        return
    try:
        folder = Path(CACHE).expanduser() / processor()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not own(folder):
            return
        if sum(file.stat().st_size for file in folder.iterdir()) > MOST:
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
    except (OSError, RuntimeError):  # no home, one that cannot be written, or another process that tidies up
        return
    os.environ[FOLDER] = str(folder)
    os.environ.setdefault(LEAST, "0.05")


def own(folder: Path) -> bool:
    """Whether the folder is of this user and only they can write to it."""
    about = folder.stat()
    mine = not hasattr(os, "getuid") or about.st_uid == os.getuid()
    return mine and not about.st_mode & 0o022 and os.access(folder, os.W_OK)


def processor() -> str:
    """A name for all processors with the same instructions."""
    about = Path("/proc/cpuinfo")
    if not about.exists():
        return hashlib.sha256(f"{platform.processor()} {platform.node()}".encode()).hexdigest()[:16]
    lines = about.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    known = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))]
    return hashlib.sha256("\n".join([platform.machine(), *known]).encode()).hexdigest()[:16]
