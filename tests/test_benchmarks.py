"""`python -m benchmarks`: every suite runs, at tiny shapes; how results are kept, shown and judged."""

import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import accelerator, checkouts, costs, measure, results
from benchmarks.measure import Claim
from benchmarks.settings import Settings
from jaxalign.errors import JaxalignError

ROOT = Path(__file__).parents[1]
CLAIM = Claim("work | shape", 2.0, 0.5, "reference", 10.0, at_least=8, flops=1e9)


@pytest.fixture
def peaks(monkeypatch):
    """A machine of 1 GFLOP/s (4 in bfloat16) and 1 GB/s."""
    monkeypatch.setattr(measure, "matmul_peak", lambda dtype="float32": 4e9 if dtype == "bfloat16" else 1e9)
    monkeypatch.setattr(measure, "memory_peak", lambda: 1e9)


def test_a_claim_is_held_against_what_the_machine_permits(peaks):
    assert (CLAIM.ratio, CLAIM.floor_seconds, CLAIM.floor_fraction, CLAIM.ceiling) == (5, 1, 0.5, 10)
    assert CLAIM.verdict == "missed"  # a program at the floor would keep it
    assert replace(CLAIM, seconds=1.25).verdict == "kept"
    assert replace(CLAIM, flops=2e9).verdict == "out of reach"
    assert replace(CLAIM, flops=2e9, dtype="bfloat16").verdict == "missed"
    assert replace(CLAIM, flops=None).verdict == "missed"  # nothing is known that would excuse it
    assert replace(CLAIM, flops=None, bytes=2e9).verdict == "out of reach"
    assert replace(CLAIM, at_least=None).verdict == ""
    assert replace(CLAIM, flops=2e9, seconds=1.0).verdict == "kept"  # whatever the floor says


