"""What is measured of given features: by stage, projectors and class texts; what is lacking is named."""

import json
import subprocess
import sys

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.conversion.npz_files import write_npz
from jaxalign.eval import cli
from jaxalign.eval.tasks import given, projecting
from jaxalign.eval.tasks.methods import find_method
from jaxalign.projectors import Projector, Projectors
from jaxalign.weights.stored import aligned_zeros

CLASSES, EACH, WIDTH, D = 4, 12, 10, 6
RNG = np.random.default_rng(0)
LABELS = np.repeat(np.arange(CLASSES), EACH)
PRE = (RNG.normal(size=(CLASSES, WIDTH))[LABELS] + RNG.normal(size=(len(LABELS), WIDTH))).astype(np.float32)
KERNEL, BIAS = RNG.normal(size=(WIDTH, D)).astype(np.float32), RNG.normal(size=D).astype(np.float32)
TEXT_KERNEL = RNG.normal(size=(8, D)).astype(np.float32)
EMBEDDINGS = PRE @ KERNEL + BIAS
TEXTS = np.stack([EMBEDDINGS[c == LABELS].mean(0) for c in range(CLASSES)])
HEADS = Projectors(Projector(KERNEL, BIAS), Projector(TEXT_KERNEL))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    for name, x in (("emb", EMBEDDINGS), ("pre", PRE), ("texts", TEXTS), ("wide", np.ones((4, 7)))):
        np.savez(folder / f"{name}.npz", features=x, **({"labels": LABELS} if len(x) == len(LABELS) else {}))
    for split, rows in (("train", slice(0, None, 2)), ("test", slice(1, None, 2))):
        np.savez(folder / f"{split}.npz", features=EMBEDDINGS[rows], labels=LABELS[rows])
    write_npz({"image": KERNEL, "image_bias": BIAS, "text": TEXT_KERNEL}, folder / "heads.npz")
    (folder / "names.txt").write_text("cat\n")
    write_npz({"image": KERNEL.T, "text": TEXT_KERNEL}, folder / "turned.npz")
    hf = {"visual_projection.weight": KERNEL.T, "text_projection.weight": TEXT_KERNEL.T}
    write_npz(hf, folder / "transformers.npz")
    return folder


@pytest.fixture
def measure(files, tmp_path, capsys):
    """The runs of a command, by method or classifier; or, where it fails, what it says."""

    def run(command, dataset, *options):
        arguments = [command, "--dataset", f"features:{files}/{dataset}", "--json", tmp_path / "runs.json"]
        places = ["--out", tmp_path / "runs", "--store", tmp_path / "store"]
        named = [str(o).replace("FILES", str(files)) for o in (*arguments, *places, *options)]
        status = cli.main(named)
        if status:
            return capsys.readouterr().err
        return json.loads((tmp_path / "runs.json").read_text())["runs"]

    return run


def scores(runs):
    return {run["settings"]["method"]: run["metrics"]["mAP"] for run in runs}


def truth(x):
    return ja.retrieval_metrics(x, x, LABELS, LABELS, exclude_self=True)["mAP"]


TEXT_OPTION = ("--class-texts", "features:FILES/texts.npz")
PRE_OPTIONS = ("--stage", "pre", "--projectors", "FILES/heads.npz")


def test_embeddings_alone_are_compared_as_they_are(measure):
    assert scores(measure("retrieve", "emb.npz")) == {"image-image": pytest.approx(truth(EMBEDDINGS))}


def test_pca_takes_its_directions_from_the_class_texts(measure):
    found = scores(measure("retrieve", "emb.npz", *TEXT_OPTION, "--rank", "2"))
    expected = truth(ja.principal_subspace(TEXTS, 2).project(EMBEDDINGS))
    assert found["pca"] == pytest.approx(expected)


def test_projectors_make_all_methods_of_pre_projection_features(measure):
    found = scores(measure("retrieve", "pre.npz", *PRE_OPTIONS, "--band", "1", "2"))
    assert found == {
        "image-image": pytest.approx(truth(EMBEDDINGS)),
        "pre": pytest.approx(truth(PRE)),
        "whitened": pytest.approx(truth(ja.whiten(HEADS.image)(PRE))),
        "isoclip": pytest.approx(truth(ja.isoclip(HEADS, 1, 2).image(PRE))),
        "isoclip-auto": pytest.approx(
            truth(ja.isoclip(HEADS, *ja.select_band(ja.decompose(HEADS))).image(PRE))
        ),
    }


