"""Protocols behind figures: bands, spectra, indicators, dogs and cats, degrees of freedom, views; PNGs."""

import functools
import io

import numpy as np
import oracles
import pytest
from oracles_ranking import circle
from PIL import Image

import jaxalign as ja
from jaxalign import JaxalignError
from jaxalign.eval import figures
from jaxalign.eval.tasks.ambiguity import ambiguity
from jaxalign.eval.tasks.degrees_of_freedom import degrees_of_freedom
from jaxalign.eval.tasks.dogs_cats import dogs_cats
from jaxalign.eval.tasks.indicators import class_indicator, histogram_mean, modality_indicator
from jaxalign.eval.tasks.registry import TASKS
from jaxalign.eval.tasks.runs import Result, Run
from jaxalign.eval.tasks.spectra import bands_of_the_spectrum, operator_spectra
from jaxalign.eval.tasks.sweep import apply_everywhere, band_map, band_sweep, default_grid
from jaxalign.eval.tasks.views import embedding_views

RNG = np.random.default_rng(0)
R = 10
HEADS = ja.Projectors(
    image=ja.Projector(RNG.normal(size=(16, R)).astype(np.float32)),
    text=ja.Projector(RNG.normal(size=(14, R)).astype(np.float32)),
)
LABELS = np.arange(48) % 6
PRE = (RNG.normal(size=(6, 16))[LABELS] + RNG.normal(size=(48, 16))).astype(np.float32)


def as_run(protocol, result, **settings):
    shared = {"model": "m", "dataset": "d", "query": "test", "task": "label", "method": "image-image"}
    return Run(protocol, shared | settings, result.metrics, result.arrays)


def look(figure, tmp_path):
    """Draw the figure to a file; its pixels are not all alike."""
    path = figures.save(figure, tmp_path / "new" / "figure.png")
    image = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("L"))
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]
    assert image.std() > 5
    return image


def test_default_grids():
    assert default_grid(512) == (0, 50, 100, 150, 200, 250, 300)
    assert default_grid(512, "text") == (0, 2, 5, 10, 20, 50, 100, 150, 200, 250, 300)
    for r in (2, 10, 128, 256, 512, 768, 1024):
        for modality in ("image", "text"):
            grid = default_grid(r, modality)
            assert grid[0] == 0
            assert list(grid) == sorted(set(grid))
            assert r / 2 <= grid[-1] < r or r == 2


@pytest.fixture(scope="module")
def sweep():
    axis = (0, 2, 5)
    return band_sweep(HEADS, PRE, PRE, LABELS, LABELS, k_top=axis, k_bottom=axis, exclude_self=True)


def test_band_sweep_and_its_application_elsewhere(sweep):
    expected = ja.sweep_bands(
        HEADS, PRE, PRE, LABELS, LABELS, k_top=(0, 2, 5), k_bottom=(0, 2, 5), exclude_self=True
    )
    np.testing.assert_array_equal(sweep.arrays["mAP"], expected.mAP)
    best = sweep.metrics["best"]
    assert (best["k_top"], best["k_bottom"]) == expected.best
    assert best["mAP"] == np.nanmax(expected.mAP)
    assert sweep.metrics["none"] == expected.mAP[0, 0]
    assert sweep.metrics["singular_values"] == R
    scores = np.array([[10.0, 30.0], [20.0, np.nan]])
    other = Result(
        {"best": {"k_top": 0, "k_bottom": 4, "mAP": 30.0}, "none": 10.0},
        {"k_top": np.array([0, 4]), "k_bottom": np.array([0, 4]), "mAP": scores},
    )
    found = apply_everywhere((4, 0), {"a": other})["a"]
    assert (found["none"], found["chosen"], found["regret"]) == (10.0, 20.0, 10.0)
    assert apply_everywhere((4, 4), {"a": other})["a"]["regret"] is None
    assert band_map(np.array([0, 4]), np.array([0, 4]), scores, (9, 0)) is None


def test_band_search_wants_labels():
    labels = LABELS.copy()
    labels[3] = -1
    with pytest.raises(JaxalignError, match=r"no label \(-1\)"):
        band_sweep(HEADS, PRE, PRE, labels, labels, k_top=(0,), k_bottom=(0,))


