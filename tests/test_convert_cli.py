"""`jaxalign convert`: what it writes, what it says, and that a failure leaves the target as it was."""

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from oracles_conversion import random_parameters, source_tensors, tiny, write_npz, write_torch_zip
from safetensors.numpy import load_file

import jaxalign as ja
from jaxalign.conversion import conversion
from jaxalign.conversion.formats import FORMATS
from jaxalign.eval import cli
from jaxalign.weights import checkpoint
from jaxalign.weights.tensors import flatten

SIGLIP = "siglip2-base-patch16-224-big-vision"


@pytest.fixture
def source(tmp_path):
    """An original SLIP file in small: its facts follow from the shapes."""
    spec = tiny("slip-vit-base-patch16")
    table = next(t for t in FORMATS if t.name == "SLIP original")
    tensors = source_tensors(table, random_parameters(spec.towers))
    return write_torch_zip(tmp_path / "slip.pt", tensors)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_folder_with_a_report(source, tmp_path, dtype, capsys):
    folder, said = tmp_path / "slip", tmp_path / "said.json"
    arguments = ["convert", str(source), str(folder), "--dtype", dtype, "--json", str(said)]
    assert cli.main(arguments) == 0
    assert "parameters in" in capsys.readouterr().out
    report = json.loads((folder / "verify.json").read_text())
    assert report == json.loads(said.read_text())
    tensors = load_file(folder / "model.safetensors")
    assert report["parameters"] == sum(x.size for x in tensors.values())
    assert report["spec"] == json.loads(json.dumps(report["spec"]))
    assert report["spec"]["towers"]["image"]["width"] == 128
    for name, x in tensors.items():
        assert x.dtype.name == dtype
        assert report["tensors"][name] == {
            "shape": list(x.shape),
            "sha256": hashlib.sha256(x.tobytes()).hexdigest(),
        }
    before, after = ja.load(source), ja.load(folder)
    assert before.spec == after.spec
    if dtype == "float32":
        for name, x in flatten(before.params).items():
            np.testing.assert_array_equal(x, flatten(after.params)[name])


def test_a_full_disk_leaves_the_target_untouched(source, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "out" / "slip"
    assert cli.main(["convert", str(source), str(folder)]) == 0
    before = files(tmp_path / "out")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    for module, name in ((checkpoint, "write_safetensors"), (conversion, "_as_text")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            assert cli.main(["convert", str(source), str(folder), "--dtype", "float16"]) == 1
        assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
        assert files(tmp_path / "out") == before


def test_a_disk_that_really_is_full(source, monkeypatch, tmp_path, capsys):
    """/dev/full takes no byte: the error comes from the system."""
    real = checkpoint.write_safetensors
    monkeypatch.setattr(
        checkpoint, "write_safetensors", lambda tensors, path, dtype: real(tensors, Path("/dev/full"), dtype)
    )
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    assert cli.main(["convert", str(source), str(tmp_path / "out" / "slip")]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("at", [-1, -5000])
def test_a_disk_that_gives_back_other_bytes(source, monkeypatch, tmp_path, capsys, at):
    real = checkpoint.write_safetensors

    def write(tensors, path, dtype):
        real(tensors, path, dtype)
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(bytes(content))

    monkeypatch.setattr(checkpoint, "write_safetensors", write)
    assert cli.main(["convert", str(source), str(tmp_path / "out" / "slip")]) == 1
    assert "model.safetensors does not hold what was written: txt/" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_big_vision(tmp_path, capsys):
    spec = tiny(SIGLIP)
    table = next(t for t in FORMATS if t.name == "big_vision two_towers")
    params = random_parameters(spec.towers)
    source = write_npz(tmp_path / "m.npz", source_tensors(table, params))
    target = tmp_path / "out.npz"
    assert cli.main(["convert", str(source), str(target), "--to", "big_vision"]) == 0
    found = np.load(target, allow_pickle=False)
    assert set(found.files) == {f"params/{name}" for name in params}
    for name, x in params.items():
        np.testing.assert_array_equal(found[f"params/{name}"], x)
    report = json.loads((tmp_path / "out.verify.json").read_text())
    assert report["tensors"].keys() == params.keys()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.npz", "out.npz", "out.verify.json"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["{source}"], 2, "DST"),
        (["{source}", "{out}", "--to", "tensorflow"], 2, "tensorflow"),
        (["{source}", "{out}", "--to", "big_vision"], 1, "expected a .npz for big_vision"),
        (["{source}", "{out}.npz", "--to", "big_vision"], 1, "big_vision's two_towers cannot express what"),
        (["{source}", "{out}.npz"], 1, "expected a .npz for big_vision, and a folder for jaxalign"),
        (["{source}", "{out}", "--spec", "slipp"], 1, "unknown model 'slipp'"),
        (["{source}", "{folder}"], 1, "exists and is not a model that jaxalign saved"),
        (["{folder}/nothing", "{out}"], 1, "error: there is no file or folder "),
    ],
)
def test_what_it_refuses(arguments, status, message, source, tmp_path, capsys):
    places = {"source": source, "out": tmp_path / "out", "folder": tmp_path}
    before = files(tmp_path)
    assert cli.main(["convert", *(a.format(**places) for a in arguments)]) == status
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert files(tmp_path) == before
