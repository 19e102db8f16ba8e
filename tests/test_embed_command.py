"""`jaxalign embed`: killed and started again, on a full disk, beside another one; flat memory."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_embed import stored_bytes

from jaxalign import load
from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.eval.datasets import load_split
from jaxalign.eval.features import FeatureStore
from jaxalign.eval.features.by_content import index_key, part_name

IMAGES = 1100  # five chunks


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def store_of(root: Path, photos: Path) -> FeatureStore:
    """The part of the index that a command has made of `photos`, or makes."""
    ids = load_split(f"folder:{photos}", "all").images.contents
    return FeatureStore.open(root, index_key(load("emoji-clip")), ids, {}, 256, part=part_name(ids))


def embed_in_process(photos, root) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "jaxalign",
        "embed",
        "--dataset",
        f"folder:{photos}",
        "--store",
        str(root),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.long
def test_the_command_goes_on_after_a_kill_and_gives_the_same_bytes(tmp_path, photos):
    killed, whole, results = tmp_path / "killed", tmp_path / "whole", tmp_path / "results.json"
    process = embed_in_process(photos, killed)
    while process.poll() is None and not list(killed.rglob("features/c/*/0")):
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(list(killed.rglob("store.json"))) == 1
    store = store_of(killed, photos)
    finished = {f: f.stat().st_mtime_ns for f in killed.rglob("features/c/*/0")}
    left = sum(len(store.rows_of(chunk)) for chunk in store.missing())
    assert 0 < left < IMAGES, "it was not killed in the middle"

    options = ["embed", "--dataset", f"folder:{photos}", "--json", str(results), "--store"]
    assert cli.main([*options, str(killed)]) == 0
    found = json.loads(results.read_text())
    assert (found["images"], found["earlier"], found["computed"]) == (IMAGES, IMAGES - left, left)
    assert found["images_per_second"] > 0
    assert {f: f.stat().st_mtime_ns for f in finished} == finished
    assert cli.main([*options, str(whole)]) == 0
    assert stored_bytes(store) == stored_bytes(store_of(whole, photos))
    assert cli.main([*options, str(whole)]) == 0
    assert json.loads(results.read_text())["computed"] == 0


@pytest.mark.long
def test_the_command_names_what_it_did(tmp_path, photos, capsys):
    some = tmp_path / "some"
    some.mkdir()
    for i in range(3):
        shutil.copy(photos / f"{i}.png", some)
    assert cli.main(["embed", "--dataset", f"folder:{some}", "--store", str(tmp_path / "store")]) == 0
    said = capsys.readouterr()
    assert "emoji-clip, folder:" in said.out
    assert "3 images, 0 done earlier, 3 now at " in said.out
    assert f"features 256 wide, in file://{tmp_path}/store/" in said.out
    for option in ("--batch-size", "--threads"):
        assert cli.main(["embed", "--dataset", f"folder:{some}", "--store", str(tmp_path), option, "0"]) == 1
        assert f"{option[2:].replace('-', '_')} is 0; expected 1 or more" in capsys.readouterr().err


@pytest.mark.long
def test_what_measures_finds_the_features_whatever_they_were_computed_in(tmp_path, photos, capsys):
    for i in range(4):
        (tmp_path / "kinds" / f"{i % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / f"{i}.png", tmp_path / "kinds" / f"{i % 2}")
    given = ["--dataset", f"folder:{tmp_path / 'kinds'}", "--store", str(tmp_path / "store")]
    assert cli.main(["embed", *given, "--dtype", "bfloat16"]) == 0
    chunks = list((tmp_path / "store").rglob("features/c/*/0"))
    assert len(chunks) == 1
    measured = ["--methods", "image-image", "--out", str(tmp_path / "runs")]
    assert cli.main(["retrieve", *given, *measured, "--dtype", "bfloat16"]) == 0
    assert list((tmp_path / "store").rglob("features/c/*/0")) == chunks
    capsys.readouterr()
    for option in ("--batch-size", "--threads"):
        assert cli.main(["retrieve", *given, *measured, option, "0"]) == 1
        assert f"{option[2:].replace('-', '_')} is 0; expected 1 or more" in capsys.readouterr().err


def test_two_commands_do_not_fill_one_store(tmp_path, photos, capsys):
    options = ["embed", "--dataset", f"folder:{photos}", "--store", str(tmp_path)]
    with store_of(tmp_path, photos).locked():
        assert cli.main(options) == 1
    assert "another process is filling" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.long
def test_a_write_that_fails_in_the_middle_is_one_line_and_loses_nothing(tmp_path, photos):
    """Files may grow to 100 blocks: the header fits, a chunk does not. Then there is room again."""
    script = 'ulimit -f 100; exec "$0" -m jaxalign embed --dataset "folder:$1" --store "$2"'
    command = ["sh", "-c", script, sys.executable, str(photos), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert "File too large" in run.stderr.splitlines()[-1]
    assert run.stderr.splitlines()[-1].startswith("jaxalign: error: cannot write file://")
    assert cli.main(["embed", "--dataset", f"folder:{photos}", "--store", str(tmp_path)]) == 0


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.long
@pytest.mark.skipif(not can_mount(), reason="needs the right to mount a file system of its own")
def test_a_disk_that_is_full_keeps_the_finished_chunks(tmp_path, photos):
    """A disk of 900 kB takes three of the five chunks; what it holds then is continued on a larger one."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    script = (
        'mount -t tmpfs -o size=900k tmpfs "$1" && '
        '"$0" -m jaxalign embed --dataset "folder:$2" --store "$1"; '
        'status=$?; cp -r "$1" "$3"; exit $status'
    )
    command = ["unshare", "-rm", "sh", "-c", script, sys.executable, str(disk), str(photos), str(kept)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    assert "No space left on device" in run.stderr.splitlines()[-1]
    assert "make room and run the same command again" in run.stderr.splitlines()[-1]
    assert len(list(kept.rglob("store.json"))) == 1
    store = store_of(kept, photos)
    assert store.missing()
    finished = {f: f.stat().st_mtime_ns for f in kept.rglob("features/c/*/0")}
    assert finished
    assert cli.main(["embed", "--dataset", f"folder:{photos}", "--store", str(kept)]) == 0
    assert store.missing() == []
    assert {f: f.stat().st_mtime_ns for f in finished} == finished


def test_a_lock_that_cannot_be_written_is_one_line(tmp_path, photos, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("filelock.FileLock.acquire", full)
    store = store_of(tmp_path, photos)
    with pytest.raises(JaxalignError, match=r"cannot write .*lock: No space left on device; make room"):
        store.locked().__enter__()


MEASURE = """
import resource, sys
from pathlib import Path
from test_embed import linear_model, Noise
from jaxalign.eval.features import FeatureKey, FeatureStore, embed_images
noise = Noise(int(sys.argv[2]))
key = FeatureKey("linear", "0", {}, "noise", sys.argv[2], "test", "image", "float32")
store = FeatureStore.open(sys.argv[1], key, noise.ids, {}, 5)
embed_images(linear_model(), noise, store)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
def test_memory_is_flat_in_the_number_of_images(tmp_path):
    """1,024 and 4,096 images; the difference, 3,072, would take 85 MB as pixels and 6 MB as features."""
    peaks = []
    for count in (1024, 4096):
        command = [sys.executable, "-c", MEASURE, str(tmp_path), str(count)]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        peaks.append(int(run.stdout) / 1024)
    assert peaks[1] < peaks[0] + 10, peaks  # MiB; the allocator's own variation is about 3
