"""What `--help` says: all commands on one screen, and the page of one of them."""

import inspect
import re
import shutil
import textwrap
from collections.abc import Mapping

# Commands by what they are for, in the order in which a newcomer meets them.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "see": ("demo", "models", "datasets", "spectrum", "indicators", "caption"),
    "measure": ("retrieve", "text-retrieve", "classify", "sweep", "reproduce", "report"),
    "use": ("fetch", "search", "duplicates"),
    "bring and take": ("embed", "convert", "bake", "export"),
}
ROOM = 60  # characters beside the name of a command on a terminal of 80
ABOUT = """Measure and improve, without training, the intra-modal similarity of CLIP-like models."""
NEXT = """Examples:
  jaxalign demo
  jaxalign retrieve --help      for the options of a command, and examples
  jaxalign --completion bash    for a script that completes in bash, zsh, tcsh
  jaxalign --version"""


def overview(commands: Mapping[str, type]) -> str:
    """All commands with a line each, in their groups; those of no group come last."""
    listed = {name for names in GROUPS.values() for name in names}
    groups = {**GROUPS, "more": tuple(name for name in commands if name not in listed)}
    width = max(map(len, commands))
    lines = ["usage: jaxalign COMMAND [OPTIONS]", "", wrapped(ABOUT)]
    for title, names in groups.items():
        shown = [name for name in names if name in commands]
        lines += ["", f"{title}:"] if shown else []
        lines += [f"  {name:{width}}  {summary(commands[name])}" for name in shown]
    return "\n".join((*lines, "", NEXT))


def summary(command: type) -> str:
    """What a command does, in one line: its docstring up to a full stop or a colon, or, where that is long,
    to a comma."""
    said = " ".join(re.split(r"[.:]\s|[.:]$", inspect.getdoc(command) or "")[0].split())
    while len(said) > ROOM and "," in said:
        said = said.rpartition(",")[0]
    return f"{said}."


def page(command: type) -> str:
    """What stands above the options of a command: what it does, the examples, then all else."""
    first, *parts = (inspect.getdoc(command) or "").split("\n\n")
    examples = [part for part in parts if part.startswith("Examples:")]
    others = [wrapped(part) for part in parts if not part.startswith("Examples:")]
    return "\n\n".join((wrapped(first), *examples, *others))


def wrapped(text: str) -> str:
    """`text` in lines that fit the terminal."""
    width = shutil.get_terminal_size().columns
    return textwrap.fill(" ".join(text.split()), max(width, 40), break_on_hyphens=False)
