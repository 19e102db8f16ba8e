"""The report of a demo."""

from collections.abc import Mapping
from typing import Any

from jaxalign.eval.report.charts import heat_map, histogram_chart, inversion_chart, loss_chart, spectrum_chart
from jaxalign.eval.report.content import ModelArrays
from jaxalign.eval.report.findings import findings
from jaxalign.eval.report.page import render
from jaxalign.eval.report.tables import TASKS, classification_table, image_table, inversion_note, text_table

# What the tables and sentences show; the rest of a model's entry says how it was measured.
SHOWN = (
    "model",
    "image_retrieval",
    "text_retrieval",
    "classification",
    "inter_modal",
    "inversions",
    "other_models",
)


def build_report(
    results: Mapping[str, Any],
    arrays: Mapping[str, ModelArrays],
    *,
    title: str,
    introduction: str = "",
    credits: str = "",
) -> str:
    """The report as one HTML page without external resources; every text in it is escaped.

    Args:
      results: what `metrics.json` holds: the first model's entry, with `other_models` in it.
      arrays: charts and examples by name of the model; a model or a field that is missing is left out.
      introduction: a sentence on the data, at the top.
      credits: to the authors of pictures that are shown, at the bottom.
    """
    models = [
        _model_section(r, arrays.get(r["model"], ModelArrays())) for r in [results, *results["other_models"]]
    ]
    return render(
        "report.html.j2",
        title=title,
        introduction=introduction,
        credits=credits,
        results=results,
        models=models,
        tasks=list(TASKS.values()),
    )


def _model_section(results: Mapping[str, Any], arrays: ModelArrays) -> dict[str, Any]:
    """What the template shows of one model."""
    overlap = results.get("indicators", {}).get("overlap", {})
    pair = lambda name: (results[name]["k_top"], results[name]["k_bottom"]) if name in results else None
    charts = []
    if arrays.singular_values is not None:
        charts.append(spectrum_chart(arrays.singular_values, pair("band"), pair("auto_band")))
    for name, histograms in arrays.histograms.items():
        caption = f"Similarities, {name}" + (f": overlap {overlap[name]:.2f}" if name in overlap else "")
        charts.append(histogram_chart(caption, histograms))
    for name, inversion in arrays.inversions.items():
        charts += [loss_chart(name, inversion), inversion_chart(name, inversion)]
    sweeps = {"images": arrays.image_sweep, "texts": arrays.text_sweep}
    return {
        "results": results,
        "findings": findings(results),
        "image_table": image_table(results),
        "text_table": text_table(results),
        "text_note": inversion_note(results),
        "classification_table": classification_table(results),
        "charts": charts,
        "heat_maps": [
            heat_map(f"Search for the band, {name}: mAP on training names", sweep)
            for name, sweep in sweeps.items()
            if sweep is not None
        ],
        "examples": arrays.examples,
        "facts": {key: value for key, value in results.items() if key not in SHOWN},
    }
