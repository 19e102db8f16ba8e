"""Histograms of cosines: by class, by modality, by part of the spectrum, and of dogs and cats."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from jaxalign.eval.tasks.runs import Run

from .figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    histogram,
    legend_below,
    occupied,
    panels,
    styled,
    task_of,
    title,
)

_LINES = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
_COLUMNS = 3


@styled()
def draw_class_histograms(runs: Sequence[Run]) -> Figure:
    """Same-class and different-class pairs under each method (Reevaluating, figures 2 and 5; IsoCLIP, S7)."""
    figure, axes = _grid(len(runs))
    for ax, run in zip(axes, runs, strict=False):
        a, numbers = run.arrays, run.metrics
        histogram(ax, a["edges"], a["different"], ORANGE, "different class")
        histogram(ax, a["edges"], a["same"], BLUE, "same class")
        ax.set_xlim(*occupied(a["edges"], (a["same"], a["different"])))
        ax.set_title(f"{run.settings['method']}: overlap {numbers['overlap']:.3f}, IoU {numbers['iou']:.3f}")
    _label(figure, axes[: len(runs)], _COLUMNS)
    title(figure, f"{_about(runs[0])}{task_of(runs[0])}")
    return figure


@styled()
def draw_modality_histograms(runs: Sequence[Run]) -> Figure:
    """Image-image, image-text and text-text pairs under each method (Reevaluating, figures 2, 5 and 8)."""
    figure, axes = _grid(len(runs))
    kinds = (
        ("image_text", "image-text", PURPLE),
        ("text_text", "text-text", GREY),
        ("image_image", "image-image", GREEN),
    )
    for ax, run in zip(axes, runs, strict=False):
        for name, label, colour in kinds:
            histogram(ax, run.arrays["edges"], run.arrays[name], colour, label)
        ax.set_xlim(*occupied(run.arrays["edges"], [run.arrays[name] for name, _, _ in kinds]))
        ax.set_title(f"{run.settings['method']}: gap {run.metrics['gap']:.3f}")
    _label(figure, axes[: len(runs)], _COLUMNS)
    title(figure, f"{_about(runs[0])}, modalities")
    return figure


@styled()
def draw_parts(run: Run) -> Figure:
    """What the top, the middle and the bottom of the spectrum carry (IsoCLIP, figure 3)."""
    parts: Mapping[str, Any] = run.metrics["parts"]
    figure, axes = panels(1, len(parts), width=3.0)
    for ax, (name, numbers) in zip(axes[0], parts.items(), strict=True):
        a = run.arrays
        histogram(ax, a["edges"], a[f"{name}_different"], ORANGE, "different class")
        histogram(ax, a["edges"], a[f"{name}_same"], BLUE, "same class")
        ax.set_xlim(*occupied(a["edges"], (a[f"{name}_same"], a[f"{name}_different"])))
        start, stop = numbers["k_top"], run.metrics["singular_values"] - numbers["k_bottom"] - 1
        ax.set_title(f"{name}, {start} to {stop}: mAP {numbers['mAP']:.1f}")
    _label(figure, list(axes[0]), len(parts))
    title(figure, f"{_about(run)}{task_of(run)}: parts of the inter-modal spectrum")
    return figure


@styled()
def draw_dogs_cats(run: Run) -> Figure:
    """Pairs of the query class and pairs with the other one, and precision at k (IsoCLIP, figure 4)."""
    methods = list(run.metrics["aligned"])
    figure, axes = _grid(len(methods) + 1)
    for ax, name in zip(axes, methods, strict=False):
        a = run.arrays
        histogram(ax, a["edges"], a[f"{name}_negatives"], ORANGE, "negative pairs")
        histogram(ax, a["edges"], a[f"{name}_positives"], BLUE, "positive pairs")
        ax.set_xlim(*occupied(a["edges"], (a[f"{name}_positives"], a[f"{name}_negatives"])))
        ax.set_title(f"{name}: IoU {run.metrics['aligned'][name]['iou']:.3f}")
    _label(figure, axes[: len(methods)], _COLUMNS)
    ax = axes[len(methods)]
    for colour, name in zip(_LINES * 3, methods, strict=False):
        precision = run.metrics["aligned"][name]["precision_at"]
        ax.plot(
            [int(k) for k in precision],
            list(precision.values()),
            "o-",
            color=colour,
            markersize=3,
            label=name,
        )
    ax.set_xscale("log")
    ax.set_xlabel("retrieved pictures k")
    ax.set_ylabel("precision in %")
    ax.set_title("precision among the first k")
    ax.legend()
    title(figure, _about(run))
    return figure


def _grid(count: int) -> tuple[Figure, list[Any]]:
    """Axes for `count` panels, three in a row; what is left over is hidden."""
    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure, axes = panels(rows, columns)
    for ax in axes.ravel()[count:]:
        ax.set_visible(False)
    return figure, list(axes.ravel())


def _label(figure: Figure, axes: Sequence[Any], columns: int) -> None:
    for i, ax in enumerate(axes):
        ax.set_xlabel("cosine similarity")
        ax.set_ylabel("share of the pairs" if i % columns == 0 else "")
        ax.set_ylim(bottom=0)
    legend_below(figure, axes[0])


def _about(run: Run) -> str:
    return f"{run.settings['model']} on {run.settings['dataset']} ({run.settings['query']})"
