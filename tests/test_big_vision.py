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
from jaxalign.conversion.conversion import convert_checkpoint
from jaxalign.conversion.reading import read
from jaxalign.errors import JaxalignError
from jaxalign.weights.tensors import flatten

GOLDENS = Path(__file__).parent / "goldens"
KINDS = [
    ("big_vision.npz", "plain"),
    ("big_vision.npz", "scan"),
    ("big_vision_lit.npz", "head"),
    ("big_vision_lit.npz", "token"),
    ("big_vision_lit.npz", "token and head"),
]
BLOCK = "txt/Encoder_0/encoderblock_"


@pytest.fixture
def tensors(siglip):
    return {name: np.asarray(x) for name, x in flatten(siglip.params).items()}


def write(path, tensors):
    np.savez(path, allow_pickle=False, **tensors)
    return path


def assert_same_parameters(one, other):
    jax.tree.map(np.testing.assert_array_equal, one.params, other.params)


def test_round_trip(siglip, tmp_path):
    ja.save(siglip, tmp_path / "siglip.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["siglip.npz"]
    back = ja.load(tmp_path / "siglip.npz")
    sizes = dataclasses.replace(siglip.config.text, end_token=1)  # no file says which token ends a text
    assert back.config == dataclasses.replace(siglip.config, text=sizes)
    assert_same_parameters(siglip, back)


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
    back = read(write(tmp_path / "scan.npz", source))
    assert_same_parameters(siglip, back)


@pytest.fixture(params=KINDS, ids=[kind for _, kind in KINDS])
def original(request, tmp_path):
    """A file of big_vision's own, what is in it, and what the model there gives.

    `goldens/make_big_vision.py` ran it: with attention pool or class token, with an image head or without,
    and with `scan=True`, which stacks the blocks.
    """
    file, kind = request.param
    golden = np.load(GOLDENS / file, allow_pickle=False)
    found = {k.removeprefix(f"{kind}/"): golden[k] for k in golden.files if k.startswith(f"{kind}/")}
    numbers = {name: found.pop(name) for name in ("image", "text")}
    inputs = {name: golden[name] for name in ("pixels", "tokens")}
    return write(tmp_path / "m.npz", found), found, numbers | inputs


def assert_same_numbers(model, numbers):
    with jax.default_matmul_precision("highest"):
        found = {
            "image": model.apply_image(model.params, numbers["pixels"]),
            "text": model.apply_text(model.params, numbers["tokens"]),
        }
    for what, ours in found.items():
        theirs = numbers[what]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.long
def test_the_original_s_own_numbers(original):
    path, _, numbers = original
    model = ja.load(path)
    assert (model.config.image.heads, model.config.text.depth) == (2, 2)
    assert_same_numbers(model, numbers)


@pytest.mark.parametrize("by_way_of", ["nothing", "a folder", "convert"])
def test_what_was_read_is_what_is_written(original, by_way_of, tmp_path):
    """Stacked blocks stay stacked, since big_vision's text tower reads no others into a `scan=True` model."""
    path, source, _ = original
    back = tmp_path / "back.npz"
    if by_way_of == "convert":
        convert_checkpoint(path, back, to="big_vision")
    elif by_way_of == "a folder":
        ja.save(ja.load(path), tmp_path / "folder")
        ja.save(ja.load(tmp_path / "folder"), back)
    else:
        ja.save(ja.load(path), back)
    written = np.load(back, allow_pickle=False)
    assert {name: written[name].shape for name in written.files} == {k: v.shape for k, v in source.items()}
    for name in written.files:
        np.testing.assert_array_equal(written[name], source[name])


def test_an_older_class_token_has_a_position(tmp_path):
    """It was put before the patches once; big_vision adds its row of the positions to it when it loads."""
    golden = np.load(GOLDENS / "big_vision_lit.npz", allow_pickle=False)
    found = {
        k.removeprefix("token/params/"): golden[k] for k in golden.files if k.startswith("token/params/")
    }
    row = np.full((1, 1, 16), 0.25, np.float32)
    found["img/cls"] = found["img/cls"] - row
    found["img/pos_embedding"] = np.concatenate([row, found["img/pos_embedding"]], axis=1)
    model = ja.load(write(tmp_path / "old.npz", found))
    names = {name: golden[f"token/{name}"] for name in ("image", "text")}
    assert_same_numbers(model, names | {name: golden[name] for name in ("pixels", "tokens")})
    ja.save(model, tmp_path / "new.npz")
    written = np.load(tmp_path / "new.npz", allow_pickle=False)
    assert written["params/img/pos_embedding"].shape == (1, 9, 16)
    back = ja.load(tmp_path / "new.npz")
    assert_same_numbers(back, names | {name: golden[name] for name in ("pixels", "tokens")})


def test_half_precision_and_a_second_table_of_positions(siglip, tensors, tmp_path):
    second = np.full_like(tensors["txt/pos_embedding"], 0.25)
    half = {k: v.astype(jnp.bfloat16) for k, v in tensors.items()} | {"txt/Encoder_0/pos_embedding": second}
    back = read(write(tmp_path / "half.npz", half))
    expected = tensors["txt/pos_embedding"] + 0.25
    # bfloat16 has eight bits
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
        read(write(tmp_path / "other.npz", tensors))
    tensors["img/embedding/kernel"] = kernel
    del tensors["txt/head/kernel"]
    with pytest.raises(JaxalignError, match=r"do not fit: 1 missing: txt/head/kernel$"):
        read(write(tmp_path / "other.npz", tensors))


def test_damaged_and_pickled_files(tensors, tmp_path):
    path = write(tmp_path / "m.npz", tensors)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK nothing", b"\x80\x04N."):
        path.write_bytes(content)
        with pytest.raises(JaxalignError, match=r"m\.npz is cut off, damaged or no \.npz"):
            read(path)
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(JaxalignError, match="allow_pickle=False"):
        read(path)


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
        read(path)


@pytest.mark.parametrize(
    ("tower", "change", "message"),
    [
        ("image", {"norm_epsilon": 1e-5}, "norms of epsilon 1e-05"),
        ("text", {"norm_epsilon": 1e-12}, "norms of epsilon 1e-12"),
        ("image", {"activation": "gelu"}, "activation gelu"),
        ("text", {"activation": "quick_gelu"}, "activation quick_gelu"),
    ],
)
def test_a_setting_that_big_vision_has_not(siglip, tower, change, message, tmp_path):
    """Without it, what is written would load there, and give other numbers."""
    towers = siglip.spec.towers
    changed = {tower: dataclasses.replace(getattr(towers, tower), **change)}
    spec = dataclasses.replace(siglip.spec, towers=dataclasses.replace(towers, **changed))
    with pytest.raises(JaxalignError, match=f"cannot express what .* needs: {message};"):
        ja.save(dataclasses.replace(siglip, spec=spec), tmp_path / "m.npz")


def test_a_shape_that_big_vision_has_not(clip, tmp_path):
    with pytest.raises(
        JaxalignError,
        match=r"two_towers cannot express what .* needs: a causal text tower, patches without bias",
    ):
        ja.save(clip, tmp_path / "clip.npz")
    assert not list(tmp_path.iterdir())
