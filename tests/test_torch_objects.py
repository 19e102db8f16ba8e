"""What lies beside the weights in PyTorch's files is inert, and is named where the weights need it."""

import argparse
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from oracles_conversion import random_parameters, source_tensors, tiny, write_torch_zip
from pickle_programs import VECTOR, call, legacy, mapping, number, pickled, program, text, torch_zip

import jaxalign as ja
from jaxalign.conversion.checkpoint_files import read_tensors
from jaxalign.conversion.formats import FORMATS
from jaxalign.conversion.torch_files import read_torch
from jaxalign.errors import JaxalignError
from jaxalign.weights import stored


class Unknown:
    """Of a module that nobody else has."""

    def __init__(self):
        self.x = [1]


BESIDE = {
    "scalars": {"best": np.float64(3), "half": np.float16(1), "flag": np.bool_(True)},
    "paths": {"args": argparse.Namespace(out=Path("/x"), pure=PurePosixPath("y"))},
    "sets": {"frozen": {"a", "b"}, "kept": frozenset({1})},
    "default dictionary": {"history": defaultdict(list, {"loss": [1.0]})},
    "random states": {"numpy": np.random.RandomState(0).get_state(), "generator": np.random.default_rng(0)},
    "arrays": {"mean": np.ones(3), "names": np.array(["a"]), "objects": np.array([{}], object)},
    "objects": {
        "config": Unknown(),
        "class": Unknown,
        "error": ValueError("x"),
        "complex": 1j,
        "range": range(3),
    },
    "odd keys": {(1, (2, 3)): 4, 5: {None: 6}, frozenset({7}): 8, b"9": 10},
}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("protocol", [0, 2])
def test_what_lies_beside_the_weights_is_inert(tmp_path, beside, protocol):
    """In the same dictionary too; and nothing of it is read as an array would be."""
    entries = b"".join(text(str(key)) + pickled(value, protocol) + b"s" for key, value in beside.items())
    state = b"}" + text("w") + VECTOR + b"s"
    for content in (
        b"}" + text("state_dict") + state + b"s" + entries,
        state + entries,
        b"}" + text("model") + state + entries + b"s" + text("epoch") + number(3) + b"s",
    ):
        for path in (
            torch_zip(tmp_path / "m.pt", program(content)),
            legacy(tmp_path / "m.bin", program(content)),
        ):
            found = read_tensors(path)
            tensors = {key: x for key, x in found.items() if not x.is_object}
            assert list(tensors) == ["w"]
            np.testing.assert_array_equal(tensors["w"].read(), [0, 1, 2, 3])


def with_objects(path: Path, tensors: dict[str, np.ndarray], **objects) -> Path:
    """A state dict with other things in it."""
    with zipfile.ZipFile(write_torch_zip(path, tensors)) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    more = b"".join(text(key) + pickled(value, 2) + b"s" for key, value in objects.items())
    members["archive/data.pkl"] = members["archive/data.pkl"][:-1] + more + b"."
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


@pytest.fixture(scope="module")
def clip():
    spec = tiny("clip-vit-base-patch16")
    return spec, source_tensors(FORMATS[0], random_parameters(spec.towers))


def test_what_the_weights_need_is_named(clip, tmp_path):
    spec, tensors = clip
    path = with_objects(
        tmp_path / "m.pt", tensors, best=np.float64(3), args=argparse.Namespace(out=Path("/"))
    )
    assert ja.load(path, spec=spec).config == spec.towers
    scale = tensors["logit_scale"]
    others = {key: x for key, x in tensors.items() if key != "logit_scale"}
    path = with_objects(tmp_path / "m.pt", others, logit_scale=np.asarray(scale), best=np.float64(3))
    needed = (
        r"do not fit: 1 of a wrong dtype: logit_scale is numpy\._?core\.multiarray\._reconstruct, expected"
    )
    with pytest.raises(JaxalignError, match=needed):
        ja.load(path, spec=spec)
    arrays = with_objects(tmp_path / "m.pt", {}, **tensors)
    with pytest.raises(
        JaxalignError, match=r"no tensors by name \(its pickle asks for numpy\._core\.multiarray"
    ):
        ja.load(arrays, spec=spec)


def test_objects_say_nothing_of_the_model(clip, tmp_path):
    """OpenAI's archives alone have a tensor of this name."""
    _, tensors = clip
    path = with_objects(tmp_path / "m.pt", tensors, input_resolution=np.int64(48))
    with pytest.raises(JaxalignError) as said:
        ja.load(path)
    with pytest.raises(JaxalignError) as plain:
        ja.load(write_torch_zip(tmp_path / "m.pt", tensors))
    assert str(said.value) == str(plain.value)


PREFIXES = (
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "module.module._orig_mod.module.",
)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_are_taken_off_until_none_fits(tmp_path, prefix):
    tensors = {"w": np.ones(2, np.float32), "module.v": np.ones(3, np.float32)}
    path = with_objects(
        tmp_path / "m.pt", {prefix + key: x for key, x in tensors.items()}, best=np.float64(3)
    )
    assert {key for key, x in read_tensors(path).items() if not x.is_object} == set(tensors)


@pytest.mark.parametrize("prefix", ["model.", "clip.", "module.net.model.", "_orig_mod.state_dict_ema."])
def test_attributes_that_held_the_model_are_no_part_of_its_names(clip, tmp_path, prefix):
    _, tensors = clip
    path = write_torch_zip(tmp_path / "m.pt", {prefix + key: x for key, x in tensors.items()})
    assert set(read_tensors(path)) == set(tensors)


def test_averages_of_the_weights_beside_them_are_a_choice(tmp_path):
    state = mapping(w=VECTOR)
    content = program(mapping(state_dict=state, epoch=number(3), state_dict_ema=state))
    with pytest.raises(JaxalignError, match="weights under state_dict and state_dict_ema; expected one"):
        read_torch(torch_zip(tmp_path / "m.pt", content))
    beside = program(mapping(state_dict=state, learning_rates=mapping(w=number(3))))
    assert list(read_torch(torch_zip(tmp_path / "m.pt", beside))) == ["w"]


def test_many_objects_are_left_out(tmp_path, monkeypatch):
    content = program(mapping(w=VECTOR, **{"x" * 1001: call("a.B")}, y=call("a.B")))
    assert list(read_torch(torch_zip(tmp_path / "m.pt", content))) == ["w", "y"]
    monkeypatch.setattr(stored, "MOST_TENSORS", 2)
    assert list(read_torch(torch_zip(tmp_path / "m.pt", content))) == ["w"]