def test_half_precision_is_computed_with_in_float32(files):
    model = given.given_features(WIDTH, "pre", heads=HEADS)
    for name in ("pre", "image-image", "whitened"):
        embed = find_method(name, model).fit(model)
        assert embed(PRE.astype(np.float16)).dtype == np.float32


def test_kernels_that_transformers_saves_are_turned(measure):
    options = ("--stage", "pre", "--projectors", "FILES/transformers.npz", "--methods", "image-image")
    assert scores(measure("retrieve", "pre.npz", *options))["image-image"] == pytest.approx(
        truth(PRE @ KERNEL)
    )


@pytest.mark.long
def test_the_sweep_and_the_spectrum_work_on_projectors(measure):
    (run,) = measure("sweep", "pre.npz", *PRE_OPTIONS, "--k-top", "0", "1", "--k-bottom", "0")
    assert run["metrics"]["none"] == pytest.approx(truth(EMBEDDINGS))
    spectrum, _ = measure("spectrum", "pre.npz", *PRE_OPTIONS, "--width", "1")
    assert spectrum["metrics"]["largest"] == pytest.approx(float(ja.decompose(HEADS).s[0]))


def test_the_spectrum_of_projectors_needs_no_features(files, tmp_path):
    options = ["--dataset", "none", "--stage", "pre", "--projectors", files / "heads.npz", "--out", tmp_path]
    assert cli.main(["spectrum", *map(str, options), "--json", str(tmp_path / "runs.json")]) == 0
    (run,) = json.loads((tmp_path / "runs.json").read_text())["runs"]
    assert run["metrics"]["largest"] == pytest.approx(float(ja.decompose(HEADS).s[0]))


@pytest.mark.long
def test_classifiers_take_splits_and_one_class_text_for_each_class(measure):
    named = ("--classifiers", "zero-shot", "ncm", "lda", "tip-adapter", "--with-text", "--shots", "2")
    runs = measure("classify", "", *named, *TEXT_OPTION)
    assert {run["settings"]["classifier"] for run in runs} == {"zero-shot", "ncm", "lda", "tip-adapter"}
    weights = ja.zero_shot_classifier(TEXTS)
    right = np.asarray(weights.predict(EMBEDDINGS[1::2])) == LABELS[1::2]
    (zero,) = [run for run in runs if run["settings"]["classifier"] == "zero-shot"]
    assert zero["metrics"]["accuracy"] == pytest.approx(100 * right.mean())


def test_texts_of_one_label_find_each_other(measure):
    (run,) = measure("text-retrieve", "emb.npz")
    first = np.arange(CLASSES) * EACH
    expected = ja.text_retrieval_metrics(EMBEDDINGS, LABELS)["mAP"]
    assert run["metrics"]["mAP"] == pytest.approx(expected)
    assert run["metrics"]["queries"] == len(first)


@pytest.mark.long
def test_indicators_show_both_modalities_where_there_are_texts(measure):
    protocols = lambda *options: {run["protocol"] for run in measure("indicators", "emb.npz", *options)}
    assert protocols() == {"class-indicator"}
    assert protocols(*TEXT_OPTION, "--methods", "image-image") == {"class-indicator", "modality-indicator"}


