"""The runs behind a reproduction as figures, and its numbers beside the printed ones."""

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from jaxalign.eval.figures import draw_measured, figures_of, save
from jaxalign.eval.labels import in_order
from jaxalign.eval.tasks.runs import read_run

from .run import Outcome, Reproduction

_TOLD_BY_TABLES = ("shots", "losses", "steps")


def draw_figures(folder: Path, reproduction: Reproduction) -> list[Path]:
    """Write a PNG of the table and one for each figure of its runs in `folder`.

    Raises:
      JaxalignError: a run that is damaged, or a folder that cannot be written.
    """
    table = reproduction.table.name
    compared = draw_comparison(reproduction)
    files = [] if compared is None else [save(compared, folder / f"{table}.png")]
    digests = dict.fromkeys(digest for outcome in reproduction.outcomes for digest in outcome.runs)
    paths = [path for digest in digests for path in sorted(folder.glob(f"*-{digest}.json"))]
    for drawn in figures_of(in_order([read_run(path) for path in paths]), _TOLD_BY_TABLES):
        name = re.sub(r"[^\w.+-]+", "_", "-".join((table, drawn.kind, *drawn.about)))
        file = folder / f"{name}.png"
        file = file if file not in files else folder / f"{name}-{len(files)}.png"
        files.append(save(drawn.figure, file))
    return files


def draw_comparison(reproduction: Reproduction) -> Figure | None:
    """Measured beside printed; None where nothing was measured that is printed."""
    compared = [o for o in reproduction.outcomes if o.cell.shown and o.difference is not None]
    if not compared:
        return None
    pairs = {
        name: [(o.cell.printed or 0.0, o.value or 0.0) for o in outcomes]
        for name, outcomes in group(compared).items()
    }
    return draw_measured(pairs, reproduction.table.title, reproduction.table.unit)


def group(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """By what is no data set, no number of shots and, where there are several methods, no backbone."""
    labels = outcomes[0].cell.labels
    dropped = {"dataset", "shots", "number"}
    if "method" in labels or "classifier" in labels:
        dropped.add("backbone")
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        own = [text for name, text in outcome.cell.labels.items() if name not in dropped]
        found.setdefault(", ".join(own) or outcome.cell.backbone, []).append(outcome)
    return found
