"""What reading a checkpoint takes of memory, in a process of its own."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from oracles_conversion import write_torch_zip

from checkpoints_conversion.engine import matches
from checkpoints_conversion.rules.open_clip import CLIP_VIT
from jaxalign.safetensors_files import write_safetensors
from jaxalign.specs import find_spec
from jaxalign.tensors import expected_shapes

DEPTH = 4  # blocks of B/16 in both towers: some 240 MB, of which 100 MB are one tensor
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from jaxalign.specs import find_spec
from jaxalign.tensors import expected_shapes
from checkpoints_conversion.reading import read
from jaxalign.tokenization import load_tokenizer

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

spec = find_spec("clip-vit-base-patch16")
image, text = (replace(tower, depth=4) for tower in (spec.towers.image, spec.towers.text))
towers = replace(spec.towers, image=image, text=text)
expected_shapes(towers)
from_package = load_tokenizer(spec, Path())  # the vocabulary that ships is no part of the checkpoint
before = memory("VmRSS")
model = read(Path(sys.argv[1]), replace(spec, towers=towers))
print(memory("VmHWM") - before)
"""


def source_tensors(dtype) -> dict[str, np.ndarray]:
    spec = find_spec("clip-vit-base-patch16").towers
    towers = replace(spec, image=replace(spec.image, depth=DEPTH), text=replace(spec.text, depth=DEPTH))
    wanted, tensors = expected_shapes(towers), {}
    for rule in CLIP_VIT.rules:
        for numbers in matches(rule.targets[0], wanted):
            shapes = [wanted[target.format(**numbers)] for target in rule.targets]
            tensors[rule.source.format(**numbers)] = np.ones(rule.transform.source_shape(shapes), dtype)
    return tensors


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
@pytest.mark.parametrize(
    ("dtype", "suffix"), [("float32", "safetensors"), ("float16", "safetensors"), ("float16", "pt")]
)
def test_peak_is_below_2_2_times_the_checkpoint(dtype, suffix, tmp_path):
    """In float32 the result alone is as large as the file, from half precision twice as large."""
    tensors = source_tensors(dtype)
    path = tmp_path / f"model.{suffix}"
    write_safetensors(tensors, path) if suffix == "safetensors" else write_torch_zip(path, tensors)
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True
    )
    size = path.stat().st_size
    result = size * (1 if dtype == "float32" else 2)
    peak = int(run.stdout)
    assert 0.9 * result < peak < 2.2 * size, f"{peak / size:.2f} times the checkpoint"
