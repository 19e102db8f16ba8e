"""The report of earlier runs: what is shown of which run, and that no text in them becomes markup."""

import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxalign.eval.datasets import Examples
from jaxalign.eval.labels import (
    dataset_label,
    flatten,
    full_label,
    method_label,
    model_label,
    show,
)
from jaxalign.eval.paper.output import ReproducedTable
from jaxalign.eval.report import build_report
from jaxalign.eval.report.build import all_numbers
from jaxalign.eval.report.comparisons import comparisons_of
from jaxalign.eval.tasks.runs import Run
from jaxalign.eval.written_tables import WrittenTable, in_order

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "img"}


def make_run(
    method="image-image", dataset="cub", metrics=None, arrays=None, protocol="image-retrieval", **more
):
    settings = {"model": "tiny", "dataset": dataset, "version": "1.0.0", "query": "test", "gallery": "test"}
    settings |= {"method": method} | more
    return Run(protocol, settings, metrics or {"mAP": 10.0}, arrays or {}, 1.5, versions={"jax": "0.8"})


def every_kind_of_run(name):
    """Runs with all arrays that are drawn, and `name` wherever a text of a user can be."""
    facts = {"model": name, "task": name, "weights": name}
    ap = {"average_precision": np.array([10, 20.0])}
    curve = {"steps": np.array([0, 2]), "mAP_at_step": np.array([3.0, 9.0]), "losses": np.array([0.9, 0.5])}
    counts = {
        "same": np.array([1, 4, 0]),
        "different": np.array([4, 1, 0]),
        f"{name}_same": np.array([1, 0, 0]),
    }
    grid = {"k_top": np.arange(2), "k_bottom": np.arange(2), "mAP": np.array([[1, 2], [3, np.nan]])}
    spectra = {"inter_modal": np.array([3, 2, 1.0]), "image": np.array([3, 1, 0.0]), "text": np.ones(3)}
    points = {f"plain_{name}": np.arange(10.0).reshape(5, 2), "plain_image": np.ones((700, 2))}
    shots = {"accuracy": np.array([[5.0], [6.0]]), "shots": np.array([1, 2])}
    make = lambda protocol, metrics, arrays, method=name: make_run(
        method, name, metrics, arrays, protocol, **facts
    )
    return [
        make("image-retrieval", {"mAP": 10.0}, ap, "image-image"),
        make("image-retrieval", {"mAP": 9.0, name: name}, {**curve, **ap}),
        make("few-shot", {"accuracy": {"1": 5.0, name: 6.0}}, shots),
        make("band-sweep", {"best": {"k_top": 1, "k_bottom": 0}}, grid),
        make("spectrum", {"band": [1, 0], "auto_band": [0, 0]}, spectra),
        make("class-indicator", {"overlap": 0.5}, {"edges": np.linspace(-1, 1, 4), **counts}),
        make("view", {"view": name}, points),
        make(name, {name: {name: {name: 1.0}}, "rows": [{name: name}]}, {}),
    ]


@pytest.fixture(scope="module")
def page():
    table = WrittenTable(HOSTILE, [HOSTILE] * 2, [[HOSTILE] * 2])
    tables = [ReproducedTable(HOSTILE, HOSTILE, [table], [HOSTILE], [HOSTILE], [HOSTILE])]
    return build_report(
        every_kind_of_run(HOSTILE),
        tables,
        title=HOSTILE,
        introduction=HOSTILE,
        credits=HOSTILE,
        findings={HOSTILE: [HOSTILE]},
        facts={HOSTILE: {HOSTILE: {HOSTILE: HOSTILE}}},
    )


