"""What the measuring commands share: options, the workspace, and tables of runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from jaxalign.eval.tasks.methods import MethodOptions
    from jaxalign.eval.tasks.runs import Run
    from jaxalign.eval.tasks.workspace import Workspace

NAMED = 10  # pictures left out that the terminal names
NAMES_LIMIT = 16 << 20  # bytes of a file of class names
ModelName = Annotated[
    str, tyro.conf.arg(metavar="MODEL", help="A name of `jaxalign models`, a folder or a file.")
]
DatasetName = Annotated[
    str,
    tyro.conf.arg(
        metavar="NAME",
        help="A name of `jaxalign datasets`, NAME@tfds, or folder:PATH for images: its subfolders are the"
        " classes, or, where all have names of splits (train, val, test and the like, in any case), splits"
        " with the classes below them; classes:PATH and splits:PATH say which.",
    ),
]
RunFolder = Annotated[
    Path, tyro.conf.arg(metavar="DIR", help="Folder of the runs: what is there is not measured again.")
]
StoreFolder = Annotated[
    str | None,
    tyro.conf.arg(
        metavar="DIR",
        help="Folder, or gs:// or s3:// URL, of the features.",
        help_behavior_hint="(default: $JAXALIGN_STORE or ~/.cache/jaxalign/features)",
    ),
]
MethodNames = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        metavar="METHOD [METHOD ...]",
        help="Methods to compare.",
        help_behavior_hint="(default: all without optimisation; isoclip where it has a band)",
    ),
]
BandOption = Annotated[
    tuple[int, int] | None,
    tyro.conf.arg(
        metavar="K_TOP K_BOTTOM",
        help="IsoCLIP's band: how many directions to leave out at either end.",
        help_behavior_hint="(default: what the paper prints for the model)",
    ),
]
RankOption = Annotated[
    int | None,
    tyro.conf.arg(
        metavar="R", help="Directions that PCA<- keeps.", help_behavior_hint="(default: half of the width)"
    ),
]
SubspaceOption = Annotated[
    Literal["paper", "code", "readme"],
    tyro.conf.arg(
        help="PCA<-: prompts with CLIP's class names, centred (paper); the bare names of the published code,"
        " those of pytorch/hub (code); these normalised and not centred, as in its README (readme)."
    ),
]
NamesFile = Annotated[
    Path | None,
    tyro.conf.arg(
        metavar="FILE",
        help="Class names for PCA<-, one on a line.",
        help_behavior_hint="(default: the 1,000 of ImageNet that the variant of PCA<- has)",
    ),
]
TaskName = Annotated[
    str,
    tyro.conf.arg(
        metavar="NAME",
        help="Labelling of the pictures.",
        help_behavior_hint="(default: the data set's first)",
    ),
]
SplitName = Annotated[
    str,
    tyro.conf.arg(metavar="SPLIT", help="Split to take.", help_behavior_hint="(default: of the protocol)"),
]
LayoutOption = Annotated[
    Literal["paper", "reference"],
    tyro.conf.arg(help="Heads of SigLIP and EVA-02 as in the paper, or as in its published code."),
]
ProtocolOption = Annotated[
    Literal["paper", "reference"],
    tyro.conf.arg(
        help="Splits, galleries and metrics as in the paper, or as in its published code"
        " (docs/published_code.md)."
    ),
]


def parse_yes_or_no(words: list[str]) -> bool:
    """No word is a yes."""
    if words not in ([], ["yes"], ["no"]):
        raise ValueError(f"got {words[0]!r}; expected yes or no")
    return words != ["no"]


WithDistractors = Annotated[
    bool | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=(0, 1),
        metavar="[yes|no]",
        instance_from_str=parse_yes_or_no,
        is_instance=lambda value: value is None or isinstance(value, bool),
        str_from_instance=lambda value: [] if value else ["no"],
    ),
]
MaxQueries = Annotated[
    int | None,
    tyro.conf.arg(
        metavar="N", help="At most so many queries, evenly spaced.", help_behavior_hint="(default: all)"
    ),
]


def open_workspace(command: Any) -> "Workspace":
    """The workspace of a command's options; what it will write is checked first."""
    from jaxalign.eval.processes import is_first
    from jaxalign.eval.tasks.workspace import Workspace

    from .embed import library_name
    from .output import check_file, check_folder

    check_file(command.json)
    check_folder(command.out)
    unreadable = library_name(getattr(command, "unreadable", "fail"))
    workspace = Workspace(command.out, command.store, command.data_dir, unreadable=unreadable, records={})
    workspace.stages.console.quiet = not is_first()
    return workspace


def method_options(command: Any, inverting: Any = None) -> "MethodOptions":
    """The options of methods among a command's."""
    from jaxalign.eval.tasks.methods import Inverting, MethodOptions

    return MethodOptions(
        band=command.band,
        rank=getattr(command, "rank", None),
        subspace=getattr(command, "subspace", "paper"),
        class_names=read_names(getattr(command, "class_names", None)),
        inverting=inverting or Inverting(),
    )


