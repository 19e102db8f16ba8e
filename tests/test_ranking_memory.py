"""What a million distractors cost in memory, in a process of its own."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import numpy as np
import jaxalign as ja

rng = np.random.default_rng(0)
gallery = np.empty((1_000_000, 512), np.float16)
for start in range(0, len(gallery), 10_000):
    gallery[start : start + 10_000] = rng.standard_normal((10_000, 512), np.float32)
query = rng.standard_normal((70, 512), np.float32)
truth = []
for i in range(70):
    picked = rng.permutation(5_000)[:150]
    truth.append({"easy": picked[:50], "hard": picked[50:100], "junk": picked[100:]})
    gallery[picked[:50]] += query[i].astype(np.float16)
if CALL == "revisited":
    metrics = ja.revisited_metrics(query, gallery, truth)
    assert 0 < metrics["mAP_hard"] < metrics["mAP_easy"] <= 100
else:
    ap = ja.average_precision(query, gallery, [entry["easy"].tolist() for entry in truth])
    assert 0 < float(ap.mean()) <= 1
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("call", ["average_precision", "revisited"])
def test_a_million_items_in_under_3_gib(call):
    if sys.platform != "linux":
        pytest.skip("ru_maxrss is in KiB on Linux only")
    program = f"CALL = {call!r}\n" + PROGRAM
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 3 * 2**30
