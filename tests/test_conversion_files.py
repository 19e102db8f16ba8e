"""Readers of files: what is damaged or malicious is refused, and nothing in it is executed."""

import json
import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from oracles_conversion import random_parameters, source_tensors, tiny, write_npz, write_torch_zip
from safetensors.numpy import load_file, save_file

import jaxalign as ja
from jaxalign.conversion.checkpoint_files import read_tensors
from jaxalign.conversion.formats import FORMATS
from jaxalign.conversion.npz_files import read_npz
from jaxalign.conversion.torch_files import read_torch
from jaxalign.errors import JaxalignError
from jaxalign.specs import find_spec
from jaxalign.weights.safetensors_files import read_safetensors, write_safetensors

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones((), np.float16)}


class Runs:
    """Pickles into a call that leaves a trace."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def zip_with(path, content: bytes):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return path


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": {"w": x}}, lambda x: [[x]]])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_runs_code_is_refused_and_runs_none(tmp_path, wrap, protocol):
    trace = tmp_path / "trace"
    calls = [Runs(os.mkdir, str(trace)), Runs(eval, f"__import__('os').mkdir({str(trace)!r})")]
    calls += [Runs(getattr, __import__("collections").OrderedDict, "fromkeys")]
    for call in calls:
        content = pickle.dumps(wrap(call), protocol)
        path = zip_with(tmp_path / "bad.pt", content)
        with pytest.raises(JaxalignError, match=r"its pickle asks for .* nothing was executed"):
            ja.load(path)
        (tmp_path / "bad.bin").write_bytes(content)
        with pytest.raises(JaxalignError):
            ja.load(tmp_path / "bad.bin")
    assert not trace.exists()


def test_state_cannot_reach_a_class(tmp_path):
    """BUILD on what is admitted sets no attribute that anything looks at."""
    content = b"\x80\x02ccollections\nOrderedDict\n}X\x06\x00\x00\x00updateX\x01\x00\x00\x00xsb."
    with pytest.raises(JaxalignError):
        read_tensors(zip_with(tmp_path / "odd.pt", content))
    good = read_torch(write_torch_zip(tmp_path / "good.pt", TENSORS))
    assert good["a.weight"].shape == (2, 3)


def test_npz_without_pickle(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([Runs(os.mkdir, str(tmp_path / "trace"))], object))
    with pytest.raises(JaxalignError, match="allow_pickle=False"):
        ja.load(tmp_path / "x.npz")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("suffix", [".pt", ".npz", ".safetensors"])
def test_readers_agree(tmp_path, suffix):
    path = tmp_path / f"m{suffix}"
    write = {".pt": write_torch_zip, ".npz": write_npz, ".safetensors": lambda p, t: save_file(t, p)}
    write[suffix](path, TENSORS)
    read = {".pt": read_torch, ".npz": read_npz, ".safetensors": read_safetensors}[suffix]
    found = read(path)
    assert found.keys() == TENSORS.keys()
    for name, x in TENSORS.items():
        assert (found[name].shape, found[name].dtype) == (x.shape, x.dtype.name)
        np.testing.assert_array_equal(found[name].read(), x)


def test_what_is_written_is_what_the_library_of_safetensors_reads(tmp_path):
    tensors = TENSORS | {"empty": np.zeros((0, 3), np.float32), "ä": np.full((2, 2), 3, np.float32)}
    write_safetensors(tensors, tmp_path / "m.safetensors")
    found = load_file(tmp_path / "m.safetensors")
    for name, x in tensors.items():
        np.testing.assert_array_equal(found[name], x)
    assert tmp_path.joinpath("m.safetensors").read_bytes()[:8] != bytes(8)


HEADERS = {
    "no object": "[]",
    "no JSON": "{",
    "twice": '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}',
    "overlap": '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    '"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "beyond": '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    "negative": '{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
    "size": '{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,4]}}',
    "dtype": '{"a":{"dtype":"F8","shape":[4],"data_offsets":[0,4]}}',
    "no shape": '{"a":{"dtype":"F32","data_offsets":[0,4]}}',
    "true": '{"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}}',
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_damaged_headers(tmp_path, header):
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(4))
    with pytest.raises(JaxalignError, match=r"m\.safetensors"):
        read_safetensors(path)


@pytest.fixture(scope="module")
def clip_tensors():
    """OpenAI's B/16 in small, without saying whose it is."""
    spec = tiny("clip-vit-base-patch16")
    params = random_parameters(spec.towers)
    return spec, params, source_tensors(FORMATS[0], params)


