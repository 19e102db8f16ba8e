"""The command line `jaxalign`: one frozen dataclass for each command, whose fields are its options."""

import contextlib
import dataclasses
import hashlib
import io
import os
import platform
import re
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import tyro

from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.eval import interrupts
from jaxalign.eval.terminal import say

from .options import UsageError
from .printing import check_file, only_results

if TYPE_CHECKING:
    from .groups import Processes

SHELLS = ("bash", "zsh", "tcsh")
FAILED, BAD_USAGE = 1, 2
# What other programs are told: JAX, to make errors of what is meant here; matplotlib, to draw into a notebook
# from which a command may come.
_FOR_OTHERS = re.compile("JAX_NUMPY_(DTYPE|RANK)_PROMOTION|JAX_TRANSFER_GUARD(_.*)?|MPLBACKEND")
# JAX's persistent compilation cache. An entry is found by what is computed, by XLA's version and by its
# options; a folder is for one kind of processor, whose instructions the programs use.
COMPILED = "~/.cache/jaxalign/compiled"
COMPILED_FOLDER, LEAST_SECONDS = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
MOST_COMPILED = 1 << 30  # bytes: what a folder holds at most before it is begun anew
# How JAX says that another variable has a value that it does not know, or names a device that is not there.
_ENVIRONMENT = re.compile(
    "invalid truth value .* for environment|Invalid value .* for JAX flag|Unable to init.* backend"
)


class Command(Protocol):
    def run(self) -> None: ...


class Commands(Mapping[str, type[Command]]):
    """Frozen dataclasses by the names of commands, each imported when it is asked for: `text-retrieve` is
    `TextRetrieve` in `text_retrieve.py`."""

    def __init__(self, *names: str):
        self._names = names

    def __getitem__(self, name: str) -> type[Command]:
        if name not in self._names:
            raise KeyError(name)
        module = import_module(f".{name.replace('-', '_')}", __package__)
        return getattr(module, name.title().replace("-", ""))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


