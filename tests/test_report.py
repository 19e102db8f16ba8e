import re
from dataclasses import replace

import numpy as np
import pytest

from jaxalign import BandSweep, SimilarityHistograms
from jaxalign.eval.report import Example, InversionTrace, ModelArrays, Shown, build_report, findings
from jaxalign.eval.report.charts import heat_map, histogram_chart, inversion_chart, loss_chart, spectrum_chart
from jaxalign.eval.report.tables import TASKS, Cell, classification_table, image_table, text_table

HOSTILE = "<script>alert('x')</script>"


def scores(mean, gain=None, error=0.1):
    metrics = {"mAP": mean, "mAP_at_R": mean / 2, "precision_at_R": mean / 3, "recall_at_1": mean / 4}
    return metrics if gain is None else metrics | {"gain": gain, "gain_error": error}


def method(mean, gain=None, error=0.1):
    tasks = {task: scores(mean, gain, error) for task in TASKS if task != "emoji"}
    return scores(mean, gain, error) | {"tasks": tasks}


def results(name="emoji-clip", **methods):
    return {
        "model": name,
        "dataset": "emoji-scenes",
        "image_retrieval": {"image-image": method(10.0), **methods},
        "text_retrieval": {"text-text": scores(20.0), "isoclip": scores(21.0, 1.0)},
        "classification": {
            "ncm": {"accuracy": 50.0},
            "zero-shot": {"accuracy": 40.0, "gain": -10.0, "gain_error": 1.0},
        },
        "band": {"k_top": 1, "k_bottom": 2},
        "auto_band": {"k_top": 0, "k_bottom": 0},
        "inter_modal": {"emoji-scenes": scores(30.0) | {"tasks": {"group": scores(35.0)}}},
        "indicators": {"overlap": {"image-image": 0.5, "isoclip": 0.4}},
        "other_models": [],
    }


def arrays():
    picture = np.zeros((4, 4, 3), np.uint8)
    shown = [Shown(HOSTILE, picture, shares) for shares in ("emoji", "group", "nothing")]
    sweep = BandSweep(np.arange(2), np.arange(3), np.array([[1, 2, np.nan], [3, 4, 5.0]]), (1, 2))
    histograms = SimilarityHistograms(np.linspace(-1, 1, 5), np.array([0, 1, 2, 0]), np.array([0, 4, 1, 0]))
    return ModelArrays(
        singular_values=np.array([3.0, 2.0, 1.0, 0.0]),
        image_sweep=sweep,
        text_sweep=sweep,
        histograms={"image-image": histograms},
        inversions={
            HOSTILE: InversionTrace(np.array([0.9, 0.5]), np.array([0, 2]), np.array([3.0, 9.0]), 5.0)
        },
        examples=[Example(shown[0], HOSTILE, {HOSTILE: shown})],
    )


def test_report_is_one_file_without_external_resources():
    page = build_report(
        results() | {"other_models": [results("emoji-siglip")]}, {"emoji-clip": arrays()}, title="demo"
    )
    assert page.lstrip().startswith("<!doctype html>")
    references = re.findall(r"""(?:src|href|action|data|srcset)\s*=\s*["']?([^"'\s>]+)""", page)
    assert references
    assert all(r.startswith(("data:image/webp;base64,", "#model-")) for r in references)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", page))
    assert not re.search(r"<(script|link|iframe|object|embed)\b", page)
    assert page.count("<svg") == 6  # spectrum, histogram, loss and mAP of an inversion, two heat maps
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_hostile_names_are_escaped():
    hostile = results(HOSTILE, **{HOSTILE: method(1.0, 1.0)}) | {
        "dataset": HOSTILE,
        HOSTILE: {HOSTILE: HOSTILE},
    }
    page = build_report(hostile, {HOSTILE: arrays()}, title=HOSTILE, introduction=HOSTILE, credits=HOSTILE)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 10


def test_sections_without_content_are_left_out():
    bare = {k: v for k, v in results().items() if k not in ("text_retrieval", "classification", "indicators")}
    page = build_report(bare, {}, title="bare")
    assert "<footer" not in page
    assert "Image retrieval" in page
    for heading in ("Text retrieval", "Classification by", "Behind the numbers", "Queries and their"):
        assert heading not in page


def test_best_cells_and_ties():
    rows = image_table(results(a=method(12.34, 2.34), b=method(12.31, 2.31), c=method(9.0, -1.0)))
    best = {row.method: [cell.best for cell in row.cells if cell] for row in rows}
    assert best["a"] == best["b"] == [True] * 4  # equal in the digits that are shown
    assert best["image-image"] == best["c"] == [False] * 4
    assert best["text-image"] == [False, False]  # a reference, though it is higher
    assert [cell is None for cell in rows[-1].cells] == [False, False, True, True]
    assert rows[1].cells[0].details == pytest.approx((12.34 / 3, 12.34 / 4))
    assert [row.method for row in text_table(results())] == ["text-text", "isoclip"]
    assert classification_table(results())[0].cells[0].best