def test_which_of_two_models_it_is_must_be_said(tmp_path, clip_tensors):
    _, _, tensors = clip_tensors
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, tmp_path / "m.safetensors")
    with pytest.raises(JaxalignError, match=r"m\.safetensors may be clip-vit-base-patch32 or .*-datacomp"):
        ja.load(tmp_path / "m.safetensors")
    with pytest.raises(JaxalignError, match=r"unknown model 'clip-b'"):
        ja.load(tmp_path / "m.safetensors", spec="clip-b")
    for name, activation in (("clip-vit-base-patch16", "quick_gelu"), ("ViT-B/16-open", "gelu")):
        model = ja.load(tmp_path / "m.safetensors", spec=name)  # its settings, in the sizes of the file
        assert {model.config.image.activation, model.config.text.activation} == {activation}
        assert (model.name, model.config.image.width, model.spec.band) == ("m.safetensors", 128, None)


def test_openai_files_are_known_by_what_they_hold_and_not_by_name(tmp_path, clip_tensors):
    """What its archives hold beside the weights fixes the activation; a name may be anybody's."""
    _, _, tensors = clip_tensors
    archive = {"input_resolution": 48, "context_length": 10, "vocab_size": 50}
    facts = {k: np.array(v) for k, v in archive.items()}
    for name in ("some.pt", "ViT-B-16.pt"):
        path = write_torch_zip(tmp_path / name, tensors | facts)
        model = ja.load(path)
        assert model.config.image.activation == model.config.text.activation == "quick_gelu"
        assert (model.config.image.heads, model.config.text.heads) == (2, 1)
        assert model.name == ("some.pt" if name == "some.pt" else str(path))
        assert (model.spec.source, model.spec.band, model.spec.revision) == (str(path), None, None)
    with pytest.raises(JaxalignError, match=r"ViT-B-16\.pt may be .* image activation quick_gelu or gelu"):
        ja.load(write_torch_zip(tmp_path / "ViT-B-16.pt", tensors))


def test_configurations_of_open_clip_and_timm(tmp_path, clip_tensors):
    _, params, tensors = clip_tensors
    save_file(
        {k: np.ascontiguousarray(v) for k, v in tensors.items()}, tmp_path / "open_clip_model.safetensors"
    )
    config = {
        "model_cfg": {
            "embed_dim": 12,
            "vision_cfg": {"image_size": 48, "layers": 2, "width": 128, "patch_size": 16, "head_width": 32},
            "text_cfg": {"context_length": 10, "vocab_size": 50, "width": 64, "heads": 4, "layers": 3},
        },
        "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "resize_mode": "squash", "interpolation": "bilinear"},
    }
    config["model_cfg"]["vision_cfg"]["mlp_ratio"] = 40 / 128
    config["model_cfg"]["text_cfg"]["mlp_ratio"] = 28 / 64
    path = tmp_path / "open_clip_config.json"
    path.write_text(json.dumps(config))
    for folder in (tmp_path, tmp_path / "open_clip_model.safetensors"):
        model = ja.load(folder)
        assert (model.config.image.heads, model.config.text.heads) == (4, 4)
        assert model.config.image.activation == "gelu"
        assert (model.spec.mean, model.spec.resize) == ((0.1, 0.2, 0.3), "squash")
        assert model.spec.interpolation == "bilinear"
        np.testing.assert_array_equal(model.params["img"]["cls"], params["img/cls"])
    config["model_cfg"]["quick_gelu"] = True
    path.write_text(json.dumps(config))
    assert ja.load(tmp_path).config.text.activation == "quick_gelu"
    for where, value, message in (
        ("embed_dim", "12", "embed_dim is '12'; expected an integer"),
        ("quick_gelu", 1, "quick_gelu is 1; expected true or false"),
        ("embed_dim", 13, "misshapen"),
    ):
        path.write_text(json.dumps(config | {"model_cfg": config["model_cfg"] | {where: value}}))
        with pytest.raises(JaxalignError, match=message):
            ja.load(tmp_path)