# In the order in which a newcomer meets them.
NAMES = (
    "demo convert bake models fetch datasets embed retrieve text-retrieve sweep spectrum indicators classify"
    " caption search duplicates export reproduce report"
)
COMMANDS: Mapping[str, type[Command]] = Commands(*NAMES.split())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 (failed), 2 (bad usage), 130 (interrupted)...

    Bad input and failures of the system become one line on standard error; anything else is a bug and keeps
    its traceback. Without `arguments` this is the process's own command, which a signal ends here.
    """
    if arguments is None:
        keep_compiled_programs()
        for name in filter(_FOR_OTHERS.fullmatch, list(os.environ)):
            del os.environ[name]
    for stream in (sys.stdout, sys.stderr):  # names of files may be in no encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with interrupts.stoppable():
        error: BaseException | None = None
        status = 0
        try:
            given = list(sys.argv[1:] if arguments is None else arguments)
            command = parse(given)
            processes = getattr(command, "distributed", None)
            if isinstance(command, int):
                status = command
            elif processes is not None and processes.distributed:
                status = run_as_one_of_several(command, processes, given)
            else:
                with results_alone(command):
                    command.run()
            if sys.stdout:  # None where it was closed
                sys.stdout.flush()  # here, where a failure is still caught
        except BaseException as caught:
            error = caught
        if not interrupts.is_supervised():
            status = conclude(status, error)
            if arguments is None and status > 128:
                interrupts.leave(status)
            return status
        try:  # this is one of several processes
            status = conclude(status, error)
        except BaseException as bug:  # shown here: an ordinary exit would wait for those that may be lost
            sys.excepthook(type(bug), bug, bug.__traceback__)
            status = FAILED
        interrupts.leave(status)
        return status


def keep_compiled_programs() -> None:
    """Tell JAX by its environment, before it is imported, to keep what takes at least 50 ms to compile: a
    command compiles anew only what it has not computed before.

    Whoever has set $JAX_COMPILATION_CACHE_DIR, be it to nothing, is left alone. Nothing is kept where others
    can write, for what lies there is run.
    """
    # An entry that cannot be read or written costs time, and changes nothing.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    if COMPILED_FOLDER in os.environ:  # this may be one of several processes, of which the first has set it
        return
    try:
        folder = Path(COMPILED).expanduser() / processor()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not is_own(folder):
            return
        if sum(file.stat().st_size for file in folder.iterdir()) > MOST_COMPILED:
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
    except (OSError, RuntimeError):  # no home, one that cannot be written, or another process that tidies up
        return
    os.environ[COMPILED_FOLDER] = str(folder)
    os.environ.setdefault(LEAST_SECONDS, "0.05")


def is_own(folder: Path) -> bool:
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


def conclude(status: int, error: BaseException | None) -> int:
    """The exit status of a command that ended with `status`, or with an error."""
    try:
        number = interrupts.settle()  # of a signal that a library made nothing, or something else, of
    except KeyboardInterrupt as late:
        error, number = late, interrupts.settle()
    if number is not None or isinstance(error, KeyboardInterrupt):
        return interrupts.end_stopped(number)
    return status if error is None else explain(error)


def explain(error: BaseException) -> int:
    """Say in one line what `error` says, and return the exit status; one that is a bug is raised again."""
    if isinstance(error, BrokenPipeError):  # the reader, `head` for instance, has seen enough
        drop_output()
        return FAILED
    if isinstance(error, OSError):
        drop_output()
        where = f": {error.filename}" if error.filename else ""
        return fail(f"{error.strerror or error}{where}", FAILED)
    if isinstance(error, RuntimeError) and str(error).startswith("Could not determine home"):  # of pathlib
        return fail("the user has no home folder; set HOME, and JAXALIGN_STORE for features", FAILED)
    if isinstance(error, ValueError | RuntimeError) and _ENVIRONMENT.match(str(error)):
        return fail(f"{error}; see the environment variables that begin with JAX_", FAILED)
    if isinstance(error, JaxalignError):
        return fail(str(error), BAD_USAGE if isinstance(error, UsageError) else FAILED)
    raise error


def results_alone(command: Any) -> AbstractContextManager[None]:
    """Where the JSON of a command goes to standard output, nothing else does in the block; raises
    JaxalignError for a file that cannot be written, before any work."""
    group = command if hasattr(command, "json") else getattr(command, "results", None)
    file = getattr(group, "json", None)
    check_file(file)
    return only_results(file)


def run_as_one_of_several(command: Command, processes: "Processes", arguments: Sequence[str]) -> int:
    from jaxalign.eval import processes as distributed

    processes.check()
    if not interrupts.is_supervised():
        return distributed.supervise(arguments)
    distributed.end_with_parent()
    where = (processes.coordinator, processes.num_processes, processes.process_id, processes.lost_after)
    with distributed.connected(*where, asked(command, arguments[0])), results_alone(command):
        command.run()
    return 0


# What may differ between the processes of a run: where a folder is mounted, and what concerns one alone. What
# files hold is compared where it is used.
OF_ONE_PROCESS = (
    *("distributed", "store", "out", "data_dir", "json", "table", "threads", "class_names"),
    *("projectors", "class_texts", "labels", "label_names", "ids"),
)


def asked(command: Any, name: str) -> dict[str, Any]:
    """What the processes of one run have to be asked for alike, by option."""
    options = {f"--{field.replace('_', '-')}": value for field, value in options_of(command).items()}
    shown = {option: str(value) if isinstance(value, Path) else value for option, value in options.items()}
    versions = {f"the version of {package}": version(package) for package in ("jaxalign", "jax")}
    return {"the command": name, "--num-processes": command.distributed.num_processes} | shown | versions


def options_of(group: Any) -> dict[str, Any]:
    """The options of a command, those of its groups among them, without those `OF_ONE_PROCESS`."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(group):
        value = getattr(group, field.name)
        if field.name in OF_ONE_PROCESS:
            continue
        found |= options_of(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return found


def drop_output() -> None:
    """Forget what standard output cannot take, or Python complains about it once more at its end."""
    if not sys.stdout:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, status: int) -> int:
    say(f"jaxalign: error: {message}", sys.stderr)
    return status


