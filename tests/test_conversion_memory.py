"""What reading and converting a checkpoint takes of memory, in a process of its own."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from oracles_conversion import write_npz, write_torch_zip

from jaxalign.conversion.engine import matches
from jaxalign.conversion.formats.big_vision import BIG_VISION
from jaxalign.conversion.formats.huggingface import HF_SIGLIP
from jaxalign.conversion.formats.open_clip import CLIP_VIT
from jaxalign.specs import ModelSpec, find_spec, spec_to_json
from jaxalign.weights.safetensors_files import write_safetensors
from jaxalign.weights.tensors import expected_shapes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
PROGRAM = """
import json
import sys
from pathlib import Path
from jaxalign.specs import spec_from_json
from jaxalign.weights.tensors import expected_shapes
from jaxalign.conversion.conversion import convert_checkpoint
from jaxalign.conversion.reading import read
from jaxalign.inputs.tokenization import load_tokenizer

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))

source, spec, target, dtype = sys.argv[1:]
spec = spec_from_json(json.loads(spec))
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


def shallow(known: str, depth: int = 4, **text) -> ModelSpec:
    """Few blocks of base width in both towers: some 240 MB in float32, of which 100 MB are one tensor."""
    spec = find_spec(known)
    towers = replace(
        spec.towers,
        image=replace(spec.towers.image, depth=depth),
        text=replace(spec.towers.text, depth=depth, **text),
    )
    return replace(spec, towers=towers)


CLIP = shallow("clip-vit-base-patch16")
SIGLIP = shallow("siglip-base-patch16-224-big-vision")
# SigLIP 2's vocabulary is half of all its weights; here it is three quarters
LARGE_VOCABULARY = shallow("siglip2-base-patch16-224-big-vision", 1, vocabulary=70_000)
FORMATS = {CLIP: CLIP_VIT, SIGLIP: HF_SIGLIP, LARGE_VOCABULARY: BIG_VISION}
WRITERS = {
    "safetensors": lambda path, tensors: write_safetensors(tensors, path),
    "pt": write_torch_zip,
    "npz": write_npz,
}


def write_source(path: Path, spec: ModelSpec, dtype: str) -> int:
    """The bytes of a checkpoint of ones."""
    wanted, tensors = expected_shapes(spec.towers), {}
    for rule in FORMATS[spec].rules:
        for numbers in [] if rule.added else matches(rule.targets[0], wanted):
            shapes = [wanted[target.format(**numbers)] for target in rule.targets]
            tensors[rule.source.format(**numbers)] = np.ones(rule.transform.source_shape(shapes), dtype)
    WRITERS[path.suffix[1:]](path, tensors)
    return path.stat().st_size


def peak(spec: ModelSpec, source, target="-", dtype="float32") -> int:
    """Bytes that reading `source` takes, and with a `target` converting it, at most."""
    text = json.dumps(spec_to_json(spec))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(source), text, str(target), dtype],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "dtype", "suffix"),
    [
        (CLIP, "float32", "safetensors"),
        (CLIP, "float16", "safetensors"),
        (CLIP, "float16", "pt"),
        (CLIP, "float32", "npz"),
        (LARGE_VOCABULARY, "float16", "npz"),
    ],
)
def test_reading_takes_little_more_than_the_result(spec, dtype, suffix, tmp_path):
    """The result is as large as the file, or twice as large from half precision: then 2.2 times the file."""
    path = tmp_path / f"model.{suffix}"
    size = write_source(path, spec, dtype)
    result = size * (1 if dtype == "float32" else 2)
    found = peak(spec, path)
    assert 0.9 * result < found < 1.1 * result, f"{found / size:.2f} times the checkpoint"


@pytest.mark.long
@pytest.mark.parametrize(
    ("spec", "source", "target"),
    [(CLIP, "float16", "float32"), (CLIP, "float16", "float16"), (SIGLIP, "float16", "float16")],
)
def test_the_whole_conversion_too(spec, source, target, tmp_path):
    """Casting, checksums, writing and reading back hold no tensor twice; SigLIP is written as `.npz`."""
    path = tmp_path / "model.safetensors"
    size = write_source(path, spec, source)
    found = peak(spec, path, tmp_path / ("out.npz" if spec is SIGLIP else "out"), target)
    assert 1.8 * size < found < 2.2 * size, f"{found / size:.2f} times the checkpoint"
