"""Two processes on one machine: the same numbers, and nothing that is finished is lost with one of them."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import run_commands
from PIL import Image
from test_sharding import PATIENT

from jaxalign.eval.tasks.runs import read_runs

LIMIT = 600  # seconds; on an idle machine no process here takes a twentieth of that
SCRIPT = Path(__file__).parent / "run_commands.py"
CHUNKS = 10  # of 256 images
NAMES = "cat dog apple bus tree house car star moon sun"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(*commands, flags=""):
    """Processes that are gone when the block ends, whatever happens in it."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{PATIENT} {flags}"}
    processes = []
    try:
        for command in commands:
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
            given = [sys.executable, *map(str, command)]
            processes.append(subprocess.Popen(given, text=True, env=environment, **streams))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def finish(processes):
    """`(status, stdout, stderr)` of each."""
    end = time.monotonic() + LIMIT
    outputs = [process.communicate(timeout=max(end - time.monotonic(), 1)) for process in processes]
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def noise(folder, count, size):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(len(str(folder.name)) + count)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
        coarse.resize(size).save(folder / f"{i:04}.png", compress_level=1)


# The same numbers.


@pytest.fixture(scope="module")
def folder(tmp_path_factory, emoji_data_dir):
    root = tmp_path_factory.mktemp("commands")
    for i in range(3):
        noise(root / "photos" / ("class" + "x" * i), 20, (52, 50))
    (root / "names.txt").write_text("\n".join(NAMES.split()))
    (root / "tfds").symlink_to(emoji_data_dir)
    return root


@pytest.fixture(scope="module")
def one(folder):
    run_commands.run(folder, "one")
    return measured(folder, "one")


def measured(folder, name):
    """Numbers of all runs, by digest of their settings."""
    return {run.digest: numbers(run.metrics) | arrays(run) for run in read_runs(folder / f"{name}-runs")}


def numbers(metrics, prefix=""):
    found = {}
    for name, value in metrics.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[prefix + name] = value
    return found


def arrays(run):
    return {f"array {name}": values for name, values in run.arrays.items()}


def assert_same(many, one):
    assert many.keys() == one.keys()
    for digest, expected in one.items():
        for name, value in expected.items():
            np.testing.assert_allclose(many[digest][name], value, rtol=1e-6, err_msg=name)


@pytest.mark.long
def test_two_processes_measure_what_one_does(folder, one):
    port = free_port()
    with running(*([SCRIPT, folder, "two", port, 2, i] for i in range(2))) as processes:
        first, second = finish(processes)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "mAP" in first[1]
    assert "mAP" not in second[1]  # one of them speaks
    assert_same(measured(folder, "two"), one)


@pytest.mark.long
def test_eight_devices_measure_what_one_does(folder, one):
    with running([SCRIPT, folder, "eight"], flags="--xla_force_host_platform_device_count=8") as processes:
        [(status, _, said)] = finish(processes)
    assert status == 0, said
    assert_same(measured(folder, "eight"), one)


# Processes that see other things under the same names.

DISAGREE = """
import sys
from jaxalign.eval import cli
from jaxalign.eval.processes import agree, connected
class Work:
    def run(self):
        with connected(sys.argv[1], 2, int(sys.argv[2]), 300):
            agree("the model", lambda: {"name": "m"})
            agree("the model", lambda: {"name": "m", "spec": {"mean": [0.5, int(sys.argv[2])]}})
            print("works")
cli.COMMANDS = {"work": __import__("dataclasses").dataclass(Work)}
from jaxalign.eval import interrupts
interrupts.leave(cli.main(["work"]))
"""


@pytest.mark.long
def test_what_differs_is_named_by_all_before_they_work():
    where = f"127.0.0.1:{free_port()}"
    with running(*(["-c", DISAGREE, where, i] for i in range(2))) as processes:
        for status, said, error in finish(processes):
            assert status == 1, error
            assert "works" not in said  # JAX's own library tells there who is connected
            assert error.splitlines()[-1].startswith(
                "jaxalign: error: the model: spec.mean is [0.5, 0] for process 0 and [0.5, 1] for process 1;"
            )


# A process that is lost.


def embed(photos, store, index, port):
    processes = ["--coordinator", f"127.0.0.1:{port}", "--num-processes", "2", "--process-id", index]
    given = [
        "--dataset",
        f"folder:{photos}",
        "--store",
        store,
        "--distributed",
        *processes,
        "--lost-after",
        "60",
    ]
    return ["-m", "jaxalign", "embed", *given]


def chunks(store):
    """Content of the chunks that are there, by number."""
    return {int(path.parent.name): path.read_bytes() for path in store.glob("**/features/c/*/0")}


def start(photos, store):
    port = free_port()
    return running(*(embed(photos, store, i, port) for i in range(2)))


def kill_in_mid_run(photos, store, victim):
    """Kill one of two processes when there is a new chunk; what the other one says, and the chunks."""
    before = len(chunks(store))
    with start(photos, store) as processes:
        end = time.monotonic() + LIMIT
        while len(chunks(store)) == before:
            assert time.monotonic() < end, "no chunk"
            assert processes[victim].poll() is None, processes[victim].communicate()
            time.sleep(0.005)
        processes[victim].kill()
        [(status, _, said)] = finish([processes[1 - victim]])
    assert status == 1, said
    return said.splitlines()[-1], chunks(store)


@pytest.mark.long
def test_what_is_finished_is_kept_when_a_process_is_killed(tmp_path):
    photos, store, undisturbed = tmp_path / "photos", tmp_path / "store", tmp_path / "undisturbed"
    noise(photos, CHUNKS * 256 - 100, (96, 96))
    kept = {}
    for victim in (1, 0):  # 0 is the one that the others are connected by
        line, found = kill_in_mid_run(photos, store, victim)
        assert line.startswith("jaxalign: error: another process of this run was lost")
        assert "run the same command again" in line
        assert len(kept) < len(found) < CHUNKS
        assert kept.items() <= found.items()
        kept = found
    with start(photos, store) as processes:
        assert [status for status, *_ in finish(processes)] == [0, 0]
    with running(
        ["-m", "jaxalign", "embed", "--dataset", f"folder:{photos}", "--store", undisturbed]
    ) as processes:
        assert [status for status, *_ in finish(processes)] == [0]
    whole = chunks(undisturbed)
    assert len(whole) == CHUNKS
    assert chunks(store) == whole
    assert kept.items() <= whole.items()