@pytest.mark.parametrize(
    ("gain", "error", "verdict", "shown"),
    [
        (1.0, 0.4, "up", "+1.0"),
        (-1.0, 0.4, "down", "-1.0"),
        (1.0, 0.6, "same", "+1.0"),
        (0.04, 0.0, "same", "+0.0"),
        (-0.04, 0.0, "same", "+0.0"),
        (None, None, "same", ""),
    ],
)
def test_a_difference_counts_where_it_exceeds_twice_its_error(gain, error, verdict, shown):
    cell = Cell(10.0, (), gain, error, best=False)
    assert cell.verdict == verdict
    assert cell.signed_gain == shown


def test_findings_follow_the_numbers():
    said = findings(results(good=method(12.0, 2.0), bad=method(8.0, -2.0), unsure=method(10.1, 0.1)))
    assert said[0] == (
        "Same emoji (concept), image-image 10.0: helped by good (+2.0);"
        " no clear difference with unsure (+0.1); hurt by bad (-2.0)."
    )
    assert said[2] == (
        "Same background (context), image-image 10.0: raised by good (+2.0);"
        " no clear difference with unsure (+0.1); lowered by bad (-2.0)."
    )
    assert said[-2] == "For reference, a name finds its pictures with mAP 30.0 on emoji-scenes."
    assert "IsoCLIP lowers the overlap" in said[-1]
    none = findings(results(bad=method(8.0, -2.0)))
    assert (
        none[0]
        == "Same emoji (concept), image-image 10.0: no method helps on emoji-clip; hurt by bad (-2.0)."
    )
    raised = results() | {"indicators": {"overlap": {"image-image": 0.4, "isoclip": 0.5}}}
    assert "IsoCLIP raises the overlap" in findings(raised)[-1]
    same = results() | {"indicators": {"overlap": {"image-image": 0.4, "isoclip": 0.401}}}
    assert "IsoCLIP does not change the overlap" in findings(same)[-1]


@pytest.mark.parametrize(
    "singular_values", [np.ones(5), np.array([1.0, 0.0]), np.geomspace(1e3, 1e-9, 40), np.array([2.0])]
)
def test_spectrum_stays_inside_the_plot(singular_values):
    chart = spectrum_chart(singular_values, (0, 0), None)
    x, y = np.array([p.split(",") for p in chart.traces[0].points.split()], float).T
    assert len(x) == len(singular_values)
    assert ((x >= chart.left) & (x <= chart.right)).all()
    assert ((y >= chart.top) & (y <= chart.bottom)).all()
    assert all(chart.top <= tick.at <= chart.bottom for tick in chart.y_ticks)
    assert chart.spans[0].x >= chart.left
    assert chart.spans[0].x + chart.spans[0].width <= chart.right


def test_histogram_shows_shares_over_the_used_range():
    same, different = np.array([0, 0, 3, 1, 0]), np.array([0, 5, 5, 0, 0])
    chart = histogram_chart("t", SimilarityHistograms(np.linspace(-1, 1, 6), same, different))
    points = {t.name: np.array([p.split(",") for p in t.points.split()], float) for t in chart.traces}
    span = chart.bottom - chart.top
    heights = (
        (chart.bottom - points["same emoji"][:, 1]) / span * (0.75 * 1.05)
    )  # the highest share is 3 of 4
    # points of a chart are written with a few digits
    np.testing.assert_allclose(heights, [0, 0, 0, 0.75, 0.75, 0.25, 0.25, 0], atol=1e-3)
    assert points["same emoji"][0, 0] == chart.left
    assert points["same emoji"][-1, 0] == chart.right


def test_heat_map_leaves_empty_bands_blank_and_marks_the_best():
    drawn = heat_map("t", arrays().image_sweep)
    assert [cell.label for cell in drawn.cells] == ["1.0", "2.0", "3.0", "4.0", "5.0"]
    assert [cell.best for cell in drawn.cells] == [False] * 4 + [True]
    assert [cell.strength for cell in drawn.cells] == [0, 0.25, 0.5, 0.75, 1]
    flat = heat_map("t", replace_map(np.full((2, 3), 7.0)))
    assert {cell.strength for cell in flat.cells} == {0.0}


def replace_map(values):
    sweep = arrays().image_sweep
    assert sweep is not None
    return replace(sweep, mAP=values)


def test_inversion_of_a_single_step():
    inversion = InversionTrace(np.array([0.5]), np.array([0]), np.array([0.0]), 0.0)
    assert len(loss_chart("OTI", inversion).traces[0].points.split()) == 1
    assert [len(t.points.split()) for t in inversion_chart("OTI", inversion).traces] == [2, 1]


def test_inversion_says_on_how_many_queries_it_was_measured():
    shown = results()
    shown["text_retrieval"]["ovi"] = scores(19.0, -1.0) | {"queries": 64, "steps": 50, "baseline": 20.0}
    page = build_report(shown, {}, title="t")
    assert (
        "ovi: 64 of the queries, 50 steps (the paper: 1,000), beside text-text on the same ones (20.0)"
        in page
    )