def read_names(file: Path | None) -> tuple[str, ...] | None:
    """The lines of a file, without empty ones; raises JaxalignError for a file without any."""
    from jaxalign.errors import JaxalignError
    from jaxalign.local_files import read_limited

    if file is None:
        return None
    try:
        text = read_limited(file, NAMES_LIMIT).decode("utf-8-sig")  # editors of Windows begin it with a mark
    except UnicodeDecodeError as error:
        raise JaxalignError(f"{file} is no UTF-8 text; expected class names, one on a line") from error
    except JaxalignError as error:
        raise JaxalignError(f"class names: {error}; expected a text file, a name on a line") from error
    names = tuple(line for line in map(str.strip, text.splitlines()) if line)
    if len(names) < 2:
        raise JaxalignError(f"{file} has {len(names)} class names; expected two or more, one on a line")
    return names


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on standard output, first column left, others right; no line is cut where it is no terminal."""
    from rich import box
    from rich.table import Table

    from jaxalign.eval.terminal import open_table_console

    console = open_table_console()
    console.print(title, style="bold")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_header=any(columns))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def percent(value: float | None) -> str:
    """One decimal, or a hyphen for what is not defined."""
    return "-" if value is None else f"{value:.1f}"


def signed(value: float) -> str:
    """One decimal with its sign; a zero has a plus."""
    return f"{round(value, 1) + 0.0:+.1f}"


def retrieval_rows(runs: Sequence["Run"]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of a table of retrieval runs; the first one is the baseline of the others."""
    from jaxalign.eval.tasks.runs import paired_gain

    landmarks = "mAP_easy" in runs[0].metrics
    if landmarks:
        names = ("mAP_easy", "mAP_medium", "mAP_hard", "mP@10_medium")
    else:
        names = ("mAP", "mAP_at_R", "precision_at_R", "recall_at_1")
    rows, baseline = [], None
    for run in runs:
        precision = run.arrays.get("average_precision")
        gain = ""
        if baseline is not None and precision is not None and len(precision) == len(baseline):
            found = paired_gain(precision, baseline)
            gain = f"{signed(found['gain'])} ± {found['gain_error']:.1f}"
        baseline = precision if baseline is None else baseline
        rows.append([describe_method(run.settings), *(percent(run.metrics[name]) for name in names), gain])
    columns = ["method", *(name.replace("_", " ").replace(" at ", "@") for name in names), "gain in mAP"]
    return columns, rows


def describe_method(settings: Any) -> str:
    """A method's name with what was chosen for it."""
    name = settings["method"]
    if "band" in settings:
        return f"{name} ({settings['band'][0]}, {settings['band'][1]})"
    if "rank" in settings:
        return f"{name} (rank {settings['rank']}, {settings['subspace']})"
    return f"{name} ({settings['steps']} steps)" if "steps" in settings else name


def describe_left_out(runs: Sequence["Run"]) -> list[str]:
    """A line for each split of which pictures were left out; the JSON of the runs names all of them."""
    lost: dict[str, dict[str, None]] = {}
    for run in runs:
        for origin, names in run.left_out.items():
            lost.setdefault(origin, {}).update(dict.fromkeys(names))
    lines = []
    for origin, found in lost.items():
        more = f" and {len(found) - NAMED:,} more" if len(found) > NAMED else ""
        named = ", ".join(list(found)[:NAMED])
        lines.append(f"{len(found):,} pictures of {origin} left out, unreadable: {named}{more}")
    return lines


def describe_versions(runs: Sequence["Run"]) -> list[str]:
    """A line for the runs that were there already and come from other versions of what they stand on."""
    from jaxalign.eval.tasks.runs import package_versions

    now = package_versions()
    differing: dict[str, int] = {}
    for run in runs:
        others = [
            f"{name} {v} (now {now[name]})" for name, v in run.versions.items() if now.get(name, v) != v
        ]
        if others:
            told = ", ".join(others)
            differing[told] = differing.get(told, 0) + 1
    return [f"{count} of the runs were measured earlier, with {told}" for told, count in differing.items()]


def describe_counts(metrics: Any, gallery: str = "in the gallery") -> str:
    """How many queries and items there are, and how many queries are among the items."""
    said = f"{metrics['queries']} queries, {metrics['gallery']} {gallery}"
    own = metrics.get("queries_in_gallery", 0)
    if not own:
        return said
    return f"{said}, {'each query' if own == metrics['queries'] else f'{own} queries'} left out of its own"


def report_runs(command: Any, runs: Sequence["Run"], files: Sequence[Path] = ()) -> None:
    """Write the results as JSON where that was asked for, and say where everything is."""
    from jaxalign.eval.datasets.image_tree import told_not_read
    from jaxalign.eval.terminal import say

    from .output import write_json

    content: dict[str, Any] = {
        "runs": [run.to_json() for run in runs],
        "files": [str(file) for file in files],
        "not_read": told_not_read({str(run.settings.get("dataset", "")) for run in runs}),
    }
    write_json(command.json, content)
    for file in files:
        say(f"Wrote {file}")
    for line in (*describe_left_out(runs), *describe_versions(runs)):
        say(line)
    for note in dict.fromkeys(note for run in runs for note in run.notes):
        say(f"Note: {note}")
    say(f"{len(runs)} runs in {command.out}; `jaxalign report {command.out}` shows them")
