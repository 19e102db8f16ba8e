import contextlib
import html
import io
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image

import jaxalign as ja
from jaxalign import JaxalignError
from jaxalign.eval import demo, demo_data
from jaxalign.eval.cli import main
from jaxalign.eval.datasets import DATASETS, Examples
from jaxalign.eval.datasets.emoji import scenes, sprites
from jaxalign.eval.datasets.examples import collect_captions, own_positions
from jaxalign.eval.datasets.images import Images
from jaxalign.eval.demo import run
from jaxalign.eval.demo_data import DemoSettings
from jaxalign.eval.demo_findings import LABELLINGS
from jaxalign.eval.features.embed import Tower
from jaxalign.eval.files import staged_folder
from jaxalign.eval.tasks.methods import Inverting, MethodOptions
from jaxalign.eval.tasks.runs import read_runs
from jaxalign.eval.tasks.task import paired_gain
from jaxalign.eval.terminal import Stages

README = Path(__file__).parents[1] / "README.md"
NAMES = tuple(emoji.name for emoji in sprites.read_emoji())
GROUPS = tuple(dict.fromkeys(emoji.group for emoji in sprites.read_emoji()))
SETTINGS = DemoSettings(
    queries=6,
    training_names=24,
    band_grid=(0, 1, 3),
    ranks=(2, 4),
    oti_steps=3,
    stop_names=6,
    curve=(0, 2, 9),
    examples=4,
)


@cache
def tiny_examples(name, split, data_dir=None, on_demand=False):
    """Three emoji of each group in three styles: what `load_split` gives, without TFDS and in a moment."""
    chosen = [
        emoji
        for group in GROUPS
        for emoji in [e for e in sprites.read_emoji() if (e.split, e.group) == (split, group)][:3]
    ]
    drawn_sprites = [
        (emoji, style, sprite)
        for emoji, style, sprite in sprites.read_sprites(split)
        if emoji in chosen and style in sprites.STYLES[:3]
    ]
    rng = np.random.default_rng(len(split))
    contexts = [scenes.draw_context(rng) for _ in drawn_sprites]
    drawn = zip(drawn_sprites, contexts, strict=True)
    images = [scenes.compose_scene(sprite, context, rng) for (_, _, sprite), context in drawn]
    values = {
        "emoji": (NAMES, [emoji.name for emoji, _, _ in drawn_sprites]),
        "group": (GROUPS, [emoji.group for emoji, _, _ in drawn_sprites]),
        "style": (sprites.STYLES, [style for _, style, _ in drawn_sprites]),
        "background": (tuple(scenes.BACKGROUNDS), [context.background for context in contexts]),
    }
    return Examples(
        dataset=name,
        split=split,
        version=DATASETS[name].version,
        images=on_demand_images(images) if on_demand else np.stack(images),
        labels={
            k: np.array([names.index(v) for v in found], np.int32) for k, (names, found) in values.items()
        },
        label_names={k: names for k, (names, _) in values.items()},
        captions=tuple((f"a photo of {e.name}", f"a {e.subgroup}") for e, _, _ in drawn_sprites),
        file_names=tuple(map(str, range(len(drawn_sprites)))),
    )


