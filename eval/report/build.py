"""Fill the template of the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from eval.report.charts import heat_map, histogram_chart, loss_chart, spectrum_chart
from eval.report.content import ModelArrays
from eval.report.findings import findings
from eval.report.pictures import data_uri
from eval.report.tables import TASKS, classification_table, image_table, text_table


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
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    models = [
        _model_section(r, arrays.get(r["model"], ModelArrays())) for r in [results, *results["other_models"]]
    ]
    return environment.get_template("report.html.j2").render(
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
    if arrays.losses is not None:
        charts.append(loss_chart(arrays.losses))
    sweeps = {"images": arrays.image_sweep, "texts": arrays.text_sweep}
    return {
        "results": results,
        "findings": findings(results),
        "image_table": image_table(results),
        "text_table": text_table(results),
        "classification_table": classification_table(results),
        "charts": charts,
        "heat_maps": [
            heat_map(f"Search for the band, {name}: mAP on training names", sweep)
            for name, sweep in sweeps.items()
            if sweep is not None
        ],
        "examples": arrays.examples,
    }
