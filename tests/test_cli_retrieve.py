"""The measuring commands end to end: on folders with hand-computed metrics, on emoji, and with bad input."""

import json

import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image

import jaxalign as ja
from jaxalign.eval import cli
from jaxalign.eval.features import obtain
from jaxalign.eval.tasks.runs import read_runs

HALF = ["image-image", "pre", "whitened", "isoclip"]
BOTH_SHAPES = ["emoji-clip", pytest.param("emoji-siglip", marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Tiny models on disk, of both shapes."""
    folders = {name: tmp_path_factory.mktemp("models") / name for name in ("emoji-clip", "emoji-siglip")}
    for name, folder in folders.items():
        ja.save(tiny_model(name), folder)
    return folders


@pytest.fixture(scope="module")
def place(tmp_path_factory, emoji_data_dir):
    """Options for where everything goes, shared by all tests of this file: features are embedded once."""
    folder = tmp_path_factory.mktemp("place")
    return ["--store", str(folder / "store"), "--data-dir", str(emoji_data_dir)]


def noise(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 26, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Each class has two copies of one image: any model finds the twin first."""
    folder = tmp_path_factory.mktemp("twins")
    for label, seed in (("apple", 1), ("cat", 2), ("dog", 3)):
        for copy in range(2):
            noise(folder / label / f"{copy}.png", seed)
    return folder


@pytest.fixture(scope="module")
def crossed(tmp_path_factory):
    """Both classes have the same two images: of a query's three items the first is its copy in the other
    class, then two with equal scores follow, of which the irrelevant one comes first: precision 1/3.
    """
    folder = tmp_path_factory.mktemp("crossed")
    for label in ("cat", "dog"):
        for copy, seed in enumerate((1, 2)):
            noise(folder / label / f"{copy}.png", seed)
    return folder


def jaxalign(capsys, *arguments):
    """Standard output of the command, which has to succeed."""
    status = cli.main([str(a) for a in arguments])
    said = capsys.readouterr()
    assert status == 0, said.err
    return said.out


@pytest.mark.parametrize("name", ["emoji-clip", "emoji-siglip"])
@pytest.mark.long
def test_retrieval_of_twins(name, models, twins, place, tmp_path, capsys):
    out, file = tmp_path / "runs", tmp_path / "r.json"
    options = ["--methods", *HALF, "--band", "1", "2", "--text-image", "--out", out, "--json", file]
    said = jaxalign(
        capsys, "retrieve", "--model", models[name], "--dataset", f"folder:{twins}", *options, *place
    )
    runs = json.loads(file.read_text())["runs"]
    images = [run for run in runs if run["protocol"] == "image-retrieval"]
    assert [run["settings"]["method"] for run in images] == HALF
    for run in images:
        assert run["metrics"]["mAP"] == run["metrics"]["recall_at_1"] == 100
        assert (run["metrics"]["queries"], run["metrics"]["gallery"]) == (6, 6)
    names = [run["settings"]["method"] for run in runs if run["protocol"] == "text-image"]
    assert names == ["text-image", "text-image isoclip"]
    assert "isoclip (1, 2)" in said
    assert "6 queries, 6 in the gallery" in " ".join(said.split())
    assert {run.digest for run in read_runs(out)} == {run["digest"] for run in runs}
    assert f"{len(runs)} runs: {len(runs)} measured anew, in {out}" in said
    options += ["--methods", "image-image", "isoclip-auto"]
    said = jaxalign(
        capsys, "retrieve", "--model", models[name], "--dataset", f"folder:{twins}", *options, *place
    )
    assert f"4 runs: 2 measured anew and 2 found, in {out}" in said  # of text-image, isoclip's is another
    assert json.loads(file.read_text())["found"][0] == runs[0]["digest"]


def test_retrieval_of_crossed_images(models, crossed, place, tmp_path, capsys):
    said = jaxalign(
        capsys,
        "retrieve",
        *("--model", models["emoji-clip"], "--dataset", f"folder:{crossed}"),
        *("--methods", "image-image", "--out", tmp_path, *place),
    )
    (row,) = [line.split() for line in said.splitlines() if line.strip().startswith("image-image")]
    assert row == ["image-image", "33.3", "0.0", "0.0", "0.0"]


@pytest.mark.long
def test_a_run_that_is_there_is_not_measured_again(models, twins, place, tmp_path, capsys, monkeypatch):
    command = ["retrieve", "--model", models["emoji-clip"], "--dataset", f"folder:{twins}"]
    command += ["--methods", "image-image", "oti", "--steps", "3", "--out", tmp_path / "runs", *place]
    first = jaxalign(capsys, *command)
    assert "oti (3 steps)" in first
    monkeypatch.setattr(obtain, "gather", None)  # would fail if it were called
    monkeypatch.setattr("jaxalign.invert_to_text", None)
    assert jaxalign(capsys, *command) == first.replace("2 measured anew", "2 found")
    (oti,) = [run for run in read_runs(tmp_path / "runs") if run.settings["method"] == "oti"]
    assert oti.arrays["steps"].tolist() == [0, 1, 2, 3]
    assert oti.arrays["losses"].shape == (3,)
    assert oti.arrays["mAP_at_step"][-1] == oti.metrics["mAP"]
    # Another folder of runs: the inversions come out of the store.
    monkeypatch.undo()
    monkeypatch.setattr("jaxalign.invert_to_text", None)
    command[command.index(tmp_path / "runs")] = tmp_path / "others"
    jaxalign(capsys, *command)
    (again,) = [run for run in read_runs(tmp_path / "others") if run.settings["method"] == "oti"]
    assert again.metrics == oti.metrics


@pytest.mark.parametrize("name", BOTH_SHAPES)
@pytest.mark.long
def test_all_methods_on_emoji(name, models, place, tmp_path, capsys):
    """Tiny models with random weights on the real data set; PCA<- takes ImageNet's class names."""
    said = jaxalign(
        capsys,
        *("retrieve", "--model", models[name], "--dataset", "emoji", "--tasks", "emoji", "style"),
        *("--methods", *HALF, "isoclip-auto", "pca", "pca-mean", "--band", "0", "4", "--rank", "5"),
        *("--out", tmp_path, *place),
    )
    assert said.startswith(f"tiny-{name} (embedded in the package")  # no known model: with its source
    assert "on emoji, style: 2148 queries, 2148 in the gallery" in " ".join(said.split())
    runs = read_runs(tmp_path)
    assert len(runs) == 14
    assert {run.settings["task"] for run in runs} == {"emoji", "style"}
    assert all(0 < run.metrics["mAP"] < 100 for run in runs)


@pytest.mark.parametrize("name", BOTH_SHAPES)
@pytest.mark.long
def test_captions_of_emoji(name, place, tmp_path, capsys):
    """The embedded models themselves."""
    command = ["text-retrieve", "--model", name, "--band", "0", "32", "--out", tmp_path, *place]
    said = jaxalign(capsys, *command)
    assert "341 queries, 1050 captions" in said
    runs = {run.settings["method"]: run for run in read_runs(tmp_path)}
    assert sorted(runs) == ["isoclip", "isoclip-auto", "pre", "text-text", "whitened"]
    assert runs["text-text"].metrics["mAP"] > 3
    assert runs["isoclip"].settings["band"] == [0, 32]


@pytest.mark.long
def test_inverted_captions(models, place, tmp_path, capsys, monkeypatch):
    """OVI of a few captions, by a model that is quickly done."""
    from jaxalign.eval.tasks import pairs

    collect = pairs.collect_captions
    monkeypatch.setattr(pairs, "collect_captions", lambda texts, ids: collect(texts[:30], ids[:30]))
    options = ["--methods", "text-text", "ovi", "--steps", "2", "--patches", "1", "--split", "train"]
    said = jaxalign(
        capsys, "text-retrieve", "--model", models["emoji-siglip"], *options, "--out", tmp_path, *place
    )
    assert "ovi (2 steps)" in said
    (ovi,) = [run for run in read_runs(tmp_path) if run.settings["method"] == "ovi"]
    assert (ovi.settings["patches"], len(ovi.arrays["mAP_at_step"])) == (1, 3)


@pytest.mark.long
def test_sweep(models, twins, crossed, place, tmp_path, capsys):
    options = ["--k-top", "0", "3", "--k-bottom", "0", "2", "20", "--apply-to", f"folder:{crossed}"]
    command = ["sweep", "--model", models["emoji-clip"], "--dataset", f"folder:{twins}", *options]
    said = jaxalign(capsys, *command, "--out", tmp_path, "--json", tmp_path / "s.json", *place)
    found = json.loads((tmp_path / "s.json").read_text())
    assert [run["metrics"]["best"]["mAP"] for run in found["runs"]] == pytest.approx([100, 100 / 3])
    assert found["runs"][0]["metrics"]["best"]["k_bottom"] == 0  # all bands are equal: the widest
    assert "mAP in % of the band (0, 0)" in said
    assert found["runs"][0]["settings"]["k_bottom"] == [0, 2]  # 20 of 12 directions cannot be removed
    (image,) = found["files"]
    with Image.open(image) as drawn:
        assert drawn.size[0] > 300


@pytest.mark.long
def test_sweep_of_captions(models, place, tmp_path, capsys):
    options = [
        "--model",
        models["emoji-clip"],
        "--modality",
        "text",
        "--dataset",
        "emoji",
        "--k-top",
        "0",
        "2",
        "--k-bottom",
        "0",
        "3",
    ]
    said = jaxalign(capsys, "sweep", *options, "--max-queries", "60", "--out", tmp_path, *place)
    (run,) = read_runs(tmp_path)
    assert run.settings["query"] == "train"  # the test emoji are held out
    assert run.arrays["mAP"].shape == (2, 2)
    assert run.metrics["queries"] == 60
    assert said.startswith("tiny-emoji-clip (embedded in the package")
    assert "), text: mAP" in " ".join(said.split())


@pytest.mark.long
def test_spectrum(models, twins, place, tmp_path, capsys):
    command = ["spectrum", "--model", models["emoji-siglip"], "--out", tmp_path, *place]
    said = jaxalign(capsys, *command, "--dataset", f"folder:{twins}", "--width", "3", "--band", "1", "2")
    assert "effective rank" in said
    assert len(list(tmp_path.glob("*.png"))) == 3
    protocols = sorted(run.protocol for run in read_runs(tmp_path))
    assert protocols == ["spectral-parts", "spectrum"]
    alone = jaxalign(capsys, *command, "--dataset", "none")
    assert "1 run: " in alone


@pytest.mark.long
def test_indicators(models, twins, crossed, place, tmp_path, capsys):
    command = ["indicators", "--model", models["emoji-clip"], "--out", tmp_path, *place]
    said = jaxalign(
        capsys,
        *command,
        *("--dataset", f"folder:{twins}", "--methods", "image-image", "pca", "pca-mean", "--rank", "4"),
        *("--views", "pca", "--ambiguity", "--freedom"),
    )
    assert len(list(tmp_path.glob("*.png"))) == 3
    runs = read_runs(tmp_path)
    protocols = {run.protocol for run in runs}
    assert protocols == {
        "class-indicator",
        "modality-indicator",
        "view",
        "ambiguity",
        "degrees-of-freedom",
    }
    (indicator,) = [r for r in runs if (r.protocol, r.settings.get("method")) == ("class-indicator", "pca")]
    assert indicator.arrays["same"][-1] == 3  # three pairs of twins, cosine 1
    assert "too few images" in said
    said = jaxalign(capsys, *command, "--dataset", f"folder:{crossed}", "--methods", "image-image", "pre")
    assert "image-image" in said
    assert cli.main([str(a) for a in (*command, "--dataset", f"folder:{twins}", "--dogs-cats")]) == 1
    assert "has 3 classes of label; dogs and cats are two" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["retrieve", "--methods", "isoclipp"], "unknown image method 'isoclipp'; did you mean 'isoclip'"),
        (["retrieve", "--methods", "isoclip"], "pass one (--band K_TOP K_BOTTOM"),
        (["retrieve", "--methods", "pca", "--rank", "999"], "the rank of PCA<- is 999; expected 1 to 12"),
        (
            ["retrieve", "--tasks", "emojis"],
            "unknown task of emoji-scenes 'emojis'; did you mean 'emoji'",
        ),
        (["retrieve", "--dataset", "emojy"], "unknown data set 'emojy'; did you mean 'emoji'"),
        (["retrieve", "--query", "tset"], "unknown split of emoji-scenes 'tset'; did you mean 'test'"),
        (["retrieve", "--distractors"], "emoji-scenes has no distractors"),
        (["text-retrieve", "--methods", "oti"], "unknown text method 'oti'"),
        (["text-retrieve", "--dataset", "emoji-scenes"], "emoji-scenes has one caption of each image"),
        (["sweep", "--k-top", "12"], "no band of the grid leaves any of the 12 singular directions"),
        (["indicators", "--methods", "oti"], "oti changes only the queries"),
        (["indicators", "--max-images", "1"], "max_images is 1; expected 2 or more"),
    ],
)
def test_bad_input_is_one_line_before_any_work(command, message, models, place, tmp_path, capsys):
    arguments = [*command, "--model", models["emoji-clip"], "--out", tmp_path, *place]
    assert cli.main([str(a) for a in arguments]) == 1
    said = capsys.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bad_usage(capsys):
    assert cli.main(["retrieve", "--band", "3"]) == 2
    assert cli.main(["retrieve", "--variant", "papers"]) == 2
    assert "--variant" in capsys.readouterr().err


