"""What reading and converting a checkpoint takes of memory, in a process of its own."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from oracles_conversion import write_torch_zip

from checkpoints_conversion.engine import matches
from checkpoints_conversion.rules.huggingface import HF_SIGLIP
from checkpoints_conversion.rules.open_clip import CLIP_VIT
from jaxalign.safetensors_files import write_safetensors
from jaxalign.specs import find_spec
from jaxalign.tensors import expected_shapes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
DEPTH = 4  # blocks of B/16 in both towers: some 240 MB, of which 100 MB are one tensor
PROGRAM = """
import sys
from dataclasses import replace
from pathlib import Path
from jaxalign.specs import find_spec
from jaxalign.tensors import expected_shapes
from checkpoints_conversion.conversion import convert_checkpoint
from checkpoints_conversion.reading import read
from jaxalign.tokenization import load_tokenizer

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

source, known, depth, target, dtype = sys.argv[1:]
spec = find_spec(known)
image, text = (replace(tower, depth=int(depth)) for tower in (spec.towers.image, spec.towers.text))
spec = replace(spec, towers=replace(spec.towers, image=image, text=text))
expected_shapes(spec.towers)
from_package = load_tokenizer(spec, Path())  # the vocabulary that ships is no part of the checkpoint
before = memory("VmRSS")
if target == "-":
    model = read(Path(source), spec)
else:
    to = "big_vision" if target.endswith(".npz") else "jaxalign"
    convert_checkpoint(source, Path(target), spec=spec, dtype=dtype, to=to)
print(memory("VmHWM") - before)
"""
CLIP, SIGLIP = "clip-vit-base-patch16", "siglip-base-patch16-224-big-vision"
TABLES = {CLIP: CLIP_VIT, SIGLIP: HF_SIGLIP}


def source_tensors(known: str, dtype: str) -> dict[str, np.ndarray]:
    spec = find_spec(known).towers
    towers = replace(spec, image=replace(spec.image, depth=DEPTH), text=replace(spec.text, depth=DEPTH))
    wanted, tensors = expected_shapes(towers), {}
    for rule in TABLES[known].rules:
        for numbers in matches(rule.targets[0], wanted):
            shapes = [wanted[target.format(**numbers)] for target in rule.targets]
            tensors[rule.source.format(**numbers)] = np.ones(rule.transform.source_shape(shapes), dtype)
    return tensors


def peak(known: str, source, target="-", dtype="float32") -> int:
    """Bytes that reading `source` takes, and with a `target` converting it, at most."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(source), known, str(DEPTH), str(target), dtype],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


@pytest.mark.parametrize(
    ("dtype", "suffix"), [("float32", "safetensors"), ("float16", "safetensors"), ("float16", "pt")]
)
def test_peak_is_below_2_2_times_the_checkpoint(dtype, suffix, tmp_path):
    """In float32 the result alone is as large as the file, from half precision twice as large."""
    tensors = source_tensors(CLIP, dtype)
    path = tmp_path / f"model.{suffix}"
    write_safetensors(tensors, path) if suffix == "safetensors" else write_torch_zip(path, tensors)
    size = path.stat().st_size
    result = size * (1 if dtype == "float32" else 2)
    found = peak(CLIP, path)
    assert 0.9 * result < found < 2.2 * size, f"{found / size:.2f} times the checkpoint"


@pytest.mark.parametrize(
    ("source", "target", "known"),
    [("float16", "float32", CLIP), ("float16", "float16", CLIP), ("float16", "float16", SIGLIP)],
)
def test_the_whole_conversion_too(source, target, known, tmp_path):
    """Casting, checksums, writing and reading back hold no tensor twice; SigLIP is written as `.npz`."""
    path = tmp_path / "model.safetensors"
    write_safetensors(source_tensors(known, source), path)
    size = path.stat().st_size
    found = peak(known, path, tmp_path / ("out.npz" if known == SIGLIP else "out"), target)
    assert 1.8 * size < found < 2.2 * size, f"{found / size:.2f} times the checkpoint"
