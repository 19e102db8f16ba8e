"""Queries with their first results before and after, out of runs and the data set's images."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from PIL import Image

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import find_dataset, load_split
from jaxalign.eval.datasets.data_reading import FEATURES
from jaxalign.eval.datasets.examples import common_labels
from jaxalign.eval.labels import BASELINES, Label, dataset_label, method_label, method_name
from jaxalign.eval.tasks.runs import Run

# The examples of a data set, version and split; None where this machine has no such prepared copy.
FindSplit = Callable[[str, str, str], Any]

SIDE = 96  # pixels of the longer side of an image
GROUP = "group"  # the labelling that is wider than the one that is asked for


@dataclass(frozen=True)
class Shown:
    """One image of an example: uint8 `[h, w, 3]`, its name, and what it shares with the query."""

    name: str
    image: np.ndarray
    shares: Literal["label", "group", "nothing"] = "nothing"


@dataclass(frozen=True)
class Example:
    """A query with its first results under two methods.

    Attributes:
      reason: why this query is shown, for example "gains the most".
      results: by title of the method, best result first.
    """

    query: Shown
    reason: str
    results: Mapping[str, Sequence[Shown]]

    @property
    def has_group(self) -> bool:
        """Whether one of the results is of the query's group alone."""
        return any(shown.shares == "group" for results in self.results.values() for shown in results)


def prepared_splits(data_dir: str | os.PathLike[str] | None = None) -> FindSplit:
    """Finds a split of a data set and version; None for what is not prepared in `data_dir`.

    Making a report prepares and downloads nothing.
    """

    @cache
    def find(dataset: str, version: str, split: str) -> Any:
        try:
            record = find_dataset(dataset, data_dir=data_dir)
            if not record.is_prepared(data_dir):
                return None
            examples = load_split(record, split, data_dir)
        except JaxalignError:  # a data set of another release, a folder that has moved: said in the report
            return None
        return examples if examples.state == version and examples.images is not None else None

    return find


def grids_of(
    runs: Sequence[Run], find_split: FindSplit, count: int
) -> tuple[dict[str, list[Example]], list[str]]:
    """Of runs of one protocol and model the grids by data set, and what stands in the way of others.

    The best method is shown beside the baseline, where both have the first results of the same queries.
    """
    method, dataset = method_label(runs), dataset_label(runs)
    grids: dict[str, list[Example]] = {}
    missing: list[str] = []
    for name in dict.fromkeys(dataset(run) for run in runs):
        here = [run for run in runs if dataset(run) == name and _has_results(run)]
        pair = _before_and_after(here)
        if pair is None:
            continue
        settings = pair[0].settings
        where = [str(settings.get(key, "")) for key in ("dataset", "version", "query", "gallery")]
        if where[0].startswith(FEATURES):  # of which there are no images
            continue
        version = str(settings.get("gallery_version", where[1]))
        query = find_split(*where[:3])
        gallery = query if where[2] == where[3] else find_split(where[0], version, where[3])
        if query is None or gallery is None or not _fits(pair, query, gallery):
            missing.append(f"{where[0]} {where[1]}")
            continue
        grids[name] = _examples(pair, method, (query, gallery), str(settings.get("task", "")), count)
    return grids, list(dict.fromkeys(missing))


def _has_results(run: Run) -> bool:
    shown, found = run.arrays.get("shown_queries"), run.arrays.get("first_results")
    if shown is None or found is None:
        return False
    return found.ndim == 2 and shown.shape == found.shape[:1] and found.size > 0


def _before_and_after(runs: Sequence[Run]) -> tuple[Run, Run] | None:
    before = next((run for run in runs if method_name(run) in BASELINES), None)
    if before is None:
        return None
    same = lambda run: np.array_equal(run.arrays["shown_queries"], before.arrays["shown_queries"])
    others = [run for run in runs if method_name(run) not in BASELINES and same(run)]
    score = lambda run: run.metrics.get("mAP") or 0.0
    return (before, max(others, key=score)) if others else None


def _fits(pair: tuple[Run, Run], query: Any, gallery: Any) -> bool:
    """Whether the queries are in the split; a gallery may have distractors behind the data set's own."""
    lowest = min(run.arrays[name].min() for run in pair for name in ("shown_queries", "first_results"))
    return lowest >= 0 and pair[0].arrays["shown_queries"].max() < len(query) and len(gallery) > 0


def _examples(
    pair: tuple[Run, Run], method: Label, splits: tuple[Any, Any], task: str, count: int
) -> list[Example]:
    query, gallery = splits
    shown = pair[0].arrays["shown_queries"]
    found = {method(run): run.arrays["first_results"] for run in pair}
    relevant, near = (
        [_sharing(int(row), query, gallery, labelling) for row in shown] for labelling in (task, GROUP)
    )
    hits = [
        np.array([np.isin(row, own).sum() for row, own in zip(results, relevant, strict=True)])
        for results in found.values()
    ]
    depth = next(iter(found.values())).shape[1]
    examples = []
    for at, reason in _choose(hits[1] - hits[0], count).items():
        row = int(shown[at])
        told = f"{reason}: {hits[0][at]} to {hits[1][at]} relevant among the first {depth}"
        shares = lambda i, at=at: "label" if i in relevant[at] else "group" if i in near[at] else "nothing"
        results = {
            name: [_shown(gallery, int(i), task, shares(int(i))) for i in results[at]]
            for name, results in found.items()
        }
        examples.append(Example(_shown(query, row, task, "nothing"), told, results))
    return examples


def _sharing(row: int, query: Any, gallery: Any, task: str) -> np.ndarray:
    """Positions in the gallery of what the query should find, or of others of its group."""
    if query.ground_truth and task != GROUP:
        truth = query.ground_truth[row]
        return np.array([*truth.get("easy", ()), *truth.get("hard", ())], int)
    if task not in query.labels or task not in gallery.labels or query.labels[task][row] < 0:
        return np.zeros(0, int)
    own, labels, _ = common_labels(query, gallery, task)
    return np.flatnonzero(labels == own[row])


def _choose(gain: np.ndarray, count: int) -> dict[int, str]:
    """A third of the queries that gain the most, a third that lose the most, and others evenly spaced."""
    third = count // 3
    order = np.argsort(-gain, kind="stable")
    groups = {
        "evenly spaced": np.linspace(0, len(gain) - 1, min(count - 2 * third, len(gain))).round().astype(int),
        "gains the most": order[:third],
        "loses the most": order[::-1][:third],
    }
    chosen: dict[int, str] = {}
    for reason, positions in groups.items():
        for at in positions:
            chosen.setdefault(int(at), reason)
    return chosen


def _shown(examples: Any, row: int, task: str, shares: Any) -> Shown:
    if row >= len(examples):
        return Shown("a distractor", np.full((SIDE, SIDE, 3), 128, np.uint8))
    label = int(examples.labels[task][row]) if task in examples.labels else -1
    name = examples.label_names[task][label] if label >= 0 else examples.ids[row]
    return Shown(name, _thumbnail(examples.images[row]), shares)


def _thumbnail(given: Any) -> np.ndarray:
    """uint8 `[h, w, 3]`, the longer side at most `SIDE`."""
    image = given if isinstance(given, Image.Image) else Image.fromarray(np.asarray(given))
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)
