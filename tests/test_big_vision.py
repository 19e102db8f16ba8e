"""big_vision's `.npz` checkpoints, both ways."""

import dataclasses
import io
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from checkpoints_conversion import big_vision
from checkpoints_conversion.verify import compare
from jaxalign.errors import JaxalignError
from jaxalign.tensors import flatten

GOLDEN = Path(__file__).parent / "goldens" / "big_vision.npz"
BLOCK = "txt/Encoder_0/encoderblock_"


@pytest.fixture
def tensors(siglip):
    return {name: np.asarray(x) for name, x in flatten(siglip.params).items()}


def write(path, tensors):
    np.savez(path, allow_pickle=False, **tensors)
    return path


def test_round_trip(siglip, tmp_path):
    ja.save(siglip, tmp_path / "siglip.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["siglip.npz"]
    back = ja.load(tmp_path / "siglip.npz")
    sizes = dataclasses.replace(siglip.config.text, end_token=1)  # no file says which token ends a text
    assert back.config == dataclasses.replace(siglip.config, text=sizes)
    difference = compare(siglip, dataclasses.replace(back, spec=siglip.spec))
    assert difference.parameter[0] == difference.image == difference.text == 0
    assert str(difference).startswith(f"{len(flatten(siglip.params))} tensors, largest difference 0 (")


def test_stacked_blocks_prefixes_and_optimiser_state(siglip, tensors, tmp_path):
    """What a training run with nn.scan leaves: blocks stacked along a new first axis, under `params/`."""
    stacked = {k: v for k, v in tensors.items() if BLOCK not in k}
    for name in tensors:
        if name.startswith(f"{BLOCK}0/"):
            both = [tensors[name], tensors[name.replace(f"{BLOCK}0/", f"{BLOCK}1/")]]
            stacked[name.replace(f"{BLOCK}0/", "txt/Encoder_0/encoderblock/")] = np.stack(both)
    source = {f"params/{k}": v for k, v in stacked.items()} | {
        "opt/0/count": np.zeros(()),
        "extra/step": np.ones(()),
    }
    back = big_vision.read(write(tmp_path / "scan.npz", source))
    assert compare(siglip, back).parameter[0] == 0


@pytest.mark.parametrize("kind", ["plain", "scan"])
def test_the_original_s_own_numbers(kind, tmp_path):
    """`goldens/make_big_vision.py` ran big_vision's model, which stacks its blocks with `scan=True`."""
    golden = np.load(GOLDEN, allow_pickle=False)
    params = {k.removeprefix(f"{kind}/"): golden[k] for k in golden.files if k.startswith(f"{kind}/params/")}
    model = ja.load(write(tmp_path / "m.npz", params))
    assert (model.config.image.heads, model.config.text.depth) == (2, 2)
    with jax.default_matmul_precision("highest"):
        found = {
            "image": model.apply_image(model.params, golden["pixels"]),
            "text": model.apply_text(model.params, golden["tokens"]),
        }
    for what, ours in found.items():
        theirs = golden[f"{kind}/{what}"]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


def test_half_precision_and_a_second_table_of_positions(siglip, tensors, tmp_path):
    second = np.full_like(tensors["txt/pos_embedding"], 0.25)
    half = {k: v.astype(jnp.bfloat16) for k, v in tensors.items()} | {"txt/Encoder_0/pos_embedding": second}
    back = big_vision.read(write(tmp_path / "half.npz", half))
    expected = tensors["txt/pos_embedding"] + 0.25
    np.testing.assert_allclose(back.params["txt"]["pos_embedding"], expected, rtol=1e-2, atol=1e-2)
    assert {x.dtype.name for x in flatten(back.params).values()} == {"float32"}


def test_what_does_not_fit_is_named(tensors, tmp_path):
    tensors["txt/haed/bias"] = tensors.pop("txt/head/bias")
    tensors["img/MAPHead_0/probe"] = np.zeros((1, 2, 32), np.float32)
    with pytest.raises(JaxalignError, match=r"1 left over: txt/haed/bias.*1 misshapen: img/MAPHead_0/probe"):
        ja.load(write(tmp_path / "wrong.npz", tensors))


def test_what_is_no_two_towers_model(tensors, tmp_path):
    """Without the patch embedding nothing tells it; without another tensor, that one is missing."""
    kernel = tensors.pop("img/embedding/kernel")
    with pytest.raises(JaxalignError, match=r"no known formats; .*; big_vision two_towers"):
        big_vision.read(write(tmp_path / "other.npz", tensors))
    tensors["img/embedding/kernel"] = kernel
    del tensors["txt/head/kernel"]
    with pytest.raises(JaxalignError, match=r"do not fit: 1 missing: txt/head/kernel$"):
        big_vision.read(write(tmp_path / "other.npz", tensors))


def test_damaged_and_pickled_files(tensors, tmp_path):
    path = write(tmp_path / "m.npz", tensors)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK nothing", b"\x80\x04N."):
        path.write_bytes(content)
        with pytest.raises(JaxalignError, match=r"m\.npz is cut off, damaged or no \.npz"):
            big_vision.read(path)
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(JaxalignError, match="allow_pickle=False"):
        big_vision.read(path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(10**10, r"has [0-9,]+ bytes, expected [0-9,]{14,}"), (10**17, "something else than lengths of 0 to")],
)
def test_a_header_with_an_absurd_size(tensors, tmp_path, rows, message):
    path = write(tmp_path / "m.npz", tensors)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    header = io.BytesIO()
    width = tensors["txt/Embed_0/embedding"].shape[1]
    facts = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(header, facts)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"txt/Embed_0/embedding.npy": header.getvalue()}).items():
            archive.writestr(name, content)
    with pytest.raises(JaxalignError, match=rf"m\.npz.*txt/Embed_0/embedding\.npy.*{message}"):
        big_vision.read(path)


def test_a_shape_that_big_vision_has_not(clip, tmp_path):
    with pytest.raises(
        JaxalignError, match=r"two_towers cannot express what .* needs: a causal text tower, cls pooling"
    ):
        ja.save(clip, tmp_path / "clip.npz")
    assert not list(tmp_path.iterdir())
