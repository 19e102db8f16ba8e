"""The report of runs: a section for each task, a part of it for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from jaxalign.eval.figures import figures_of
from jaxalign.eval.labels import METHOD, flatten, full_label, in_order, model_label, show, show_name
from jaxalign.eval.report.comparisons import comparisons_of
from jaxalign.eval.report.examples import FindSplit, grids_of
from jaxalign.eval.report.page import render
from jaxalign.eval.report.plain_tables import PlainTable, all_numbers
from jaxalign.eval.tasks import TASKS
from jaxalign.eval.tasks.runs import Run

# In the order of their sections, with heading and a sentence; what is not here comes after, by name.
_TITLES = {
    "image-retrieval": ("Image retrieval", "Pictures that find pictures."),
    "text-image": ("Names find pictures", "Class names that find their pictures: the inter-modal reference."),
    "text-retrieval": (
        "Text retrieval",
        "The first caption of each picture, which finds the picture's other captions.",
    ),
    "classification": (
        "Classification",
        "Zero-shot by class names, and by the nearest mean of the training pictures.",
    ),
    "few-shot": ("Few-shot classification", "Mean accuracy over the seeds."),
    "band-sweep": ("Search for the band", "mAP for every band of singular directions that IsoCLIP may keep."),
    "spectrum": ("Spectra", "Of the operator between the two heads, and of each head alone."),
    "spectral-parts": ("What the parts of the spectrum carry", "Top, middle and bottom on their own."),
    "class-indicator": ("Similarities by class", "How far same-class and different-class pairs overlap."),
    "modality-indicator": ("Similarities by modality", "Pairs of pictures, of texts, and of both."),
    "dogs-cats": ("Dogs and cats", "A task that is easy, and looks hard by similarities of pictures."),
    "ambiguity": ("Different questions to the same pictures", "mAP in percent for each labelling."),
    "degrees-of-freedom": (
        "Degrees of freedom",
        "Similarities of pictures, recovered from their similarities to texts.",
    ),
    "view": ("Views in two dimensions", "Texts, pictures, and pictures projected on the texts' directions."),
}
_TITLES |= {task.name: (task.title, task.about) for task in TASKS.values()}


@dataclass(frozen=True)
class ReproducedTable:
    """A printed table, measured beside printed.

    Attributes:
      parts: one for each backbone with a measured cell.
      missing, failed: what was not measured, and why.
      notes: what cells refer to by number.
      figure: the same numbers, drawn.
    """

    title: str
    summary: str
    parts: list[PlainTable]
    missing: list[str]
    failed: list[str]
    notes: list[str] = field(default_factory=list)
    figure: Figure | None = None


def build_report(
    runs: Sequence[Run],
    tables: Sequence[ReproducedTable] = (),
    *,
    title: str = "jaxalign report",
    introduction: str = "",
    credits: str = "",
    findings: Mapping[str, Sequence[str]] = {},
    facts: Mapping[str, Mapping[str, Any]] = {},
    find_split: FindSplit = lambda dataset, version, split: None,
    examples: int = 6,
) -> str:
    """Reproduced `tables` and all `runs` as one HTML page without external resources, everything escaped.

    A run of a task that nothing is known of is shown as a table, with whatever figures its arrays suit.

    Args:
      introduction: a sentence at the top.
      credits: to the authors of pictures that are shown, at the bottom.
      findings: what the numbers say, sentences under headings.
      facts: how it was measured, as far as no run says that, under the same headings.
      find_split: the examples of a data set's name, version and split, for pictures of queries and results;
        None where they are not at hand, which the report says.
      examples: so many queries of a data set are shown with their first results.
    """
    tasks = sorted({run.protocol for run in runs}, key=_position)
    sections = [
        {
            "title": _TITLES.get(task, (show_name(task).replace("-", " ").capitalize(),))[0],
            "about": _TITLES[task][1] if task in _TITLES else "",
            "parts": _parts(in_order([run for run in runs if run.protocol == task]), find_split, examples),
        }
        for task in tasks
    ]
    return render(
        "report.html.j2",
        title=title,
        introduction=introduction,
        credits=credits,
        count=len(runs),
        seconds=sum(run.seconds for run in runs),
        findings=findings,
        facts=facts,
        tables=tables,
        sections=sections,
    )


def _position(task: str) -> tuple[int, str]:
    return (list(_TITLES).index(task) if task in _TITLES else len(_TITLES), task)


def _parts(runs: Sequence[Run], find_split: FindSplit, examples: int) -> list[dict[str, Any]]:
    """What the template shows of each model."""
    label = model_label(runs)
    parts = []
    for name in dict.fromkeys(label(run) for run in runs):
        own = [run for run in runs if label(run) == name]
        grids, missing = grids_of(own, find_split, examples)
        parts.append(
            {
                "title": name,
                "comparisons": comparisons_of(own),
                "numbers": all_numbers(own),
                "figures": [drawn.figure for drawn in figures_of(own)],
                "grids": grids,
                "missing": missing,
                "notes": _notes(own),
                "facts": _facts(own),
            }
        )
    return parts


def _notes(runs: Sequence[Run]) -> list[str]:
    """What belongs beside the numbers, each sentence with the runs that it is about."""
    label = full_label(runs)
    about: dict[str, list[str]] = {}
    for run in runs:
        for note in run.notes:
            about.setdefault(note, []).append(label(run) or "run")
    return [f"{', '.join(dict.fromkeys(names))}: {note}." for note, names in about.items()]


def _facts(runs: Sequence[Run]) -> dict[str, str]:
    """The settings that all of them share, then the versions and the time."""
    every = [flatten(run.settings) for run in runs]
    shared: dict[str, str] = {
        key: show(value, most=24)
        for key, value in every[0].items()
        if key not in METHOD and all(other.get(key, key) == value for other in every)
    }
    versions: dict[str, Mapping[str, str]] = {show(run.versions, most=64): run.versions for run in runs}
    lost = {origin: len(names) for run in runs for origin, names in run.left_out.items()}
    if lost:
        shared["left out, unreadable"] = ", ".join(f"{count} of {origin}" for origin, count in lost.items())
    return shared | {
        "runs": str(len(runs)),
        "seconds": show(float(sum(run.seconds for run in runs))),
        "versions": "; ".join(versions),
    }
