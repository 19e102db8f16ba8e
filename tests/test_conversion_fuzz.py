"""Mutated checkpoints: each loads exactly what its file says, or fails with our error."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from oracles_conversion import (
    TINY_CLIP_CONFIG,
    random_parameters,
    source_tensors,
    tiny,
    write_npz,
    write_torch_zip,
)
from safetensors.numpy import save_file

import jaxalign as ja
from jaxalign.conversion.formats import FORMATS
from jaxalign.errors import JaxalignError
from jaxalign.weights.tensors import flatten

BYTES = 50  # mutations of bytes for each format
TENSORS = 12  # mutations of tensors of each kind for each format
KINDS = ("safetensors", "npz", "pt", "folder")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A writer, the facts to load with and the right answer, for each format."""
    folder = tmp_path_factory.mktemp("fuzz")
    clip, siglip = tiny("clip-vit-base-patch16"), tiny("siglip2-base-patch16-224-big-vision")
    tables = {table.name: table for table in FORMATS}
    made = {}
    for kind in KINDS:
        spec = siglip if kind == "npz" else clip
        table = tables[
            {"npz": "big_vision two_towers", "folder": "transformers CLIPModel"}.get(kind, FORMATS[0].name)
        ]
        params = random_parameters(spec.towers)
        made[kind] = (source_tensors(table, params), None if kind == "folder" else spec, params)
    return folder, made


def write(kind: str, folder: Path, tensors: dict[str, np.ndarray]) -> Path:
    """The checkpoint, and the file whose bytes are mutated."""
    if kind == "npz":
        return write_npz(folder / "m.npz", tensors)
    if kind == "pt":
        return write_torch_zip(folder / "m.pt", tensors)
    path = folder / ("model.safetensors" if kind == "folder" else "m.safetensors")
    save_file({k: np.array(v, order="C") for k, v in tensors.items()}, path)
    if kind == "folder":
        (folder / "config.json").write_text(json.dumps(TINY_CLIP_CONFIG))
    return path


def outcome(path: Path, spec, params, flipped: int = 0) -> bool:
    """Whether it loaded; no more than `flipped` numbers may then differ from `params`."""
    try:
        model = ja.load(path, spec=spec)
    except JaxalignError as error:
        message = str(error)
        assert "\n" not in message
        assert path.name in message
        return False
    found = flatten(model.params)
    assert found.keys() == params.keys()
    different = sum(int((found[k].reshape(-1) != params[k].reshape(-1)).sum()) for k in params)
    assert different <= flipped
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_truncated_and_flipped(kind, checkpoints, tmp_path):
    """Numbers in a safetensors file have no checksum: a flipped bit there changes one of them."""
    _, made = checkpoints
    tensors, spec, params = made[kind]
    path = write(kind, tmp_path, tensors)
    target = tmp_path if kind == "folder" else path
    assert outcome(target, spec, params)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for i in range(BYTES):
        content = bytearray(whole)
        if i % 3 == 0:
            content = content[: rng.integers(len(whole))]
        else:  # the first and last bytes hold the headers and the directory
            ends = [rng.integers(2000), len(whole) - 1 - rng.integers(2000), rng.integers(len(whole))]
            content[ends[rng.integers(3)]] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(content))
        outcome(target, spec, params, flipped=0 if kind in ("npz", "pt") else 1)


def mutated(rng, tensors, which: int) -> dict[str, np.ndarray]:
    out = dict(tensors)
    name = sorted(out)[rng.integers(len(out))]
    x = out[name]
    if which == 0:
        del out[name]
    elif which == 1:
        out[name[:-1] + "x"] = out.pop(name)
    elif which == 2:
        out[f"extra.{name}"] = x
    elif which == 3:
        out[name] = np.concatenate([x.reshape(-1), np.ones(1, x.dtype)])
    else:
        out[name] = x.astype(np.int64)
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_renamed_missing_extra_misshapen_and_of_another_dtype(kind, checkpoints, tmp_path):
    _, made = checkpoints
    tensors, spec, params = made[kind]
    rng = np.random.default_rng(1)
    for i in range(TENSORS):
        path = write(kind, tmp_path, mutated(rng, tensors, i % 5))
        assert not outcome(tmp_path if kind == "folder" else path, spec, params), i


WRONG = (None, True, -1, 0, 3, 2**70, 1.5, float("nan"), "3", "x", [], [1, 2, 3], {}, {"x": 1})


@pytest.mark.long
def test_configurations_with_wrong_values(checkpoints, tmp_path):
    """Defaults stand for what is null; a value that happens to be right is no fault."""
    _, made = checkpoints
    tensors, spec, params = made["folder"]
    write("folder", tmp_path, tensors)
    for part in (None, "text_config", "vision_config"):
        for key in TINY_CLIP_CONFIG if part is None else TINY_CLIP_CONFIG[part]:
            for value in WRONG[0 if part is None else 1 :: 1 if part is None else 2]:
                config = json.loads(json.dumps(TINY_CLIP_CONFIG))
                (config if part is None else config[part])[key] = value
                (tmp_path / "config.json").write_text(json.dumps(config))
                outcome(tmp_path, spec, params)


def test_our_own_folder(checkpoints, tmp_path):
    _, made = checkpoints
    tensors, spec, params = made["safetensors"]
    source = write("safetensors", tmp_path, tensors)
    ja.save(ja.load(source, spec=spec), tmp_path / "ours")
    rng = np.random.default_rng(2)
    for name in ("config.json", "model.safetensors"):
        whole = (tmp_path / "ours" / name).read_bytes()
        for i in range(20):
            copy = tmp_path / f"copy-{name}-{i}"
            shutil.copytree(tmp_path / "ours", copy)
            content = bytearray(whole)
            if i % 2:
                content = content[: rng.integers(len(whole))]
            else:
                content[rng.integers(min(len(whole), 3000))] ^= 1 << rng.integers(8)
            (copy / name).write_bytes(bytes(content))
            outcome(copy, None, params, flipped=1)
            shutil.rmtree(copy)
