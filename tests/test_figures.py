"""Figures: what is drawn of which run, where it lies, and what of it reaches the page."""

import io
import re

import numpy as np
import pytest
from PIL import Image
from test_report import HOSTILE, every_kind_of_run, make_run

from jaxalign.eval.figures import figures_of, to_svg
from jaxalign.eval.figures.look import COLOURS, png
from jaxalign.eval.paper.output import draw_measured
from jaxalign.eval.report.page import FOLDER


def titles(drawn):
    return [text for ax in drawn.figure.axes if (text := ax.get_title())]


def test_every_array_that_is_known_is_drawn():
    found = {}
    for run in every_kind_of_run("x")[1:]:
        drawn = [(of.kind, of.figure.get_label(), titles(of)) for of in figures_of([run])]
        found[run.protocol] = drawn
    about = "x on x, test, x"
    assert found == {
        "image-retrieval": [
            ("losses", f"Inversion of the queries: loss, {about}", []),
            ("steps", f"Inversion of the queries: mAP against steps, {about}", []),
        ],
        "few-shot": [("shots", f"Accuracy against shots, {about}", [])],
        "band-sweep": [
            ("bands", "mAP in % by band, x; solid frame: the best", ["x: best (1, 0) 3.0, lowest 1.0"])
        ],
        "spectrum": [
            (
                "spectrum",
                "Spectra, x",
                ["inter-modal operator", *(f"intra-modal operator, {h}" for h in ("image", "text"))],
            )
        ],
        "class-indicator": [("classes", f"Similarities, {about}", ["x: overlap 0.500", "x"])],
        "view": [("views", f"Two dimensions, {about}", ["x, eq. 11"])],
        "x": [],
    }


def test_arrays_of_other_shapes_are_left_alone():
    arrays = {
        "edges": np.zeros((2, 2)),
        "same": np.zeros(3, int),
        "k_top": np.arange(2),
        "k_bottom": np.arange(2),
        "mAP": np.zeros((3, 3)),
        "steps": np.arange(2),
        "mAP_at_step": np.zeros(3),
        "losses": np.array([np.nan]),
        "inter_modal": np.zeros(0),
        "singular_values": np.array([1e300, 1.0]),
        "shots": np.array([1, 2]),
        "accuracy": np.zeros((3, 1)),
        "a_b": np.zeros((0, 2)),
    }
    metrics = {"aligned": {"x": {"precision_at": {"k": 1, "5": "x"}}}, "parts": 3, "grown": {"top": [None]}}
    assert list(figures_of([make_run(arrays=arrays, metrics=metrics)])) == []


def grid(scores, **metrics):
    scores = np.array(scores, float)
    axes = {"k_top": np.arange(scores.shape[0]), "k_bottom": np.arange(scores.shape[1])}
    return make_run(arrays=axes | {"mAP": scores}, metrics={"modality": "image", **metrics})


def test_a_map_leaves_empty_bands_blank_and_marks_the_best():
    (drawn,) = figures_of([grid([[1, 2, np.nan], [3, 4, 5]])])
    (ax,) = drawn.figure.axes
    assert [text.get_text() for text in ax.texts] == ["1.0", "2.0", "3.0", "4.0", "5.0"]
    cells, (best,) = [p for p in ax.patches if p.get_gid()], [p for p in ax.patches if not p.get_gid()]
    strength = (np.array([cell.get_alpha() for cell in cells]) - 0.05) / 0.95
    np.testing.assert_allclose(strength, [0, 0.25, 0.5, 0.75, 1], atol=1e-9)
    assert best.get_xy() == (1.5, 0.5)
    (flat,) = figures_of([grid(np.full((2, 3), 7.0))])
    assert {patch.get_alpha() for patch in flat.figure.axes[0].patches if patch.get_gid()} == {0.05}


def test_a_map_without_finite_value_is_not_drawn_and_a_wide_one_has_no_numbers():
    assert list(figures_of([grid(np.full((2, 20), np.nan))])) == []
    (wide,) = figures_of([grid(np.arange(40.0).reshape(2, 20))])
    (ax,) = wide.figure.axes
    assert not ax.texts
    assert titles(wide) == ["cub: best (1, 19) 39.0, lowest 0.0"]  # nobody said which is: the highest
    assert "<title>k_top 0, k_bottom 3: 3.00</title>" in to_svg(wide.figure)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [str(k) for k in range(0, 20, 2)]