def test_class_names_of_a_file(models, twins, place, tmp_path, capsys):
    names = tmp_path / "names.txt"
    names.write_text("cat\n\ndog\nred apple\nblue\n")
    command = ["retrieve", "--model", models["emoji-clip"], "--dataset", f"folder:{twins}"]
    command += ["--methods", "pca", "--rank", "2", "--class-names", names, "--out", tmp_path / "runs", *place]
    jaxalign(capsys, *command)
    (run,) = read_runs(tmp_path / "runs")
    assert run.settings["texts"].startswith("4 ")
    names.write_text("cat\n")
    assert cli.main([str(a) for a in command]) == 1
    assert "has 1 class names; expected two or more" in capsys.readouterr().err


def test_results_leave_at_any_depth_as_a_table_and_on_standard_output(models, twins, place, tmp_path, capsys):
    model = ["--model", models["emoji-clip"], "--dataset", f"folder:{twins}", "--out", tmp_path / "runs"]
    options = ["--methods", "image-image", "pre", "--recall-at", "5", "3", "--table", tmp_path / "t.csv"]
    said = jaxalign(capsys, "retrieve", *model, *options, "--json", "-", *place)
    content = json.loads(said)  # and nothing else
    assert [run["settings"]["recall_at"] for run in content["runs"]] == [[1, 3, 5]] * 2
    assert [run["metrics"]["recall_at_5"] for run in content["runs"]] == [100.0] * 2
    first, second = content["runs"]
    (gain,) = content["gains"]
    assert (gain["run"], gain["baseline"]) == (second["digest"], first["digest"])
    assert (gain["gain"], gain["p_value"], gain["queries"]) == (0.0, 1.0, 6)
    head, *rows = (tmp_path / "t.csv").read_text().splitlines()
    assert head.endswith("recall@1,recall@3,recall@5,gain,its error,p")
    assert len(rows) == 2
    jaxalign(capsys, "retrieve", *model, "--methods", "image-image", *place)
    (plain,) = [run for run in read_runs(tmp_path / "runs") if "recall_at" not in run.settings]
    assert "recall_at_5" not in plain.metrics
    jaxalign(
        capsys, "report", tmp_path / "runs", "--table", tmp_path / "all.tex", "--page", tmp_path / "r.html"
    )
    assert (tmp_path / "all.tex").read_text().count(r" \\") == 4


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["--recall-at", "0"], 2, "--recall-at is 0"),
        (["--recall-at", "7"], 1, "k is 1, 7; expected integers from 1 to 6, the gallery size"),
        (["--table", "results.xlsx"], 2, "ends in .csv, .tex, .md"),
        (["--table", "nowhere/results.csv"], 1, "no folder nowhere"),
    ],
)
def test_results_that_cannot_be(options, status, said, models, twins, place, tmp_path, capsys):
    given = ["--model", models["emoji-clip"], "--dataset", f"folder:{twins}", "--methods", "image-image"]
    assert cli.main([str(a) for a in ("retrieve", *given, *options, "--out", tmp_path, *place)]) == status
    assert said in capsys.readouterr().err
