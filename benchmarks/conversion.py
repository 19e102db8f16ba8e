"""Converting a checkpoint against reading its file, as its own library does, and copying what was read.

The file is CLIP ViT-B/16 as transformers names its tensors: 599 MB of random float32, in the page cache.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from jaxalign.conversion.conversion import convert_checkpoint
from jaxalign.conversion.engine import matches
from jaxalign.conversion.formats.huggingface import HF_CLIP
from jaxalign.conversion.reading import read
from jaxalign.models import TwoTowersConfig
from jaxalign.specs import ModelSpec, find_spec
from jaxalign.weights.safetensors_files import write_safetensors
from jaxalign.weights.tensors import expected_shapes

from .measure import Claim, pair
from .settings import pick

MODEL = "clip-vit-base-patch16"
PROMISED = 1 / 1.5  # conversion takes at most 1.5 times as long


def claims() -> Iterator[Claim]:
    """Reading each kind of file into a model, and the whole of `jaxalign convert`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tensors = source_tensors()
        path = folder / "model.safetensors"
        write_safetensors(tensors, path)
        yield reading("safetensors", path, read_safetensors)
        yield converting(path)
        np.savez(folder / "model.npz", allow_pickle=False, **tensors)
        yield reading(".npz", folder / "model.npz", read_npz)
        try:
            import torch
        except ImportError:
            print("conversion of .pt: skipped, torch is not installed (pip install 'jaxalign[reference]')")
            return
        torch.save({k: torch.from_numpy(v) for k, v in tensors.items()}, folder / "model.pt")
        read_torch = lambda path: [x.clone() for x in torch.load(path, weights_only=True).values()]
        yield reading(".pt", folder / "model.pt", read_torch)


def model_spec() -> ModelSpec:
    """The model's facts; for a quick run, with towers of one narrow block."""
    spec = find_spec(MODEL)
    small: dict[str, Any] = {"depth": 1, "width": 64, "heads": 2, "mlp_hidden": 64, "projection": 32}
    known: Any = spec.towers
    towers = TwoTowersConfig(replace(known.image, **small), replace(known.text, **small))
    return pick(spec, replace(spec, towers=towers))


def reading(kind: str, path: Path, reference: Callable[[Path], Any]) -> Claim:
    """Into memory."""
    spec = model_spec()
    return claim(
        f"conversion of CLIP ViT-B/16, {path.stat().st_size / 1e6:.0f} MB {kind}",
        path,
        lambda: read(path, spec).params,
        "reading the file and one copy",
        lambda: reference(path),
    )


def converting(path: Path) -> Claim:
    """Onto the disk, with SHA-256 of every tensor twice: a plain copy is a scale, and no promise."""
    spec, target = model_spec(), path.parent / "converted"

    def copy() -> None:
        """Flushed and renamed, as ours is."""
        partial = path.with_suffix(".partial")
        shutil.copyfile(path, partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path.with_suffix(".copy"))

    return claim(
        f"the same {path.stat().st_size / 1e6:.0f} MB safetensors to a folder on disk, checked",
        path,
        lambda: convert_checkpoint(path, target, spec=spec),
        "copying the file, flushed",
        copy,
        promised=None,
    )


def claim(
    name: str,
    path: Path,
    ours: Callable[[], Any],
    reference: str,
    theirs: Callable[[], Any],
    promised: float | None = PROMISED,
) -> Claim:
    """Reading, writing and reading again: at least three times the bytes of `path`."""
    return Claim(
        name,
        reference=reference,
        at_least=promised,
        bytes=3 * path.stat().st_size,
        **pair(ours, theirs, repeats=15, budget=60)._asdict(),
    )


def read_safetensors(path: Path) -> list[np.ndarray]:
    return [x.copy() for x in load_file(path).values()]


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
