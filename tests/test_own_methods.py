"""Methods from outside, in commands and runs beside those of the package."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image

import jaxalign as ja
from jaxalign import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.tasks import OwnMethod, methods
from jaxalign.eval.tasks.methods import METHODS, find_method
from jaxalign.eval.tasks.registry import TASKS

SOURCE = """
import jax.numpy as jnp
from jaxalign.eval.tasks import OwnMethod

def without_mean(given):
    mean = given.embed(given.gallery).mean(0)
    return lambda pre: given.embed(pre) - mean

centred = OwnMethod(without_mean, needs=("gallery",), about="the embeddings without the gallery's mean")

def needs_nothing(given):
    assert given.projectors is given.spectrum is given.class_texts is given.gallery is None
    return given.embed

def everything(given):
    assert given.spectrum.s.shape[0] <= given.class_texts.shape[1]
    return given.projectors.image

all_of_it = OwnMethod(everything, needs=("projectors", "spectrum", "class_texts", "gallery"))
number = 3

def one_row(given):
    return lambda pre: given.embed(pre)[0]

def of_integers(given):
    return lambda pre: given.embed(pre).astype(int)

def fails(given):
    return lambda pre: [][0]

def fails_at_once(given):
    raise OSError("no disk")

def gives_no_function(given):
    return 1.0

def gives_nan(given):
    return lambda pre: given.embed(pre) * jnp.nan

def ends_the_program(given):
    raise SystemExit(3)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the methods, a model and images of two classes."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mine_alone.py").write_text(SOURCE)
    ja.save(tiny_model("emoji-clip"), folder / "model")
    rng = np.random.default_rng(0)
    for i in range(8):
        (folder / "images" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / "ab"[i % 2] / f"{i}.png")
    return folder


def run(place, monkeypatch, *arguments):
    monkeypatch.chdir(place)
    given = ["--model", "model", "--dataset", "folder:images", "--store", "store"]
    return cli.main([arguments[0], *given, *arguments[1:]])


@pytest.mark.long
def test_it_stands_beside_ours_in_commands_and_runs(place, monkeypatch, capsys):
    both = ("--methods", "image-image", "mine_alone:centred", "mine_alone.py:needs_nothing")
    assert run(place, monkeypatch, "retrieve", *both, "--out", "runs", "--json", "r.json") == 0
    assert "mine_alone:cen" in capsys.readouterr().out  # in a narrow table
    runs = {run["settings"]["method"]: run for run in json.loads((place / "r.json").read_text())["runs"]}
    plain = runs["image-image"]["metrics"]
    assert {k: v for k, v in runs["mine_alone.py:needs_nothing"]["metrics"].items() if "gain" not in k} == {
        k: v for k, v in plain.items() if "gain" not in k
    }
    model = ja.load(place / "model")
    files = sorted((place / "images").glob("*/*.png"))
    x = np.asarray(model.encode_image(files))
    labels = np.array([file.parent.name == "b" for file in files], int)
    x = x - x.mean(0)
    expected = ja.retrieval_metrics(x, x, labels, labels, exclude_self=True)["mAP"]
    # percent; embeddings in another order of operations, ranks the same
    assert runs["mine_alone:centred"]["metrics"]["mAP"] == pytest.approx(expected, abs=1e-4)
    assert len(runs["mine_alone:centred"]["settings"]["code"]) == 16
    for command in ("classify", "indicators"):
        assert run(place, monkeypatch, command, "--methods", "mine_alone:centred", "--out", command) == 0
    both = ("--methods", "image-image", "mine_alone:centred", "--k-top", "0", "--k-bottom", "0", "2")
    assert run(place, monkeypatch, "sweep", *both, "--out", "sweeps") == 0
    assert "mAP in % of other methods" in capsys.readouterr().out
    assert cli.main(["report", "runs", "--page", "p.html"]) == 0
    assert "mine_alone:centred" in (place / "p.html").read_text()


