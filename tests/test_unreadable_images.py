"""`--unreadable leave-out`: results are those of the folder without such images, which every run names."""

import json
import shutil
from pathlib import Path

import dataset_layouts as layouts
import numpy as np
import oracles
import oracles_ranking
import pytest
from conftest import WORDS, tiny_model
from PIL import Image

import jaxalign as ja
from jaxalign.eval import cli
from jaxalign.eval.datasets import DATASETS, load_split, prepare
from jaxalign.eval.paper import Places, Session, find_table, reproduce
from jaxalign.eval.paper.output import summary, to_json
from jaxalign.eval.tasks.runs import read_runs
from jaxalign.eval.tasks.workspace import Workspace

COLOURS = {"blue": (20, 40, 220), "green": (30, 200, 60), "teal": (20, 150, 130)}
BAD = {"train": ("green/1.png",), "test": ("blue/0.png", "teal/1.png")}
in_split = lambda split: tuple(f"{split}/{name}" for name in BAD[split])  # as the folder names them


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    ja.save(tiny_model("emoji-clip"), folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """A folder with images that cannot be read, and the same one without them."""
    root = tmp_path_factory.mktemp("photos")
    clean, dirty = root / "clean", root / "dirty"
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("test", 3)):
        for label, colour in COLOURS.items():
            (clean / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(colour + rng.normal(0, 60, (20, 30, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(clean / split / label / f"{i}.png")
    shutil.copytree(clean, dirty)
    for split, names in BAD.items():
        for name in names:
            (clean / split / name).unlink()
    (dirty / "train" / "green" / "1.png").write_bytes(b"")
    (dirty / "test" / "blue" / "0.png").write_text("no image")
    (dirty / "test" / "teal" / "1.png").unlink()
    (dirty / "test" / "teal" / "1.png").symlink_to("nowhere.png")
    return clean, dirty


def run(model, folder, out, *arguments, unreadable=True):
    """The exit status and the runs of a command."""
    options = ["--model", model, "--dataset", f"folder:{folder}", "--out", out, "--store", out / "store"]
    if "--rank" in arguments:
        names = out.with_suffix(".txt")
        names.write_text("".join(f"{a} {b}\n" for a in ("red", "blue", "cat") for b in WORDS[4:]))
        options += ["--class-names", names]
    more = ["--unreadable", "leave-out", "--json", out.with_suffix(".json")] if unreadable else []
    status = cli.main([str(x) for x in (arguments[0], *options, *more, *arguments[1:])])
    return status, read_runs(out) if out.is_dir() else []


SOME = ("image-image", "pre", "isoclip", "pca-mean", "oti")
COMMANDS = {
    "retrieve": ("--methods", *SOME, "--band", "1", "2", "--rank", "4", "--steps", "2", "--text-image"),
    "classify": ("--classifiers", "zero-shot", "ncm", "prototype", "lda", "--shots", "1", "3"),
    "augmented": ("--classifiers", "prototype", "--shots", "3", "--augment"),
    "sweep": ("--k-top", "0", "2", "--k-bottom", "0", "3"),
    "spectrum": ("--width", "3"),
    "indicators": (
        "--methods",
        "image-image",
        "pca",
        "--rank",
        "4",
        "--ambiguity",
        "--freedom",
        "--views",
        "pca",
    ),
}
OF_SETTINGS = {"dataset", "version", "gallery_version", "train_version", "unreadable"}


@pytest.mark.parametrize(
    "name", [name if name == "retrieve" else pytest.param(name, marks=pytest.mark.long) for name in COMMANDS]
)
@pytest.mark.long
def test_results_are_those_of_the_readable_images(name, model, folders, tmp_path, capsys):
    command = ("classify" if name == "augmented" else name, *COMMANDS[name])
    clean, dirty = folders
    (status, expected), (left_out, found) = (
        run(model, folder, tmp_path / folder.name, *command) for folder in (clean, dirty)
    )
    said = capsys.readouterr()
    assert (status, left_out) == (0, 0), said.err
    by_settings = lambda runs: sorted(runs, key=lambda r: json.dumps([r.protocol, _own(r)], sort_keys=True))
    assert len(found) == len(expected) > 0
    for without, other in zip(by_settings(expected), by_settings(found), strict=True):
        assert _own(other) == _own(without)
        assert_close(other.metrics, without.metrics)
        if other.protocol == "spectrum":  # of the model alone
            continue
        assert other.settings["unreadable"] == "leave-out"
        assert not without.left_out
        (test,) = [names for origin, names in other.left_out.items() if origin.endswith("/test")]
        assert tuple(test) == in_split("test")
    assert f"2 images of folder:{dirty}/test left out, unreadable: {', '.join(in_split('test'))}" in said.out
    written = json.loads((tmp_path / "dirty.json").read_text())["runs"]
    assert any(f"folder:{dirty}/test" in of["left_out"] for of in written)
    if name in ("retrieve", "classify", "augmented", "sweep", "spectrum"):
        assert f"1 images of folder:{dirty}/train left out, unreadable: train/green/1.png" in said.out


def _own(found):
    return {key: value for key, value in found.settings.items() if key not in OF_SETTINGS}


def assert_close(found, expected):
    """Numbers up to the rounding of another batch, everything else exactly."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_close(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    else:
        # sums in another order, carried through rankings and spectra
        assert found == (
            pytest.approx(expected, rel=1e-3, abs=1e-3) if isinstance(expected, float) else expected
        )


@pytest.mark.parametrize("name", ["retrieve", "classify", "sweep", "spectrum", "indicators"])
def test_by_default_they_end_the_command(name, model, folders, tmp_path, capsys):
    status, found = run(model, folders[1], tmp_path / "runs", name, unreadable=False)
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxalign: error:")]
    assert status == 1
    assert len(error) == 1
    assert "or leave such images out (--unreadable leave-out)" in error[0]
    assert any(bad in error[0] for names in BAD.values() for bad in names)
    assert all(not run.left_out for run in found)


def test_a_run_with_the_option_is_another_run(model, folders, tmp_path):
    """Also where every image can be read; it is found again, and then nothing is embedded."""
    command = ("retrieve", "--methods", "image-image")
    run(model, folders[0], tmp_path / "runs", *command, unreadable=False)
    for _ in range(2):
        _, found = run(model, folders[0], tmp_path / "runs", *command)
        assert sorted(r.settings.get("unreadable", "") for r in found) == ["", "leave-out"]
    assert len({r.metrics["mAP"] for r in found}) == 1


def test_what_is_drawn_does_not_depend_on_what_is_stored(model, folders, tmp_path):
    """Few-shot images out of the whole split, which is stored, and on their own."""
    few = ("classify", "--classifiers", "prototype", "--shots", "1", "--seeds", "3")
    _, alone = run(model, folders[1], tmp_path / "alone", *few)
    store = [
        "--dataset",
        f"folder:{folders[1]}",
        "--split",
        "train",
        "--store",
        tmp_path / "stored" / "store",
    ]
    assert cli.main([str(x) for x in ("embed", "--model", model, *store, "--unreadable", "leave-out")]) == 0
    _, whole = run(model, folders[1], tmp_path / "stored", *few)
    assert whole[-1].metrics == alone[-1].metrics
    assert whole[-1].left_out == alone[-1].left_out


def test_first_results_are_positions_in_the_whole_split(model, folders, tmp_path):
    """The report shows images by them."""
    _, (found,) = run(model, folders[1], tmp_path / "runs", "retrieve", "--methods", "image-image")
    names = {split: load_split(f"folder:{folders[1]}", split).ids for split in BAD}
    shown = [names["test"][row] for row in found.arrays["shown_queries"]]
    assert shown == [name for name in names["test"] if name not in in_split("test")]
    results = {names["train"][row] for row in found.arrays["first_results"].ravel()}
    assert results == set(names["train"]) - set(in_split("train"))


@pytest.fixture
def landmarks(tmp_path, model):
    """ROxford with distractors in several shards; a query, an image and a distractor cannot be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxalign.eval.datasets.builder.SHARD_BYTES", 1500)
        truth = {"bbx": [2, 3, 17, 12], "easy": [1], "hard": [2], "junk": [0]}
        patch.setattr(layouts, "TRUTH", [truth, truth])
        records = [layouts.revisited(tmp_path / "raw"), layouts.distractors(tmp_path / "raw")]
        for name in (
            "roxford5k/jpg/radcliffe_2.jpg",
            "roxford5k/jpg/worcester_1.jpg",
            "revisitop1m/jpg/0/002.jpg",
        ):
            (tmp_path / "raw" / name).write_bytes(b"")
        for seed, name in enumerate(sorted((tmp_path / "raw" / "revisitop1m").rglob("*.jpg"))):
            if name.stat().st_size:
                layouts.write_image(name, 100 + seed)  # other images than those of ROxford
        for record in records:
            prepare(record, tmp_path / "tfds", tmp_path / "raw")
        known = dict(DATASETS) | {record.name: record for record in records}
        patch.setattr("jaxalign.eval.datasets.catalogue.DATASETS", known)
        yield tmp_path / "tfds"


def test_landmarks_among_distractors_in_shards(landmarks, model, tmp_path):
    shards = list((landmarks / "jaxalign_revisitop1m").rglob("*array_record*"))
    assert len(shards) > 2
    table = tmp_path / "table.csv"
    table.write_text(
        "protocol,method,backbone,dataset,value\n" + f"image-retrieval,image-image,{model},ROxford,50\n"
    )
    workspace = Workspace(tmp_path / "runs", tmp_path / "store", landmarks, unreadable="leave-out")
    found = reproduce(find_table(str(table)), Session(workspace, Places(), "paper", distractors=True))
    (outcome,) = found.outcomes
    assert outcome.reason == ""
    (measured,) = read_runs(tmp_path / "runs")
    assert measured.settings["distractors"] == "revisitop1m"
    assert (measured.metrics["queries"], measured.metrics["gallery"]) == (1, 2 + 6)

    encode = lambda split, name, rows: np.asarray(
        ja.load(model).encode_image([load_split(name, split, landmarks).images[i] for i in rows])
    )
    gallery = [
        encode("gallery", "roxford5k", [1, 2]),
        encode("distractors", "revisitop1m", [0, 1, 3, 4, 5, 6]),
    ]
    scores = oracles.cosine(encode("query", "roxford5k", [0]), np.concatenate(gallery))
    expected = oracles_ranking.revisited(scores, [{"easy": [0], "hard": [1], "junk": []}])
    # percent, of which float32 has seven digits
    assert outcome.value == pytest.approx(expected["mAP_easy"], abs=1e-4)
    lost = {"roxford5k/query": ["radcliffe_2.jpg"], "roxford5k/gallery": ["worcester_1.jpg"]}
    assert to_json(found)["left_out"] == lost | {"revisitop1m/distractors": ["0/002.jpg"]}
    assert "unreadable images left out: 1 of roxford5k/query" in summary(found)


def test_distractors_are_missing_unless_they_are_prepared(model, tmp_path):
    record = layouts.revisited(tmp_path / "raw")
    prepare(record, tmp_path / "tfds", tmp_path / "raw")
    rows = [f"image-retrieval,image-image,{model},ROxford,50,{flag}" for flag in ("yes", "no")]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["protocol,method,backbone,dataset,value,distractors", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxalign.eval.datasets.catalogue.DATASETS", dict(DATASETS) | {record.name: record})
        for variant, states in (("paper", ["missing", "measured"]), ("reference", ["measured"] * 2)):
            workspace = Workspace(tmp_path / variant, tmp_path / "store", tmp_path / "tfds")
            session = Session(workspace, Places(), variant)
            found = reproduce(find_table(str(table)), session)
            assert [outcome.state for outcome in found.outcomes] == states
            if variant == "paper":
                assert found.missing[0][0].what == "data set revisitop1m"
                assert "revisitop1m.1.tar.gz" in found.missing[0][0].advice


def test_deep_grey_images_are_unreadable_when_they_are_augmented_too(tmp_path, clip):
    from jaxalign.errors import JaxalignError
    from jaxalign.eval.features.obtain import subset_features

    grey = np.linspace(0, 65535, 1200).astype(np.uint16).reshape(30, 40)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    examples = load_split(f"folder:{tmp_path}", "all")
    with pytest.raises(JaxalignError, match=r"^grey\.png of .* is grey with more than 8 bits"):
        subset_features(clip, examples, np.array([0]), augmentation=1, store=tmp_path / "store")