def test_an_index_names_what_is_there(tmp_path, clip_tensors):
    spec, _, tensors = clip_tensors
    tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    names = sorted(tensors)
    files = {name: f"part-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({n: tensors[n] for n in names if files[n] == file}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    assert ja.load(index, spec=spec).name == spec.name
    for change, message in (
        ({names[0]: "part-1.safetensors"}, "disagree about"),
        ({names[0]: "../part-0.safetensors"}, "expected a weights file beside it"),
        ({names[0]: 3}, "expected a string"),
        ({"more": "part-0.safetensors"}, "disagree about more"),
    ):
        index.write_text(json.dumps({"weight_map": files | change}))
        with pytest.raises(JaxalignError, match=message):
            ja.load(index, spec=spec)


def test_folders_without_or_with_too_many_weights(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(JaxalignError, match="is in no format that can be read"):
        ja.load(tmp_path)
    (tmp_path / "a.pt").touch()
    (tmp_path / "b.pt").touch()
    with pytest.raises(JaxalignError, match=r"has a\.pt, b\.pt; expected one of"):
        ja.load(tmp_path)
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "config.json").write_text('{"model_type": "clap"}')
    with pytest.raises(JaxalignError, match="unknown model_type 'clap'; did you mean 'clip'"):
        ja.load(tmp_path)


@pytest.mark.parametrize("files", [["config.json", "model.safetensors"], []])
def test_an_adapter_is_not_left_out_silently(files, tmp_path):
    """transformers adds it to the model that lies beside it."""
    for name in (*files, "adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(
        JaxalignError, match=r"has an adapter_config\.json, .*; expected one that it is merged"
    ):
        ja.load(tmp_path)


@pytest.mark.parametrize(("width", "heads"), [(96, 3), (1152, 16)])
@pytest.mark.long
def test_heads_that_nothing_tells(tmp_path, width, heads):
    """No multiple of the known model's heads; or So400m's width, whose heads are 72 and not 64 wide."""
    spec = tiny("slip-vit-base-patch16")
    image = replace(spec.towers.image, width=width, heads=heads)
    spec = replace(spec, towers=replace(spec.towers, image=image))
    table = next(t for t in FORMATS if t.name == "SLIP original")
    path = write_torch_zip(tmp_path / "slip.pt", source_tensors(table, random_parameters(spec.towers)))
    with pytest.raises(JaxalignError, match=f"how many heads a tower of width {width} has"):
        ja.load(path)
    assert ja.load(path, spec=spec).config.image.heads == heads


def test_heads_that_the_tensors_tell(tmp_path):
    """big_vision's kernels have an axis of heads: So400m's 16 of 72."""
    spec = tiny("siglip-base-patch16-224-big-vision")
    wide: dict = {"width": 1152, "heads": 16}
    towers = replace(
        spec.towers,
        image=replace(spec.towers.image, **wide),
        text=replace(spec.towers.text, projection=1152, **wide),
    )
    table = next(t for t in FORMATS if t.name == "big_vision two_towers")
    path = write_npz(tmp_path / "siglip.npz", source_tensors(table, random_parameters(towers)))
    config = ja.load(path).config
    assert (config.image.heads, config.text.heads) == (16, 16)


def test_find_spec_takes_original_file_names():
    assert find_spec("ViT-B-16.pt").name == "clip-vit-base-patch16"
