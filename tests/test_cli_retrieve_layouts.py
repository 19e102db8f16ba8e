"""The measuring commands on small copies of the papers' data sets, prepared from their layouts."""

import dataset_layouts as layouts
import numpy as np
import oracles
import oracles_ranking
import pytest
from conftest import tiny_model

import jaxalign as ja
from jaxalign.eval import cli
from jaxalign.eval.datasets import DATASETS, load_split, prepare
from jaxalign.eval.tasks.indicators import Indicators
from jaxalign.eval.tasks.runs import read_runs


def distractors(root):
    """Other images than those of ROxford: between copies the ranking would be up to rounding."""
    write = layouts.write_image
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layouts, "write_image", lambda path, seed: write(path, seed + 100))
        return layouts.distractors(root)


MADE = (
    layouts.zhou,
    layouts.cub,
    layouts.revisited,
    distractors,
    layouts.dogs_vs_cats,
    layouts.bdd100k,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Options for a tiny model and the prepared data sets, whose records have the numbers of these copies."""
    folder = tmp_path_factory.mktemp("layouts")
    records = [write(folder / "raw") for write in MADE]
    records += [layouts.karpathy(folder / "raw", name) for name in ("flickr30k-captions", "flickr30k")]
    for record in records:
        prepare(record, folder / "tfds", folder / "raw")
    ja.save(tiny_model("emoji-clip"), folder / "model")
    known = dict(DATASETS) | {record.name: record for record in records}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxalign.eval.datasets.catalogue.DATASETS", known)
        yield {"--model": folder / "model", "--data-dir": folder / "tfds", "--store": folder / "store"}


def measure(place, out, *arguments):
    """The runs of a command, which has to succeed."""
    options = [str(x) for pair in place.items() for x in pair]
    assert cli.main([*arguments, "--out", str(out), *options]) == 0
    return read_runs(out)


def embeddings(place, dataset, split):
    """By the towers, without the feature store."""
    images = load_split(dataset, split, place["--data-dir"]).images
    return np.asarray(ja.load(place["--model"]).encode_image([images[i] for i in range(len(images))]))


def test_queries_of_the_test_split_in_the_training_split(place, tmp_path):
    (run,) = measure(place, tmp_path, "retrieve", "--dataset", "caltech101", "--methods", "image-image")
    assert (run.settings["query"], run.settings["gallery"]) == ("test", "train")
    assert (run.metrics["queries"], run.metrics["gallery"]) == (2, 3)
    scores = oracles.cosine(embeddings(place, "caltech101", "test"), embeddings(place, "caltech101", "train"))
    labels = [load_split("caltech101", s, place["--data-dir"]).labels["label"] for s in ("test", "train")]
    found = [
        oracles.average_precision(oracles.relevance_sequence(row, labels[1] == label))
        for row, label in zip(scores, labels[0], strict=True)
    ]
    assert run.metrics["mAP"] == pytest.approx(100 * np.mean(found))


@pytest.mark.parametrize("distractors", [False, True])
def test_landmarks(place, tmp_path, distractors):
    options = ["--distractors"] if distractors else []
    (run,) = measure(
        place, tmp_path, "retrieve", "--dataset", "roxford5k", "--methods", "image-image", *options
    )
    gallery = [embeddings(place, "roxford5k", "gallery")]
    if distractors:
        gallery.append(embeddings(place, "revisitop1m", "distractors"))
    truth = load_split("roxford5k", "query", place["--data-dir"]).ground_truth
    scores = oracles.cosine(embeddings(place, "roxford5k", "query"), np.concatenate(gallery))
    expected = {
        name: value
        for name, value in oracles_ranking.revisited(scores, truth).items()
        if name in run.metrics and run.metrics[name] is not None
    }
    assert {name: run.metrics[name] for name in expected} == pytest.approx(expected)
    assert run.metrics["gallery"] == (10 if distractors else 3)


@pytest.mark.long
def test_dogs_and_cats(place, tmp_path, monkeypatch):
    """A model with random weights has no idea of either: class means stand in for the texts."""

    def class_means(self):
        x = self.baseline()
        return np.stack([x[self.labels == label].mean(0) for label in range(2)])

    monkeypatch.setattr(Indicators, "texts", property(class_means))
    runs = measure(
        place, tmp_path, "indicators", "--dataset", "dogs-vs-cats", "--methods", "image-image", "pre"
    )
    (run,) = [run for run in runs if run.protocol == "dogs-cats"]
    x = embeddings(place, "dogs-vs-cats", "train")
    labels = np.array([0, 0, 0, 1, 1])
    expected = ja.retrieval_metrics(x, x, labels, labels, exclude_self=True)["mAP"]
    # percent, of which float32 has seven digits
    assert run.metrics["image_image_mAP"] == pytest.approx(expected, abs=1e-4)
    assert set(run.metrics["aligned"]) == {"image-image", "pre"}


@pytest.mark.long
def test_street_scenes(place, tmp_path, capsys):
    """All frames have one scene and one time of day; no training frame has the query's weather."""
    options = ["--dataset", "bdd100k", "--methods", "image-image", "pca", "--rank", "5"]
    runs = measure(place, tmp_path, "retrieve", *options, "--tasks", "scene", "time-of-day")
    assert [run.metrics["mAP"] for run in runs] == [100.0] * 4
    arguments = [str(x) for pair in place.items() for x in pair]
    status = cli.main(["retrieve", *options, "--tasks", "weather", "--out", str(tmp_path / "w"), *arguments])
    assert status == 1
    assert "none of the 1 queries has a positive in the gallery" in capsys.readouterr().err


def test_captions(place, tmp_path, capsys):
    (run,) = measure(
        place, tmp_path, "text-retrieve", "--dataset", "flickr30k-captions", "--methods", "text-text"
    )
    assert (run.metrics["queries"], run.metrics["gallery"]) == (2, 6)
    arguments = [str(x) for pair in place.items() for x in pair]
    command = ["retrieve", "--dataset", "flickr30k-captions", "--out", str(tmp_path / "w"), *arguments]
    assert cli.main(command) == 1
    assert "has captions only; use `jaxalign text-retrieve`" in capsys.readouterr().err


def test_captions_find_images(place, tmp_path, capsys):
    """Appendix H of IsoCLIP: with both heads as they are, and with both filtered."""
    options = ["--dataset", "flickr30k", "--methods", "image-image", "isoclip", "--band", "1", "2"]
    runs = measure(place, tmp_path / "runs", "retrieve", *options, "--text-image")
    plain, filtered = sorted(runs, key=lambda run: run.settings["method"])
    assert [plain.settings["method"], filtered.settings["method"]] == ["text-image", "text-image isoclip"]
    assert "names find images" not in capsys.readouterr().out
    examples = load_split("flickr30k", "test", place["--data-dir"])
    captions = [(row, text) for row, own in enumerate(examples.captions) for text in own]
    model = ja.load(place["--model"])
    pre_text = model.encode_text([text for _, text in captions], projected=False)
    pre_image = model.encode_image([examples.images[i] for i in range(2)], projected=False)
    for run, heads in ((plain, model.projectors), (filtered, ja.isoclip(model.projectors, 1, 2))):
        scores = oracles.cosine(np.asarray(heads.text(pre_text)), np.asarray(heads.image(pre_image)))
        first = [scores[i, row] > scores[i, 1 - row] for i, (row, _) in enumerate(captions)]
        assert run.metrics["queries"] == len(captions) == 6
        assert run.metrics["recall_at_1"] == pytest.approx(100 * np.mean(first))
        assert run.metrics["mAP"] == pytest.approx(100 * np.mean([1 if right else 0.5 for right in first]))
    arguments = [str(x) for pair in place.items() for x in pair]
    assert cli.main(["retrieve", *options, "--out", str(tmp_path / "w"), *arguments]) == 1
    assert "let captions find images (--text-image)" in capsys.readouterr().err


def test_what_is_not_there_says_what_to_put_where(place, tmp_path, capsys):
    arguments = [str(x) for pair in place.items() for x in pair]
    assert cli.main(["retrieve", "--dataset", "dtd", "--out", str(tmp_path), *arguments]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "dtd" in said