def test_ours_and_the_reference_are_timed_by_turns(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def takes(name, *durations):
        durations = iter(durations)

        def call():
            calls.append(name)
            clock[0] += next(durations)

        return call

    found = measure.pair(takes("o", 9, 1, 3, 2), takes("r", 5, 10, 30, 20), repeats=3, budget=1000)
    assert calls == ["o", "r"] * 4
    assert found == (2, 20, 7)  # medians, and what our first call took beyond
    (first, second), _ = measure.interleaved([takes("a", 1, 4), takes("b", 1, 8)], repeats=5, budget=10)
    assert (first, second) == (4, 8)  # over the budget after one round


MACHINE = {
    "processor": "P",
    "cores": 2,
    "device": "cpu",
    "python": "3.11",
    "versions": {"jax": "1"},
    "matmul_gflops": 100.0,
    "memory_gb_per_second": 10.0,
}


def entry(name, **machine):
    return {"machine": MACHINE | machine, "seconds": 1, "claims": [replace(CLAIM, name=name).as_json()]}


def test_the_table_shows_floor_promise_and_machine(peaks, tmp_path):
    file = tmp_path / "r.json"
    results.write(file, {"b": entry("second", matmul_gflops=120.0), "a": entry("first | one")}, ("a", "b"))
    assert list(results.read(file)) == ["a", "b"]
    lines = file.with_suffix(".md").read_text().splitlines()
    assert lines[0].startswith("P, 2 cores; Python 3.11, jax 1. Measured: 100 to 120 GFLOP/s")
    assert lines[4] == ("| first / one | 2 s | reference: 10 s | 5x | 8x, missed | 1 s | 50 % | 0.5 s |")
    assert lines[5].startswith("| second |")
    out_of_reach = replace(CLAIM, flops=2e9, unit="image", compile_seconds=0.01).as_json()
    assert results.row(out_of_reach).split(" | ")[1:6] == [
        "2 s per image",
        "reference: 10 s",
        "5x",
        "8x, out of reach: at most 5x",
        "2 s",
    ]
    assert "| 3 MiB | before: 6 MiB |" in results.row(
        Claim("m", 3 * 2.0**20, 0, "before", 6 * 2.0**20, quantity="bytes").as_json()
    )


def test_suites_on_two_machines_are_two_tables(peaks):
    text = results.markdown({"a": entry("first"), "b": entry("second", processor="Q")})
    assert [line[0] for line in text.splitlines() if " cores; " in line] == ["P", "Q"]


def test_a_run_replaces_its_own_rows_and_goes_on_after_a_failure(peaks, tmp_path, monkeypatch, capsys):
    file = tmp_path / "r.json"
    old = {name: entry(f"old {name}") for name in ("ranking", "sweep", "few_shot")}
    results.write(file, old, command.SUITES)
    skipped = {**entry("x"), "claims": []}
    outcomes = {"sweep": None, "few_shot": entry("new few_shot"), "inversion": skipped}
    monkeypatch.setattr(command, "run_suite", lambda name, settings: outcomes[name])
    monkeypatch.setattr(sys, "argv", ["benchmarks", *outcomes, "--out", str(file)])
    assert command.main() == 1
    found = {name: e["claims"][0]["name"] for name, e in results.read(file).items()}
    assert found == {"ranking": "old ranking", "sweep": "old sweep", "few_shot": "new few_shot"}
    said = capsys.readouterr().out
    for line in ("sweep failed", "inversion was skipped", "below what is promised: new few_shot"):
        assert line in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["rankings"], "no suite 'rankings'"), (["papers"], "--isoclip DIR"), (["--quick"], "--out FILE")],
)
def test_bad_usage(arguments, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    assert command.main() == 2
    assert said in capsys.readouterr().err


@pytest.mark.long
def test_a_suite_that_does_not_run_is_a_failure(capfd):
    assert command.run_suite("no_such_suite", Settings()) is None


STANDIN = """
import not_installed
raise SystemExit("statements do not run")

SIZE = 3

@decorate
def outer(x: Missing, scale=factor) -> Missing:
    return inner(x) * scale

def inner(x):
    return x + 1
"""


def test_functions_come_out_of_a_checkout_without_its_imports(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text(STANDIN)
    given = {"factor": 10, "decorate": lambda f: lambda x: -f(x)}
    found = checkouts.load_functions(tmp_path, "isoclip", "src/a.py", ["outer", "inner"], given)
    assert found["outer"](2) == -30
    assert found["inner"](2) == 3


@pytest.mark.parametrize(
    ("file", "names", "said"),
    [
        ("src/b.py", ["outer"], "has no src/b.py"),
        ("src/a.py", ["outer", "elsewhere"], "no function elsewhere"),
        ("src/broken.py", ["outer"], "no Python source"),
    ],
)
def test_another_layout_is_a_clear_error(tmp_path, file, names, said):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text(STANDIN)
    (tmp_path / "src" / "broken.py").write_text("def outer(:")
    with pytest.raises(JaxalignError, match=said) as caught:
        checkouts.load_functions(tmp_path, "isoclip", file, names, {})
    assert "https://github.com/simomagi/IsoCLIP" in str(caught.value)


def run_quickly(suites, tmp_path, *arguments):
    line = [sys.executable, "-m", "benchmarks", *suites, "--quick", "--out", str(tmp_path / "r.json")]
    done = subprocess.run([*line, *arguments], cwd=ROOT, capture_output=True, text=True)
    return done, results.read(tmp_path / "r.json")


def work(here, there):
    """What gives one thing on the device and another on the CPU."""
    given = iter((here, there))
    return accelerator.Work(
        "ranking, 2 x 2", lambda: 1.0, lambda: next(given), costs.Cost(1e9, 0), lambda: None
    )


def test_an_accelerator_gives_what_the_cpu_gives(peaks, monkeypatch):
    monkeypatch.setattr(accelerator, "torch_device", lambda: None)
    claim = accelerator.claim(work(0.5, 0.50005))
    assert "CPU's to 5e-05" in claim.name
    assert (claim.reference, claim.reference_seconds) == ("the floor; no PyTorch here", 1)
    for wrong in (0.51, float("nan")):
        with pytest.raises(
            SystemExit, match=r"ranking, 2 x 2: .* from what the CPU gives; expected at most 1e-04"
        ):
            accelerator.claim(work(0.5, wrong))


def test_what_there_is_no_time_for_is_named(monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "BUDGET", -1)
    assert list(accelerator.claims()) == []
    assert capsys.readouterr().out.splitlines()[-1] == "accelerator: no time is left for embedding"


SUITES = [("ranking", "few_shot"), ("conversion", "encoding"), ("reproduce",), ("accelerator",)]


@pytest.mark.long
@pytest.mark.parametrize("suites", SUITES)
def test_every_suite_runs(suites, tmp_path):
    done, found = run_quickly(suites, tmp_path)
    if "few_shot" in suites and "few_shot: skipped" in done.stdout:
        found["few_shot"] = {"claims": [CLAIM.as_json()]}  # without PyTorch it says so, and that is a 1
        assert done.returncode == 1
    else:
        assert done.returncode == 0, done.stdout + done.stderr
    assert set(found) == set(suites)
    assert all(suite["claims"] for suite in found.values())


@pytest.mark.long
@pytest.mark.reference
def test_every_suite_with_a_reference_runs(tmp_path):
    pytest.importorskip("transformers", reason="needs the extra `reference`")
    done, found = run_quickly(("sweep", "inversion"), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: len(suite["claims"]) for name, suite in found.items()} == {"sweep": 1, "inversion": 4}


@pytest.mark.long
@pytest.mark.reference
def test_the_papers_own_functions_are_timed_where_they_lie(tmp_path):
    """Stand-ins with the names and layout of both repositories; results are compared before timing."""
    pytest.importorskip("torchmetrics", reason="needs the extra `reference`")
    write_standins(tmp_path / "isoclip", "src")
    write_standins(tmp_path / "reevaluating", "cvpr26-suppl/retrieval/src")
    folder = tmp_path / "reevaluating" / "cvpr26-suppl" / "few_shot_classification"
    folder.mkdir()
    (folder / "utils.py").write_text("def cls_acc(sims, labels):\n    return 0\n")
    (folder / "main_few_shots.py").write_text(FEW_SHOT)
    where = [f"--{name}={tmp_path / name}" for name in ("isoclip", "reevaluating")]
    done, found = run_quickly(("papers",), tmp_path, *where)
    assert done.returncode == 0, done.stdout + done.stderr
    names = [claim["reference"].split(":")[0] for claim in found["papers"]["claims"]]
    assert names == ["isoclip", "isoclip", "reevaluating", "reevaluating"]


def write_standins(checkout, folder):
    (checkout / folder).mkdir(parents=True)
    (checkout / folder / "utils.py").write_text(
        "def retrieval_average_precision_atk(preds, target, top_k=None):\n    return 0.0\n"
    )
    (checkout / folder / "retrieval.py").write_text(RETRIEVAL)


RETRIEVAL = """
def calculate_similarities(name, gallery, query, split_size=32):
    return query @ gallery.T

def compute_metrics(name, similarities, query_labels, gallery_labels, same=False):
    values = [
        retrieval_average_precision(row, gallery_labels == label).item()
        for row, label in zip(similarities, query_labels)
    ]
    return {"mAP": 100 * np.mean(values)}

def apply_iso(text, image, k_top, k_bottom):
    u, s, v = torch.linalg.svd(image.T @ text, full_matrices=False)
    rank = min(image.shape[0], len(s))
    u, v = u[:, k_top:len(s) - k_bottom], v[k_top:len(s) - k_bottom].T
    return (text @ v @ v.T).T, (image @ u @ u.T).T
"""
FEW_SHOT = """
def calc_acc_from_sims(sims, labels):
    return 100 * (sims.argmax(1) == labels).float().mean().item()

def lda_iclr24_classify(inputs):
    x, y = inputs["train_features"].float(), inputs["train_labels"]
    classes = int(y.max()) + 1
    means = torch.stack([x[y == k].mean(0) for k in range(classes)])
    centred = x - means[y]
    n, d = x.shape
    covariance = torch.cat([centred[y == k] for k in range(classes)]).T.cov()
    precision = d * torch.linalg.pinv((n - 1) * covariance + covariance.trace() * torch.eye(d))
    weights = precision @ means.T
    sims = inputs["test_features"].float() @ weights - (means * weights.T).sum(1) / 2
    return calc_acc_from_sims(sims, inputs["test_labels"])
"""


def test_the_readme_shows_the_latest_results():
    """Both figures of each line of its table stand in one line of the results."""
    results = (ROOT / "benchmarks" / "results.md").read_text(encoding="utf-8").splitlines()
    speed = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Speed")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .+ \| ([\d.]+ m?s) \| ([\d.]+ m?s) \|$", speed, re.M)
    assert len(rows) == 4
    for published, ours in rows:
        assert any(f"| {ours}" in line and f": {published} |" in line for line in results), (published, ours)
