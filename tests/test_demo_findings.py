"""What the demo says of its numbers: tables, and sentences that follow from them."""

import pytest

from jaxalign.eval.demo_findings import (
    LABELLINGS,
    classification_table,
    findings,
    image_table,
    text_table,
)
from jaxalign.eval.report.comparisons import Score


def scores(mean, gain=None, error=0.1):
    metrics = {"mAP": mean, "mAP_at_R": mean / 2, "precision_at_R": mean / 3, "recall_at_1": mean / 4}
    return metrics if gain is None else metrics | {"gain": gain, "gain_error": error}


def method(mean, gain=None, error=0.1):
    tasks = {task: scores(mean, gain, error) for task in LABELLINGS if task != "emoji"}
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


def test_best_cells_and_ties():
    rows = image_table(results(a=method(12.34, 2.34), b=method(12.31, 2.31), c=method(9.0, -1.0)))
    best = {row.method: [cell.best for cell in row.cells if cell] for row in rows}
    assert best["a"] == best["b"] == [True] * 4  # equal in the digits that are shown
    assert best["image-image"] == best["c"] == [False] * 4
    assert best["text-image"] == [False, False]  # a reference, though it is higher
    assert [cell is None for cell in rows[-1].cells] == [False, False, True, True]
    assert [row.method for row in rows] == ["a", "b", "image-image", "c", "text-image"]
    assert rows[0].cells[0].details == pytest.approx((12.34 / 3, 12.34 / 4))
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
    cell = Score(10.0, (), gain, error, best=False)
    assert cell.verdict == verdict
    assert cell.signed_gain == shown


def test_findings_follow_the_numbers():
    said = findings(results(good=method(12.0, 2.0), bad=method(8.0, -2.0), unsure=method(10.1, 0.1)))
    assert said[0] == (
        "Images of the same emoji are found best with good: 12.0 mAP, where the embeddings as they are"
        " (image-image) have 10.0; of the same background, 12.0 and 10.0."
    )
    assert said[1] == (
        "Same emoji (concept), image-image 10.0: helped by good (+2.0);"
        " no clear difference with unsure (+0.1); hurt by bad (-2.0)."
    )
    assert said[3] == (
        "Same background (context), image-image 10.0: raised by good (+2.0);"
        " no clear difference with unsure (+0.1); lowered by bad (-2.0)."
    )
    assert said[-2] == "For reference, a name finds its images with mAP 30.0 on emoji-scenes."
    assert "IsoCLIP lowers the overlap" in said[-1]
    none = findings(results(bad=method(8.0, -2.0)))
    assert none[0] == "No method finds more of the same emoji than the embeddings as they are (image-image)."
    assert (
        none[1]
        == "Same emoji (concept), image-image 10.0: no method helps on emoji-clip; hurt by bad (-2.0)."
    )
    raised = results() | {"indicators": {"overlap": {"image-image": 0.4, "isoclip": 0.5}}}
    assert "IsoCLIP raises the overlap" in findings(raised)[-1]
    same = results() | {"indicators": {"overlap": {"image-image": 0.4, "isoclip": 0.401}}}
    assert "IsoCLIP does not change the overlap" in findings(same)[-1]