def on_demand_images(images):
    files = []
    for pixels in images:
        files.append(io.BytesIO())
        Image.fromarray(pixels).save(files[-1], "png")
    return Images(lambda i: files[i].getvalue(), tuple(map(str, range(len(files)))), "tiny")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models on disk, of both shapes."""
    names = ("emoji-clip", "emoji-siglip")
    paths = [tmp_path_factory.mktemp("models") / name for name in names]
    for name, path in zip(names, paths, strict=True):
        ja.save(tiny_model(name), path)
    return paths


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_data, "prepare", lambda name, data_dir: None)
        patch.setattr(demo_data, "load_split", tiny_examples)
        patch.setenv("JAXALIGN_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory, folders, tiny_data):
    """The results of a run over both models, the folder it wrote, and what it said."""
    out = tmp_path_factory.mktemp("demo") / "new" / "results"
    with (
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.redirect_stderr(io.StringIO()) as progress,
    ):
        results = run(out, folders, settings=SETTINGS)
    return results, out, said.getvalue(), progress.getvalue()


@pytest.mark.long
def test_the_whole_demo(finished):
    results, out, said, progress = finished
    runs = {Path(run.file_name).stem for run in read_runs(out)}
    others = sorted(path.name for path in out.iterdir() if path.stem not in runs)
    assert others == ["metrics.json", "report.html"]
    assert json.loads((out / "metrics.json").read_text()) == results
    assert [p.name for p in out.parents[1].iterdir()] == ["new"]  # no scratch folder is left
    for entry in (results, *results["other_models"]):
        check_entry(entry)
    titles = [e["model"] for e in (results, *results["other_models"])]
    assert [title.partition(" (")[0] for title in titles] == ["tiny-emoji-clip", "tiny-emoji-siglip"]
    assert all(title.endswith("embedded.py)") for title in titles)  # it is no known model: from where it is
    report = (out / "report.html").read_text()
    assert report.count("<svg") == 2 * 6  # spectrum, histograms, two searches, loss and mAP of the inversion
    assert not re.search(r"https?:", re.sub('base64,[^"]*', "", report))
    assert "tools/train_embedded.py) on emoji-scenes, 6 queries" in " ".join(said.split())
    assert "Same emoji (concept), image-image" in " ".join(said.split())
    assert "inverting 6 queries (oti, 3 steps)" in progress


@pytest.mark.long
def test_a_report_of_the_folder_of_the_demo(finished, tmp_path, capsys):
    _, out, *_ = finished
    assert main(["report", str(out), "--page", str(tmp_path / "page.html")]) == 0
    assert f"{len(read_runs(out))} runs and 0 printed tables" in capsys.readouterr().out
    assert "pca-rank" in (tmp_path / "page.html").read_text()


def check_entry(entry):
    """The shape that the public contract promises, and numbers that can be."""
    methods = {"image-image", "pre", "whitened", "isoclip", "isoclip-auto", "pca", "oti"}
    stopped = {f"oti-steps{entry['oti_stop']}"}
    assert methods | stopped | {f"pca-rank{entry['pca_rank']}"} == set(entry["image_retrieval"])
    assert list(entry["inversions"]) == ["OTI"]
    assert set(entry["text_retrieval"]) == {"text-text", "isoclip"}
    assert set(entry["classification"]) == {"zero-shot", "ncm", "ncm-isoclip"}
    assert set(entry["inter_modal"]) == {"emoji", "emoji-scenes"}
    assert entry["dataset"] == "emoji-scenes"
    assert entry["band"].keys() == {"k_top", "k_bottom"}
    assert entry["seconds"]["total"] >= entry["seconds"]["oti"] > 0
    assert {"versions", "seed", "split", "data_versions", "indicators", "text_band", "auto_band"} <= set(
        entry
    )
    for name, scores in entry["image_retrieval"].items():
        assert set(scores["tasks"]) == {"group", "background", "style"}
        for task in (scores, *scores["tasks"].values()):
            assert all(0 <= task[m] <= 100 for m in ("mAP", "mAP_at_R", "precision_at_R", "recall_at_1"))
            assert ("gain" in task) == (name != "image-image")
    baseline = entry["image_retrieval"]["image-image"]["mAP"]
    for name, scores in entry["image_retrieval"].items():
        if name != "image-image":
            # percent, of which float32 has seven digits
            assert scores["gain"] == pytest.approx(scores["mAP"] - baseline, abs=1e-4)


@pytest.mark.long
def test_a_run_can_be_repeated(tmp_path, folders, finished, monkeypatch):
    """From the features and inverted queries that the first one has stored."""
    before = finished[0]
    monkeypatch.setattr(Tower, "__call__", lambda *_: pytest.fail("embedded again"))
    again = run(tmp_path, folders[:1], settings=SETTINGS)
    changing = {"seconds", "other_models"}
    assert {k: v for k, v in again.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


@pytest.mark.long
def test_nothing_is_left_when_the_work_fails(tmp_path, folders, tiny_data, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxalign.eval.demo.measure", fail)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "new" / "results", folders, settings=SETTINGS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "models", "message"),
    [
        ("file", ["emoji-clip"], "is a file; pass a folder"),
        ("file/below", ["emoji-clip"], "cannot write to"),
        ("results", ["emoji-clib"], "unknown model 'emoji-clib'; did you mean 'emoji-clip'"),
        ("results", [], "expected one or more names"),
        ("results", "emoji-clip", "expected one or more names"),
    ],
)
def test_bad_input_is_found_before_any_work(tmp_path, monkeypatch, out, models, message):
    (tmp_path / "file").touch()
    monkeypatch.setattr("jaxalign.eval.demo.open_workspace", lambda *_: pytest.fail("the data were read"))
    with pytest.raises(JaxalignError, match=message):
        run(tmp_path / out, models)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_other_files_of_an_existing_folder_stay(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "metrics.json").write_text("old")
    with staged_folder(tmp_path) as stage:
        (stage / "metrics.json").write_text("new")
        assert (tmp_path / "metrics.json").read_text() == "old"
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"mine.txt": "mine", "metrics.json": "new"}


@pytest.mark.parametrize("wrong", [{"queries": 1}, {"oti_steps": 0}, {"training_names": 0}, {"examples": -1}])
def test_settings_out_of_range(wrong):
    with pytest.raises(JaxalignError, match=f"{next(iter(wrong))} is .*expected"):
        replace(SETTINGS, **wrong)


def test_queries_are_one_image_of_each_emoji_in_turn():
    emoji = np.array([5, 5, 5, 2, 2, 9, 9, 9])
    examples = replace(tiny_examples("emoji", "test"), labels={"emoji": emoji})
    chosen = demo_data.choose_queries(examples)
    assert sorted(emoji[chosen]) == [2, 5, 9]
    np.testing.assert_array_equal(chosen, [1, 3, 7])  # first of emoji 2, second of 5, third of 9
    assert len(demo_data.choose_queries(examples, 2)) == 2


def test_captions_come_once_for_each_emoji():
    examples = tiny_examples("emoji", "test")
    part = demo_data.part_of(examples, "captions", demo_data.first_of_each)
    found = collect_captions(part.captions, part.ids)
    labels = np.unique(examples.labels["emoji"])
    assert len(found.texts) == 2 * len(labels)
    first = [found.texts[i] for i in found.queries]
    assert all(text.startswith("a photo of ") for text in first)
    named = [f"a photo of {NAMES[label]}" for label in labels[found.images[found.queries]]]
    assert first == named


def test_a_part_is_found_in_the_whole_split_under_a_key_of_its_own():
    whole = tiny_examples("emoji", "test")
    parts = [
        demo_data.part_of(whole, "queries", lambda _, rows=rows: np.array(rows)) for rows in ([5, 2], [2, 5])
    ]
    np.testing.assert_array_equal(own_positions(parts[0], whole), [[5], [2]])
    assert len({whole.state, *(part.state for part in parts)}) == 3


def test_gain_is_paired_over_the_queries_that_have_positives():
    gain = paired_gain(np.array([3.0, 5.0, np.nan]), np.array([1.0, 1.0, np.nan]))
    assert gain == {"gain": 3.0, "gain_error": 1.0}


@pytest.mark.long
def test_measured_images_agree_with_the_metrics(tiny_data):
    model = tiny_model("emoji-clip")
    workspace = demo_data.open_workspace(SETTINGS, 0, None, None, Stages())
    names = tuple(demo_data.training_names(workspace.splits["emoji-scenes", "train"]))
    options = MethodOptions((1, 1), 3, class_names=names, inverting=Inverting(2, curve=(2,)))
    measured = {}
    for found in demo.measure_images(workspace, model, options, 2, 1):
        measured.setdefault(found.settings["method"], {})[found.settings["task"]] = found
    examples = workspace.splits["emoji-scenes", "test"]
    x, queries = model.encode_image(examples.images), demo_data.choose_queries(examples, SETTINGS.queries)
    for task in LABELLINGS:
        labels = examples.labels[task]
        expected = ja.retrieval_metrics(x[queries], x, labels[queries], labels, exclude_self=queries)
        found = measured["image-image"][task]
        # percent, of which float32 has seven digits
        assert found.metrics["mAP"] == pytest.approx(expected["mAP"], abs=1e-4)
        # a mean in percent of float32 values
        assert np.nanmean(found.arrays["average_precision"]) == pytest.approx(expected["mAP"], abs=1e-4)
    gain = measured["oti"]["group"].metrics["mAP"] - measured["image-image"]["group"].metrics["mAP"]
    # a difference of two means in percent of float32 values
    assert measured["oti"]["group"].metrics["gain"] == pytest.approx(gain, abs=1e-4)
    emoji = measured["oti"]["emoji"]
    np.testing.assert_array_equal(emoji.arrays["mAP_at_step"], [emoji.metrics["mAP"]])
    assert len(measured["image-image"]["emoji"].arrays["shown_queries"]) == len(queries)


@pytest.mark.long
def test_the_report_shows_what_was_measured(finished):
    """Every method on every task, both searches and inversions, and queries with their first results."""
    results, out, _, _ = finished
    page = (out / "report.html").read_text()
    for heading in ("Image retrieval", "Names find images", "Text retrieval", "Classification"):
        assert f"<h2>{heading}" in page
    for entry in (results, *results["other_models"]):
        assert page.count(f"<h3>{html.escape(entry['model'])}</h3>") == 7
        for method in entry["image_retrieval"]:
            assert f'<th scope="row">{method}</th>' in page
    for shown in ("task emoji", "task group", "task background", "task style", "modality gap", "Noto Emoji"):
        assert shown in page or shown.replace(" ", "_") in page
    queries = page.count('<span class="quiet">query</span>')
    assert 2 <= queries <= 2 * SETTINGS.examples
    assert page.count("another one of its group") == 2


def test_stages_add_up():
    stages = Stages()
    for _ in range(2):
        with stages.stage("one", "One", total=2) as advance:
            advance(1)
    with stages.timed("two"):
        pass
    assert stages.seconds.keys() == {"one", "two"}
    assert stages.total >= stages.seconds["one"] + stages.seconds["two"]


def test_readme_has_one_command_for_each_purpose():
    commands = re.findall(r"^python3 -m venv .*$", README.read_text(), re.MULTILINE)
    assert [command.split("/")[-1] for command in commands] == ["jaxalign demo", "pytest"]


@pytest.mark.long
def test_the_python_of_the_tutorial_runs(monkeypatch, tmp_path, capsys):
    page = README.parent / "docs" / "tutorial.md"
    folder, code = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.setattr("jaxalign.eval.datasets.load_split", tiny_examples)
    monkeypatch.chdir(tmp_path)
    for block in (folder, code):
        exec(compile(block, "tutorial.md", "exec"), {})
    assert list(tmp_path.glob("photos/*/*.png"))
    methods = re.findall(r"^(.*): same-emoji mAP \d+\.\d %$", capsys.readouterr().out, re.MULTILINE)
    assert methods == ["image-image", "IsoCLIP", "PCA<-"]


def test_readme_example_with_a_model_from_the_hub(monkeypatch, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    model = tiny_model("emoji-clip")
    model = replace(model, spec=replace(model.spec, band=(1, 2)))
    monkeypatch.setattr("jaxalign.load", {"openai/clip-vit-base-patch16": model}.get)
    monkeypatch.chdir(tmp_path)
    for name in ("dog.jpg", "cat.jpg"):
        Image.new("RGB", (30, 40), "red").save(name)
    names = {"ja": ja}
    exec(compile(code, "README.md", "exec"), names)
    assert names["embeddings"].shape == names["projected"].shape == (2, model.config.text.projection)