class Elements(HTMLParser):
    """All elements with their attributes; every end tag closes the innermost one that is open."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_no_text_becomes_markup(page):
    assert "<script" not in page
    assert page.count("&lt;script&gt;") > 50
    found = Elements(page).found
    assert not {tag for tag, _ in found} & {"script", "iframe", "object", "embed", "link", "form", "base"}
    assert not [name for _, attributes in found for name in attributes if name.startswith("on")]


def test_the_page_loads_nothing_and_its_policy_lets_only_its_own_style_through(page):
    found = Elements(page).found
    policy = next(a["content"] for _, a in found if a.get("http-equiv") == "Content-Security-Policy")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not [a for _, a in found if "style" in a]  # the policy would drop them
    links = [a[name] for _, a in found for name in ("src", "href") if name in a]
    assert all(link.startswith(("#", "data:image/webp;base64,")) for link in links)
    ids = {a["id"] for _, a in found if "id" in a}
    assert {link[1:] for link in links if link.startswith("#")} == ids
    assert not re.search(r"https?:|@import|url\(", html.unescape(page))


def test_the_page_is_for_phones_dark_rooms_paper_and_screen_readers(page):
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    for query in ("prefers-color-scheme: dark", "max-width: 40rem", "@media print"):
        assert query in page
    found = Elements(page).found
    assert all(a.get("scope") in ("col", "row") for tag, a in found if tag == "th")
    assert all(a.get("role") == "img" and a.get("aria-label") for tag, a in found if tag == "svg")
    assert all("alt" in a for tag, a in found if tag == "img")
    scrolled = [a for _, a in found if a.get("class") == "scroll"]
    assert scrolled
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in scrolled)


def test_methods_are_compared_over_the_same_queries():
    base, other = np.array([10.0, 20.0, 30.0, np.nan]), np.array([12.0, 21.0, 36.0, np.nan])
    runs = [
        make_run("pca", metrics={"mAP": 23.0}, arrays={"average_precision": other}),
        make_run("pca", "pets", metrics={"mAP": 50.0, "precision_at_R": 1.0, "recall_at_1": 2.0}),
        make_run(metrics={"mAP": 20.0}, arrays={"average_precision": base}),
    ]
    (table,) = comparisons_of(runs)
    assert (table.columns, table.baselines) == (["cub", "pets"], ["image-image"])
    assert [row.method for row in table.rows] == ["image-image", "pca"]
    plain, pca = (row.cells for row in table.rows)
    assert plain[1] is None
    assert plain[0].gain is None
    assert (plain[0].best, pca[0].best) == (False, True)
    # differences 2, 1 and 6: mean 3, deviation sqrt(7), over sqrt(3)
    assert pca[0].gain == pytest.approx(3.0)
    assert pca[0].error == pytest.approx((7 / 3) ** 0.5)
    assert pca[0].verdict == "same"
    assert (pca[1].gain, pca[1].details) == (None, (1.0, 2.0))  # nothing to compare with


def test_classifiers_are_compared_by_what_they_get_right():
    make = lambda method, correct: make_run(
        method,
        metrics={"accuracy": 100 * np.mean(correct)},
        arrays={"correct": np.array(correct)},
        classifier="ncm",
    )
    (table,) = comparisons_of(
        [make("image-image", [True, False, False, False]), make("isoclip", [True, True, True, False])]
    )
    assert table.baselines == ["ncm image-image"]
    assert table.rows[1].cells[0].gain == pytest.approx(50.0)
    assert table.rows[1].cells[0].error == pytest.approx(100 * (1 / 3) ** 0.5 / 2)


def test_each_variant_of_the_protocol_has_its_own_baseline():
    make = lambda method, score, protocol: make_run(method, metrics={"mAP": score}, protocol_of=protocol)
    runs = [make("image-image", 1.0, "paper"), make("image-image", 2.0, "code"), make("pca", 5.0, "code")]
    (table,) = comparisons_of(runs)
    assert table.baselines == ["image-image (protocol_of paper)", "image-image (protocol_of code)"]
    assert [row.cells[0].gain for row in table.rows] == [None, None, 3.0]


def test_questions_to_the_same_images_are_columns():
    metrics = {
        "weather": {"image-image": {"mAP": 30.0}, "pca": {"mAP": 20.0, "gain": -10.0, "gain_error": 1.0}},
        "time": {"image-image": {"mAP": 50.0}, "pca": {"mAP": 50.0, "gain": 0.0, "gain_error": 1.0}},
    }
    (table,) = comparisons_of([make_run("", metrics=metrics)])
    assert (table.title, table.columns, table.baselines) == ("cub", ["weather", "time"], ["image-image"])
    assert [row.cells[0].verdict for row in table.rows] == ["same", "down"]
    assert [row.cells[1].best for row in table.rows] == [True, True]
    assert comparisons_of([make_run(metrics=metrics | {"note": "more"})]) == []


def test_runs_without_common_score_are_a_plain_table():
    runs = [make_run(metrics={"mAP": 1.0}), make_run("pca", metrics={"overlap": 0.25, "mAP": True})]
    assert comparisons_of(runs) == []
    (table,) = all_numbers(runs)
    assert (table.columns, table.rows) == (
        ["run", "mAP", "overlap"],
        [["image-image, cub", "1.00", ""], ["pca, cub", "yes", "0.25"]],
    )


def test_what_there_is_nothing_of_is_left_out():
    bare = build_report([make_run()])
    assert "Image retrieval" in bare
    for part in (
        "<footer",
        "Printed tables",
        "Text retrieval",
        "Queries and their",
        "<figure",
        'class="notes"',
    ):
        assert part not in bare
    more = build_report([make_run()], credits="the authors", findings={"tiny": ["It helps."]})
    assert "<footer" in more
    assert "It helps." in more


def test_what_is_nested_becomes_tables_and_nothing_is_lost():
    metrics = {"one": 1, "few": {"a": 2}, "deep": {"left": 3, "x": {"mAP": 4.0}, "list": [{"mAP": 5.0}]}}
    first, second = all_numbers([make_run(metrics=metrics)])
    assert dict(zip(first.columns[1:], first.rows[0][1:], strict=True)) == {
        "one": "1",
        "few a": "2",
        "deep left": "3",
    }
    assert (second.title, second.columns[0]) == ("deep, image-image, cub", "")
    assert second.rows == [["x", "4.00"], ["list 1", "5.00"]]


def test_runs_are_called_by_what_tells_them_apart():
    runs = [
        make_run("isoclip", band=[1, 2]),
        make_run("isoclip", band=[3, 4]),
        make_run("pca", rank=8),
        make_run("pca", "pets", rank=8, distractors="r1m"),
        make_run("pca", "pets", rank=8, task="breed"),
    ]
    method, dataset = method_label(runs), dataset_label(runs)
    assert [method(run) for run in runs] == [
        "isoclip (band 1, 2)",
        "isoclip (band 3, 4)",
        "pca",
        "pca",
        "pca",
    ]
    assert [dataset(run) for run in runs] == ["cub", "cub", "cub", "pets (distractors r1m)", "pets"]
    assert full_label(runs)(runs[2]) == "pca, cub"
    models = [make_run(weights="a"), make_run(weights="b"), make_run(model="other", weights="c")]
    label = model_label(models)
    assert [label(run) for run in models] == ["tiny (weights a)", "tiny (weights b)", "other"]
    bare = Run("p", {"seed": 1}, {"x": 1}, versions={})
    assert full_label([bare])(bare) == ""


def test_a_training_split_that_one_classifier_needs_is_no_other_data_set():
    runs = [make_run("a", train="train"), make_run("b")]
    assert {dataset_label(runs)(run) for run in runs} == {"cub"}


def test_methods_come_in_the_order_of_the_protocols():
    names = ["zzz", "oti", "isoclip", "pre", "image-image"]
    assert [run.settings["method"] for run in in_order([make_run(name) for name in names])] == names[::-1]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (True, "yes"),
        (7, "7"),
        (12345, "12,345"),
        (0.12345, "0.123"),
        (3.14159, "3.14"),
        (77.251, "77.3"),
        (56732603.2, "56,732,603"),
        ([1, 2.5], "1, 2.50"),
        (list(range(9)), "9 values"),
        ({"a": 1}, "a 1"),
        ("text", "text"),
    ],
)
def test_values_are_short(value, shown):
    assert show(value) == shown


def test_settings_are_taken_apart_to_a_depth():
    assert flatten({"a": {"b": {"c": 1}}, "d": [{"e": 2}], "f": []}) == {"a.b.c": 1, "d.1.e": 2, "f": []}
    deep = {"a": {"b": {"c": {"d": {"e": 1}}}}}
    assert flatten(deep) == {"a.b.c.d": {"e": 1}}


def test_settings_that_all_share_are_told_once(page):
    runs = [make_run(seed=3), make_run("pca", "pets", seed=3)]
    text = build_report(runs)
    assert "<dt>seed</dt><dd>3</dd>" in text
    assert "<dt>dataset</dt>" not in text
    assert "<dt>versions</dt><dd>jax 0.8</dd>" in text
    assert "2 runs, which took 3.00 s." in text


def scenes(count=6, version="1.0.0"):
    images = np.zeros((count, 200, 100, 3), np.uint8)
    labels = {"emoji": np.array([0, 0, 1, 1, -1, 0])[:count]}
    names = tuple(f"file {i}" for i in range(count))
    return Examples("cub", "test", version, images, labels, {"emoji": (HOSTILE, "dog")}, (), names)


def with_results(method, first, score):
    found = {"shown_queries": np.array([0, 2, 4], np.int32), "first_results": np.array(first, np.int32)}
    return make_run(method, metrics={"mAP": score}, arrays=found, task="emoji")


def test_queries_are_shown_before_and_after_with_the_best_method():
    runs = [
        with_results("image-image", [[2, 3], [3, 0], [1, 2]], 10.0),
        with_results("pre", [[2, 3], [0, 1], [1, 2]], 5.0),
        with_results("pca", [[1, 5], [0, 9], [1, 2]], 20.0),
    ]
    text = build_report(runs, find_split=lambda dataset, version, split: scenes())
    assert "<script" not in text
    assert (
        "gains the most: 0 to 2 relevant among the first 2" in text
        or "evenly spaced: 0 to 2 relevant" in text
    )
    assert re.search(r"(loses the most|evenly spaced): 1 to 0 relevant", text)
    grid = text[text.index("Queries and their first results, cub") :]
    rows = re.findall(r'<div class="row"><span class="quiet">(.*?)</span>', grid)
    assert rows == ["query", "image-image", "pca"] * 3
    assert grid.count('class="result label"') == 1 + 2 + 0  # dog's one before, emoji 0's two after
    assert 'alt="a distractor"' in grid  # position 9 is behind the data set's own images
    assert 'alt="file 4"' in grid  # it has no label


def test_images_that_are_not_at_hand_are_said_to_be_missing():
    runs = [with_results(name, [[1], [3], [1]], 1.0) for name in ("image-image", "pca")]
    assert "The images of cub 1.0.0 were not on the machine" in build_report(runs)
    few = build_report(runs, find_split=lambda *where: scenes(2))  # not the images that were measured
    assert "The images of cub 1.0.0 were not on the machine" in few


def test_runs_that_left_out_images_say_so_and_stand_apart():
    """Escaped like everything else; a run with the option is not mistaken for one without."""
    lost = {f"{HOSTILE}/test": ["a.jpg", "b.jpg"]}
    without = make_run()
    allowing = make_run(unreadable="leave-out")
    allowing = Run(**{**vars(allowing), "left_out": lost})
    label = dataset_label([without, allowing])
    assert [label(without), label(allowing)] == ["cub", "cub (unreadable leave-out)"]
    shown = build_report([without, allowing])
    assert "left out, unreadable" in shown
    assert f"2 of {html.escape('<script>')}" in shown
    assert HOSTILE not in shown
