"""What runs are called in a report, by their settings as far as they differ; they may come from files, so
nothing of that is taken for granted."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxalign.eval.tasks.runs import Run
from jaxalign.weights.identity import is_known

MODEL, SOURCE, DATASET = "model", "source", "dataset"
METHOD = ("classifier", "method", "modality")  # a run has some of them, or none
MODEL_DETAILS = ("weights", "spec", "tokenizer", "layout", "dtype", "precision", "embedding_dtype")
GRID = "grid"
DATASET_DETAILS = (
    *("version", "query", "gallery", "gallery_version", "distractors", "distractors_version"),
    *("split", "train", "train_version", "val_version", "test", "task", "prompts", "bank", "unreadable"),
)
ADDED = ("distractors", "unreadable")  # details that make a difference by being there
NESTING = 4  # levels of settings and metrics that are taken apart

BASELINES = ("image-image", "text-text", "text-image", "ncm", "ncm image-image")

Label = Callable[[Run], str]


def flatten(values: Mapping[str, Any], prefix: str = "", levels: int = NESTING) -> dict[str, Any]:
    """Nested mappings as one, the names joined by dots; lists of mappings by position."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list | tuple) and value and all(isinstance(v, Mapping) for v in value):
            value = {str(i + 1): v for i, v in enumerate(value)}
        if isinstance(value, Mapping) and levels > 1:
            flat |= flatten(value, f"{prefix}{name}.", levels - 1)
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def show(value: Any, most: int = 8) -> str:
    """A setting or a metric as short text: numbers in three or four digits, long lists by their length."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float) and abs(value) >= 10_000:
        return f"{value:,.0f}"
    if isinstance(value, float):
        return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return f"{len(value)} values" if len(value) > most else ", ".join(show(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {show(v)}" for name, v in value.items())
    return str(value)


def show_name(name: str) -> str:
    """The name of a metric for people; k_top and k_bottom are what they are called."""
    words = name.replace(".", " ").replace("_", " ")
    return words.replace("k top", "k_top").replace("k bottom", "k_bottom")


def model_label(runs: Sequence[Run]) -> Label:
    """The model and, unless it is a known one, where it is from; weights and layout where these differ."""
    return _label(runs, _model_title, MODEL_DETAILS)


def _model_title(run: Run) -> str:
    name, source = (show(run.settings.get(key, "")) for key in (MODEL, SOURCE))
    return f"{name} ({source})" if source and source != name and not is_known(name) else name


def dataset_label(runs: Sequence[Run]) -> Label:
    """The data set, with split and labelling where runs on it differ in them."""
    return _label(runs, lambda run: show(run.settings.get(DATASET, "")), DATASET_DETAILS)


def method_name(run: Run) -> str:
    """Classifier and method, without options but for the grid of a tuned one; empty for a run without
    either."""
    name = " ".join(show(run.settings[key]) for key in METHOD if key in run.settings)
    return f"{name}, grid {run.settings[GRID]}" if GRID in run.settings else name


def method_label(runs: Sequence[Run]) -> Label:
    """The method, with the options in which runs of one method, model and data set differ."""
    model, dataset = model_label(runs), dataset_label(runs)
    known = {MODEL, SOURCE, DATASET, *METHOD, GRID, *MODEL_DETAILS, *DATASET_DETAILS}
    others = {key: None for run in runs for key in flatten(run.settings) if key not in known}
    return _label(
        runs, method_name, tuple(others), within=lambda run: (model(run), dataset(run)), absence=True
    )


def full_label(runs: Sequence[Run]) -> Label:
    """Method and data set, as far as there are any."""
    parts = (method_label(runs), dataset_label(runs))
    return lambda run: ", ".join(text for part in parts if (text := part(run)))


def find_baseline(run: Run, runs: Sequence[Run | None]) -> Run | None:
    """Of `runs` of one data set the baseline whose settings are most like those of `run`."""
    found = [other for other in runs if other is not None and method_name(other) in BASELINES]
    alike = lambda other: sum(other.settings.get(key) == value for key, value in run.settings.items())
    return max(found, key=alike, default=None)


def _label(
    runs: Sequence[Run],
    name: Callable[[Run], str],
    details: Sequence[str],
    within: Callable[[Run], Any] = lambda run: None,
    absence: bool = False,
) -> Label:
    """`name`, followed by those `details` in which runs of one name, and one value of `within`, differ.

    With `absence` a run that has a detail differs from one that does not; otherwise only those that have it
    are compared: zero-shot and few-shot classification differ in the training split, but not in the data set.
    """
    groups: dict[Any, list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((name(run), within(run)), []).append(flatten(run.settings))
    differing: dict[str, dict[str, None]] = {}
    for (named, _), members in groups.items():
        for key in details:
            having = members if absence else [m for m in members if key in m or key in ADDED]
            if len({show(member.get(key), most=64) for member in having}) > 1:
                differing.setdefault(named, {})[key] = None

    def label(run: Run) -> str:
        settings, named = flatten(run.settings), name(run)
        told = [f"{key} {show(settings[key])}" for key in differing.get(named, ()) if key in settings]
        return f"{named} ({', '.join(told)})" if named and told else named or ", ".join(told)

    return label