def test_the_best_cell_of_a_map_says_more_than_all_others():
    said = lambda scores: [
        text.get_text() for text in next(iter(figures_of([grid(scores)]))).figure.axes[0].texts
    ]
    assert said([[50.44, 50.41], [40, 30]]) == ["50.44", "50.41", "40.00", "30.00"]
    assert said([[50.441, 50.44]]) == ["50.441", "50.440"]
    assert said([[50.4, 50.4]]) == ["50.4", "50.4"]  # which are both the best
    (drawn,) = figures_of([grid([[1, 2], [3, 5]])])
    (bar,) = drawn.figure.axes[0].child_axes
    assert (bar.get_ylabel(), bar.get_ylim()) == ("mAP in %", (1.0, 5.0))
    shades = [patch.get_alpha() for patch in bar.patches]
    np.testing.assert_allclose(shades, np.linspace(0.05, 1, len(shades)))


def test_panels_that_are_compared_have_the_same_scales():
    edges, steps = np.linspace(-1, 1, 6), np.arange(3)
    counts = [np.array([0, 0, 3, 1, 0]), np.array([0, 9, 1, 0, 0])]
    runs = [
        make_run(f"m{i}", arrays={"edges": edges, "same": of, "different": of[::-1]})
        for i, of in enumerate(counts)
    ]
    curves = [
        make_run(f"i{k}", arrays={"steps": steps, "mAP_at_step": np.array([k, 2.0 * k, k])}) for k in (-1, 30)
    ]
    for drawn in (*figures_of(runs), *figures_of(curves)):
        left, right = drawn.figure.axes
        assert (left.get_xlim(), left.get_ylim()) == (right.get_xlim(), right.get_ylim())
        highest = [np.max(line.get_ydata()) for ax in (left, right) for line in ax.lines]
        assert left.get_ylim()[1] >= max(highest, default=0)


def test_a_view_has_colours_for_its_most_frequent_classes():
    labels = np.repeat(np.arange(8), [1, 2, 3, 4, 5, 6, 7, 8])
    points = {"plain_image": np.zeros((36, 2), "f4"), "plain_text": np.ones((8, 2), "f4")}
    (drawn,) = figures_of([make_run(arrays=points | {"image_class": labels})])
    (ax,) = drawn.figure.axes
    count = lambda marker: {
        line.get_color(): len(line.get_xdata()) for line in ax.lines if line.get_marker() == marker
    }
    colours = list(COLOURS.values())[4:]
    assert count("o") == dict(zip(colours, (8, 7, 6, 5, 4, 6), strict=True))  # the last: all others
    assert count("*") == dict(zip(colours, (1, 1, 1, 1, 1, 3), strict=True))
    assert to_svg(drawn.figure).count("<path") >= 12  # stars are drawn, not dots alone
    (plain,) = figures_of([make_run(arrays=points)])
    assert {line.get_color() for line in plain.figure.axes[0].lines} == {COLOURS["one"], COLOURS["three"]}


def test_maps_of_several_data_sets_stand_in_one_figure_with_the_first_ones_band():
    make = lambda name, scores: make_run(dataset=name, arrays=dict(grid(scores).arrays))
    runs = [make("a", [[1, 2]]), make("b", [[2, 1]])]
    (drawn,) = figures_of(runs)
    assert titles(drawn) == ["a: best (0, 1) 2.0, lowest 1.0", "b: best (0, 0) 2.0, lowest 1.0"]
    frames = [[p.get_xy() for p in ax.patches if not p.get_gid()] for ax in drawn.figure.axes]
    assert frames == [[(0.5, -0.5)], [(-0.5, -0.5), (0.5, -0.5)]]


@pytest.mark.parametrize(
    "values", [np.ones(5), np.array([1.0, 0.0]), np.geomspace(1e3, 1e-9, 40), np.array([2.0])]
)
def test_spectrum_stays_inside_the_plot(values):
    run = make_run(metrics={"band": [0, 0], "auto_band": [10**9, 0]}, arrays={"inter_modal": values})
    (drawn,) = figures_of([run])
    (ax,) = drawn.figure.axes
    x, y = ax.lines[0].get_data()
    assert len(x) == len(values)
    low, high = ax.get_ylim()
    assert ((y >= low) & (y <= high)).all()
    assert ax.get_xlim() == (-0.5, len(values) - 0.5)
    for patch in ax.patches:
        start, width = patch.get_x(), patch.get_width()
        assert -0.5 <= start <= start + width <= len(values) - 0.5