def test_spectra_of_the_operators():
    found = operator_spectra(HEADS, (2, 3))
    s = np.linalg.svd(np.asarray(HEADS.image.kernel, float) @ np.asarray(HEADS.text.kernel, float).T)[1][:R]
    np.testing.assert_allclose(found.arrays["inter_modal"], s, rtol=1e-5)
    values = np.linalg.svd(np.asarray(HEADS.image.kernel, float))[1] ** 2
    np.testing.assert_allclose(found.arrays["image"], values, rtol=1e-5)
    assert np.sum(found.arrays["image_isoclip"] > 1e-4) == R - 5
    share = s / s.sum()
    assert found.metrics["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)
    assert found.metrics["concentration"]["image"] == pytest.approx(1.0)  # there are only ten


@pytest.fixture(scope="module")
def parts():
    return bands_of_the_spectrum(HEADS, PRE, PRE, LABELS, LABELS, exclude_self=True, width=2, step=2)


def test_parts_of_the_spectrum(parts):
    found = parts.metrics
    bands = {name: (part["k_top"], part["k_bottom"]) for name, part in found["parts"].items()}
    assert bands == {"all": (0, 0), "top": (0, 8), "middle": (4, 4), "bottom": (8, 0)}
    grown = {side: [(b["k_top"], b["k_bottom"]) for b in bands] for side, bands in found["grown"].items()}
    assert grown == {"top": [(4, 4), (2, 4), (0, 4)], "bottom": [(4, 4), (4, 2), (4, 0)]}
    head = ja.isoclip(HEADS, 4, 4).image
    expected = ja.retrieval_metrics(head(PRE), head(PRE), LABELS, LABELS, exclude_self=True)["mAP"]
    assert found["parts"]["middle"]["mAP"] == pytest.approx(expected)
    assert found["grown"]["top"][0]["mAP"] == pytest.approx(expected)
    assert parts.arrays["top_same"].sum() == 48 * 7
    assert parts.arrays["top_different"].sum() == 48 * 40


def test_hand_computed_class_indicator():
    # Cosines: same class 1 (0 and 0 degrees), different 0.5 twice; bins of width 0.5.
    found = class_indicator(circle(0, 0, 60), np.array([0, 0, 1]), bins=4)
    assert found.arrays["same"].tolist() == [0, 0, 0, 1]
    assert found.arrays["different"].sum() == 2
    assert found.metrics["overlap"] in (0.0, 1.0)  # 0.5 lies on the edge of two bins, up to rounding
    found = class_indicator(circle(0, 0, 75, 5), np.array([0, 0, 1, -1]), bins=4)
    assert found.arrays["different"].tolist() == [0, 0, 2, 0]
    assert {k: found.metrics[k] for k in ("overlap", "iou", "same_mean", "different_mean", "unlabelled")} == {
        "overlap": 0.0,
        "iou": 0.0,
        "same_mean": 0.75,
        "different_mean": 0.25,
        "unlabelled": 1,
    }
    assert histogram_mean(np.array([0.0, 1.0]), np.array([0])) is None


@pytest.mark.long
def test_modality_indicator():
    images, texts = RNG.normal(size=(20, 5)) + 2, RNG.normal(size=(8, 5))
    found = modality_indicator(images, texts, bins=50)
    counts = {name: found.arrays[name].sum() for name in ("image_image", "image_text", "text_text")}
    assert counts == {"image_image": 190, "image_text": 160, "text_text": 28}
    unit = [oracles.normalized(x).mean(0) for x in (images, texts)]
    assert found.metrics["gap"] == pytest.approx(np.linalg.norm(unit[0] - unit[1]), rel=1e-5)
    cosines = oracles.cosine(images, texts)
    assert found.metrics["image_text_mean"] == pytest.approx(cosines.mean(), abs=0.02)  # half a bin


@pytest.mark.long
def test_dogs_and_cats_compares_methods_on_the_same_images():
    labels = np.arange(60) % 2
    texts = np.eye(2, 8)
    plain = 1.2 * texts[labels] + RNG.normal(size=(60, 8))
    better = 3.0 * texts[labels] + RNG.normal(size=(60, 8))
    found = dogs_cats({"image-image": plain, "isoclip": better}, labels, texts, ks=(1, 5), shots=(1,))
    guess = np.argmax(oracles.cosine(plain, texts), 1)
    kept = (labels == 0) | (guess == 1)
    assert 0 < found.metrics["removed"] == np.sum(~kept)
    assert found.metrics["queries"] == np.sum(labels[kept])
    assert found.metrics["zero_shot_accuracy"] == pytest.approx(100 * np.mean(guess == labels))
    whole = ja.retrieval_metrics(plain, plain, labels, labels, exclude_self=True)["mAP"]
    assert found.metrics["image_image_mAP"] == pytest.approx(whole)
    for name, x in (("image-image", plain), ("isoclip", better)):
        scores = oracles.cosine(x[kept], x[kept])
        np.fill_diagonal(scores, -2)
        dogs = np.flatnonzero(labels[kept])
        first = np.argsort(-scores[dogs], 1)[:, :5]
        of = found.metrics["aligned"][name]
        assert of["precision_at"]["5"] == pytest.approx(100 * np.mean(labels[kept][first]))
        assert found.arrays[f"{name}_positives"].sum() == len(dogs) * (len(dogs) - 1) // 2
        assert found.arrays[f"{name}_negatives"].sum() == len(dogs) * (kept.sum() - len(dogs))
    aligned = found.metrics["aligned"]
    assert aligned["isoclip"]["iou"] < aligned["image-image"]["iou"]
    with pytest.raises(JaxalignError, match="there are no embeddings"):
        dogs_cats({}, labels, texts)


@pytest.mark.long
def test_no_degree_of_freedom():
    images, texts = RNG.normal(size=(60, 6)), RNG.normal(size=(9, 6))
    found = degrees_of_freedom(images, texts).metrics
    assert (found["unknowns"], found["equations"]) == (21, 60)
    assert found["with_texts"]["largest_error"] < 1e-5
    assert found["without_texts"]["largest_error"] < 1e-5
    many = degrees_of_freedom(images, RNG.normal(size=(90, 6))).metrics
    assert many["without_texts"]["largest_error"] < 1e-5
    assert many["without_texts"]["converged"] is True
    few = degrees_of_freedom(images[:20], texts).metrics
    assert few["without_texts"] is None
    assert few["with_texts"]["largest_error"] < 1e-5
    with pytest.raises(JaxalignError, match="5 text anchors for 6 dimensions"):
        degrees_of_freedom(images, texts[:5])


def test_a_recovery_that_does_not_end_is_a_result_that_says_so(monkeypatch):
    """What the texts give was computed before, and is not lost."""
    recover = ja.recover_intra_similarities
    monkeypatch.setattr(ja, "recover_intra_similarities", lambda s, d: recover(s, d, max_iterations=2))
    found = degrees_of_freedom(RNG.normal(size=(60, 6)), RNG.normal(size=(9, 6))).metrics
    assert found["with_texts"]["largest_error"] < 1e-5
    assert found["without_texts"]["converged"] is False
    assert found["without_texts"]["iterations"] == 2


def test_ambiguity_is_retrieval_on_every_labelling():
    sky, label = RNG.integers(0, 3, 48), LABELS
    both = {"image-image": (PRE, PRE), "half": (PRE[:, :8], PRE[:, :8])}
    labels = {"label": label, "sky": sky}
    found = ambiguity(both, labels, labels, exclude_self=True)
    for task, values in labels.items():
        for name, (x, _) in both.items():
            expected = ja.retrieval_metrics(x, x, values, values, exclude_self=True)["mAP"]
            assert found.metrics[task][name]["mAP"] == pytest.approx(expected)
        change = found.metrics[task]["half"]["mAP"] - found.metrics[task]["image-image"]["mAP"]
        assert found.metrics[task]["half"]["gain"] == pytest.approx(change, abs=1e-4)  # float32 per query
    assert sorted(found.arrays) == ["label/half", "label/image-image", "sky/half", "sky/image-image"]


def views(view, images=24):
    embeddings = RNG.normal(size=(images, 8)) + 1
    texts = RNG.normal(size=(11, 8))
    return embedding_views(embeddings, texts, ja.principal_subspace(texts, 4), view=view), embeddings


def test_views_by_pca():
    found, embeddings = views("pca")
    for variant in ("plain", "adjusted"):
        shapes = [found.arrays[f"{variant}_{kind}"].shape for kind in ("text", "image", "projected")]
        assert shapes == [(11, 2), (24, 2), (24, 2)]
        assert 0 < found.metrics[variant]["explained"] < 1
    # Equation 12 puts the projected images' centroid back where the images' is.
    assert found.metrics["adjusted"]["shift"] == pytest.approx(0, abs=1e-6)
    assert found.metrics["plain"]["shift"] > 0.1
    with pytest.raises(JaxalignError, match="unknown view 'pac'; did you mean 'pca'"):
        embedding_views(embeddings, embeddings, ja.principal_subspace(embeddings, 4), view="pac")


@pytest.mark.parametrize(("view", "package"), [("tsne", "sklearn"), ("umap", "umap")])
def test_views_of_other_packages(view, package, tmp_path):
    pytest.importorskip(package, reason=f"the extra `plots`, which brings {package}, is not installed")
    found, _ = views(view)
    for variant in ("plain", "adjusted"):
        parts = [found.arrays[f"{variant}_{kind}"] for kind in ("text", "image", "projected")]
        assert [part.shape for part in parts] == [(11, 2), (24, 2), (24, 2)]
        assert np.isfinite(np.concatenate(parts)).all()
    image = look(next(figures.figures_of([as_run("view", found, view=view)])).figure, tmp_path)
    assert image.shape[1] > image.shape[0]  # without and with the mean, side by side
    if view == "umap":
        texts = RNG.normal(size=(2, 8))
        with pytest.raises(JaxalignError, match="UMAP got 4 points; expected 5 or more"):
            embedding_views(RNG.normal(size=(1, 8)), texts, ja.principal_subspace(texts, 1), view=view)


@pytest.mark.parametrize("view", ["tsne", "umap"])
def test_a_view_without_its_package(view, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, {"tsne": "sklearn.manifold", "umap": "umap"}[view], None)
    with pytest.raises(JaxalignError, match=r"pip install 'jaxalign\[plots\]'"):
        views(view)


@pytest.mark.long
def test_headlines_and_columns_are_among_the_metrics(sweep, parts):
    results = {
        "band-sweep": sweep,
        "spectrum": operator_spectra(HEADS),
        "spectral-parts": parts,
        "class-indicator": class_indicator(PRE, LABELS),
        "modality-indicator": modality_indicator(PRE, PRE),
        "dogs-cats": dogs_cats({"image-image": PRE}, LABELS % 2, None, ks=(1, 5)),
        "degrees-of-freedom": degrees_of_freedom(RNG.normal(size=(60, 6)), RNG.normal(size=(9, 6))),
        "view": views("pca")[0],
    }
    for name, result in results.items():
        for path in (TASKS[name].headline, *(column.metric for column in TASKS[name].columns)):
            functools.reduce(lambda found, key: found[key], path.split("."), result.metrics)


@pytest.mark.long
def test_every_figure_is_drawn(tmp_path, sweep, parts):
    indicator = class_indicator(PRE, LABELS)
    runs = [as_run("class-indicator", indicator, method=f"<b>$x_{i}") for i in range(4)]
    texts = RNG.normal(size=(5, 16))
    modalities = [as_run("modality-indicator", modality_indicator(PRE, texts))]
    dogs = dogs_cats({"image-image": PRE, "pre": PRE}, LABELS % 2, None, ks=(1, 5))
    runs += [
        *modalities,
        as_run("dogs-cats", dogs),
        as_run("band-sweep", sweep, modality="image"),
        as_run("spectrum", operator_spectra(HEADS, (1, 2))),
        as_run("spectral-parts", parts),
        *[as_run("view", views("pca")[0], view="pca")] * 2,
    ]
    drawn = list(figures.figures_of(runs))
    assert [of.kind for of in drawn] == [
        *("spectrum", "parts", "growth", "classes", "modalities", "dogs-cats", "precision", "bands", "views")
    ]
    for of in drawn:
        look(of.figure, tmp_path / of.kind)


def test_a_figure_that_cannot_be_written(tmp_path, sweep):
    (tmp_path / "file").write_text("x")
    figure = next(figures.figures_of([as_run("band-sweep", sweep, modality="image")])).figure
    with pytest.raises(JaxalignError, match="cannot write"):
        figures.save(figure, tmp_path / "file" / "figure.png")
