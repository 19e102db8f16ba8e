"""What commands give out: tables and lines on the terminal, results as JSON, and where both go."""

import contextlib
import contextvars
import hashlib
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jaxalign.errors import JaxalignError
from jaxalign.eval import files
from jaxalign.eval.terminal import open_console, open_table_console, say, styled

from .options import UsageError

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.tasks.runs import Run

    from .groups import MeasuringOptions

STANDARD_OUTPUT = Path("-")
# Where the JSON of a command goes that has asked for it on standard output, and for nothing else there.
_output: contextvars.ContextVar[TextIO | None] = contextvars.ContextVar("output", default=None)
WIDE = 120  # columns from which on a list with a row for each line can be read
_LONGEST = 200  # characters of a file's name, of 255 that file systems take
_NAMED = 10  # images left out that the terminal names


def print_table(title: str, columns: Sequence[str], rows: Iterable[Iterable[str]], *, left: int = 1) -> None:
    """A table on standard output; no line is cut where it is no terminal.

    Args:
      columns: titles; a table without any has no head.
      left: how many columns are text; the others are numbers, to the right.
    """
    from rich import box
    from rich.table import Table

    console = open_table_console()
    if title:
        console.print(title, style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_list(
    things: Sequence[Mapping[str, Any]], columns: Mapping[str, Callable[[Any], str]], notes: Mapping[str, str]
) -> None:
    """Print `things` on standard output, nothing cut off, then the `notes` on states that some are in.

    A table where the terminal is wide enough, else a few lines for each. Where standard output is no terminal
    each is a line, for grep.

    Args:
      things: each with its `name`, `available` (its state), `source` and `licence`.
      columns: by title a short fact of a thing; empty where there is none.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = open_table_console()
    if console.width >= WIDE:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i, column in enumerate(("name", "local", *columns, "source, licence")):
            table.add_column(column, no_wrap=i <= len(columns), overflow="fold")
        for thing in things:
            facts = [fact(thing) or "-" for fact in columns.values()]
            origin = f"{thing['source']} ({thing['licence']})"
            table.add_row(thing["name"], thing["available"], *facts, origin)
        console.print(table)
    else:
        for thing in things:
            facts = [f"{column} {said}" for column, fact in columns.items() if (said := fact(thing))]
            console.print(Text.assemble(styled(thing["name"], "bold"), styled(f" ({thing['available']})")))
            console.print("; ".join(facts), overflow="fold")
            console.print(f"{thing['source']} ({thing['licence']})", overflow="fold")
            console.print()
    for state, note in notes.items():
        if any(thing["available"] == state for thing in things):
            console.print(note)


def print_facts(name: str, state: str, facts: Mapping[str, str]) -> None:
    """Print one thing of a list with all that is known of it, a line each."""
    from rich.text import Text

    console = open_console()
    console.print(Text.assemble(styled(name, "bold"), styled(f" ({state})")), soft_wrap=True)
    for key, value in facts.items():
        console.print(f"  {key:{max(map(len, facts))}}  {value}", soft_wrap=True)
    console.print()


def decimal(value: float | None, digits: int | None = 1) -> str:
    """So many digits behind the point, None for three significant ones; a hyphen for what is not defined."""
    if value is None:
        return "-"
    return f"{value:.3g}" if digits is None else f"{value:.{digits}f}"


def signed(value: float) -> str:
    """One decimal with its sign; a zero has a plus."""
    return f"{round(value, 1) + 0.0:+.1f}"


def probability(value: float) -> str:
    """Three decimals; what is less than they can say is below 0.001."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def told_left_out(names: Sequence[str], what: str = "") -> str:
    """How many were left out, with as many names as a line has room for."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{len(names):,} {what}left out, unreadable: {', '.join(names[:_NAMED])}{more}"


def describe_method(settings: Mapping[str, Any]) -> str:
    """A method's name with what was chosen for it."""
    name = settings["method"]
    if "band" in settings:
        return f"{name} ({settings['band'][0]}, {settings['band'][1]})"
    if "rank" in settings:
        return f"{name} (rank {settings['rank']}, {settings['subspace']})"
    return f"{name} ({settings['steps']} steps)" if "steps" in settings else name


def describe_counts(metrics: Mapping[str, Any], gallery: str = "in the gallery") -> str:
    """How many queries and items there are, and how many queries are among the items."""
    said = f"{metrics['queries']} queries, {metrics['gallery']} {gallery}"
    own = metrics.get("queries_in_gallery", 0)
    if not own:
        return said
    return f"{said}, {'each query' if own == metrics['queries'] else f'{own} queries'} left out of its own"


def print_runs(
    title: str,
    runs: "Sequence[Run]",
    head: str = "method",
    name: "Callable[[Run], str]" = lambda run: describe_method(run.settings),
    *,
    compared: bool = False,
) -> None:
    """A table of runs of one task, by its columns.

    Args:
      head, name: of the first column, and what a run is called there.
      compared: whether the first run is the baseline of the others, whose gain is shown.
    """
    from jaxalign.eval.tasks.registry import TASKS
    from jaxalign.eval.tasks.runs import number
    from jaxalign.eval.tasks.task import gains_of

    columns = TASKS[runs[0].protocol].columns_of([run.metrics for run in runs])
    gains = gains_of(runs, lambda run: None) if compared else {}
    rows = []
    for run in runs:
        told = ["", ""] if compared else []
        if (gain := gains.get(run.digest)) is not None:
            told = [f"{signed(gain.gain)} ± {gain.gain_error:.1f}", probability(gain.p_value)]
        numbers = [decimal(number(run.metrics, of.metric), of.digits) for of in columns]
        rows.append([name(run), *numbers, *told])
    further = ["gain in mAP", "p"] if compared else []
    print_table(title, [head, *(of.title for of in columns), *further], rows)


def report_runs(runs: "Sequence[Run]", results: "MeasuringOptions", charts: Sequence[Path] = ()) -> None:
    """Write the results as JSON and as a table where that was asked for, and say where everything is."""
    from jaxalign.eval.datasets.image_tree import told_not_read
    from jaxalign.eval.written_tables import compared_runs

    if results.json is not None:
        content: dict[str, Any] = {
            "runs": [run.to_json() for run in runs],
            "gains": [gain.to_json() for gain in compared_runs(runs).values()],
            "found": [run.digest for run in runs if not run.anew],  # and not measured anew
            "files": [str(file) for file in charts],
            "not_read": told_not_read({str(run.settings.get("dataset", "")) for run in runs}),
        }
        write_json(results.json, content)
    write_table(results.table, runs)
    for file in filter(None, (*charts, results.table)):
        say(f"Wrote {file}")
    for line in (*_left_out(runs), *_other_versions(runs)):
        say(line)
    for note in dict.fromkeys(note for run in runs for note in run.notes):
        say(f"Note: {note}")
    told, out = told_anew({run.digest: run.anew for run in runs}), results.out
    say(f"{told}, in {out}; `jaxalign report {out}` shows them")


def told_anew(runs: Mapping[str, bool]) -> str:
    """How many runs were found and how many measured anew; `runs` says of each whether it was the latter."""
    anew = sum(runs.values())
    counts = {"measured anew": anew, "found": len(runs) - anew}
    total = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
    return f"{total}: " + " and ".join(f"{n} {how}" for how, n in counts.items() if n)


def _left_out(runs: "Sequence[Run]") -> list[str]:
    """A line for each split of which images were left out; the JSON of the runs names all of them."""
    lost: dict[str, dict[str, None]] = {}
    for run in runs:
        for origin, names in run.left_out.items():
            lost.setdefault(origin, {}).update(dict.fromkeys(names))
    return [told_left_out(list(found), f"images of {origin} ") for origin, found in lost.items()]


def _other_versions(runs: "Sequence[Run]") -> list[str]:
    """A line for the runs that were there already and come from other versions of what they stand on."""
    from jaxalign.eval.tasks.runs import package_versions

    now = package_versions()
    told = Counter(
        ", ".join(
            f"{name} {v} (now {now[name]})" for name, v in run.versions.items() if now.get(name, v) != v
        )
        for run in runs
    )
    return [f"{count} of the runs were measured earlier, with {what}" for what, count in told.items() if what]


def chart_name(runs: "Sequence[Run]", model: "DualEncoder", *parts: str) -> str:
    """A file name for a chart of `runs` of a model; those of other runs, with other methods, splits or
    options, and of models of one name, two fine-tuned ones, are different. Empty `parts` are left out."""
    from jaxalign.eval.features.key import weights_digest
    from jaxalign.weights.identity import is_known

    name = model.name if is_known(model.name) else f"{model.name}-{weights_digest(model.params)[:8]}"
    digest = hashlib.sha256("".join(run.digest for run in runs).encode()).hexdigest()[:8]
    return re.sub(r"[^\w.+-]+", "_", "-".join(filter(None, (name, *parts, digest))))[-_LONGEST:]


def check_folder(folder: Path) -> None:
    """Raise JaxalignError unless files can be written in `folder`, which need not exist yet."""
    existing = folder.absolute()
    while not os.path.exists(existing):  # which says no of a name that is too long
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise JaxalignError(
            f"cannot write to the folder {folder} ({error.strerror}); choose another one"
        ) from error


def counted(number: int, noun: str, several: str = "") -> str:
    """`1 run`, `2,000 runs`; `several` where it is no `s` that they end in."""
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def check_file(file: Path | None) -> None:
    """Raise JaxalignError unless `file` can be written; None, for a result that nobody asked for, can."""
    if file is None or file == STANDARD_OUTPUT:
        return
    if os.path.isdir(file):
        raise JaxalignError(f"cannot write the file {file}: it is a folder; add a file name")
    if not os.path.isdir(file.absolute().parent):
        raise JaxalignError(f"cannot write the file {file}: there is no folder {file.parent}; make it first")
    if not os.path.exists(file) or os.path.isfile(file):
        check_folder(file.absolute().parent)


def write_json(file: Path | None, content: Any) -> None:
    """Write `content` to `file`, or to standard output where that is `-`; does nothing for None."""
    if file == STANDARD_OUTPUT:
        (_output.get() or sys.stdout).write(files.json_text(content, indent=2) + "\n")
    elif file is not None:
        files.write_json(file, content)


def write_paths(paths: Iterable[str], end: bytes) -> None:
    """Write names of files to standard output as the bytes that they are, of which no program takes one for
    an option; a terminal gets printable ones."""
    out = _output.get() or sys.stdout
    paths = [os.path.join(os.curdir, path) if path.startswith("-") else path for path in paths]
    if out.isatty() and end == b"\n":
        for path in paths:
            say(path, out)
        return
    out.flush()
    for path in paths:
        out.buffer.write(os.fsencode(path) + end)  # pyright: ignore[reportAttributeAccessIssue]
    out.flush()


@contextlib.contextmanager
def only_results(file: Path | None) -> Iterator[None]:
    """Where results go to standard output as JSON, nothing else does: it goes to standard error."""
    if file != STANDARD_OUTPUT:
        yield
        return
    token = _output.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _output.reset(token)


def check_ending(option: str, file: Path | None, *endings: str) -> None:
    """Raise UsageError for a file of another ending, and JaxalignError as `check_file`."""
    if file is not None and file.suffix.lower() not in endings:
        raise UsageError(f"--{option} is {file}; expected a file name that ends in {', '.join(endings)}")
    check_file(file)


def check_table(file: Path | None) -> None:
    """As `check_ending`, for the formats that a table has."""
    from jaxalign.eval.written_tables import WRITERS

    check_ending("table", file, *WRITERS)


def write_table(file: Path | None, runs: "Sequence[Run]") -> None:
    """Write the tables of `runs` in the format that the name of `file` ends in; does nothing for None. Raises
    JaxalignError where no run has numbers that stand in a table."""
    from jaxalign.eval.written_tables import WRITERS, run_tables

    if file is None:
        return
    tables = run_tables(runs)
    if not tables:
        raise JaxalignError(f"cannot write {file}: none of the {len(runs)} runs has numbers for a table")
    files.write_whole(file, WRITERS[file.suffix.lower()](tables))
