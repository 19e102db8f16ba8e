"""Inverted queries in the store: two processes at once, and one that is killed."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_model
from PIL import Image
from test_embed import stored_bytes

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.datasets import load_split
from jaxalign.eval.features import FeatureStore, make_key
from jaxalign.eval.tasks import inverting
from jaxalign.eval.tasks.methods import Inverting, MethodOptions, find_methods
from jaxalign.eval.tasks.runs import read_runs
from jaxalign.eval.tasks.workspace import Workspace

IMAGES, CHUNK, STEPS = 6, 2, 3
PATIENCE = 180  # seconds; many times what a busy machine needs

# Runs the command; its inversion of the chunk whose number is given says so in a file, and then goes on when
# standard input ends: a parent that dies closes it, too.
CHILD = """
import sys
from pathlib import Path
from jaxalign.eval import cli
import jaxalign as ja
from jaxalign.eval.tasks import inverting
flag, stop_at, *command = sys.argv[1:]
inverting._CHUNK = {chunk}
invert, calls = ja.invert_to_text, []
def waiting(*arguments, **options):
    if len(calls) == int(stop_at):
        Path(flag).touch()
        sys.stdin.read()
    calls.append(None)
    return invert(*arguments, **options)
ja.invert_to_text = waiting
sys.exit(cli.main(command))
"""


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
    """OTI of six images by a tiny model, without `--out` and `--store`."""
    folder = tmp_path_factory.mktemp("inversions")
    for i in range(IMAGES):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 26, 3), np.uint8)
        path = folder / "photos" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    ja.save(tiny_model("emoji-clip"), folder / "model")
    about = ["retrieve", "--model", folder / "model", "--dataset", f"folder:{folder / 'photos'}"]
    return [str(x) for x in (*about, "--methods", "oti", "--steps", STEPS)]


def places(tmp_path: Path, name: str) -> list[str]:
    return ["--out", str(tmp_path / f"{name}-runs"), "--store", str(tmp_path / name)]


def inversion_store(command: list[str], store: Path) -> FeatureStore:
    model, photos = ja.load(command[2]), load_split(command[4], "all")
    options = {"steps": STEPS, "seed": 0, "curve": [0, 1, 2, 3]}
    key = make_key(model, photos.dataset, photos.version, "all", "text", stage="oti", options=options)
    found = FeatureStore.find(store, key)
    assert found is not None
    return found


@contextlib.contextmanager
def waiting_child(tmp_path: Path, stop_at: int, arguments: list[str]) -> Iterator[subprocess.Popen]:
    """A process that runs the command and waits at chunk `stop_at`; killed at the end, whatever happens."""
    flag, output = tmp_path / "waiting", tmp_path / "output"
    script = CHILD.format(chunk=CHUNK)
    with output.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(flag), str(stop_at), *arguments],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not flag.exists():
            assert child.poll() is None, output.read_text()
            assert time.monotonic() < deadline, "the child has not come to its inversion"
            time.sleep(0.02)
        yield child
    finally:
        child.kill()
        assert child.stdin is not None
        child.stdin.close()
        child.wait(PATIENCE)


@pytest.mark.long
def test_a_second_process_gets_one_line_and_the_first_one_finishes(command, tmp_path, capsys, monkeypatch):
    arguments = [*command, *places(tmp_path, "store")]
    with waiting_child(tmp_path, 0, arguments) as child:
        assert cli.main(arguments) == 1
        error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("jaxalign: error:")]
        assert len(error) == 1
        assert "another process is filling" in error[0]
        assert not (tmp_path / "store-runs").exists() or read_runs(tmp_path / "store-runs") == []
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait(PATIENCE) == 0, (tmp_path / "output").read_text()
    monkeypatch.setattr(ja, "invert_to_text", None)  # nothing is left to invert
    assert cli.main([*command, "--out", str(tmp_path / "again"), "--store", str(tmp_path / "store")]) == 0
    (first,), (again,) = read_runs(tmp_path / "store-runs"), read_runs(tmp_path / "again")
    assert again.metrics == first.metrics


@pytest.mark.long
@pytest.mark.parametrize("finished", [0, 2])
def test_a_killed_run_goes_on_without_inverting_anything_twice(command, finished, tmp_path, monkeypatch):
    """The result is that of a run that nobody disturbed, to the byte."""
    monkeypatch.setattr(inverting, "_CHUNK", CHUNK)
    killed, whole = ([*command, *places(tmp_path, name)] for name in ("killed", "whole"))
    with waiting_child(tmp_path, finished, killed) as child:
        child.kill()
        assert child.wait(PATIENCE) == -signal.SIGKILL
    store = inversion_store(command, tmp_path / "killed")
    assert store.missing() == list(range(finished, IMAGES // CHUNK))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "killed").rglob("features/c/*/0")}
    invert, inverted = ja.invert_to_text, []

    def watched(*arguments, indices, **options):
        inverted.extend(indices.tolist())
        return invert(*arguments, indices=indices, **options)

    monkeypatch.setattr(ja, "invert_to_text", watched)
    assert cli.main(killed) == 0
    assert inverted == list(range(finished * CHUNK, IMAGES))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert cli.main(whole) == 0
    assert stored_bytes(store) == stored_bytes(inversion_store(command, tmp_path / "whole"))
    (one,), (other,) = read_runs(tmp_path / "killed-runs"), read_runs(tmp_path / "whole-runs")
    assert one.metrics == other.metrics


@pytest.mark.parametrize(("chunk", "passed"), [(4, [4, 4]), (5, [5, 1]), (IMAGES, [IMAGES])])
def test_a_last_chunk_is_filled_up_from_the_half_and_changes_nothing(
    command, chunk, passed, tmp_path, monkeypatch
):
    monkeypatch.setattr(inverting, "_CHUNK", chunk)
    invert, sizes = ja.invert_to_text, []

    def watched(model, embeddings, **options):
        sizes.append(len(embeddings))
        return invert(model, embeddings, **options)

    monkeypatch.setattr(ja, "invert_to_text", watched)
    assert cli.main([*command, *places(tmp_path, "parts")]) == 0
    assert sizes == passed
    monkeypatch.setattr(inverting, "_CHUNK", 2)  # which divides the images
    assert cli.main([*command, *places(tmp_path, "whole")]) == 0
    parts, whole = (inversion_store(command, tmp_path / name).read().values for name in ("parts", "whole"))
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_queries_may_be_taken_before_the_last_step(command, tmp_path):
    model, photos = ja.load(command[2]), load_split(command[4], "all")
    embeddings = model.encode_image(list(photos.images))
    workspace = Workspace(store=tmp_path)

    def taken(**options):
        [method] = find_methods(("oti",), model, "image", MethodOptions(inverting=Inverting(**options)))
        return inverting.invert_queries(workspace, model, method, embeddings, photos.ids, photos).embeddings

    stopped = taken(steps=STEPS, stop=1)
    assert np.abs(stopped - taken(steps=STEPS)).max() > 1e-4
    np.testing.assert_allclose(stopped, taken(steps=1), atol=1e-6)
    with pytest.raises(JaxalignError, match="stop is 4; expected one of the 3 steps"):
        taken(steps=STEPS, stop=4)
