"""Tables as files: whatever stands in a name is a text in CSV, LaTeX and Markdown, and numbers stay such."""

import csv
import io

import numpy as np
import pytest

from jaxalign.errors import printable
from jaxalign.eval.tasks.runs import Run
from jaxalign.eval.tasks.task import paired_gain
from jaxalign.eval.written_tables import (
    WRITERS,
    WrittenTable,
    compared_runs,
    latex_text,
    markdown_text,
    run_tables,
    to_csv,
)
from jaxalign.ranking.significance import randomization_test

HOSTILE = "=cmd|'/c calc'!A1 \\input{x} & 50% $_# ~^ <b> [x](y) `z` *i* \"q\"\n\x1b[31m"


def rows_of(text):
    return list(csv.reader(io.StringIO(text)))


def test_numbers_keep_their_digits_in_csv_and_are_rounded_elsewhere():
    table = WrittenTable(
        "", ["method", "mAP", "p"], [["pca", 83.4123456789, 0.00012], ["-", None, 1]], {"p": None}
    )
    assert rows_of(to_csv([table])) == [
        ["method", "mAP", "p"],
        ["pca", "83.4123456789", "0.00012"],
        ["'-", "", "1"],
    ]
    assert "| pca | 83.4 | 0.00012 |" in WRITERS[".md"]([table])
    assert r"pca & 83.4 & 0.00012 \\" in WRITERS[".tex"]([table])
    assert r"\begin{tabular}{lrr}" in WRITERS[".tex"]([table])


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_text_is_a_formula_and_negative_numbers_stay_numbers(start):
    table = WrittenTable("", [f"{start}head"], [[f"{start}1+1"], [-1.5]], {})
    assert rows_of(to_csv([table])) == [[f"'{start}head"], [f"'{start}1+1"], ["-1.5"]]


def test_tables_of_different_columns_are_one_in_csv():
    tables = [WrittenTable("a", ["x", "y"], [[1, 2]], {}), WrittenTable("b", ["x", "z"], [[3, 4]], {})]
    assert rows_of(to_csv(tables)) == [["x", "y", "z"], ["1", "2", ""], ["3", "", "4"]]
    assert WRITERS[".md"](tables).count("| x |") == 2
    assert WRITERS[".tex"](tables).count(r"\begin{table}") == 2


def test_what_a_name_holds_is_text():
    latex = latex_text(HOSTILE)
    assert r"\textbackslash{}input\{x\}" in latex
    assert r"\& 50\% \$\_\# \textasciitilde{}\textasciicircum{} \textless{}b\textgreater{}" in latex
    assert "\n" not in latex + markdown_text(HOSTILE)
    assert "\x1b" not in latex + markdown_text(HOSTILE)
    markdown = markdown_text(HOSTILE)
    assert r"=cmd\|" in markdown
    assert r"&lt;b>" in markdown
    assert r"\[x](y) \`z\` \*i\*" in markdown
    table = WrittenTable(HOSTILE, [HOSTILE], [[HOSTILE]], {})
    head, rule, row = WRITERS[".md"]([table]).splitlines()[-3:]
    assert (head, rule, row) == (f"| {markdown} |", "| --- |", f"| {markdown} |")
    assert rows_of(to_csv([table])) == [[f"'{printable(HOSTILE)}"]] * 2


PRECISION = {"image-image": np.array([10, 20, 30, np.nan]), "pca": np.array([15, 20, 40, np.nan])}


def runs_on(model, dataset, scale=1.0, **metrics):
    for method, precision in PRECISION.items():
        settings = {"model": model, "dataset": dataset, "method": method, "variant": "paper"}
        settings |= {"rank": 4} if method == "pca" else {}
        numbers = {"mAP": float(np.nanmean(scale * precision)), "mAP_at_R": 1.0, "recall_at_1": 2.0} | metrics
        yield Run("image-retrieval", settings, numbers, {"average_precision": scale * precision})


def test_several_models_stand_in_one_table_each_beside_its_own_baseline():
    runs = [*runs_on("a", "cub"), *runs_on("b", "cub", scale=2.0), *runs_on("b", "pets", recall_at_10=3.0)]
    (table,) = run_tables(runs)
    heads = ["model", "data set", "method", "rank", "mAP", "mAP@R", "recall@1", "recall@10"]
    assert list(table.columns) == [*heads, "gain", "its error", "p"]
    found = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [row["gain"] for row in found] == pytest.approx([None, 5, None, 10, None, 5])
    assert [row["rank"] for row in found] == [None, 4] * 3
    assert [row["recall@10"] for row in found] == [None] * 4 + [3.0, 3.0]
    assert found[1]["p"] == randomization_test(PRECISION["pca"], PRECISION["image-image"]) == 0.5


def test_gains_name_their_runs_and_count_the_queries_that_both_have():
    base, run = runs_on("a", "cub")
    (gain,) = compared_runs([base, run]).values()
    expected = paired_gain(PRECISION["pca"], PRECISION["image-image"])
    assert (
        gain.to_json()
        == {"run": run.digest, "baseline": base.digest, "queries": 3, "p_value": 0.5} | expected
    )
    assert compared_runs([base]) == {}


def test_shots_are_columns_and_a_task_without_columns_is_no_table():
    few = Run("few-shot", {"classifier": "lda"}, {"accuracy": {"2": 5.0, "16": 7.0}, "deviation": {"2": 1.0}})
    (table,) = run_tables([few, Run("ambiguity", {}, {}), Run("unheard-of", {}, {"mAP": 1.0})])
    assert table.rows == [["lda", 5.0, 7.0, 1.0]]
    assert list(table.columns) == ["method", "2-shot", "16-shot", "2-shot deviation"]