def test_histogram_shows_shares_over_the_used_range():
    same, different = np.array([0, 0, 3, 1, 0]), np.array([0, 5, 5, 0, 0])
    counts = {"edges": np.linspace(-1, 1, 6), "same": same, "different": different}
    (drawn,) = figures_of([make_run(arrays=counts)])
    shown = {patch.get_label(): patch.get_data() for patch in drawn.figure.axes[0].patches}
    np.testing.assert_allclose(shown["same class"].values, [0, 0.75, 0.25])
    np.testing.assert_allclose(shown["different classes"].values, [0.5, 0.5, 0])
    np.testing.assert_allclose(shown["same class"].edges, [-0.6, -0.2, 0.2, 0.6])


def test_an_inversion_lies_beside_the_queries_as_they_are():
    arrays = {"losses": np.array([0.5]), "steps": np.array([0]), "mAP_at_step": np.array([0.0])}
    runs = [make_run(metrics={"mAP": 5.0}), make_run("oti", arrays=arrays)]
    losses, steps = (of.figure for of in figures_of(runs))
    assert [len(line.get_xdata()) for line in losses.axes[0].lines] == [1]
    level, curve = steps.axes[0].lines
    assert (level.get_label(), list(level.get_ydata())) == ("without inversion", [5.0, 5.0])
    assert (curve.get_label(), len(curve.get_xdata())) == ("after oti", 1)
    for own in (7.0, 0.0):  # of the queries that were inverted
        told = make_run("ovi", metrics={"mAP": 1.0, "baseline": own}, arrays=arrays)
        steps = list(figures_of([runs[0], told]))[1].figure
        assert list(steps.axes[0].lines[0].get_ydata()) == [own, own]


def test_more_lines_than_colours_take_more_panels():
    arrays = {"accuracy": np.array([[5.0], [6.0]]), "shots": np.array([1, 2])}
    (drawn,) = figures_of([make_run(f"m{i}", arrays=arrays) for i in range(8)])
    assert [len(ax.lines) for ax in drawn.figure.axes] == [6, 2]


def test_measured_lies_beside_printed():
    figure = draw_measured({HOSTILE: [(1.0, 2.0), (3.0, 3.5)]}, "Table 1", "mAP, %")
    left, right = figure.axes
    assert [list(values) for values in left.lines[0].get_data()] == [[1.0, 3.0], [2.0, 3.5]]
    assert list(right.lines[0].get_xdata()) == [1.0, 0.5]
    assert list(right.lines[1].get_xdata()) == [0.75, 0.75]
    assert left.get_xlim() == left.get_ylim()


def test_dots_are_seen_on_paper_and_on_the_page():
    points = np.stack([np.repeat(np.arange(5.0), 5), np.tile(np.arange(5.0), 5)], 1)
    (drawn,) = figures_of([make_run(arrays={"plain_image": points})])
    (dots,) = re.findall(r'<path d="((?:M[\d.,]+h0){25})"', to_svg(drawn.figure))
    pixels = np.asarray(Image.open(io.BytesIO(png(drawn.figure))).convert("RGB")).astype(int)
    blue = (pixels[..., 2] - pixels[..., 0] > 60).sum()
    assert blue > 25 * 20
    assert dots.startswith("M")


@pytest.mark.long
def test_a_figure_on_the_page_is_small_the_same_each_time_and_loads_nothing():
    for run in every_kind_of_run(HOSTILE):
        for drawn in figures_of([run]):
            svg = to_svg(drawn.figure)
            again = next(of for of in figures_of([run]) if of.kind == drawn.kind)
            assert svg == to_svg(again.figure)
            assert not re.search(r"style=|class=|id=|href|url\(|http|<script|nan|inf,", svg)
            # Nothing stays as it is in the dark.
            colours = set(re.findall(r'(?:fill|stroke)="([^"]*)"', svg)) - {"none"}
            assert colours <= {f"var(--{name})" for name in COLOURS}
            assert len(svg) < 25_000


def test_the_page_has_the_colours_of_the_figures():
    roots = re.findall(r":root \{(.*?)\}", (FOLDER / "style.css").read_text(), re.DOTALL)
    light, dark, _ = (dict(re.findall(r"--([\w-]+): (#\w+)", root)) for root in roots)
    assert COLOURS.items() <= light.items()
    assert COLOURS.keys() <= dark.keys()