def test_it_gets_what_it_needs_and_nothing_else(place, monkeypatch):
    model = tiny_model("emoji-clip")
    monkeypatch.chdir(place)
    pre = np.random.default_rng(1).normal(size=(5, model.config.image.width)).astype(np.float32)
    method = find_method("mine_alone:all_of_it", model)
    width = model.require_text().projection
    texts = np.random.default_rng(2).normal(size=(len(method.texts), width))
    found = method.fit(model, subspace_texts=texts, gallery=pre)(pre)
    np.testing.assert_array_equal(found, model.projectors.image(pre))


def test_a_changed_file_is_measured_anew(place, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    codes = []
    for factor in (1, 2):
        name = f"changing_{factor}"  # a module is imported once
        (tmp_path / f"{name}.py").write_text(
            f"def method(given):\n    return lambda x: {factor} * given.embed(x)\n"
        )
        codes.append(find_method(f"{name}:method", tiny_model("emoji-clip")).to_json()["code"])
    assert codes[0] != codes[1]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine_alone:centered", "unknown method of mine_alone 'centered'; did you mean 'centred'"),
        ("mine_alone:number", "mine_alone:number is 3; expected an OwnMethod, or a function"),
        ("mine_alone:one_row", "mine_alone:one_row gave float32 .* for 8 rows of features; expected floats"),
        ("mine_alone:of_integers", "gave int32"),
        ("mine_alone:fails", r"raised IndexError: list index out of range \(mine_alone.py, line"),
        ("mine_alone:fails_at_once", r"raised OSError: no disk \(mine_alone.py, line"),
        ("mine_alone:gives_no_function", "returned 1.0; expected a function"),
        ("mine_alone:gives_nan", "mine_alone:gives_nan gave NaN or infinite values"),
        ("mine_alone:ends_the_program", r"raised SystemExit: 3 \(mine_alone.py, line"),
        ("nowhere_at_all:x", "there is no module 'nowhere_at_all'"),
        ("nowhere.py:x", "there is no file nowhere.py"),
        ("isoclipp", "unknown image method 'isoclipp'; did you mean 'isoclip'"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(place, monkeypatch, capsys, name, message):
    assert run(place, monkeypatch, "retrieve", "--methods", name, "--out", "wrong") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert __import__("re").search(message, line), line


@pytest.fixture
def forgotten():
    """What other tests see of entry points is not what this one offers."""
    yield
    methods.installed_methods.cache_clear()


def test_entry_points_are_methods_by_name(monkeypatch, forgotten):
    class Entry:
        def __init__(self, name, thing):
            self.name, self.module, self.load = name, __name__, lambda: thing

    def offer(*entries):
        methods.installed_methods.cache_clear()
        monkeypatch.setattr(methods, "entry_points", lambda group: entries)

    model = tiny_model("emoji-clip")
    offer(Entry("doubled", OwnMethod(doubled)))
    pre = np.ones((2, model.config.image.width), np.float32)
    found = find_method("doubled", model).fit(model)(pre)
    np.testing.assert_allclose(found, 2 * jnp.asarray(find_method("image-image", model).fit(model)(pre)))
    offer(Entry("isoclip", OwnMethod(doubled)))
    with pytest.raises(JaxalignError, match="calls a method 'isoclip', as one here; rename it"):
        find_method("isoclip", model)


def doubled(given):
    return lambda pre: 2 * given.embed(pre)


@pytest.mark.parametrize("registry", [METHODS, METHODS["image"], TASKS])
def test_registries_cannot_be_written_into(registry):
    with pytest.raises(TypeError, match="does not support item assignment"):
        registry["image-image"] = doubled
    with pytest.raises(JaxalignError, match="unknown need of a method 'galery'; did you mean 'gallery'"):
        OwnMethod(doubled, needs=("galery",))  # pyright: ignore[reportArgumentType]