def test_an_export_of_given_features_is_a_source_again(files, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--method", "pca", "--class-texts", f"features:{files}/texts.npz", "--rank", "2"]
    assert cli.main(["export", "--dataset", f"features:{files}/emb.npz", "--npy", str(out), *options]) == 0
    np.save(tmp_path / "labels.npy", LABELS)
    again = ["retrieve", "--dataset", f"features:{out}", "--labels", str(tmp_path / "labels.npy")]
    again += ["--json", str(tmp_path / "runs.json"), "--out", str(tmp_path / "runs")]
    assert cli.main(again) == 0
    found = scores(json.loads((tmp_path / "runs.json").read_text())["runs"])["image-image"]
    assert found == pytest.approx(truth(ja.principal_subspace(TEXTS, 2).project(EMBEDDINGS)))


def test_a_run_belongs_to_its_files_stage_projectors_and_texts(measure, files):
    options = ("--methods", "pca", "--rank", "2", *TEXT_OPTION)
    (first,) = measure("retrieve", "emb.npz", *options)
    assert first["settings"]["dataset"] == f"features:{(files / 'emb.npz').resolve()}"
    assert first["settings"]["stage"] == "embedding"
    kept = (files / "texts.npz").read_bytes()
    np.savez(files / "texts.npz", features=TEXTS[::-1] + 1)
    (other,) = measure("retrieve", "emb.npz", *options)
    (files / "texts.npz").write_bytes(kept)
    assert other["settings"]["texts"] != first["settings"]["texts"]
    plain = ("--methods", "image-image", "--stage", "pre", "--projectors")
    (one,), (two,) = (
        measure("retrieve", "pre.npz", *plain, f"FILES/{n}.npz") for n in ("heads", "transformers")
    )
    assert one["settings"]["weights"] != two["settings"]["weights"]


LACKING = {
    "isoclip": "isoclip needs pre-projection features and projectors: --stage pre --projectors FILE",
    "whitened": "whitened needs pre-projection features and projectors: --stage pre --projectors FILE",
    "pre": "pre needs pre-projection features: --stage pre",
    "pca": "pca needs class texts: --class-texts features:FILE",
    "oti": "oti needs the images themselves",
}


@pytest.mark.parametrize("method", LACKING)
def test_what_a_method_lacks_is_said_by_name(method, measure):
    assert LACKING[method] in measure("retrieve", "emb.npz", "--methods", method)


REFUSED = {
    "sweep": ("sweep", "emb.npz", (), "needs pre-projection features and projectors"),
    "zero-shot": ("classify", "emb.npz", (), "needs class texts: --class-texts"),
    "one text a class": (
        "classify",
        "emb.npz",
        ("--class-texts", "features:FILES/emb.npz"),
        "have 48 rows, and there are 4 classes",
    ),
    "wide texts": (
        "retrieve",
        "emb.npz",
        ("--class-texts", "features:FILES/wide.npz"),
        "are 7 wide, embeddings 6",
    ),
    "texts of no source": ("retrieve", "emb.npz", ("--class-texts", "texts.npz"), "expected features:FILE"),
    "no heads": (
        "retrieve",
        "pre.npz",
        ("--stage", "pre", "--methods", "image-image"),
        "needs embeddings, so proj",
    ),
    "stage": ("retrieve", "pre.npz", ("--projectors", "FILES/heads.npz"), r"(--stage pre)"),
    "turned": ("retrieve", "pre.npz", ("--stage", "pre", "--projectors", "FILES/turned.npz"), "shared width"),
    "other width": ("retrieve", "emb.npz", PRE_OPTIONS, "6 wide, and the image projector takes 10"),
    "search by texts": ("retrieve", "emb.npz", ("--text-image", *TEXT_OPTION), "needs the images themselves"),
    "model": (
        "retrieve",
        "emb.npz",
        ("--model", "emoji-clip"),
        "emoji-clip has 64 there (--stage embedding)",
    ),
    "no kernels": (
        "retrieve",
        "pre.npz",
        ("--stage", "pre", "--projectors", "FILES/names.txt"),
        "has no two kernels called image and text",
    ),
    "embed": ("embed", "emb.npz", (), "features already"),
    "no labels": ("retrieve", "texts.npz", (), "--labels FILE"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_one_line(case, measure, files, capsys):
    command, dataset, options, message = REFUSED[case]
    if command == "embed":
        assert cli.main([command, "--dataset", f"features:{files}/{dataset}"]) == 1
        said = capsys.readouterr().err
    else:
        said = measure(command, dataset, *options)
    assert message in said
    assert len([line for line in said.splitlines() if line.startswith("jaxalign: error")]) == 1


def test_options_of_features_are_refused_for_other_data_sets(capsys):
    assert cli.main(["retrieve", "--dataset", "emoji", "--labels", "labels.npy"]) == 2
    assert "--labels is about data sets features:PATH; got emoji" in capsys.readouterr().err


def test_a_table_of_ones_own_may_name_features(files, tmp_path):
    head = "protocol,method,backbone,dataset,rank,value"
    rows = [
        f"image-retrieval,{m},ViT-B/32,features:{files}/emb.npz,{r},50"
        for m, r in (("image-image", ""), ("pca", 2))
    ]
    (tmp_path / "table.csv").write_text("\n".join([head, *rows]) + "\n")
    options = ["--variant", "paper", "--out", tmp_path / "out", "--json", tmp_path / "table.json"]
    options += ["--class-texts", f"features:{files}/texts.npz"]
    assert cli.main(["reproduce", *map(str, (tmp_path / "table.csv", *options))]) == 0
    cells = json.loads((tmp_path / "table.json").read_text())["cells"]
    expected = (truth(EMBEDDINGS), truth(ja.principal_subspace(TEXTS, 2).project(EMBEDDINGS)))
    assert [cell["measured"] for cell in cells] == [pytest.approx(value) for value in expected]


@pytest.mark.long
def test_the_model_that_gave_the_features_serves_with_heads_and_texts(tmp_path, capsys):
    """Names of classes are embedded by its text tower, pre-projection features by its own head."""
    model = ja.load("emoji-clip")
    pre = np.random.default_rng(0).normal(size=(12, model.config.image.width)).astype(np.float32)
    labels = np.arange(12) % 3
    np.savez(tmp_path / "pre.npz", features=pre, labels=labels)
    (tmp_path / "names.txt").write_text("a cat\na dog\nan apple\n")
    options = ["--model", "emoji-clip", "--stage", "pre", "--label-names", tmp_path / "names.txt"]
    options += ["--store", tmp_path / "store", "--out", tmp_path / "runs", "--json", tmp_path / "runs.json"]
    options += ["--classifiers", "zero-shot", "prototype", "--shots", "1", "--methods", "isoclip-auto"]
    assert cli.main(["classify", "--dataset", f"features:{tmp_path}/pre.npz", *map(str, options)]) == 0
    zero, _ = json.loads((tmp_path / "runs.json").read_text())["runs"]
    texts = model.encode_text([f"a photo of a {name}." for name in ("a cat", "a dog", "an apple")])
    right = np.asarray(ja.zero_shot_classifier(texts).predict(model.image_projector(pre))) == labels
    assert zero["metrics"]["accuracy"] == pytest.approx(100 * right.mean())
    assert zero["settings"]["encoder"]["model"] == "emoji-clip"


def test_large_embeddings_are_not_copied(monkeypatch):
    monkeypatch.setattr(projecting, "is_streamed", lambda x: True)
    x = aligned_zeros((64, 32), np.float16)
    assert np.shares_memory(np.asarray(projecting.project(x, None, 32)), x)


PROGRAM = """
import resource, sys
import numpy as np
from jaxalign.eval import cli

folder, rng = sys.argv[1], np.random.default_rng(0)
labels = rng.integers(0, 1000, 1_000_000)
gallery = np.lib.format.open_memmap(f"{folder}/gallery.npy", "w+", np.float16, (1_000_000, 512))
for start in range(0, len(gallery), 10_000):
    gallery[start : start + 10_000] = rng.standard_normal((10_000, 512), np.float32)
np.save(f"{folder}/query.npy", gallery[:64])
np.save(f"{folder}/of_gallery.npy", labels)
np.save(f"{folder}/of_query.npy", labels[:64])
del gallery
named = lambda name: f"query={folder}/{name}query.npy,gallery={folder}/{name}gallery.npy"
options = ["--dataset", f"features:{named('')}", "--labels", named("of_"), "--out", f"{folder}/runs"]
assert cli.main(["retrieve", *options, "--methods", "image-image"]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_a_million_features_are_retrieved_in_under_3_gib(tmp_path):
    if sys.platform != "linux":
        pytest.skip("ru_maxrss is in KiB on Linux only")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(run.stdout.split()[-1]) < 3 * 2**30