def parse(arguments: Sequence[str]) -> Command | int:
    """The command that `arguments` spell, or an exit status: 0 where they ask for help or the version, 2
    after one line where they spell no command."""
    first, *others = arguments or [""]
    if first in COMMANDS:
        return parse_options(first, others)
    if arguments in (["--version"], ["-V"]):
        say(f"jaxalign {version('jaxalign')}")
    elif arguments in (["--help"], ["-h"]):
        from .help_pages import overview

        sys.stdout.write(overview(COMMANDS) + "\n")
    elif first == "--completion":
        return complete(others)
    else:
        return fail(misspelt(first), BAD_USAGE)
    return 0


def misspelt(first: str) -> str:
    """What is wrong with a command line that begins with no command."""
    see = "see `jaxalign --help`"
    if not first:
        return f"expected one of {{{', '.join(COMMANDS)}}}; {see}"
    if first.startswith("-"):
        return f"unrecognized options: {first}; {see}"
    return str(unknown_name("command", first, COMMANDS, see))


def parse_options(name: str, arguments: Sequence[str]) -> Command | int:
    """The command of this name with its options, or an exit status."""
    said = io.StringIO()
    options: dict[str, Any] = {"prog": f"jaxalign {name}", "config": (tyro.conf.OmitArgPrefixes,)}
    if {"-h", "--help"} & set(arguments):
        from .help_pages import page

        sys.stdout.write(page(COMMANDS[name]) + "\n\n")  # not as tyro's description, whose lines it joins
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(COMMANDS[name], args=arguments, description="", **options)
    except SystemExit as stop:
        if stop.code == BAD_USAGE:
            fail(f"{usage_error(said.getvalue())}; see `jaxalign {name} --help`", BAD_USAGE)
        return int(stop.code or 0)


def complete(shells: Sequence[str]) -> int:
    """Print the script that lets a shell complete commands and options; the exit status."""
    if len(shells) != 1 or shells[0] not in SHELLS:
        got = " ".join(shells) or "none"
        return fail(f"--completion got {got}; expected one shell of {', '.join(SHELLS)}", BAD_USAGE)
    script = io.StringIO()
    with contextlib.redirect_stdout(script), contextlib.suppress(SystemExit):
        tyro.extras.subcommand_cli_from_dict(
            dict(COMMANDS),
            prog="jaxalign",
            args=["--tyro-write-completion", shells[0], "-"],
            config=(tyro.conf.OmitArgPrefixes,),
        )
    sys.stdout.write(script.getvalue().rstrip() + "\n")  # for a shell: as it is
    return 0


def usage_error(box: str) -> str:
    """One line out of tyro's box: what is wrong, and the options that it offers instead.

    The box has a title, then sections between rules. Its lines are drawn where standard output is UTF-8;
    elsewhere there are only rules of hyphens, one of them below the title.
    """
    lines = [line.strip("│╭╮╰╯─ ") for line in re.sub(r"\x1b\[[0-9;]*m", "", box).splitlines()]
    title, *lines = [line if line.strip("-") else "" for line in lines] or [""]
    message, *sections = "\n".join(lines).strip("\n").split("\n\n")
    message = " ".join(message.split()).rstrip(".!") or title
    offers = "\n".join(section for section in sections if section.startswith("Perhaps you meant"))
    near = " or ".join(dict.fromkeys(re.findall(r"^--[\w-]+", offers, re.MULTILINE)))
    return message[:1].lower() + message[1:] + (f" (did you mean {near}?)" if near else "")
