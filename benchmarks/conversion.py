"""Converting a checkpoint against reading its file, as its own library does, and copying what was read.

The file is CLIP ViT-B/16 as transformers names its tensors: 599 MB of random float32, in the page cache.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from checkpoints_conversion.engine import matches
from checkpoints_conversion.reading import read
from checkpoints_conversion.rules.huggingface import HF_CLIP
from jaxalign.models import TwoTowersConfig
from jaxalign.safetensors_files import write_safetensors
from jaxalign.specs import ModelSpec, find_spec
from jaxalign.tensors import expected_shapes

from .measure import Claim, seconds
from .settings import pick

MODEL = "clip-vit-base-patch16"
PROMISED = 1 / 1.5  # conversion takes at most 1.5 times as long


def claims() -> Iterator[Claim]:
    """One for each kind of file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tensors = source_tensors()
        write_safetensors(tensors, folder / "model.safetensors")
        yield claim("safetensors", folder / "model.safetensors", read_bytes)
        np.savez(folder / "model.npz", allow_pickle=False, **tensors)
        yield claim(".npz", folder / "model.npz", read_npz)
        try:
            import torch
        except ImportError:
            print("conversion of .pt: skipped, torch is not installed (pip install 'jaxalign[reference]')")
            return
        torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, folder / "model.pt")
        read_torch = lambda path: [x.clone() for x in torch.load(path, weights_only=True).values()]
        yield claim(".pt", folder / "model.pt", read_torch)


def model_spec() -> ModelSpec:
    """The model's facts; for a quick run, with towers of one narrow block."""
    spec = find_spec(MODEL)
    small: dict[str, Any] = {"depth": 1, "width": 64, "heads": 2, "mlp_hidden": 64, "projection": 32}
    known: Any = spec.towers
    towers = TwoTowersConfig(replace(known.image, **small), replace(known.text, **small))
    return pick(spec, replace(spec, towers=towers))


def claim(kind: str, path: Path, reference: Callable[[Path], Any]) -> Claim:
    """Ours and the reference in turn, so that a busy machine slows both; the median pair."""
    spec = model_spec()
    convert = lambda: read(path, spec).params
    _, compiling = seconds(convert, repeats=1)
    pairs = [
        (seconds(convert, repeats=1)[0], seconds(lambda: reference(path), repeats=1)[0])
        for _ in range(pick(15, 1))
    ]
    ours, theirs = sorted(pairs, key=lambda pair: pair[0] / pair[1])[len(pairs) // 2]
    return Claim(
        name=f"conversion of CLIP ViT-B/16, {path.stat().st_size / 1e6:.0f} MB {kind}",
        seconds=ours,
        compile_seconds=compiling,
        reference="reading the file and one copy",
        reference_seconds=theirs,
        at_least=PROMISED,
        bytes=3 * path.stat().st_size,
    )


def read_bytes(path: Path) -> np.ndarray:
    return np.fromfile(path, np.uint8).copy()


def read_npz(path: Path) -> list[np.ndarray]:
    """As NumPy does it, which compares checksums too."""
    with np.load(path, allow_pickle=False) as archive:
        return [archive[name].copy() for name in archive.files]


def source_tensors(seed: int = 0) -> Mapping[str, np.ndarray]:
    """Random tensors with the names and shapes of transformers' `CLIPModel`."""
    rng = np.random.default_rng(seed)
    wanted = expected_shapes(model_spec().towers)
    tensors = {}
    for rule in HF_CLIP.rules:
        for numbers in matches(rule.targets[0], wanted):
            shapes = [wanted[target.format(**numbers)] for target in rule.targets]
            shape = rule.transform.source_shape(shapes)
            tensors[rule.source.format(**numbers)] = rng.standard_normal(shape, np.float32)
    return tensors
